"""Mails in a block, and as lines of JSON for sql/collect/bounce.sql: one line for each mail, in their order.

A block of mails is their bytes, each after its length (four bytes, big-endian): mail has no separator that it cannot
contain. Raises nothing for bad mails: a report that names nobody is a line that says so, and is rejected there.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from resend.clock import to_micros
from resend.collect.bounces.read import read_report
from resend.collect.bounces.report import Failed, Report, ReportKind

_LENGTH = struct.Struct(">I")
_SUBJECT = "Subject"
_UNWANTED = frozenset(("", "abuse", "opt-out", "opt-out-list"))  # feedback types by which a recipient wants no more
_SHOWN = 500  # bytes of a mail that could not be used


def packed(mails: Iterable[bytes]) -> bytes:
    """The block of these mails."""
    return b"".join(_LENGTH.pack(len(mail)) + mail for mail in mails)


def unpacked(block: bytes) -> Iterator[bytes]:
    """The mails of a block; bytes that are no block have none."""
    at = 0
    while at + _LENGTH.size <= len(block):
        (length,) = _LENGTH.unpack_from(block, at)
        at += _LENGTH.size
        yield block[at : at + length]
        at += length


def as_lines(block: bytes) -> bytes:
    """A line of JSON for each mail: the fields that sql/collect/bounce.sql reads. Times in microseconds UTC."""
    lines = (json.dumps(_fields(mail), ensure_ascii=False) for mail in unpacked(block))
    return b"".join(line.encode("utf-8", "replace") + b"\n" for line in lines)


def _fields(mail: bytes) -> dict[str, Any]:
    report = read_report(mail)
    other = report.kind is ReportKind.COMPLAINT and report.feedback not in _UNWANTED
    fields: dict[str, Any] = {
        "kind": "other" if other else str(report.kind),
        "id": hashlib.sha256(mail).hexdigest()[:20],
    }
    if (error := _error(report)) != "":
        return fields | {"error": error, "text": mail[:_SHOWN].decode("utf-8", "replace")}
    return fields | {
        "at": _micros(report.reported_at),
        "sent_at": _micros(report.original_date),
        "message_id": report.message_id,
        # A report goes to the envelope sender of what it reports (RFC 5321 4.5.5): that is where a VERP tag is.
        "sender": report.envelope_to or report.sender,
        "headers": _headers(report),
        "recipients": [_recipient(failed) for failed in report.recipients],
    }


def _error(report: Report) -> str:
    """Why a report of a failure cannot be used, "" where it can."""
    if report.kind is not ReportKind.FAILURE:
        return ""
    if not report.recipients:
        return f"a report of a failure that names no recipient ({report.reason})"
    dates = [report.reported_at, report.original_date, *(failed.last_attempt_at for failed in report.recipients)]
    return "" if any(dates) else "a report without any date"


def _headers(report: Report) -> list[str]:
    subject = [(_SUBJECT, report.subject)] if report.subject else []
    return [f"{name}: {value}" for name, value in (*subject, *report.headers)]


def _recipient(failed: Failed) -> dict[str, Any]:
    return {
        "recipient": failed.recipient,
        "original": failed.original_recipient,
        "action": str(failed.action),
        "status": failed.status,
        "code": failed.code,
        "reply": failed.reply,
        "relay": failed.remote_mta,
        "relay_ip": failed.remote_ip,
        "at": _micros(failed.last_attempt_at),
    }


def _micros(at: datetime | None) -> int | None:
    return None if at is None else to_micros(at)
