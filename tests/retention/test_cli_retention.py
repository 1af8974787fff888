"""`resend evidence compact|prune` by the real command line: counts are confirmed, and what is needed stays."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resend.collect import files
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from tests.cli.conftest import Cli, cli, place
from tests.collect.reading import numbers, rows

__all__ = ["cli", "place"]
NOW = datetime.now(UTC).replace(microsecond=0)
GONE = "host mx.example.jp[192.0.2.1] said: 550 5.1.1 User unknown"


def log(*ages: int, host: str = "mta1") -> str:
    """A mail that bounces and 40 that arrive, on each of these days before now."""
    lines = []
    for age in ages:
        for number in range(41):
            at = (NOW - timedelta(days=age) + timedelta(seconds=number)).isoformat()
            qid = f"{age:02X}{number:04X}A"
            status = f"bounced ({GONE})" if not number else "sent (250 2.0.0 OK)"
            lines += [
                f"{at} {host} postfix/cleanup[1]: {qid}: message-id=<m{age}.{number}@example.jp>",
                f"{at} {host} postfix/qmgr[1]: {qid}: from=<b@example.jp>, size=9, nrcpt=1 (queue active)",
                f"{at} {host} postfix/smtp[1]: {qid}: to=<u{number}@corp.jp>, relay=mx.example.jp[192.0.2.1]:25,"
                f" delay=1, delays=0/0/0/1, dsn={'5.1.1' if not number else '2.0.0'}, status={status}",
            ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def home(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Evidence of 40, 30, 20 and 1 days ago, a file each."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 32 << 10)
    for age in (40, 30, 20, 1):
        Path(f"mail.{age}.log").write_text(log(age))
    assert cli("collect", *(f"mail.{age}.log" for age in (40, 30, 20, 1))).exit == 0
    return Home(Path("home"))


def days(home: Home) -> set[int]:
    return {round((NOW.timestamp() - row[0] / 1e6) / 86_400) for row in rows(home)}


def test_prune_removes_what_was_confirmed_for_good(cli: Cli, home: Home) -> None:
    assert cli("evidence", "compact").exit == 0
    counts, before = numbers(home), Evidence(home).manifest_id()
    asked = cli("evidence", "prune", "--older-than", "25d", "--json")
    assert (asked.exit, asked.rows[-1]["lines"], asked.rows[-1]["removed"]) == (0, 246, 0)
    assert Evidence(home).manifest_id() == before
    wrong = cli("evidence", "prune", "--older-than", "25d", "--confirm", "245", "--json")
    assert wrong.exit == 4 and wrong.rows[-1]["type"] == "error" and Evidence(home).manifest_id() == before
    done = cli("evidence", "prune", "--older-than", "25d", "--confirm", "246", "--json")
    assert (done.exit, done.rows[-1]["removed"]) == (0, 246)
    assert days(home) == {20, 1} and Evidence(home).manifest_id() != before
    assert numbers(home) == counts, "every line that was read stays accounted"
    again = cli("collect", *(f"mail.{age}.log" for age in (40, 30, 20, 1)), "--json")
    assert again.rows[-1]["new_parts"] == 0 and days(home) == {20, 1}
    for path in Evidence(home).parts.iterdir():
        os.utime(path, (time.time() - 10_000,) * 2)
    assert cli("evidence", "compact").exit == 0
    assert len(list(Evidence(home).parts.iterdir())) == 2
    assert cli("evidence", "prune", "--older-than", "25d").exit == 0
    Path("mail.20.log").unlink()
    assert cli("evidence", "prune", "--older-than", "10d", "--confirm", "123").exit == 0
    assert {Path(source.path).name for source in Evidence(home).sources()} == {
        "mail.40.log",
        "mail.30.log",
        "mail.1.log",
    }
    assert cli("outcomes", "--json").exit == 0


def test_what_an_open_incident_needs_stays(cli: Cli, home: Home) -> None:
    since = (NOW - timedelta(days=35)).isoformat()
    opened = cli("incident", "open", "old", "--from", since)
    assert opened.exit == 0, opened.err
    refused = cli("evidence", "prune", "--older-than", "25d", "--confirm", "246")
    assert refused.exit == 2 and "incident old" in refused.one_error() and "resend incident close" in refused.err
    assert days(home) == {40, 30, 20, 1}
    assert cli("evidence", "prune", "--older-than", "35d", "--confirm", "123").exit == 0
    assert cli("incident", "close", "old").exit == 0
    assert cli("evidence", "prune", "--older-than", "25d", "--confirm", "123").exit == 0
    assert days(home) == {20, 1}
    assert cli("preview", "old").exit == 0, "a frozen incident needs no evidence"


def test_a_part_that_overlaps_one_that_stays_leaves_a_gap(cli: Cli, home: Home) -> None:
    Path("both.log").write_text(log(30, 1, host="mta1").replace("corp.jp", "other.jp"))
    assert cli("collect", "both.log").exit == 0
    assert cli("evidence", "prune", "--older-than", "25d", "--confirm", "246").exit == 0
    (gap, *_) = [loss for loss in Evidence(home).manifest().loss_windows() if loss[2] - loss[1] < 60_000_000]
    assert round((NOW.timestamp() - gap[1] / 1e6) / 86_400) == 30


@pytest.mark.parametrize("span", ["soon", "0d", "-1d"])
def test_a_span_that_is_none_is_refused(cli: Cli, home: Home, span: str) -> None:
    result = cli("evidence", "prune", f"--older-than={span}", "--confirm", "1")
    assert result.exit == 2 and "--older-than" in result.one_error()
