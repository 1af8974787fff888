"""How a try ends: sending -> accepted | deferred | rejected | in_doubt | planned, and replies before the arm.

Set-wise like the arm. A deferral that is the twelfth, or comes 48 h after the first try, goes on to gave_up. Nothing
here overwrites: a row that is elsewhere is not counted, and `late` (stores/late.py) keeps what was said.
The caller holds the write transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Insert, Update, case, func, insert, null, or_, select, update

from resend.clock import to_text
from resend.model import Fate, State, TryOutcome
from resend.stores.setwise import Given, Setwise, clean, dump, is_in, json_rows
from resend.stores.tables import delivery, try_
from resend.stores.transitions import GIVE_UP_AFTER, GIVE_UP_TRIES, Finish, Refuse

DIRECT = "direct"  # the egress of mail that goes to the receiver itself: accepted is delivered
_STATES = {
    TryOutcome.ACCEPTED: State.ACCEPTED,
    TryOutcome.DEFERRED: State.DEFERRED,
    TryOutcome.REJECTED: State.REJECTED,
    TryOutcome.IN_DOUBT: State.IN_DOUBT,
    TryOutcome.DISARMED: State.PLANNED,
}


def target(item: Finish | Refuse) -> State:
    """The state that this ending leads to."""
    return _STATES[item.outcome]


def finish(conn: Connection, items: Sequence[Finish]) -> tuple[int, frozenset[str]]:
    """End armed tries; how many, and the keys that gave up. Fewer than given: roll back, or ask one by one."""
    disarmed = [item for item in items if target(item) == State.PLANNED]
    ended = [item for item in items if item.outcome != TryOutcome.DISARMED]
    count = 0
    for group, statement in ((disarmed, _DISARM), (ended, _END)):
        if not group:
            continue
        rows = [_finish_cells(item) for item in group]
        changed = statement.run(conn, rows)
        if changed != len(group):
            return count + changed, frozenset()
        if _END_TRIES.run(conn, rows) != changed:
            raise AssertionError("a mail that is being sent has no armed try")
        count += changed
    return count, give_up(conn, ended)


def refuse(conn: Connection, items: Sequence[Refuse]) -> tuple[int, frozenset[str]]:
    """Record replies before the arm; how many, and the keys that gave up."""
    rows = [_refuse_cells(item, target(item)) for item in items]
    changed = _REFUSE.run(conn, rows)
    if changed != len(items):
        return changed, frozenset()
    if _INSERT_REFUSED.run(conn, rows) != changed:
        raise AssertionError("a refused mail has no try row of its own")
    return changed, give_up(conn, items)


def give_up(conn: Connection, items: Sequence[Finish | Refuse]) -> frozenset[str]:
    """deferred -> gave_up where it has been tried often or long enough; the keys."""
    deferred = [item for item in items if item.outcome == TryOutcome.DEFERRED]
    if not deferred:
        return frozenset()
    if not _GIVE_UP.run(conn, [(item.key, to_text(item.ended_at - GIVE_UP_AFTER)) for item in deferred]):
        return frozenset()
    parameter = {"ends": dump([item.key] for item in deferred)}
    chosen = json_rows(conn.dialect.name, "ends", key=str)
    gone = select(delivery.c.key).where(delivery.c.key.in_(select(chosen.c.key)), delivery.c.state == State.GAVE_UP)
    return frozenset(conn.scalars(gone, parameter))


_COLUMNS = {
    "key": str,
    "try_id": str,
    "epoch": int,
    "state": str,
    "outcome": str,
    "stage": str,
    "ended_at": str,
    "code": int,
    "enhanced": str,
    "reply": str,
    "cause": str,
    "due_at": str,
    "remote_qid": str,
    "fate": str,
}
_REFUSE_COLUMNS = {**_COLUMNS, "batch_id": str, "worker": str, "egress": str, "provider": str, "mail_at": str}


def _finish_cells(item: Finish) -> tuple[str | int | None, ...]:
    return (
        item.key,
        item.try_id,
        item.epoch,
        target(item),
        item.outcome,
        item.stage,
        to_text(item.ended_at),
        item.code,
        clean(item.enhanced),
        clean(item.reply),
        item.cause,
        to_text(item.due_at) if item.due_at else None,
        clean(item.remote_qid),
        item.fate,
    )


def _refuse_cells(item: Refuse, state: State) -> tuple[str | int | None, ...]:
    return (
        item.key,
        item.try_id,
        item.epoch,
        state,
        item.outcome,
        item.stage,
        to_text(item.ended_at),
        item.code,
        clean(item.enhanced),
        clean(item.reply),
        item.cause,
        to_text(item.due_at) if item.due_at else None,
        "",
        None,
        item.batch_id,
        item.worker,
        item.egress,
        item.provider,
        to_text(item.mail_at),
    )


def _end(dialect: str, ends: Given) -> Update:
    accepted = ends.c.state == State.ACCEPTED
    fate = func.coalesce(ends.c.fate, case((delivery.c.egress == DIRECT, Fate.DELIVERED), else_=Fate.UNSEEN))
    return (
        update(delivery)
        .where(
            delivery.c.key == ends.c.key,
            is_in(dialect, delivery.c.state, State.SENDING),
            delivery.c.try_id == ends.c.try_id,
            delivery.c.epoch == ends.c.epoch,
        )
        .values(
            state=ends.c.state,
            tries=delivery.c.tries + 1,
            reason="",
            due_at=ends.c.due_at,
            code=ends.c.code,
            enhanced=ends.c.enhanced,
            reply=ends.c.reply,
            cause=ends.c.cause,
            remote_qid=ends.c.remote_qid,
            accepted_at=case((accepted, ends.c.ended_at), else_=null()),
            fate=case((accepted, fate), else_=""),
            fate_at=case((accepted & (fate == Fate.DELIVERED), ends.c.ended_at), else_=null()),
        )
    )


def _disarm(dialect: str, ends: Given) -> Update:
    return (
        update(delivery)
        .where(
            delivery.c.key == ends.c.key,
            is_in(dialect, delivery.c.state, State.SENDING),
            delivery.c.try_id == ends.c.try_id,
            delivery.c.epoch == ends.c.epoch,
        )
        .values(state=State.PLANNED)
    )


def _end_tries(dialect: str, ends: Given) -> Update:
    told = {name: ends.c[name] for name in _TOLD}
    return update(try_).where(try_.c.id == ends.c.try_id, is_in(dialect, try_.c.outcome, TryOutcome.ARMED)).values(told)


_TOLD = ("outcome", "ended_at", "stage", "code", "enhanced", "reply", "cause", "remote_qid")


def _refuse(dialect: str, ends: Given) -> Update:
    return (
        update(delivery)
        .where(
            delivery.c.key == ends.c.key,
            is_in(dialect, delivery.c.state, State.LEASED),
            delivery.c.epoch == ends.c.epoch,
            delivery.c.batch_id == ends.c.batch_id,
        )
        .values(
            state=ends.c.state,
            try_id=ends.c.try_id,
            tries=delivery.c.tries + 1,
            first_try_at=func.coalesce(delivery.c.first_try_at, ends.c.mail_at),
            due_at=ends.c.due_at,
            code=ends.c.code,
            enhanced=ends.c.enhanced,
            reply=ends.c.reply,
            cause=ends.c.cause,
        )
    )


def _insert_refused(_: str, ends: Given) -> Insert:
    names = ("epoch", "worker", "egress", "provider", "mail_at", *_TOLD)
    told = (ends.c[name] for name in names)
    source = select(ends.c.try_id, ends.c.key, *told, delivery.c.body_sha256).where(
        delivery.c.key == ends.c.key, delivery.c.try_id == ends.c.try_id
    )
    names_in = ["id", "delivery_key", *names, "body_sha256"]
    return insert(try_).from_select(names_in, source, include_defaults=False)


def _give_up(dialect: str, ends: Given) -> Update:
    often = delivery.c.tries >= GIVE_UP_TRIES
    return (
        update(delivery)
        .where(
            delivery.c.key == ends.c.key,
            is_in(dialect, delivery.c.state, State.DEFERRED),
            or_(often, delivery.c.first_try_at <= ends.c.cutoff),
        )
        .values(
            state=State.GAVE_UP,
            due_at=null(),
            reason=case((often, f"{GIVE_UP_TRIES} tries"), else_="48 hours after the first try"),
        )
    )


_END = Setwise("ends", _COLUMNS, _end)
_DISARM = Setwise("ends", _COLUMNS, _disarm)
_END_TRIES = Setwise("ends", _COLUMNS, _end_tries)
_REFUSE = Setwise("ends", _REFUSE_COLUMNS, _refuse)
_INSERT_REFUSED = Setwise("ends", _REFUSE_COLUMNS, _insert_refused)
_GIVE_UP = Setwise("ends", {"key": str, "cutoff": str}, _give_up)
