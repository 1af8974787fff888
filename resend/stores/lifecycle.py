"""The life of a plan in the ledger: started (its mails enter), finished, closed.

A plan's mails enter in one transaction, when it is first started; a mail that another plan holds makes it stale.
In the caller's transaction. Raises StalePlan, LockHeld while it is being sent, UsageError for a plan that is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from typing import TypeVar

from sqlalchemy import Connection, Insert, exists, func, insert, literal, null, select, update
from sqlalchemy.exc import IntegrityError

from resend.clock import from_text, to_text
from resend.errors import LockHeld, StalePlan, StoreError, UsageError
from resend.model import PlanState, State
from resend.policy.address import fold
from resend.stores.frozen import PlannedMail
from resend.stores.plans import PlanBatch, PlanRow
from resend.stores.setwise import Given, Row, Setwise, clean
from resend.stores.tables import audit, batch, delivery, plan

T = TypeVar("T")
_CHUNK = 5000
CLOSABLE = (State.PLANNED, State.DEFERRED, State.HELD, State.QUARANTINED)


def start_plan(
    conn: Connection,
    plan_id: str,
    batches: Iterable[PlanBatch],
    rows: Iterable[PlannedMail | PlanRow],
    *,
    now: datetime,
) -> int:
    """ready -> started: its batches and mails enter the ledger. The count of mails; 0 where it was started before.

    StalePlan where a mail is in the ledger already, or the plan is closed; the transaction must then be rolled back.
    """
    state = conn.execute(select(plan.c.state, plan.c.total).where(plan.c.id == plan_id).with_for_update()).one_or_none()
    if state is None:
        raise UsageError(f"there is no plan {plan_id[:12]}", next_step="see 'resend plan list'")
    if state.state in (PlanState.STARTED, PlanState.FINISHED):
        return 0
    if state.state != PlanState.READY:
        raise StalePlan("the plan is closed", where=f"plan {plan_id[:12]}", next_step="make a new one")
    at = to_text(now)
    chunks = _chunks(_batch_values(item, plan_id, now) for item in batches)
    for chunk in chunks:
        conn.execute(insert(batch), chunk)
    total = 0
    try:
        for part in _chunks(rows):
            _ENTER.run(conn, [_entering(row, plan_id) for row in part])
            total += len(part)
    except IntegrityError as error:
        raise StalePlan(
            "a mail of this plan is in the ledger already",
            where=f"plan {plan_id[:12]}",
            next_step="make the plan again: 'resend plan make'",
        ) from error
    if total != state.total:
        raise StoreError(
            f"the plan's file has {total:,} mails, the plan {state.total:,}",
            where=f"plan {plan_id[:12]}",
            next_step="make the plan again",
        )
    conn.execute(update(plan).where(plan.c.id == plan_id).values(state=PlanState.STARTED, started_at=at))
    return total


def finish_plan(conn: Connection, plan_id: str, *, now: datetime) -> bool:
    """started -> finished where nothing is left to send by itself (doubt, holds and quarantine may be)."""
    unsent = (State.PLANNED, State.LEASED, State.SENDING, State.DEFERRED)
    left = exists().where(delivery.c.plan_id == plan_id, delivery.c.state.in_(unsent))
    done = update(plan).where(plan.c.id == plan_id, plan.c.state == PlanState.STARTED, ~left)
    if not conn.execute(done.values(state=PlanState.FINISHED, finished_at=to_text(now))).rowcount:
        return False
    conn.execute(update(batch).where(batch.c.plan_id == plan_id, batch.c.state != "leased").values(state="done"))
    return True


def finish_plans(conn: Connection, *, now: datetime) -> int:
    """`finish_plan` for every started plan; how many were finished."""
    started = conn.scalars(select(plan.c.id).where(plan.c.state == PlanState.STARTED)).all()
    return sum(finish_plan(conn, plan_id, now=now) for plan_id in started)


def in_rehearsal(conn: Connection) -> bool:
    """Whether this ledger is a copy that a rehearsal works on."""
    return conn.execute(select(plan.c.id).where(plan.c.rehearsal == 1).limit(1)).one_or_none() is not None


def close_plan(conn: Connection, plan_id: str, *, reason: str, who: str, now: datetime) -> int:
    """planned|deferred|held|quarantined -> closed, the plan too; the count. Its mails may be planned again.

    Refused while mails are leased or under way: LockHeld. Doubt stays in doubt. A ready plan has no mails yet.
    """
    busy = conn.execute(
        select(func.count()).where(delivery.c.plan_id == plan_id, delivery.c.state.in_((State.LEASED, State.SENDING)))
    ).scalar_one()
    if busy:
        raise LockHeld(
            f"{busy} mails of the plan are under way",
            where=f"plan {plan_id[:12]}",
            next_step="stop the run first: 'resend stop'",
        )
    count = conn.execute(
        update(delivery)
        .where(delivery.c.plan_id == plan_id, delivery.c.state.in_(CLOSABLE))
        .values(state=State.CLOSED, reason=clean(reason), due_at=null())
    ).rowcount
    at = to_text(now)
    conn.execute(
        update(plan).where(plan.c.id == plan_id).values(state=PlanState.CLOSED, finished_at=at, reason=clean(reason))
    )
    conn.execute(update(batch).where(batch.c.plan_id == plan_id).values(state="done"))
    conn.execute(
        insert(audit).values(
            at=at, who=who, what="plan_closed", plan_id=plan_id, value=str(count), reason=clean(reason)
        )
    )
    return count


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    stream = iter(items)
    while chunk := list(islice(stream, _CHUNK)):
        yield chunk


def _batch_values(item: PlanBatch, plan_id: str, now: datetime) -> dict[str, object]:
    return {
        "id": item.id,
        "plan_id": plan_id,
        "egress": item.egress,
        "provider": item.provider,
        "seq": item.seq,
        "state": "open",
        "size": item.size,
        "rate": item.rate,
        "canary": int(item.canary),
        "zone": item.zone,
        "not_before": to_text(now + timedelta(seconds=item.after_s)) if item.after_s else None,
    }


@lru_cache(maxsize=1_024)  # few times for many mails
def _fixed(text: str) -> str | None:
    """RFC 3339 text in the ledger's fixed width, which compares as text."""
    return to_text(from_text(text)) if text else None


