"""What is left to send at each (egress, provider), what of it may be sent now, and what keeps the rest until when.

Reads only, on the caller's connection. On PostgreSQL the database's clock decides what is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, case, func, select

from resend.clock import from_text, to_text
from resend.model import PlanState, State
from resend.policy.hours import ALWAYS, Hours
from resend.stores.batches import LEASED, OPEN
from resend.stores.engine import is_sqlite
from resend.stores.openings import Opening, Openings
from resend.stores.setwise import db_now
from resend.stores.tables import batch, delivery, plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is left at one (egress, provider): open batches that may be claimed now, and when the next thing is due."""

    egress: str
    provider: str
    ready: int  # batches to claim now
    due: int  # deferred rows due now
    next_at: datetime | None  # of batches and rows that must still wait
    leased: int = 0  # batches that other hosts hold (PostgreSQL); one whose lease has run out is ready
    shut: str = ""  # why what would be ready or due must wait, "" where no hour keeps it
    shut_until: datetime | None = None
    shut_due: bool = False  # deferred rows are among it


def work(conn: Connection, now: datetime, *, plan_id: str = "", hours: Hours = ALWAYS) -> list[Work]:
    """What is left to send, by (egress, provider), in their order. Held, quarantined and doubtful rows are not work."""
    at = now_text(conn, now)
    found: dict[tuple[str, str], _Left] = {}
    openings = Openings(conn, hours, from_text(at))
    open_batches = conn.execute(
        select(batch.c.egress, batch.c.provider, batch.c.zone, batch.c.not_before, func.min(delivery.c.due_at))
        .join(delivery, delivery.c.batch_id == batch.c.id)
        .join(plan, plan.c.id == batch.c.plan_id)
        .where(
            batch.c.state == OPEN,
            plan.c.state == PlanState.STARTED,
            delivery.c.state == State.PLANNED,
            *([batch.c.plan_id == plan_id] if plan_id else []),
        )
        .group_by(
            batch.c.id, batch.c.egress, batch.c.provider, batch.c.zone, batch.c.not_before, delivery.c.due_at.is_(None)
        )
    ).all()
    for egress, provider, zone, not_before, due_at in open_batches:
        left = found.setdefault((egress, provider), _Left())
        when = max(not_before or "", due_at or "", at)
        left.ready += left.add(when == at, openings.of(egress, provider, zone, from_text(when)), retry=False)
    if not is_sqlite(conn):
        for egress, provider, lease_until in conn.execute(
            select(batch.c.egress, batch.c.provider, batch.c.lease_until).where(
                batch.c.state == LEASED, *([batch.c.plan_id == plan_id] if plan_id else [])
            )
        ):
            left = found.setdefault((egress, provider), _Left())
            left.leased += lease_until > at
            left.ready += lease_until <= at  # a claim takes it from the dead
    is_due = delivery.c.due_at <= at
    deferred = conn.execute(
        select(
            delivery.c.egress,
            delivery.c.provider,
            batch.c.zone,
            func.sum(case((is_due, 1), else_=0)),
            func.min(case((~is_due, delivery.c.due_at))),
        )
        .join(batch, batch.c.id == delivery.c.batch_id)
        .where(delivery.c.state == State.DEFERRED, of_started(plan_id))
        .group_by(delivery.c.egress, delivery.c.provider, batch.c.zone)
    ).all()
    for egress, provider, zone, count, due_at in deferred:
        left = found.setdefault((egress, provider), _Left())
        if count and left.add(True, openings.of(egress, provider, zone, from_text(at)), retry=True):
            left.due += int(count)
        if due_at:
            left.add(False, openings.of(egress, provider, zone, from_text(due_at)), retry=True)
    return [left.work(*place) for place, left in sorted(found.items())]


@dataclass(slots=True)
class _Left:
    """Sums up the work of one (egress, provider)."""

    ready: int = 0
    due: int = 0
    leased: int = 0
    next_at: datetime | None = None
    shut: Opening | None = None
    shut_due: bool = False

    def add(self, now: bool, opening: Opening, *, retry: bool) -> bool:
        """Something that is to be sent, now or later, and when it may be; whether that is now."""
        if opening.why and (self.shut is None or opening.at < self.shut.at):
            self.shut = opening
        self.shut_due |= bool(opening.why) and retry
        if now and not opening.why:
            return True
        self.next_at = opening.at if self.next_at is None else min(self.next_at, opening.at)
        return False

    def work(self, egress: str, provider: str) -> Work:
        return Work(
            egress=egress,
            provider=provider,
            ready=self.ready,
            due=self.due,
            next_at=self.next_at,
            leased=self.leased,
            shut=self.shut.why if self.shut else "",
            shut_until=self.shut.at if self.shut else None,
            shut_due=self.shut_due,
        )


def now_text(conn: Connection, now: datetime) -> str:
    return db_now(conn) or to_text(now)


def of_started(plan_id: str) -> ColumnElement[bool]:
    if plan_id:
        return delivery.c.plan_id == plan_id
    return delivery.c.plan_id.in_(select(plan.c.id).where(plan.c.state == PlanState.STARTED))
