"""A log followed while it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from resend.collect.tail import LogTail
from tests.collect.reading import mail


def test_appended_lines_come_once(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    tail = LogTail(log, tz="UTC", host="")
    assert tail.poll() == []  # not there yet
    log.write_text(mail(1))
    assert [event["kind"] for event in tail.poll()] == ["begin", "message", "queued", "attempt", "removed"]
    assert tail.poll() == []
    with log.open("a") as handle:
        handle.write(mail(2)[:100])
        handle.flush()
        first = tail.poll()
        handle.write(mail(2)[100:])
        handle.flush()
        assert [event["qid"] for event in first + tail.poll()] == ["4A100000002"] * 5
    tail.close()


def test_rotation_loses_nothing(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(mail(1))
    tail = LogTail(log, tz="UTC", host="")
    assert len(tail.poll()) == 5
    with log.open("a") as handle:
        handle.write(mail(2))
    log.rename(tmp_path / "mail.log.1")
    log.write_text(mail(3))
    found = [*tail.poll(), *tail.poll(), *tail.poll()]
    assert [event["qid"] for event in found] == ["4A100000002"] * 5 + ["4A100000003"] * 5


def test_a_truncated_log_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(mail(1) + mail(2))
    tail = LogTail(log, tz="UTC", host="mta7")
    assert len(tail.poll()) == 10
    log.write_text(mail(3))  # copytruncate
    found = [*tail.poll(), *tail.poll()]
    assert {(event["qid"], event["host"]) for event in found} == {("4A100000003", "mta7")}


def test_from_the_end(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(mail(1))
    tail = LogTail(log, tz="UTC", from_end=True)
    assert tail.poll() == []
    with log.open("a") as handle:
        handle.write(mail(2))
    assert len(tail.poll()) == 5


EXIM = '2026-11-20 10:00:01 1wN9t2-00000002BQv-3hr9 => a@b.example R=out T=smtp H=mx.b.example [192.0.2.1] C="250 ok"\n'
WRAPPED = (
    '{"__REALTIME_TIMESTAMP":"1795168800000000","_HOSTNAME":"mta1","SYSLOG_IDENTIFIER":"postfix/qmgr","_PID":"9",'
    '"MESSAGE":"4A10000001: removed"}\n'
)


@pytest.mark.parametrize(
    ("lines", "kind", "qid"),
    [(EXIM, "attempt", "1wN9t2-00000002BQv-3hr9"), (WRAPPED, "removed", "4A10000001")],
)
def test_any_format_is_followed(tmp_path: Path, lines: str, kind: str, qid: str) -> None:
    log = tmp_path / "mail.log"
    log.write_text("\n")
    tail = LogTail(log, tz="UTC")
    assert tail.poll() == []
    for _ in range(2):
        with log.open("a") as handle:
            handle.write(lines)
        assert [(event["kind"], event["qid"]) for event in tail.poll()] == [(kind, qid)]
