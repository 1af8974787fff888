"""Bounces to reports: the case folders, what must hold for any bytes, and that no mail costs more than its length."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from resend.collect.bounces.read import read_report
from resend.collect.bounces.report import FailedAction, Report, ReportKind
from tests.collect.bounce_cases import CASES, real_mails, told

FROM = b"From: MAILER-DAEMON@mx.example.net\nSubject: failure notice\n"
SEEDS = [(case / "mail.eml").read_bytes() for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path) -> None:
    expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
    assert told(read_report((case / "mail.eml").read_bytes())) == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_line_ends_and_a_missing_last_newline_change_nothing(case: Path) -> None:
    mail = (case / "mail.eml").read_bytes().replace(b"\r\n", b"\n")
    if b"\n" not in mail:
        mail = mail.replace(b"\r", b"\n")
    expected = told(read_report(mail))
    assert told(read_report(mail.replace(b"\n", b"\r\n"))) == expected
    assert told(read_report(mail.rstrip(b"\n"))) == expected
    assert told(read_report(b"From bounce@example.net Tue Feb 10 09:12:44 2026\n" + mail)) == expected


def holds(report: Report) -> None:
    """What every report keeps, whatever it was read from."""
    texts = [report.reason, report.reporting_mta, report.message_id, report.subject, report.sender, report.envelope_to]
    for failed in report.recipients:
        texts += [failed.recipient, failed.original_recipient, failed.reply, failed.remote_mta, failed.status]
        assert failed.recipient
        assert failed.code == 0 or 400 <= failed.code < 600
        assert failed.last_attempt_at is None or failed.last_attempt_at.tzinfo is UTC
    for name, value in report.headers:
        texts += [name, value]
    for text in texts:
        assert text.isprintable() or text.encode("utf-8").decode("utf-8").splitlines() in ([text], [])
    assert report.reason
    assert all(at is None or at.tzinfo is UTC for at in (report.reported_at, report.original_date))
    if report.kind in (ReportKind.FAILURE, ReportKind.DELAY):
        assert report.recipients
    if report.kind is ReportKind.FAILURE:
        assert any(failed.action is FailedAction.FAILED for failed in report.recipients)


@given(st.binary(max_size=2_000))
@example(b"")
@example(b"\n")
@example(b"From \n")
@example(b"Content-Type: multipart/report; boundary=\n\n--\n--\n")
@example(b"Content-Type: text/plain; charset=utf-7\n\n\xff+")
@example(b"Content-Type: text/plain; charset=undefined\n\n\xff")
@example(b"Content-Type: text/plain; charset=base64\n\n\xff")
@example(b"Subject: =?utf-16?b?2AA=?=\nFrom: postmaster\n\n<a@b>: 550 \xed\xa0\x80")
@example(b"Date: Tue, 99 Feb 99999 99:99:99 +9999\n\n")
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_read(data: bytes) -> None:
    holds(read_report(data))
    holds(read_report(FROM + b"\n" + data))


@given(st.data())
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.large_base_example, HealthCheck.too_slow])
def test_bounces_that_were_damaged_are_read(data: st.DataObject) -> None:
    mail = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(mail)))
        end = min(len(mail), at + data.draw(st.integers(0, 60)))
        mail[at:end] = data.draw(st.one_of(st.binary(max_size=20), st.just(bytes(mail[at:end]) * 3), st.just(b"\n")))
    holds(read_report(bytes(mail)))


NESTED = b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n"
MAIL_WITHIN = (
    b"From: postmaster@x\nContent-Type: multipart/mixed; boundary=b%d\n\n--b%d\nContent-Type: message/rfc822\n\n"
)
HOSTILE: dict[str, Callable[[int], bytes]] = {
    "nested parts": lambda n: (
        FROM
        + b"Content-Type: multipart/mixed; boundary=b0\n\n"
        + b"".join(NESTED % (level, level + 1) for level in range(n // 40))
    ),
    "mails in mails": lambda n: b"".join(MAIL_WITHIN % (level, level) for level in range(n // 100)),
    "reports in the text": lambda n: (
        FROM + b"\n" + b"Return-Path: <x@y>\nFrom: postmaster@x\nSubject: a\n\nFinal-Recipient: \n\n" * (n // 64)
    ),
    "parts": lambda n: FROM + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * (n // 7),
    "fields": lambda n: b"X-A: b\n" * (n // 7) + FROM + b"\nx",
    "folded field": lambda n: b"Subject: b\n" + b" y\n" * (n // 3) + FROM + b"\nx",
    "long line": lambda n: FROM + b"\n" + b"a" * n,
    "spaces": lambda n: FROM + b"\n<a@example.jp>:\n550" + b" " * n + b"x\n",
    "addresses": lambda n: FROM + b"\n" + b"a@b." * (n // 4),
    "angle brackets": lambda n: FROM + b"\n" + b"<a@" * (n // 3),
    "recipients": lambda n: FROM + b"\n" + b"<a@example.jp>:\n550 5.1.1 no\n\n" * (n // 32),
    "fields of a report": lambda n: FROM + b"\nFinal-Recipient: <a@b.jp>\nDiagnostic-Code: x\n" + b" aaa\n" * (n // 5),
    "tags": lambda n: FROM + b"Content-Type: text/html\n\n" + b"<script" * (n // 7),
    "comments": lambda n: FROM + b"Content-Type: text/html\n\n" + b"<!--" * (n // 4),
    "encoded words": lambda n: b"Subject: " + b"=?utf-8?q?" * (n // 10) + b"\n" + FROM + b"\nx",
    "codes": lambda n: FROM + b"\n<a@example.jp>:\n" + b"550 x\n551 y\n" * (n // 12),
    "words before an address": lambda n: FROM + b"\n" + (b"recipient" + b" " * 1900 + b"x@\n") * (n // 1_900),
    "dashes": lambda n: FROM + b"\n<a@example.jp>:\n" + (b"-" * 1_900 + b"x\n") * (n // 1_900),
    "blank lines": lambda n: FROM + b"\nx\n" + b"\n \n" * (n // 3),
    "many with one transcript": lambda n: (
        FROM + b"\n" + b"<a@example.jp>\n" * (n // 40) + b"\n" + (b"550 " + b"a.b" * 600 + b"\n") * (n // 3_600)
    ),
    "blanks in HTML": lambda n: FROM + b"Content-Type: text/html\n\n<br>" + b"\n \t " * (n // 4),
    "rules under a text": lambda n: FROM + b"\nx\n" + (b"_" * 40 + b"\nx\n") * (n // 43),
    "addresses to ask": lambda n: FROM + b"\nCould not be delivered, " + b"contact a " * (n // 10) + b"x@y.example\n",
    "IP addresses": lambda n: FROM + b"\n<a@example.jp>: 550 " + b"1.2.3." * (n // 6),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_mail_costs_no_more_than_its_length(kind: str) -> None:
    def cost(size: int) -> float:
        mail = HOSTILE[kind](size)
        best = 1e9
        for _ in range(2):
            start = time.process_time()
            holds(read_report(mail))
            best = min(best, time.process_time() - start)
        return best

    small, double = cost(150_000), cost(300_000)
    assert double < 3.2 * max(small, 0.02)  # quadratic: four times; caps make it less than twice
    assert double < 1.5  # seconds: most take some hundredths


@pytest.mark.skipif(not any(real_mails()), reason="the corpora are not beside this repository")
def test_real_bounces_damaged_anywhere_are_read() -> None:
    for number, path in enumerate(real_mails()):
        mail = path.read_bytes()
        cut = (number * 7919) % max(1, len(mail))
        for damaged in (mail[:cut], mail[cut:], mail[:cut] + mail[cut + 17 :], mail.replace(b"\n\n", b"\n", 1)):
            holds(read_report(damaged))
