"""The arm: leased -> sending, with its try row, durable before the final dot. The fence of the whole tool.

One conditional UPDATE for any number of mails: the row is leased under this epoch, the batch's lease is this one and
(on PostgreSQL) has not run out by the database's clock, the bytes are those of the first arm, no veto meets it. What is
not armed must not be sent; `refused` says why and takes vetoed or changed rows out. In the caller's write transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Update,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from resend.clock import to_text
from resend.model import State, TryOutcome
from resend.stores.batches import LEASED
from resend.stores.setwise import Given, Setwise, is_in, pg_now
from resend.stores.tables import batch, delivery, try_
from resend.stores.transitions import Arm, Armed
from resend.stores.vetoes import not_to_send, sweep

BODY_CHANGED = "body changed"  # the rendered bytes are not those of the first arm
LOST_LEASE = "lost lease"


def arm(conn: Connection, arms: Sequence[Arm]) -> int:
    """Arm what may be armed; the count. Fewer than given: roll back, and arm one by one; for none ask `refused`."""
    rows = [
        (
            item.key,
            item.batch_id,
            item.epoch,
            item.try_id,
            item.worker,
            item.egress,
            item.provider,
            to_text(item.mail_at),
            to_text(item.armed_at),
            item.body_sha256,
            item.date or None,
        )
        for item in arms
    ]
    armed = MARK.run(conn, rows)
    if armed == len(rows) and _INSERT_TRIES.run(conn, rows) != armed:
        raise AssertionError("an armed mail has no try row of its own")
    return armed


def refused(conn: Connection, item: Arm) -> Armed:
    """Why this mail was not armed. A vetoed row goes to suppressed or held, one with other bytes to quarantined."""
    row = conn.execute(
        select(
            delivery.c.state,
            delivery.c.epoch,
            delivery.c.batch_id,
            delivery.c.body_sha256,
            delivery.c.try_id,
            exists()
            .where(batch.c.id == item.batch_id, batch.c.epoch == item.epoch, *_lease(conn.dialect.name))
            .label("lease"),
        ).where(delivery.c.key == item.key)
    ).one_or_none()
    if row is None:
        return Armed(False, "no such mail")
    if row.state == State.SENDING and row.try_id == item.try_id:
        return Armed(True)  # this very arm, told twice
    if row.state != State.LEASED:
        return Armed(False, f"state {row.state}")
    if row.epoch != item.epoch or row.batch_id != item.batch_id or not row.lease:
        return Armed(False, LOST_LEASE)
    mine = (delivery.c.key == item.key, delivery.c.state == State.LEASED, delivery.c.epoch == item.epoch)
    if conn.execute(sweep().where(*mine), {"now": to_text(item.armed_at)}).rowcount:
        reason = conn.execute(select(delivery.c.reason).where(delivery.c.key == item.key)).scalar_one()
        return Armed(False, f"vetoed:{reason}")
    if row.body_sha256 not in ("", item.body_sha256):
        conn.execute(update(delivery).where(*mine).values(state=State.QUARANTINED, reason=BODY_CHANGED))
        return Armed(False, BODY_CHANGED)
    return Armed(False, LOST_LEASE)  # it ran out between the two statements


def _lease(dialect: str) -> list[ColumnElement[bool]]:
    """The batch's lease holds. On SQLite `run.lock` proves that, so its time is not asked."""
    holds = [batch.c.state == LEASED]
    return holds if dialect == "sqlite" else [*holds, batch.c.lease_until > pg_now()]


_COLUMNS = {
    "key": str,
    "batch_id": str,
    "epoch": int,
    "try_id": str,
    "worker": str,
    "egress": str,
    "provider": str,
    "mail_at": str,
    "armed_at": str,
    "body_sha256": str,
    "date": str,
}


def _mark(dialect: str, arms: Given) -> Update:
    now: ColumnElement[str] = arms.c.armed_at if dialect == "sqlite" else pg_now()
    leased = exists().where(batch.c.id == arms.c.batch_id, batch.c.epoch == arms.c.epoch, *_lease(dialect))
    return (
        update(delivery)
        .where(
            delivery.c.key == arms.c.key,
            is_in(dialect, delivery.c.state, State.LEASED),
            delivery.c.epoch == arms.c.epoch,
            delivery.c.batch_id == arms.c.batch_id,
            delivery.c.body_sha256.in_(("", arms.c.body_sha256)),
            leased.correlate_except(batch),
            ~func.coalesce(not_to_send(now), literal(False)),
        )
        .values(
            state=State.SENDING,
            try_id=arms.c.try_id,
            body_sha256=arms.c.body_sha256,
            date=func.coalesce(delivery.c.date, arms.c.date),
            first_try_at=func.coalesce(delivery.c.first_try_at, now),
        )
    )


def _insert_tries(dialect: str, arms: Given) -> Insert:
    values = {
        "id": arms.c.try_id,
        "delivery_key": arms.c.key,
        "epoch": arms.c.epoch,
        "worker": arms.c.worker,
        "egress": arms.c.egress,
        "provider": arms.c.provider,
        "mail_at": arms.c.mail_at,
        "armed_at": arms.c.armed_at if dialect == "sqlite" else pg_now(),
        "outcome": literal(TryOutcome.ARMED.value),
        "body_sha256": arms.c.body_sha256,
        **{name: literal("") for name in ("stage", "enhanced", "reply", "cause", "remote_qid")},
        "code": literal(0),
    }
    given = select(*values.values())
    return insert(try_).from_select(list(values), given, include_defaults=False)


MARK = Setwise("arms", _COLUMNS, _mark)
_INSERT_TRIES = Setwise("arms", _COLUMNS, _insert_tries)
