"""What becomes of the mails that exports tell of, from the file to the last word on each recipient."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resend.collect.collect import CollectSummary
from resend.config import Config
from resend.linker.outcomes import outcomes
from resend.stores import sql
from resend.stores.home import Home
from tests.collect.reading import REPOSITORY

CASES = REPOSITORY / "tests/cases"


@pytest.fixture
def last_words(home: Home, gather: Callable[..., CollectSummary]) -> Callable[[Path], dict[str, dict[str, Any]]]:
    """Outcomes of a file by recipient."""

    def run(path: Path) -> dict[str, dict[str, Any]]:
        gather(path)
        files = outcomes(home, Config(tz="Asia/Tokyo"))
        with sql.connect() as con:
            cursor = con.execute(f"SELECT * FROM read_parquet({sql.quote(files.suspects)})")
            names = [column[0] for column in cursor.description or ()]
            return {row["recipient"]: row for row in (dict(zip(names, row, strict=True)) for row in cursor.fetchall())}

    return run


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (
            "ses/published",
            {
                "hanako@example.jp": "delivered",  # a delay, then the delivery
                "gone@example.jp": "bounced",
                "late@example.jp": "bounced",
                "full@example.jp": "expired",
                "old@example.jp": "bounced",  # never sent
                "v@example.jp": "bounced",
                "t@example.jp": "bounced",
            },
        ),
        (
            "sendgrid/posts",
            {
                "user1@example.jp": "delivered",
                "user2@example.jp": "bounced",
                "user4@example.jp": "expired",
                "user5@example.jp": "bounced",
            },
        ),
        (
            "mailgun/webhooks",
            {
                "user1@example.jp": "delivered",
                "user2@example.jp": "bounced",
                "user4@example.jp": "bounced",
                "user5@example.jp": "expired",
                "user6@example.jp": "bounced",
            },
        ),
        (
            "postmark/webhooks",
            {
                "user1@example.jp": "delivered",
                "user2@example.jp": "bounced",
                "user4@example.jp": "still_queued",
                "user6@example.jp": "bounced",
                "user13@example.jp": "bounced",
            },
        ),
        (
            "sparkpost/webhooks",
            {
                "User1@example.jp": "delivered_late",
                "User2@example.jp": "bounced",
                "User3@example.jp": "expired",
                "User4@example.jp": "bounced",
                "User7@example.jp": "bounced",
                "User8@example.jp": "bounced",
            },
        ),
        (
            "kumomta/records",
            {
                "user1@example.jp": "delivered_late",
                "user2@example.jp": "bounced",
                "user3@example.jp": "expired",
                "user5@example.jp": "bounced",
                "user6@example.jp": "still_queued",  # a report of a delay
                "user13@example.jp": "still_queued",
            },
        ),
        (
            "powermta/usual",
            {"user1@example.jp": "delivered", "user2@example.jp": "bounced", "user3@example.jp": "expired"},
        ),
        ("powermta/columns", {"user1@example.jp": "bounced"}),  # delivered, then a remote bounce
        ("exchange/extended", {"a@example.com": "delivered", "b@example.com": "bounced", "c@example.com": "bounced"}),
        ("exchange/summary", {"b@example.com": "bounced", "c@example.com": "still_queued"}),
        (
            "table/words",
            {
                "user1@example.jp": "delivered_late",
                "user2@example.jp": "bounced",
                "user3@example.jp": "bounced",
                "user5@example.jp": "expired",
                "user6@example.jp": "bounced",
            },
        ),
    ],
)
def test_last_words(
    case: str, expected: dict[str, str], last_words: Callable[[Path], dict[str, dict[str, Any]]]
) -> None:
    (log,) = (CASES / case).glob("log.*")
    found = last_words(log)
    assert {recipient: found[recipient]["status"] for recipient in expected} == expected
    assert not [row for row in found.values() if row["recipient"] not in expected and row["status"] == "no_evidence"]


def test_expired_mail_keeps_the_reply_of_its_deferral(
    last_words: Callable[[Path], dict[str, dict[str, Any]]],
) -> None:
    found = last_words(CASES / "kumomta/records/log.jsonl")["user3@example.jp"]
    assert (found["status"], found["attempts"]) == ("expired", 2)
    assert found["reply"] == "400 KumoMTA internal: failed to connect to any candidate hosts"


def test_what_a_service_logged_names_the_release(last_words: Callable[[Path], dict[str, dict[str, Any]]]) -> None:
    found = last_words(CASES / "ses/published/log.jsonl")["gone@example.jp"]
    assert found["header_value"] == "X-Release-Id: 7"
    assert found["message_id"] == "<release.7.2@mail.example.jp>"


def test_webhooks_that_come_twice_or_late_change_nothing(
    tmp_path: Path, last_words: Callable[[Path], dict[str, dict[str, Any]]]
) -> None:
    """Services repeat posts, and the delivery may be posted before the deferral."""
    event = {"email": "a@example.jp", "smtp-id": "<1@s.example>", "sg_message_id": "id1.filter1"}
    posts = [
        [{**event, "event": "delivered", "timestamp": 1795136500, "response": "250 OK"}],
        [{**event, "event": "deferred", "timestamp": 1795136460, "response": "451 4.7.500 Server busy"}],
        [{**event, "event": "delivered", "timestamp": 1795136500, "response": "250 OK"}],
        [{**event, "event": "processed", "timestamp": 1795136400}],
    ]
    log = tmp_path / "posts.jsonl"
    log.write_text("".join(json.dumps(post) + "\n" for post in posts), encoding="utf-8")
    assert last_words(log)["a@example.jp"]["status"] == "delivered"


def test_a_receiver_without_an_address_names_the_provider(
    tmp_path: Path, last_words: Callable[[Path], dict[str, dict[str, Any]]]
) -> None:
    event = {
        "event": "failed",
        "severity": "temporary",
        "timestamp": 1795136402.25,
        "recipient": "a@corp.example",
        "message": {"headers": {"message-id": "1@s.example"}},
        "delivery-status": {"code": 451, "message": "busy", "mx-host": "Corp-Example.mail.protection.outlook.com"},
    }
    log = tmp_path / "posts.jsonl"
    log.write_text(json.dumps({"event-data": event}) + "\n", encoding="utf-8")
    assert last_words(log)["a@corp.example"]["relay"] == "corp-example.mail.protection.outlook.com"
