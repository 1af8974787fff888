"""A log, bounces and a service's export tell of the same mail: one outcome, and the latest word counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resend.config import Config
from resend.flows.vetoes import refresh_evidence_vetoes
from resend.model import VetoReason
from resend.stores.history import standing_vetoes
from resend.stores.home import Home
from resend.stores.ledger import open_ledger

Run = Callable[..., list[dict[str, Any]]]
OK = "sent (250 2.0.0 Ok: queued as 4B0C1D2E3F)"
LATER = "deferred (host mx.example.net[192.0.2.1] said: 451 4.7.500 Server busy (in reply to RCPT TO command))"
GONE = "bounced (host mx.example.net[192.0.2.1] said: 550 5.1.1 User unknown (in reply to RCPT TO command))"


def log(*tries: tuple[str, str], qid: str = "4A1B2C3D4E", message_id: str = "<r1.t1@mail.example.jp>") -> str:
    """A Postfix log of one mail to taro@corp.example: (minute, status) of each attempt, from 10:00."""
    at = "Nov 20 10:00:00 mta1 postfix"
    lines = [
        f"{at}/smtpd[1]: {qid}: client=app[10.0.0.5]",
        f"{at}/cleanup[2]: {qid}: message-id={message_id}",
        f"{at}/qmgr[3]: {qid}: from=<bounce@example.jp>, size=900, nrcpt=1 (queue active)",
    ]
    for clock, status in tries:
        h, m = map(int, clock.split(":"))
        delay = (h - 10) * 3600 + m * 60 + 1
        lines.append(
            f"Nov 20 {h:02d}:{m:02d}:01 mta1 postfix/smtp[4]: {qid}: to=<taro@corp.example>,"
            f" relay=mx.example.net[192.0.2.1]:25, delay={delay}, delays={delay}/0/0/1, dsn=2.0.0, status={status}"
        )
    return "\n".join(lines) + "\n"


def bounce(clock: str, *, action: str = "failed", message_id: str = "<r1.t1@mail.example.jp>") -> str:
    """A delivery report of 20 November about the mail of `log`."""
    return f"""Return-Path: <>
Delivered-To: bounce@example.jp
From: MAILER-DAEMON@mx.example.net
To: bounce@example.jp
Subject: Undelivered Mail Returned to Sender
Date: Fri, 20 Nov 2026 {clock}:00 +0000
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

Your mail could not be delivered.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; taro@corp.example
Action: {action}
Status: 5.2.2
Diagnostic-Code: smtp; 552 5.2.2 Mailbox full

--b
Content-Type: message/rfc822

From: News <pr@example.jp>
To: taro@corp.example
Subject: Title
Message-ID: {message_id}
Date: Fri, 20 Nov 2026 10:00:00 +0000
X-Release-Id: R1

Text

--b--
"""


@pytest.mark.parametrize(
    ("tries", "at", "status", "attempts"),
    [
        ([("10:00", OK)], "11:30", "bounced", 1),  # accepted, came back later
        ([("10:00", LATER), ("12:00", OK)], "11:30", "delivered_late", 2),  # the delivery came after the report
        ([("10:00", LATER), ("10:10", GONE)], "10:11", "bounced", 2),  # one failure, told twice
        ([("10:00", LATER)], "11:30", "bounced", 1),  # the log ends before the end
    ],
)
def test_a_log_and_a_bounce_are_one_mail(
    last_words: Run, tries: list[tuple[str, str]], at: str, status: str, attempts: int
) -> None:
    (found,) = last_words({"mail.log": log(*tries), "report.eml": bounce(at)})
    assert (found["status"], found["attempts"]) == (status, attempts)
    assert found["message_id"] == "<r1.t1@mail.example.jp>" and found["sender"] == "bounce@example.jp"


def test_a_bounce_alone_tells_what_is_needed_to_link_it(last_words: Run) -> None:
    (found,) = last_words({"report.eml": bounce("11:30")})
    assert (found["status"], found["recipient"], found["host"]) == ("bounced", "taro@corp.example", "bounce")
    assert (found["code"], found["enhanced"]) == (552, "5.2.2") and "Mailbox full" in found["reply"]
    assert found["header_value"].lower() == "x-release-id: r1" and found["subject"] == "Subject: Title"
    assert found["sender"] == "bounce@example.jp"  # where the report went to: the envelope sender, with its VERP tag


@pytest.mark.parametrize("action", ["delayed", "relayed", "expanded"])
def test_a_report_that_is_no_failure_changes_nothing(last_words: Run, action: str) -> None:
    assert last_words({"mail.log": log(("10:00", OK)), "report.eml": bounce("11:30", action=action)}) == []


def test_the_same_bounce_twice_is_one(last_words: Run, tmp_path: Path) -> None:
    found = last_words({"a.eml": bounce("11:30"), "b.eml": bounce("11:30"), "mail.log": log(("10:00", OK))})
    assert [row["status"] for row in found] == ["bounced"]


def test_a_bounce_of_another_mail_stays_its_own(last_words: Run) -> None:
    found = last_words({"mail.log": log(("10:00", OK)), "report.eml": bounce("11:30", message_id="<else@x.example>")})
    assert [(row["status"], row["message_id"]) for row in found] == [("bounced", "<else@x.example>")]


COMPLAINT = """From: fbl@provider.example
To: fbl@example.jp
Date: Fri, 20 Nov 2026 12:00:00 +0000
Subject: complaint
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain

This is an email abuse report.

--b
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: x/1
Version: 1
Original-Rcpt-To: Taro@Corp.example

--b
Content-Type: message/rfc822

From: pr@example.jp
To: taro@corp.example
Message-ID: <r1.t1@mail.example.jp>

x
--b--
"""


def test_who_complained_is_vetoed(home: Home, last_words: Run) -> None:
    assert last_words({"mail.log": log(("10:00", OK)), "fbl.eml": COMPLAINT}) == []
    with open_ledger("", home, create=True):
        pass
    assert refresh_evidence_vetoes(home, Config()) == 1
    assert refresh_evidence_vetoes(home, Config()) == 0
    with open_ledger("", home) as ledger, ledger.read() as connection:
        (veto,) = standing_vetoes(connection)
    assert (veto.subject, veto.reason) == ("taro@corp.example", VetoReason.SUPPRESSED)
    assert veto.evidence == "complaint: logs:1"
