"""Applies transitions inside the caller's write transaction: a whole group in a few statements, or one by one.

`set_wise` is the hot path: one statement for all arms, one for all outcomes. Where a count shows that some row is not
in the state its transition starts from, it raises Unexpected and has to be rolled back; `one_by_one` then finds out
which row and why. Every statement names the states it starts from. Never opens a transaction, never retries.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, update

from resend.clock import to_text
from resend.model import State
from resend.stores import arms, batches, endings, fates, late
from resend.stores.setwise import clean, dump, json_rows
from resend.stores.tables import audit, delivery, provider_rate
from resend.stores.transitions import (
    Applied,
    Arm,
    Armed,
    Audit,
    EndBatch,
    FateChange,
    Finish,
    GiveBack,
    Quarantine,
    RateChange,
    Refuse,
    Renew,
    Replan,
    Result,
    Suppress,
    Transition,
)


class Unexpected(Exception):
    """Some row of a group was not where its transition starts from; the transaction must be rolled back."""


def set_wise(conn: Connection, transitions: Sequence[Transition]) -> list[Result]:
    """Apply a group in order, one result each. Raises Unexpected where a row is elsewhere."""
    group = _Group(conn)
    for index, item in enumerate(transitions):
        group.add(index, item)
    group.flush()
    return [group.results[index] for index in range(len(transitions))]


def one_by_one(conn: Connection, transitions: Sequence[Transition]) -> list[Result]:
    """Apply in order; a row that is elsewhere gets a result that says so."""
    return [_single(conn, item) for item in transitions]


def _single(conn: Connection, item: Transition) -> Result:
    match item:
        case Arm():
            return Armed(True) if arms.arm(conn, [item]) else arms.refused(conn, item)
        case Finish():
            count, gone = endings.finish(conn, [item])
            return _ended(item, gone) if count else late.finish(conn, item)
        case Refuse():
            count, gone = endings.refuse(conn, [item])
            return _ended(item, gone) if count else late.refuse(conn, item)
        case _:
            return _other(conn, item)


def _ended(item: Finish | Refuse, gone: frozenset[str]) -> Applied:
    return Applied(True, "", State.GAVE_UP if item.key in gone else endings.target(item), 1)


class _Group:
    """Collects arms and endings until one touches a key again, or anything else comes; then writes them at once."""

    def __init__(self, conn: Connection) -> None:
        self.results: dict[int, Result] = {}
        self._conn = conn
        self._arms: dict[int, Arm] = {}
        self._finishes: dict[int, Finish] = {}
        self._refuses: dict[int, Refuse] = {}
        self._keys: set[str] = set()

    def add(self, index: int, item: Transition) -> None:
        match item:
            case Arm():
                self._arms[self._place(index, item.key)] = item
            case Finish():
                self._finishes[self._place(index, item.key)] = item
            case Refuse():
                self._refuses[self._place(index, item.key)] = item
            case _:
                self.flush()
                self.results[index] = _other(self._conn, item)

    def flush(self) -> None:
        if self._finishes:
            self._end(self._finishes, *endings.finish(self._conn, list(self._finishes.values())))
        if self._refuses:
            self._end(self._refuses, *endings.refuse(self._conn, list(self._refuses.values())))
        if self._arms:
            if arms.arm(self._conn, list(self._arms.values())) != len(self._arms):
                raise Unexpected
            self.results.update(dict.fromkeys(self._arms, Armed(True)))
        for collected in (self._arms, self._finishes, self._refuses, self._keys):
            collected.clear()

    def _place(self, index: int, key: str) -> int:
        if key in self._keys:
            self.flush()
        self._keys.add(key)
        return index

    def _end(self, items: dict[int, Any], count: int, gone: frozenset[str]) -> None:
        if count != len(items):
            raise Unexpected
        self.results.update({index: _ended(item, gone) for index, item in items.items()})


def _other(conn: Connection, item: Transition) -> Applied:
    match item:
        case GiveBack():
            return _give_back(conn, item)
        case Quarantine():
            return _take_out(conn, item.key, item.epoch, State.QUARANTINED, item.reason)
        case Suppress():
            return _take_out(conn, item.key, item.epoch, State.SUPPRESSED, item.reason)
        case Replan():
            return _replan(conn, item)
        case Renew():
            held = batches.renew(conn, item.batch_id, item.epoch, item.lease_s, item.now)
            return Applied(held, "" if held else arms.LOST_LEASE)
        case EndBatch():
            back = batches.end(conn, item.batch_id, item.epoch)
            return Applied(False, arms.LOST_LEASE) if back is None else Applied(True, count=back)
        case RateChange():
            return _rate_change(conn, item)
        case Audit():
            _note(conn, item)
            return Applied(True, count=1)
        case FateChange():
            return fates.change(conn, item)
        case Arm() | Finish() | Refuse():
            raise TypeError(f"{type(item).__name__} has its own path")


def _give_back(conn: Connection, item: GiveBack) -> Applied:
    chosen = json_rows(conn.dialect.name, "chosen", key=str)
    back = conn.execute(
        update(delivery)
        .where(
            delivery.c.key == chosen.c.key,
            delivery.c.batch_id == item.batch_id,
            delivery.c.epoch == item.epoch,
            delivery.c.state == State.LEASED,
        )
        .values(state=State.PLANNED),
        {"chosen": dump([key] for key in item.keys)},
    ).rowcount
    return Applied(back == len(item.keys), "" if back == len(item.keys) else "not leased any more", count=back)


def _take_out(conn: Connection, key: str, epoch: int, state: State, reason: str) -> Applied:
    done = conn.execute(
        update(delivery)
        .where(delivery.c.key == key, delivery.c.epoch == epoch, delivery.c.state == State.LEASED)
        .values(state=state, reason=clean(reason))
    ).rowcount
    return Applied(True, "", state, 1) if done else Applied(False, "not leased any more")


def _replan(conn: Connection, item: Replan) -> Applied:
    chosen = json_rows(conn.dialect.name, "chosen", key=str)
    count = conn.execute(
        update(delivery)
        .where(delivery.c.key == chosen.c.key, delivery.c.plan_id == item.plan_id, delivery.c.state == State.REJECTED)
        .values(state=State.PLANNED, due_at=None, reason=""),
        {"chosen": dump([key] for key in item.keys)},
    ).rowcount
    batches.reopen(conn, item.keys)
    _note(
        conn,
        Audit(at=item.at, who=item.who, what="replanned", reason=item.reason, plan_id=item.plan_id, value=str(count)),
    )
    return Applied(count == len(item.keys), "" if count == len(item.keys) else "some are not rejected", count=count)


def _rate_change(conn: Connection, item: RateChange) -> Applied:
    count = 1
    if item.fields:
        unknown = set(item.fields) - (set(provider_rate.c.keys()) - {"egress", "provider"})
        if unknown:
            raise ValueError(f"provider_rate has no {', '.join(sorted(unknown))}")
        values = {
            name: to_text(value) if isinstance(value, datetime) else int(value) if isinstance(value, bool) else value
            for name, value in item.fields.items()
        }
        here = (provider_rate.c.egress == item.egress, provider_rate.c.provider == item.provider)
        count = conn.execute(update(provider_rate).where(*here).values(values)).rowcount
    _note(
        conn,
        Audit(
            at=item.at,
            who=item.who,
            what=item.what,
            reason=item.reason,
            plan_id=item.plan_id,
            egress=item.egress,
            provider=item.provider,
            value=" ".join(f"{name}={value}" for name, value in item.fields.items()),
        ),
    )
    return Applied(bool(count), "" if count else "no such provider row", count=count)


def _note(conn: Connection, item: Audit) -> None:
    conn.execute(
        insert(audit).values(
            at=to_text(item.at),
            who=clean(item.who),
            what=item.what,
            plan_id=item.plan_id,
            egress=item.egress,
            provider=item.provider,
            subject=clean(item.subject),
            value=clean(item.value),
            reason=clean(item.reason),
        )
    )
