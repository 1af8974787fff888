"""`suppressions`: which addresses an incident made look dead, and which are. Changes nothing.

Raises UsageError for an incident that is not there, StoreError.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from resend.clock import from_micros, to_text
from resend.config import Config
from resend.errors import InputError
from resend.linker.buckets import rebucket
from resend.linker.incident import find_incident
from resend.linker.outcomes import prepare
from resend.model import Action, CauseClass
from resend.policy.suppression import Advice, Failed, advise
from resend.report.impact import cell
from resend.stores import sql
from resend.stores.evidence import Evidence
from resend.stores.home import Home, private_opener
from resend.stores.ledger import Ledger
from resend.stores.rows import IncidentRecord

_HEADINGS = (
    "address", "recommendation", "why", "evidence", "provider", "cause", "code", "failures", "last_failed_at",
    "last_sent_at", "listed", "listed_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspected:
    """One address that failed for good in the incident. `evidence`: the log line of its failure."""

    address: str
    recommendation: Advice
    why: str
    evidence: str
    provider: str
    cause: str
    code: int
    enhanced: str
    reply: str
    failures: int
    last_failed_at: datetime | None
    last_sent_at: datetime | None
    listed: str
    listed_at: datetime | None


def suppressions(
    home: Home, config: Config, ledger: Ledger, ref: str, *, now: datetime
) -> tuple[IncidentRecord, list[Suspected]]:
    """Every address whose mail bounced or expired in an incident; those to lift first, hard bounces before the rest.

    `now` is aware UTC.
    """
    record = find_incident(ledger, ref)
    with rebucket(home, ledger, record.id, now=now) as affected:
        con = affected.con
        prepare(con, Evidence(home), config)  # events, own_host
        con.execute(f"CREATE OR REPLACE TEMP TABLE took AS {sql.load('suppression/20_took')}")
        cursor = con.execute(sql.load("suppression/10_address"))
        names = [column[0] for column in cursor.description or ()]
        found = [_suspected(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
    order = (Advice.LIFT, Advice.KEEP)
    return record, sorted(
        found, key=lambda one: (order.index(one.recommendation), one.code < 500, one.why, one.address)
    )


def _suspected(row: dict[str, object]) -> Suspected:
    first, last, sent, listed_at = (_us(row[name]) for name in ("first_us", "last_us", "last_sent_at", "listed_at"))
    code = int(str(row["code"]))
    recommendation, why = advise(
        Failed(
            cause=CauseClass(str(row["cause"])),
            action=Action(str(row["action"])),
            rule=str(row["verdict_rule"]),
            code=code,
            first_us=first,
            last_us=last,
            unsubscribed=bool(row["unsubscribed"]),
            listed=str(row["listed"]),
            listed_at=listed_at,
            last_sent_at=sent,
        )
    )
    return Suspected(
        address=str(row["address"]),
        recommendation=recommendation,
        why=why,
        evidence=str(row["evidence"]),
        provider=str(row["provider"]),
        cause=str(row["cause"]),
        code=code,
        enhanced=str(row["enhanced"]),
        reply=str(row["reply"]),
        failures=int(str(row["failures"])),
        last_failed_at=_at(last),
        last_sent_at=_at(sent),
        listed=str(row["listed"]),
        listed_at=_at(listed_at),
    )


def _us(value: object) -> int | None:
    return None if value is None else int(str(value))


def _at(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def write_csv(rows: Sequence[Suspected], path: Path, *, shown: Callable[[str], str]) -> None:
    """All rows as CSV, UTF-8 with a BOM, readable by the owner only. `shown` masks an address, or does not."""
    try:
        with open(path, "w", encoding="utf-8-sig", newline="", opener=private_opener) as handle:
            out = csv.writer(handle)
            out.writerow(_HEADINGS)
            for one in rows:
                values = [getattr(one, name) for name in _HEADINGS]
                out.writerow([cell(_text(shown(one.address) if i == 0 else value)) for i, value in enumerate(values)])
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", where=str(path), next_step="choose another file") from None


def _text(value: object) -> object:
    return to_text(value) if isinstance(value, datetime) else value
