"""What the ledger knows of how an egress and a provider got on: the days on which mail was accepted, and how much.

Reads only, in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from resend.clock import from_text
from resend.model import TryOutcome
from resend.stores.tables import try_

_DATE = 10  # characters of a time that are its day, UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmth:
    """Accepted mails of one (egress, provider)."""

    days: int
    mails: int
    last_at: datetime


def warmth(conn: Connection, egresses: Collection[str]) -> dict[tuple[str, str], Warmth]:
    """By (egress, provider); one that never had a mail accepted is not there."""
    day = func.substr(try_.c.mail_at, 1, _DATE)
    query = (
        select(try_.c.egress, try_.c.provider, func.count(), func.count(day.distinct()), func.max(try_.c.mail_at))
        .where(try_.c.egress.in_(sorted(egresses)), try_.c.outcome == TryOutcome.ACCEPTED)
        .group_by(try_.c.egress, try_.c.provider)
    )
    return {
        (egress, provider): Warmth(days=days, mails=mails, last_at=from_text(last))
        for egress, provider, mails, days, last in conn.execute(query)
    }
