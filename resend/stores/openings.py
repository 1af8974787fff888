"""When the mails of an (egress, provider) may be sent: the windows, and the daily quota as the ledger counts it.

What may have been accepted counts as accepted, so a quota is never exceeded, also not over restarts or by several runs.
In the caller's transaction; decides nothing about mails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, func, select

from resend.clock import to_text
from resend.model import PlanState, State, TryOutcome
from resend.policy.hours import Hours
from resend.stores.engine import is_sqlite
from resend.stores.tables import batch, delivery, plan, provider_rate, try_

_SPENT = (TryOutcome.ACCEPTED, TryOutcome.IN_DOUBT, TryOutcome.ARMED)


@dataclass(frozen=True, slots=True)
class Opening:
    """The first moment at which something may be sent, and what keeps it until then, "" nothing."""

    at: datetime
    why: str = ""


@dataclass(slots=True)
class Openings:
    """One look at the clock and the quotas; asks the ledger once for each (egress, provider)."""

    conn: Connection
    hours: Hours
    now: datetime
    _spent: dict[tuple[str, str], int] = field(default_factory=dict)

    def of(self, egress: str, provider: str, zone: str, at: datetime) -> Opening:
        """When a mail for `zone` that is to be sent at `at` may be sent."""
        why = ""
        quota = self.hours.quota(provider, egress)
        if quota and self.spent(egress, provider) >= quota and at < (midnight := self.hours.day(self.now)[1]):
            at, why = midnight, f"the daily quota of {quota:,} is reached"
        opens = self.hours.opens(provider, zone, at)
        return Opening(opens, why or "the send window is closed") if opens > at else Opening(at, why)

    def spent(self, egress: str, provider: str) -> int:
        place = (egress, provider)
        if place not in self._spent:
            self._spent[place] = spent(self.conn, egress=egress, provider=provider, since=self.hours.day(self.now)[0])
        return self._spent[place]


def spent(conn: Connection, *, egress: str, provider: str, since: datetime) -> int:
    """Mails of which MAIL left at `since` or later and that were, or may have been, accepted."""
    query = select(func.count()).where(
        try_.c.egress == egress,
        try_.c.provider == provider,
        try_.c.mail_at >= to_text(since),
        try_.c.outcome.in_(_SPENT),
    )
    return int(conn.execute(query).scalar_one())


def left_today(conn: Connection, hours: Hours, *, egress: str, provider: str, now: datetime) -> int | None:
    """How many mails may still be leased today; None where there is no quota. Other runs must wait for this answer."""
    quota = hours.quota(provider, egress)
    if not quota:
        return None
    if not is_sqlite(conn):
        here = (provider_rate.c.egress == egress, provider_rate.c.provider == provider)
        conn.execute(select(provider_rate.c.rate).where(*here).with_for_update())
    leased = select(func.count()).where(
        delivery.c.plan_id.in_(select(plan.c.id).where(plan.c.state == PlanState.STARTED)),
        delivery.c.state == State.LEASED,
        delivery.c.egress == egress,
        delivery.c.provider == provider,
    )
    used = spent(conn, egress=egress, provider=provider, since=hours.day(now)[0])
    return max(0, quota - used - int(conn.execute(leased).scalar_one()))


def zones(conn: Connection, *, egress: str, provider: str) -> list[str]:
    """The recipients' zones of an (egress, provider)."""
    query = select(batch.c.zone).where(batch.c.egress == egress, batch.c.provider == provider)
    return list(conn.scalars(query.distinct().order_by(batch.c.zone)))
