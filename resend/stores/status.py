"""One look at the ledger: plans, where the mails of each provider stand, the last decisions. Reads only."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from resend.clock import from_text
from resend.model import State
from resend.policy.hours import ALWAYS, Hours
from resend.stores import catchups, control, registry, vetoes
from resend.stores.batches import LEASED
from resend.stores.ledger import Ledger
from resend.stores.rows import Decision, Holder, ProviderStatus, Status
from resend.stores.setwise import db_now
from resend.stores.tables import audit, batch, delivery, provider_slot
from resend.stores.tables import control as commands
from resend.stores.work import work

DECISIONS = 20


def status(ledger: Ledger, *, plan_id: str = "") -> Status:
    """`look` at one instant."""
    with ledger.snapshot() as conn:
        return look(conn, plan_id=plan_id)


def look(conn: Connection, *, plan_id: str = "", hours: Hours = ALWAYS, now: datetime | None = None) -> Status:
    """Everything a person asks of a run. On `Ledger.snapshot()` all of it is of one instant.

    `hours` and `now`: also what keeps mails that are due from leaving at this hour.
    """
    counts = (
        select(
            delivery.c.egress,
            delivery.c.provider,
            delivery.c.state,
            delivery.c.fate,
            func.count(),
            func.min(delivery.c.due_at),
        )
        .group_by(delivery.c.egress, delivery.c.provider, delivery.c.state, delivery.c.fate)
        .order_by(delivery.c.egress, delivery.c.provider)
    )
    if plan_id:
        counts = counts.where(delivery.c.plan_id == plan_id)
    states: dict[tuple[str, str], dict[State, int]] = {}
    fates: dict[tuple[str, str], dict[str, int]] = {}
    due: dict[tuple[str, str], datetime] = {}
    for egress, provider, state, fate, count, due_at in conn.execute(counts):
        place = (egress, provider)
        states.setdefault(place, {})[State(state)] = states.get(place, {}).get(State(state), 0) + count
        if fate:
            fates.setdefault(place, {})[fate] = fates.get(place, {}).get(fate, 0) + count
        if state == State.DEFERRED and due_at:
            at = from_text(due_at)
            due[place] = min(at, due.get(place, at))
    rates = {(rate.egress, rate.provider): rate for rate in control.rates(conn)}
    left = () if now is None else work(conn, now, plan_id=plan_id, hours=hours)
    shut = {(item.egress, item.provider): item for item in left if item.shut}
    return Status(
        plans=tuple(item for item in registry.plans(conn) if not plan_id or item.id == plan_id),
        providers=tuple(
            ProviderStatus(
                egress=place[0],
                provider=place[1],
                states=states.get(place, {}),
                fates=fates.get(place, {}),
                rate=rates.get(place),
                next_due=due.get(place),
                shut=shut[place].shut if place in shut else "",
                shut_until=shut[place].shut_until if place in shut else None,
            )
            for place in sorted(states.keys() if plan_id else states.keys() | rates.keys())
        ),
        decisions=tuple(decisions(conn, limit=DECISIONS)),
        unseen_controls=int(conn.execute(select(func.count()).where(commands.c.seen_at.is_(None))).scalar_one()),
        watermarks=tuple(vetoes.watermarks(conn)),
        holders=tuple(holders(conn)),
        catch_up=catchups.last(conn),
    )


def holders(conn: Connection) -> list[Holder]:
    """Batches that are leased, by owner (sql/ledger/60_leases.sql shows the same by hand)."""
    slots = (
        select(func.count())
        .where(provider_slot.c.batch_id == batch.c.id, provider_slot.c.epoch == batch.c.epoch)
        .scalar_subquery()
    )
    of = [func.count().filter(delivery.c.state == state) for state in (State.LEASED, State.SENDING)]
    query = (
        select(batch.c.owner, batch.c.egress, batch.c.provider, batch.c.id, batch.c.lease_until, *of, slots)
        .select_from(batch.outerjoin(delivery, delivery.c.batch_id == batch.c.id))
        .where(batch.c.state == LEASED)
        .group_by(batch.c.id)
        .order_by(batch.c.owner, batch.c.egress, batch.c.provider, batch.c.id)
    )
    now = db_now(conn)
    return [
        Holder(
            owner=owner,
            egress=egress,
            provider=provider,
            batch_id=id_,
            lease_until=from_text(until),
            over=bool(now) and until <= now,  # on SQLite the run's lock tells
            leased=leased,
            under_way=under_way,
            connections=connections,
        )
        for owner, egress, provider, id_, until, leased, under_way, connections in conn.execute(query)
    ]


def decisions(
    conn: Connection,
    *,
    limit: int | None = None,
    plan_id: str = "",
    what: str = "",
    subject: str = "",
    egress: str = "",
    provider: str = "",
    who: str = "",
) -> list[Decision]:
    """Rows of the audit, newest first."""
    query = select(audit).order_by(audit.c.id.desc())
    for name, value in (
        ("plan_id", plan_id), ("what", what), ("subject", subject), ("egress", egress), ("provider", provider),
        ("who", who),
    ):  # fmt: skip
        column = audit.c[name]
        if value:
            query = query.where(column == value)
    if limit is not None:
        query = query.limit(limit)
    return [
        Decision(
            at=from_text(row.at),
            who=row.who,
            what=row.what,
            plan_id=row.plan_id,
            egress=row.egress,
            provider=row.provider,
            subject=row.subject,
            value=row.value,
            reason=row.reason,
        )
        for row in conn.execute(query)
    ]
