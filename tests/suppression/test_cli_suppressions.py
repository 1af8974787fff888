"""`resend suppressions`: a wave of false "user unknown" beside addresses that are really gone."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resend.cli import render
from resend.model import Action, CauseClass
from resend.policy.suppression import Advice, Failed, advise
from tests.cli.conftest import Cli, Result, cli, place

__all__ = ["cli", "place"]
START = datetime(2026, 11, 20, 3, tzinfo=UTC)
OUTLOOK = "corp-jp.mail.protection.outlook.com[203.0.113.5]"
GMAIL = "gmail-smtp-in.l.google.com[203.0.113.9]"
GONE = "550 5.1.1 The email account that you tried to reach does not exist. (in reply to RCPT TO command)"
FALSE = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup"
BLOCK = "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent: part of it is on our block list (S3140)."
BUSY = "451 4.7.500 Server busy. Please try again later from [192.0.2.1]."
WAVE = 40


def lines(number: int, minutes: float, rcpt: str, relay: str, reply: str, *, expired: bool = False) -> Iterator[str]:
    at = START + timedelta(minutes=minutes)
    qid, stamp = f"{0xB0000 + number:X}", at.isoformat()
    word = {"2": "sent", "4": "deferred", "5": "bounced"}[reply[0]]
    dsn = "2.0.0" if word == "sent" else reply.split()[1]
    said = reply if word == "sent" else f"host {relay} said: {reply}"
    yield f"{stamp} mta1 postfix/smtpd[1]: {qid}: client=bulk[10.0.0.1]"
    yield f"{stamp} mta1 postfix/cleanup[1]: {qid}: message-id=<m{number}@mail.example.jp>"
    yield f"{stamp} mta1 postfix/qmgr[1]: {qid}: from=<b@example.jp>, size=900, nrcpt=1 (queue active)"
    yield (
        f"{stamp} mta1 postfix/smtp[1]: {qid}: to=<{rcpt}>, relay={relay}:25, delay=1, delays=0/0/0/1, dsn={dsn},"
        f" status={word} ({said})"
    )
    if expired:
        later = (at + timedelta(hours=1)).isoformat()
        yield f"{later} mta1 postfix/qmgr[1]: {qid}: from=<b@example.jp>, status=expired, returned to sender"


def write(cli: Cli) -> None:
    text: list[str] = []
    for number in range(WAVE):
        text += lines(number, 60 + number * 0.1, f"real{number}@corp.jp", OUTLOOK, FALSE)
    text += lines(100, 70, "gone@gmail.com", GMAIL, GONE)
    text += lines(101, 80, "back@gmail.com", GMAIL, GONE)
    text += lines(102, 300, "back@gmail.com", GMAIL, "250 2.0.0 OK")
    text += lines(103, 90, "blocked@outlook.jp", OUTLOOK, BLOCK)
    text += lines(104, 95, "slow@corp.jp", OUTLOOK, BUSY, expired=True)
    text += lines(105, 96, "left@corp.jp", OUTLOOK, BUSY, expired=True)
    for number in range(200, 320):
        text += lines(number, 100 + number, f"fine{number}@gmail.com", GMAIL, "250 2.0.0 OK")
    Path("mail.log").write_text("\n".join(text) + "\n")
    Path("stop.csv").write_text(
        "address,reason,at\n"
        f"real0@corp.jp,hard bounce 5.1.10,{(START + timedelta(hours=2)).isoformat()}\n"
        f"real1@corp.jp,hard bounce,{(START - timedelta(days=90)).isoformat()}\n"
        f"real2@corp.jp,complaint,{(START + timedelta(hours=2)).isoformat()}\n"
        f"REAL3@corp.jp,宛先不明エラー,{(START + timedelta(hours=2)).isoformat()}\n"
    )
    Path("recipients.csv").write_text("id,address,unsubscribed_at\nr1,left@corp.jp,2026-11-01T00:00:00Z\n")
    Path("releases.csv").write_text("id,customer,title,sender\nR1,C1,News,pr@example.jp\n")
    Path("sent.csv").write_text("release,recipient,message_id\nR1,r1,<m105@mail.example.jp>\n")
    assert cli("collect", "mail.log").exit == 0
    files = (
        "--suppressions",
        "stop.csv",
        "--recipients",
        "recipients.csv",
        "--releases",
        "releases.csv",
        "--sendlog",
        "sent.csv",
    )
    assert cli("catalog", "load", *files).exit == 0
    assert cli("incident", "open", "wave").exit == 0


def by_address(result: Result) -> dict[str, tuple[str, str]]:
    return {row["address"]: (row["recommendation"], row["why"]) for row in result.of("suppression")}


def test_what_the_incident_made_look_dead_is_told_from_what_is_and_addresses_are_masked(cli: Cli) -> None:
    write(cli)
    result = cli("suppressions", "wave", "--json", "--unmask")
    assert result.exit == 0, result.err
    found = by_address(result)
    assert len(found) == WAVE + 5 and "fine200@gmail.com" not in found
    wave = "refused in a wave: one reply to many at once"
    assert found["real0@corp.jp"] == found["real3@corp.jp"] == found["real9@corp.jp"] == ("lift", wave)
    assert found["real1@corp.jp"] == ("keep", "listed before the incident")
    assert found["real2@corp.jp"] == ("keep", "listed for another reason")
    assert found["gone@gmail.com"] == ("keep", "really gone")
    assert found["back@gmail.com"] == ("lift", "took mail since")
    assert found["blocked@outlook.jp"] == ("lift", "the refusal was about the sender")
    assert found["slow@corp.jp"] == ("lift", "only put off, until the mail host gave up")
    assert found["left@corp.jp"] == ("keep", "unsubscribed")
    summary = result.rows[-1]
    assert (summary["lift"], summary["keep"], summary["listed_to_lift"]) == (WAVE + 1, 4, 2)
    gone = next(row for row in result.of("suppression") if row["address"] == "gone@gmail.com")
    assert gone["evidence"] == f"mail.log:{4 * WAVE + 4}" and gone["cause"] == "mailbox_gone" and gone["code"] == 550
    masked_unless_asked(cli)


def masked_unless_asked(cli: Cli) -> None:
    """The same incident as people see it."""
    masked = cli("suppressions", "wave", "--json", "--csv", "masked.csv")
    text = Path("masked.csv").read_bytes()
    assert text.startswith(b"\xef\xbb\xbf") and b"gone@" not in text and "gone@" not in masked.out
    assert Path("masked.csv").stat().st_mode & 0o077 == 0
    assert cli("suppressions", "wave", "--csv", "whole.csv", "--unmask").exit == 0
    rows = list(csv.DictReader(Path("whole.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == WAVE + 5 and "gone@gmail.com" in {row["address"] for row in rows}
    screen = cli("suppressions", "wave")
    assert "gone@" not in screen.out and all(render.width(line) <= 80 for line in screen.out.splitlines())
    assert cli("suppressions", "wave", "--csv", "no/such/x.csv").exit == 1
    assert "there is no incident" in cli("suppressions", "other").one_error()


@pytest.mark.parametrize("cause", list(CauseClass))
@pytest.mark.parametrize("code", [0, 450, 550])
def test_every_cause_has_an_answer_and_only_proof_keeps(cause: CauseClass, code: int) -> None:
    one = Failed(cause=cause, action=Action.ASK, rule="r", code=code, first_us=5, last_us=9, unsubscribed=False,
                 listed="", listed_at=None, last_sent_at=None)  # fmt: skip
    about_us = {CauseClass.SENDER_BLOCKED, CauseClass.AUTH_FAILED, CauseClass.THROTTLED, CauseClass.TRANSIENT_INFRA}
    advice, why = advise(one)
    assert why and (advice is Advice.LIFT or cause not in about_us)


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("bounce", Advice.LIFT), ("5xx user unknown", Advice.LIFT), ("エラー停止希望", Advice.KEEP),
        ("不達", Advice.LIFT), ("x", Advice.KEEP),
        ("complaint (bounce)", Advice.KEEP), ("unsubscribed", Advice.KEEP), ("asked by phone", Advice.KEEP),
    ],
)  # fmt: skip
def test_a_persons_decision_is_never_undone(reason: str, advice: Advice) -> None:
    one = Failed(cause=CauseClass.MAILBOX_GONE, action=Action.ASK, rule="wave", code=550, first_us=5, last_us=9,
                 unsubscribed=False, listed=reason, listed_at=7, last_sent_at=None)  # fmt: skip
    assert advise(one)[0] is advice