_AS_PLANNED = PlannedMail._fields[:-3]
_GIVEN: dict[str, type] = {
    **{name: int if name in ("generation", "seq") else str for name in _AS_PLANNED},
    "date": str,
    "expires_at": str,
    "due_at": str,
    "plan_id": str,
    "folded": str,
}
_as_planned = attrgetter(*_AS_PLANNED)


def _entering(row: PlannedMail | PlanRow, plan_id: str) -> Row:
    """A mail in the order of `_GIVEN`. `fold` of an address of pure ASCII that may be sent to is its lower case."""
    folded = row.rcpt.lower() if row.rcpt.isascii() else fold(row.rcpt)
    times = (row.date or None, _fixed(row.expires_at), _fixed(row.not_before))
    return (*_as_planned(row), *times, plan_id, folded)


def _enter(dialect: str, given: Given) -> Insert:
    """All columns by name: one that is new to the table must say here what a planned mail has in it."""
    values = {name: given.c[name] for name in _GIVEN} | {"state": literal(State.PLANNED.value)}
    for column in delivery.columns:
        if column.name not in values and column.default is not None:
            values[column.name] = literal(column.default.arg)  # type: ignore[attr-defined]
    if dialect == "sqlite":
        return insert(delivery).values(values)
    return insert(delivery).from_select(list(values), select(*values.values()), include_defaults=False)


_ENTER = Setwise("mails", _GIVEN, _enter)
