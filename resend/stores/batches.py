"""Batches and connection slots as leases: renewed, ended, taken from the dead, opened again.

A lease is (batch id, epoch): every claim raises the epoch, so a former holder's words find no row. What a dead holder
had not armed is free; what it had armed is in doubt, never planned again by time. In the caller's write transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, insert, literal, null, or_, select, update

from resend.clock import to_text
from resend.model import PlanState, State, TryOutcome
from resend.stores.engine import is_sqlite
from resend.stores.setwise import dump, json_rows, pg_now
from resend.stores.tables import audit, batch, delivery, plan, provider_slot, try_

DOT_S = 660.0  # a dead worker's armed mail may still be answered this long after the arm (600 s wait, 60 s to spare)
OPEN, LEASED, DONE = "open", "leased", "done"
_UNSENT = (State.PLANNED, State.LEASED, State.SENDING)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was taken from dead holders: `freed` rows planned again, `in_doubt` keys, slots that are free now."""

    freed: int
    in_doubt: tuple[str, ...]
    slots: int


def renew(conn: Connection, batch_id: str, epoch: int, lease_s: float, now: datetime) -> bool:
    """Hold the batch and its slots longer; False where the lease is lost (also when it has run out, on PostgreSQL)."""
    until: ColumnElement[str]
    mine = [batch.c.id == batch_id, batch.c.epoch == epoch, batch.c.state == LEASED]
    if is_sqlite(conn):
        until = literal(to_text(now + timedelta(seconds=lease_s)))
    else:
        until = pg_now(lease_s)
        mine.append(batch.c.lease_until > pg_now())
    if not conn.execute(update(batch).where(*mine).values(lease_until=until)).rowcount:
        return False
    conn.execute(
        update(provider_slot)
        .where(provider_slot.c.batch_id == batch_id, provider_slot.c.epoch == epoch)
        .values(lease_until=until)
    )
    return True


def end(conn: Connection, batch_id: str, epoch: int) -> int | None:
    """The holder is through: unsent rows leased -> planned (their count; None where the lease is not its own)."""
    held = and_(batch.c.id == batch_id, batch.c.epoch == epoch, batch.c.state == LEASED)
    if not conn.execute(update(batch).where(held).values(state=OPEN, owner="", lease_until=null())).rowcount:
        return None
    back = conn.execute(
        update(delivery)
        .where(delivery.c.batch_id == batch_id, delivery.c.epoch == epoch, delivery.c.state == State.LEASED)
        .values(state=State.PLANNED)
    ).rowcount
    conn.execute(
        update(provider_slot)
        .where(provider_slot.c.batch_id == batch_id, provider_slot.c.epoch == epoch)
        .values(owner="", batch_id="", lease_until=null())
    )
    _settle(conn, batch.c.id == batch_id)
    return back


def reopen(conn: Connection, keys: Sequence[str]) -> None:
    """Rows became planned again: batches that were done take them, and finished plans go on."""
    if not keys:
        return
    chosen = json_rows(conn.dialect.name, "chosen", key=str)
    parameter = {"chosen": dump([key] for key in keys)}
    planned = delivery.c.key.in_(select(chosen.c.key)) & (delivery.c.state == State.PLANNED)
    conn.execute(
        update(batch)
        .where(batch.c.state == DONE, batch.c.id.in_(select(delivery.c.batch_id).where(planned)))
        .values(state=OPEN),
        parameter,
    )
    conn.execute(
        update(plan)
        .where(plan.c.state == PlanState.FINISHED, plan.c.id.in_(select(delivery.c.plan_id).where(planned)))
        .values(state=PlanState.STARTED, finished_at=null()),
        parameter,
    )


def recover(conn: Connection, now: datetime) -> Recovered:
    """Take over from dead holders.

    SQLite: the caller holds `run.lock`, which proves every former holder dead, so all leases end at once. PostgreSQL,
    by the database's clock: expired leases end; an armed row is in doubt DOT_S after its arm, its slot kept till then.
    """
    if is_sqlite(conn):
        gone = batch.c.state == LEASED
        lost = delivery.c.state == State.SENDING
    else:
        conn.execute(select(batch.c.id).where(_expired()).order_by(batch.c.id).with_for_update(skip_locked=True))
        gone = _expired()
        lost = _beyond_dot()
    return _take(conn, gone, lost, to_text(now))


def _expired() -> ColumnElement[bool]:
    return (batch.c.state == LEASED) & (batch.c.lease_until <= pg_now())


