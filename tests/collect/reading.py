"""What the collect tests share: reading lines, made-up mails, and evidence as rows that do not depend on blocks."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from resend.collect import parse
from resend.stores import sql
from resend.stores.evidence import EVENT_COLUMNS, Evidence
from resend.stores.home import Home

REPOSITORY = Path(__file__).resolve().parents[2]
CORPORA = REPOSITORY.parent / "shared" / "corpora"


def read(
    log: str | bytes, *, zone: str = "UTC", last_day: date = date(2026, 12, 7), host: str = ""
) -> list[dict[str, Any]]:
    """Events of a log in memory."""
    data = log.encode() if isinstance(log, str) else log
    return parse.parse_lines(data, parse.Reading("postfix", zone, last_day, host))


def rows(home: Home) -> list[tuple[Any, ...]]:
    """All events, in an order of their own, each with its place as people see it."""
    with sql.connect(threads=1) as con:
        Evidence(home).attach(con)
        columns = ", ".join(name for name in EVENT_COLUMNS if name != "line")
        return con.execute(
            f"SELECT {columns}, part_source.first_line + line - 1 AS place FROM events"
            " LEFT JOIN part_source USING (part) ORDER BY ALL"
        ).fetchall()


def numbers(home: Home) -> tuple[int, int, int, int]:
    """lines, parsed, ignored, rejected over all sources."""
    infos = Evidence(home).sources()
    return (
        sum(info.lines for info in infos),
        sum(info.parsed for info in infos),
        sum(info.ignored for info in infos),
        sum(info.rejected for info in infos),
    )


def mail(number: int, *, second: int = 0, status: str = "sent (250 2.0.0 Ok: queued as ABC123)") -> str:
    """Five lines of one mail."""
    qid = f"4A1{number:08X}"
    at = f"Nov 20 {10 + second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d} mta1"
    to = f"to=<user{number}@corp{number % 7}.example.jp>, relay=mx.example.jp[192.0.2.{number % 250}]:25"
    return (
        f"{at} postfix/smtpd[21]: {qid}: client=app1.example.jp[10.0.0.5]\n"
        f"{at} postfix/cleanup[22]: {qid}: message-id=<release.{number % 9}.{number}@mail.example.jp>\n"
        f"{at} postfix/qmgr[9]: {qid}: from=<bounce@example.jp>, size={1000 + number}, nrcpt=1 (queue active)\n"
        f"{at} postfix/smtp[30]: {qid}: {to}, delay=1.5, delays=0/0/0.5/1, dsn=2.0.0, status={status}\n"
        f"{at} postfix/qmgr[9]: {qid}: removed\n"
    )


def mails(count: int, *, first: int = 0) -> str:
    return "".join(mail(number, second=number // 3) for number in range(first, first + count))
