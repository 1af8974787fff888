"""What each `catch-up` did: a row before it sends, finished at its end, and what is left of all open plans then.

In the caller's transaction. Decides nothing; raises what the database raises.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, exists, func, insert, or_, select, update

from resend.clock import from_text, to_text
from resend.model import CatchUpEnd, Fate, PlanState, State
from resend.stores.rows import CatchUp
from resend.stores.setwise import clean
from resend.stores.tables import catchup, delivery, incident, plan, try_

_PENDING = (Fate.UNSEEN, Fate.QUEUED_AT_RELAY)
_SETTLED = (State.SUPPRESSED, State.CLOSED)  # of these nothing is left and nothing failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What the last catch-up did for one incident. `due`: tried before; `new`: taken by the policy."""

    of: CatchUp
    due: int
    new: int
    accepted: int
    next_due: datetime | None


def begin(conn: Connection, *, worker: str, now: datetime) -> int:
    """A catch-up begins; its number."""
    at = to_text(now)
    started = select(plan.c.id).where(plan.c.state == PlanState.STARTED)
    due = select(func.count()).where(
        delivery.c.state == State.DEFERRED, delivery.c.due_at <= at, delivery.c.plan_id.in_(started)
    )
    values = {"worker": worker, "began_at": at, "due": conn.execute(due).scalar_one()}
    return int(conn.execute(insert(catchup).values(**values).returning(catchup.c.id)).scalar_one())


def forget(conn: Connection, number: int) -> None:
    """It did not begin after all."""
    conn.execute(delete(catchup).where(catchup.c.id == number))


def end(
    conn: Connection,
    number: int,
    *,
    taken: Sequence[Mapping[str, object]],
    counts: Mapping[str, int],
    ending: CatchUpEnd,
    reason: str,
    remains: Mapping[str, int],
    exit_: int,
    next_due: datetime | None,
    now: datetime,
) -> None:
    """It came to its end."""
    conn.execute(
        update(catchup)
        .where(catchup.c.id == number)
        .values(
            ended_at=to_text(now),
            taken=json.dumps(list(taken), ensure_ascii=False),
            counts=json.dumps(dict(counts)),
            remains=json.dumps(dict(remains)),
            ending=ending,
            reason=clean(reason),
            exit=exit_,
            next_due=None if next_due is None else to_text(next_due),
        )
    )


def remains(conn: Connection) -> dict[str, int]:
    """Mails of plans that nobody closed, of open incidents: unsent, failed, in doubt, or not at their receiver."""
    kind: ColumnElement[str] = case(
        (and_(delivery.c.state == State.ACCEPTED, delivery.c.fate.in_(_PENDING)), "pending"),
        (and_(delivery.c.state == State.ACCEPTED, delivery.c.fate == Fate.RETURNED), "returned"),
        (delivery.c.state.in_((State.ACCEPTED, *_SETTLED)), ""),
        else_=delivery.c.state,
    )
    later = delivery.alias("later")
    again = and_(  # planned once more: what became of it counts
        later.c.release == delivery.c.release,
        later.c.rcpt_key == delivery.c.rcpt_key,
        later.c.generation > delivery.c.generation,
    )
    rows = conn.execute(
        select(kind.label("kind"), func.count())
        .join(plan, plan.c.id == delivery.c.plan_id)
        .join(incident, incident.c.id == plan.c.incident_id)
        .where(
            plan.c.state.in_((PlanState.STARTED, PlanState.FINISHED)),
            incident.c.closed_at.is_(None),
            ~exists().where(again),
        )
        .group_by(kind)
    ).all()
    return {name: int(count) for name, count in sorted(rows) if name}


def last(conn: Connection) -> CatchUp | None:
    """The newest one, None where there was none."""
    row = conn.execute(select(catchup).order_by(catchup.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else _record(row)


def share(conn: Connection, incident_id: str) -> Share | None:
    """The incident's part of the last catch-up; None where none ran since its mails were first sent."""
    newest = last(conn)
    ours = delivery.c.incident_id == incident_id
    first = conn.execute(select(func.min(delivery.c.first_try_at)).where(ours)).scalar_one()
    if newest is None or not first or (newest.ended_at is not None and newest.ended_at < from_text(first)):
        return None
    policy = [str(item["plan"]) for item in newest.taken if item["plan"]]
    new = delivery.c.plan_id.in_(policy)
    tried = and_(
        or_(try_.c.worker == newest.worker, try_.c.worker.startswith(f"{newest.worker}:", autoescape=True)),
        try_.c.mail_at >= to_text(newest.began_at),
        *([] if newest.ended_at is None else [try_.c.mail_at <= to_text(newest.ended_at)]),
    )
    query = select(
        func.count(delivery.c.key.distinct()).filter(~new),
        func.count(delivery.c.key.distinct()).filter(new),
        func.count(delivery.c.key.distinct()).filter(delivery.c.state == State.ACCEPTED),
    ).select_from(delivery.join(try_, try_.c.delivery_key == delivery.c.key))
    due, taken, accepted = conn.execute(query.where(ours, tried)).one()
    later = select(func.min(delivery.c.due_at)).where(ours, delivery.c.state == State.DEFERRED)
    next_due = conn.execute(later).scalar_one()
    return Share(
        of=newest,
        due=int(due),
        new=int(taken),
        accepted=int(accepted),
        next_due=from_text(next_due) if next_due else None,
    )


def _record(row: Any) -> CatchUp:
    return CatchUp(
        worker=row.worker,
        began_at=from_text(row.began_at),
        ended_at=from_text(row.ended_at) if row.ended_at else None,
        due=row.due,
        taken=json.loads(row.taken),
        counts=json.loads(row.counts),
        remains=json.loads(row.remains),
        ending=CatchUpEnd(row.ending) if row.ending else None,
        reason=row.reason,
        exit=row.exit,
        next_due=from_text(row.next_due) if row.next_due else None,
    )