def _beyond_dot() -> ColumnElement[bool]:
    """Armed rows whose lease is over and whose arm is older than any answer (PostgreSQL)."""
    alive = exists().where(
        batch.c.id == delivery.c.batch_id,
        batch.c.state == LEASED,
        batch.c.epoch == delivery.c.epoch,
        batch.c.lease_until > pg_now(),
    )
    old = exists().where(try_.c.id == delivery.c.try_id, try_.c.armed_at <= pg_now(-DOT_S))
    return (delivery.c.state == State.SENDING) & delivery.c.plan_id.in_(select(plan.c.id)) & ~alive & old


def _take(conn: Connection, gone: ColumnElement[bool], lost: ColumnElement[bool], at: str) -> Recovered:
    doubted = conn.execute(select(delivery.c.key, delivery.c.try_id, delivery.c.provider).where(lost)).all()
    if doubted:
        chosen = json_rows(conn.dialect.name, "chosen", key=str, try_id=str)
        parameter = {"chosen": dump((row.key, row.try_id) for row in doubted)}
        conn.execute(
            update(delivery)
            .where(
                delivery.c.key == chosen.c.key,
                delivery.c.try_id == chosen.c.try_id,
                delivery.c.state == State.SENDING,
            )
            .values(state=State.IN_DOUBT, tries=delivery.c.tries + 1, reason="the sender died before the answer"),
            parameter,
        )
        conn.execute(
            update(try_)
            .where(try_.c.id == chosen.c.try_id, try_.c.outcome == TryOutcome.ARMED)
            .values(outcome=TryOutcome.IN_DOUBT, ended_at=at),
            parameter,
        )
        conn.execute(
            insert(audit),
            [
                {
                    "at": at,
                    "who": "recovery",
                    "what": "in_doubt",
                    "provider": row.provider,
                    "subject": row.key,
                    "reason": "armed, and its sender is dead",
                }
                for row in doubted
            ],
        )
    leases = select(batch.c.id).where(gone)
    ids = list(conn.scalars(leases))
    freed = 0
    if ids:
        named = json_rows(conn.dialect.name, "named", id=str)
        parameter = {"named": dump([id_] for id_ in ids)}
        conn.execute(
            update(batch)
            .where(batch.c.id.in_(select(named.c.id)), gone)
            .values(state=OPEN, owner="", lease_until=null()),
            parameter,
        )
        freed = conn.execute(
            update(delivery)
            .where(delivery.c.batch_id.in_(select(named.c.id)), delivery.c.state == State.LEASED)
            .where(~exists().where(batch.c.id == delivery.c.batch_id, batch.c.state == LEASED))
            .values(state=State.PLANNED),
            parameter,
        ).rowcount
    for id_ in {*ids, *_batches_of(conn, [row.key for row in doubted])}:
        _settle(conn, batch.c.id == id_)
    return Recovered(freed, tuple(row.key for row in doubted), _free_slots(conn))


def _batches_of(conn: Connection, keys: Sequence[str]) -> set[str]:
    if not keys:
        return set()
    chosen = json_rows(conn.dialect.name, "chosen", key=str)
    query = select(delivery.c.batch_id).distinct().where(delivery.c.key.in_(select(chosen.c.key)))
    return set(conn.scalars(query, {"chosen": dump([key] for key in keys)}))


def _free_slots(conn: Connection) -> int:
    """A slot is free when its lease is over and no mail of its holder is under way there, whichever batch it is of."""
    under_way = exists().where(
        delivery.c.egress == provider_slot.c.egress,
        delivery.c.provider == provider_slot.c.provider,
        delivery.c.state == State.SENDING,
        or_(
            and_(delivery.c.batch_id == provider_slot.c.batch_id, delivery.c.epoch == provider_slot.c.epoch),
            exists().where(try_.c.id == delivery.c.try_id, try_.c.worker == provider_slot.c.owner),
        ),
    )
    over = [provider_slot.c.owner != "", ~under_way]
    if not is_sqlite(conn):
        over.append(provider_slot.c.lease_until <= pg_now())
    return conn.execute(update(provider_slot).where(*over).values(owner="", batch_id="", lease_until=null())).rowcount


def _settle(conn: Connection, which: ColumnElement[bool]) -> None:
    """An open batch with nothing left to send is done; one with planned rows is open."""
    left = exists().where(delivery.c.batch_id == batch.c.id, delivery.c.state.in_(_UNSENT))
    conn.execute(
        update(batch)
        .where(which, or_(batch.c.state == OPEN, batch.c.state == DONE))
        .values(state=case((left, OPEN), else_=DONE))
    )


def settle_batch(conn: Connection, batch_id: str) -> None:
    """Open or done, by what its rows are; a leased batch is left alone."""
    _settle(conn, batch.c.id == batch_id)


def counted(conn: Connection, what: str) -> int:
    """How many audit rows say `what`."""
    return int(conn.execute(select(func.count()).where(audit.c.what == what)).scalar_one())
