"""Claiming: a free connection slot, then the next batch, in one transaction; the epoch rises with every claim.

Rows that are vetoed or out of date by then are taken out instead of leased. Deferred rows that came due join a retry
batch. PostgreSQL's clock decides what has expired, SQLite's caller holds `run.lock`. In the caller's write transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, insert, literal, null, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from resend.clock import from_text, to_text
from resend.model import PlanState, State
from resend.stores import batches, sharing
from resend.stores.batches import LEASED, OPEN, settle_batch
from resend.stores.engine import is_sqlite
from resend.stores.rows import Batch, Delivery
from resend.stores.setwise import dump, json_rows, pg_now
from resend.stores.tables import batch, delivery, plan, provider_rate, provider_slot
from resend.stores.vetoes import sweep
from resend.stores.work import Work as Work
from resend.stores.work import now_text, of_started
from resend.stores.work import work as work

RETRY_SIZE = 500  # deferred rows that join one retry batch, at most


def claim_batch(
    conn: Connection,
    *,
    egress: str,
    provider: str,
    owner: str,
    now: datetime,
    lease_s: float,
    plan_id: str = "",
    connections: int | None = None,
    want: int = 1,
    held: Sequence[int] = (),
    shared: bool = False,
    closed: Collection[str] = (),
    limit: int | None = None,
) -> Batch | None:
    """Lease the next open batch of (egress, provider); None where there is none, or no slot is free.

    `plan_id` "": of any started plan. `connections`: keep slots, that many in all; the batch gets up to `want` of them,
    those in `held` first, which the owner has from a batch before: they are this batch's from now on. `shared`: other
    hosts send too. Half of the free slots are left to them, and while a canary is under way or dwells, nothing else
    of its plan and provider is leased, whichever host sends it.
    `closed`: zones whose batches are passed over. `limit`: of the batch so many mails, the rest stays planned.
    """
    at = now_text(conn, now)
    dead_asked = is_sqlite(conn)  # there, `run.lock` and `recover` at the start have seen to the dead
    while True:
        found = conn.execute(
            select(batch)
            .join(plan, plan.c.id == batch.c.plan_id)
            .where(
                batch.c.egress == egress,
                batch.c.provider == provider,
                batch.c.state == OPEN,
                plan.c.state == PlanState.STARTED,
                *([batch.c.plan_id == plan_id] if plan_id else []),
                or_(batch.c.not_before.is_(None), batch.c.not_before <= at),
                *([~_behind_canary(at)] if shared else []),
                *([batch.c.zone.not_in(sorted(closed))] if closed else []),
                exists().where(delivery.c.batch_id == batch.c.id, _claimable(at)),
            )
            .order_by(plan.c.started_at, batch.c.plan_id, batch.c.seq)
            .limit(1)
            .with_for_update(skip_locked=True, of=batch)
        ).one_or_none()
        slots = None if found is None else _take_slots(conn, egress, provider, connections, want, owner, held, shared)
        if found is None or slots is None:
            if dead_asked:
                return None
            dead_asked = True
            batches.recover(conn, now)
            continue
        leased = _lease(conn, found.id, owner=owner, at=at, lease_s=lease_s, slots=slots, limit=limit)
        if leased is not None:
            return leased


def retry_batch(
    conn: Connection,
    *,
    egress: str,
    provider: str,
    owner: str,
    now: datetime,
    lease_s: float,
    plan_id: str = "",
    connections: int | None = None,
    want: int = 1,
    held: Sequence[int] = (),
    shared: bool = False,
    closed: Collection[str] = (),
    limit: int | None = None,
) -> Batch | None:
    """Join deferred rows that are due into a retry batch of their plan and zone and lease it; None where nothing is.

    `plan_id` "": of the started plan whose row has waited longest (catch-up). `closed`: zones that are passed over.
    """
    at = now_text(conn, now)
    due = and_(
        delivery.c.state == State.DEFERRED,
        delivery.c.due_at <= at,
        delivery.c.egress == egress,
        delivery.c.provider == provider,
    )
    if closed:
        due &= delivery.c.batch_id.in_(select(batch.c.id).where(batch.c.zone.not_in(sorted(closed))))
    chosen_plan = (
        plan_id
        or conn.execute(
            select(delivery.c.plan_id)
            .where(due, delivery.c.plan_id.in_(select(plan.c.id).where(plan.c.state == PlanState.STARTED)))
            .order_by(delivery.c.due_at)
            .limit(1)
        ).scalar()
    )
    if not chosen_plan:
        return None
    most = RETRY_SIZE if limit is None else min(limit, RETRY_SIZE)
    rows = conn.execute(
        select(delivery.c.key, delivery.c.batch_id, batch.c.zone)
        .join(batch, batch.c.id == delivery.c.batch_id)
        .where(due, delivery.c.plan_id == chosen_plan)
        .order_by(delivery.c.due_at, delivery.c.key)
        .limit(most)
        .with_for_update(skip_locked=True, of=delivery)
    ).all()
    if not rows:
        return None
    rows = [row for row in rows if row.zone == rows[0].zone]
    slots = _take_slots(conn, egress, provider, connections, want, owner, held, shared)
    if slots is None:
        return None
    here = (batch.c.plan_id == chosen_plan, batch.c.egress == egress, batch.c.provider == provider)
    seq = int(conn.execute(select(func.coalesce(func.max(batch.c.seq), 0)).where(*here)).scalar_one()) + 1
    place = hashlib.sha256(egress.encode()).hexdigest()[:6]
    batch_id = f"{chosen_plan[:12]}-{place}-{provider}-r{seq}-{rows[0].key[:8]}"  # two hosts may take one seq
    rate = conn.execute(select(func.max(batch.c.rate)).where(*here)).scalar() or 0.0
    conn.execute(
        insert(batch).values(
            id=batch_id,
            plan_id=chosen_plan,
            egress=egress,
            provider=provider,
            seq=seq,
            state=OPEN,
            size=len(rows),
            rate=rate,
            retry=1,
            zone=rows[0].zone,
        )
    )
    chosen = json_rows(conn.dialect.name, "chosen", key=str)
    conn.execute(
        update(delivery)
        .where(delivery.c.key == chosen.c.key, delivery.c.state == State.DEFERRED)
        .values(batch_id=batch_id),
        {"chosen": dump([row.key] for row in rows)},
    )
    for left in sorted({row.batch_id for row in rows}):
        settle_batch(conn, left)
    return _lease(conn, batch_id, owner=owner, at=at, lease_s=lease_s, slots=slots)


def next_due(conn: Connection, *, plan_id: str = "") -> dict[tuple[str, str], datetime]:
    """When the next deferred row of each (egress, provider) is due."""
    query = select(delivery.c.egress, delivery.c.provider, func.min(delivery.c.due_at)).where(
        delivery.c.state == State.DEFERRED, of_started(plan_id)
    )
    rows = conn.execute(query.group_by(delivery.c.egress, delivery.c.provider)).all()
    return {(egress, provider): from_text(due) for egress, provider, due in rows if due}


def held_elsewhere(
    conn: Connection, *, egress: str, provider: str, owner: str, connections: int, plan_id: str = ""
) -> dict[str, int]:
    """Who has how many connections, where mails wait and others have all of them; empty else."""
    slots = (
        select(provider_slot.c.owner, func.count())
        .where(provider_slot.c.egress == egress, provider_slot.c.provider == provider, provider_slot.c.n < connections)
        .group_by(provider_slot.c.owner)
        .order_by(provider_slot.c.owner)
    )
    found = {name: int(count) for name, count in conn.execute(slots)}
    if not found or "" in found or owner in found:
        return {}
    ready = (
        exists()
        .where(batch.c.egress == egress, batch.c.provider == provider, batch.c.state == OPEN)
        .where(batch.c.plan_id == plan.c.id, plan.c.state == PlanState.STARTED)
    )
    if plan_id:
        ready = ready.where(batch.c.plan_id == plan_id)
    return found if conn.execute(select(ready)).scalar() else {}


def batch_keys(conn: Connection, batch_id: str) -> list[str]:
    """Keys of the mails of a batch."""
    return list(conn.scalars(select(delivery.c.key).where(delivery.c.batch_id == batch_id)))


def _claimable(at: str) -> ColumnElement[bool]:
    """Rows of a batch that a claim leases: planned ones that need not wait, deferred ones that are due."""
    planned = and_(delivery.c.state == State.PLANNED, or_(delivery.c.due_at.is_(None), delivery.c.due_at <= at))
    return or_(planned, and_(delivery.c.state == State.DEFERRED, delivery.c.due_at <= at))


def _behind_canary(at: str) -> ColumnElement[bool]:
    """Batches that wait for the canary of their plan and provider: it is under way, or its replies are waited for."""
    canary = batch.alias("canary")
    leads = and_(
        canary.c.plan_id == batch.c.plan_id,
        canary.c.egress == batch.c.egress,
        canary.c.provider == batch.c.provider,
        canary.c.canary == 1,
        canary.c.state == LEASED,
    )
    dwells = and_(
        provider_rate.c.egress == batch.c.egress,
        provider_rate.c.provider == batch.c.provider,
        provider_rate.c.canary_done == 0,
        provider_rate.c.dwell_until > at,
    )
    return or_(exists().where(leads), exists().where(dwells))


def _lease(
    conn: Connection,
    batch_id: str,
    *,
    owner: str,
    at: str,
    lease_s: float,
    slots: Sequence[int],
    limit: int | None = None,
) -> Batch | None:
    """Take vetoed rows out and lease the rest; None (and no lease) where nothing is left."""
    mine = and_(delivery.c.batch_id == batch_id, _claimable(at))
    conn.execute(sweep().where(mine), {"now": at})
    if limit is not None:
        first = select(delivery.c.key).where(mine).order_by(delivery.c.seq, delivery.c.key).limit(limit)
        mine &= delivery.c.key.in_(first)
    until: ColumnElement[str] = literal(to_text(from_text(at) + timedelta(seconds=lease_s)))
    if not is_sqlite(conn):
        until = pg_now(lease_s)
    epoch = batch.c.epoch + 1
    row = conn.execute(
        update(batch)
        .where(batch.c.id == batch_id, batch.c.state == OPEN)
        .values(state=LEASED, epoch=epoch, owner=owner, lease_until=until)
        .returning(*batch.c)
    ).one()
    count = conn.execute(
        update(delivery).where(mine).values(state=State.LEASED, epoch=row.epoch, due_at=null())
    ).rowcount
    if not count:
        batches.end(conn, batch_id, row.epoch)
        return None
    if slots:
        conn.execute(
            update(provider_slot)
            .where(
                provider_slot.c.egress == row.egress,
                provider_slot.c.provider == row.provider,
                provider_slot.c.n.in_(slots),
            )
            .values(owner=owner, batch_id=batch_id, epoch=row.epoch, lease_until=row.lease_until)
        )
    leased = (
        select(*(delivery.c[name] for name in Delivery._fields))
        .where(delivery.c.batch_id == batch_id, delivery.c.state == State.LEASED, delivery.c.epoch == row.epoch)
        .order_by(delivery.c.seq, delivery.c.key)
    )
    return Batch(
        id=row.id,
        plan_id=row.plan_id,
        egress=row.egress,
        provider=row.provider,
        seq=row.seq,
        epoch=row.epoch,
        rate=row.rate,
        canary=bool(row.canary),
        retry=bool(row.retry),
        lease_until=from_text(row.lease_until),
        slots=tuple(slots),
        rows=tuple(_delivery(item) for item in conn.execute(leased).all()),
        zone=row.zone,
    )


def _take_slots(
    conn: Connection,
    egress: str,
    provider: str,
    connections: int | None,
    want: int,
    owner: str,
    held: Sequence[int],
    shared: bool,
) -> tuple[int, ...] | None:
    """Numbers of slots for a batch, locked: those still held, then free ones. () where none are kept, None for none."""
    if connections is None:
        return ()
    make = sqlite.insert if is_sqlite(conn) else postgresql.insert
    here = (provider_slot.c.egress == egress, provider_slot.c.provider == provider, provider_slot.c.n < connections)
    known = int(conn.execute(select(func.count()).where(*here)).scalar_one())
    if known < connections:
        conn.execute(
            make(provider_slot).on_conflict_do_nothing(),
            [{"egress": egress, "provider": provider, "n": n} for n in range(known, connections)],
        )
    part = connections
    if shared and not is_sqlite(conn):
        part = sharing.share(conn, egress=egress, provider=provider, connections=connections)
        want = min(want, part)
    mine: list[int] = []
    if held:
        alive = [] if is_sqlite(conn) else [provider_slot.c.lease_until > pg_now()]
        still = select(provider_slot.c.n).where(
            *here, provider_slot.c.owner == owner, provider_slot.c.n.in_(list(held)), *alive
        )
        mine = list(conn.scalars(still.order_by(provider_slot.c.n).with_for_update()))
    free = (
        select(provider_slot.c.n)
        .where(*here, provider_slot.c.owner == "")
        .order_by(provider_slot.c.n)
        .limit(max(0, want - len(mine)))
        .with_for_update(skip_locked=True)
    )
    found = conn.scalars(free).all()
    return (*mine, *(found[: (len(found) + 1) // 2] if shared and part == connections else found)) or None


def _delivery(row: Sequence[Any]) -> Delivery:
    made = Delivery._make(row)
    if made.date and made.expires_at is None and made.first_try_at is None:
        return made
    named = {name: getattr(made, name) for name in ("expires_at", "first_try_at")}
    given: dict[str, Any] = {name: from_text(text) for name, text in named.items() if text is not None}
    return made._replace(date=made.date or "", **given)
