"""What must always be true of the ledger, each checked by looking at every row. Reads only, repairs nothing.

One CheckResult for each invariant: holds, or how many rows break it and the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, literal, not_, or_, select, union_all

from resend.clock import from_text
from resend.model import (
    REGENERABLE_STATES,
    Fate,
    PlanState,
    State,
    TryOutcome,
    VetoKind,
    VetoReason,
    delivery_key,
)
from resend.stores import vetoes
from resend.stores.engine import is_sqlite
from resend.stores.history import maybe_taken
from resend.stores.lifecycle import CLOSABLE
from resend.stores.rows import CheckResult
from resend.stores.tables import audit, batch, delivery, incident, plan, try_, veto
from resend.stores.transitions import GIVE_UP_TRIES

_COUNTED = (TryOutcome.ACCEPTED, TryOutcome.DEFERRED, TryOutcome.REJECTED, TryOutcome.IN_DOUBT)
_CHUNK = 10_000
_MOST = 1000  # rows that break an invariant are counted up to here
_COMMITTING = timedelta(minutes=1)  # from the time that a veto bears to its commit
_SKEW = timedelta(minutes=5)  # between the clocks of hosts and of PostgreSQL, beside it
Faults = Select[Any]


def check(conn: Connection) -> list[CheckResult]:
    """Every invariant, in a fixed order. Give it `Ledger.snapshot()`, or a run's changes look like faults."""
    results = [_database(conn), _keys(conn), _incidents(conn), _vetoed(conn)]
    for name, query in _queries():
        found = [str(row[0]) for row in conn.execute(query).all()]
        results.append(CheckResult(invariant=name, ok=not found, detail=_detail(found)))
    return [*results, *_counts(conn)]


@cache
def _queries() -> tuple[tuple[str, Faults], ...]:
    """Built once: putting these queries together takes longer than asking them of a small ledger."""
    return tuple((name, query.limit(_MOST)) for name, query in _invariants())


def _detail(found: list[str]) -> str:
    if not found:
        return ""
    more = f"{_MOST} or more" if len(found) == _MOST else f"{len(found)}"
    return f"{more}: {found[0][:64]}" + (", ..." if len(found) > 1 else "")


def _beside_tries(which: ColumnElement[bool], wrong: Callable[[ColumnElement[int]], ColumnElement[bool]]) -> Faults:
    """Keys of mails whose number of such tries is wrong. All are counted in one pass: no index finds those of one."""
    key = try_.c.delivery_key
    count = func.count().label("n")
    counted = select(key, count).where(which).group_by(key).subquery("counted")
    joined = delivery.outerjoin(counted, counted.c.delivery_key == delivery.c.key)
    return select(delivery.c.key).select_from(joined).where(wrong(func.coalesce(counted.c.n, 0)))


def _invariants() -> Iterator[tuple[str, Faults]]:
    """Name and the query of what breaks it: ids of plans, batches, tries, or keys of mails."""
    d, t, b, p, v = delivery.c, try_.c, batch.c, plan.c, veto.c
    yield (
        "states, fates and outcomes are known",
        select(
            union_all(
                select(d.key).where(or_(d.state.not_in(list(State)), d.fate.not_in(["", *Fate]))),
                select(t.id).where(t.outcome.not_in(list(TryOutcome))),
                select(p.id).where(p.state.not_in(list(PlanState))),
                select(b.id).where(b.state.not_in(["open", "leased", "done"])),
                select(v.subject).where(or_(v.kind.not_in(list(VetoKind)), v.reason.not_in(list(VetoReason)))),
            ).subquery()
        ),
    )
    yield (
        "a plan's times fit its state",
        select(p.id).where(
            or_(
                and_(p.state == PlanState.READY, p.started_at.is_not(None)),
                and_(p.state.in_((PlanState.STARTED, PlanState.FINISHED)), p.started_at.is_(None)),
                and_(p.state.in_((PlanState.FINISHED, PlanState.CLOSED)), p.finished_at.is_(None)),
            )
        ),
    )
    mails = select(func.count()).where(d.plan_id == p.id).scalar_subquery()
    yield (
        "a started plan has exactly its frozen total of mails",
        select(p.id).where(p.started_at.is_not(None), mails != p.total),
    )
    yield "a plan that was not started has no mails", select(p.id).where(p.started_at.is_(None), mails != 0)
    yield (
        "every mail has its plan, incident and batch",
        select(d.key).where(
            or_(
                ~exists().where(p.id == d.plan_id, p.incident_id == d.incident_id),
                ~exists().where(
                    b.id == d.batch_id, b.plan_id == d.plan_id, b.egress == d.egress, b.provider == d.provider
                ),
            )
        ),
    )
    yield "every try has its mail", select(t.id).where(~exists().where(d.key == t.delivery_key))
    held = select(func.count()).where(d.batch_id == b.id).scalar_subquery()
    yield "no batch holds more mails than its size", select(b.id).where(held > b.size)
    sizes = select(func.coalesce(func.sum(b.size), 0)).where(b.plan_id == p.id, b.retry == 0).scalar_subquery()
    yield (
        "the batches of a started plan add up to its total",
        select(p.id).where(p.started_at.is_not(None), sizes != p.total),
    )
    yield "every batch has its plan", select(b.id).where(~exists().where(p.id == b.plan_id))
    yield (
        "a mail that waits is in a batch that will be sent",
        select(d.key).where(
            d.state == State.PLANNED,
            exists().where(p.id == d.plan_id, p.state == PlanState.STARTED),
            exists().where(b.id == d.batch_id, b.state == "done"),
        ),
    )
    yield (
        "epochs only rise: no try is ahead of its mail, no mail of its batch",
        select(
            union_all(
                select(d.key).where(exists().where(b.id == d.batch_id, b.epoch < d.epoch)),
                select(d.key).where(exists().where(t.id == d.try_id, t.delivery_key == d.key, t.epoch > d.epoch)),
            ).subquery()
        ),
    )
    yield (
        "a leased mail is in a leased batch of its epoch",
        select(d.key).where(
            d.state == State.LEASED,
            ~exists().where(b.id == d.batch_id, b.state == "leased", b.epoch == d.epoch),
        ),
    )
    own = exists().where(t.id == d.try_id, t.delivery_key == d.key, t.outcome == TryOutcome.ARMED, t.epoch == d.epoch)
    yield (
        "a mail under way has exactly one armed try, its own",
        _beside_tries(t.outcome == TryOutcome.ARMED, lambda armed: or_(armed != 1, not_(own))).where(
            d.state == State.SENDING
        ),
    )
    yield (
        "an armed try belongs to a mail under way",
        select(t.id).where(
            t.outcome == TryOutcome.ARMED, ~exists().where(d.key == t.delivery_key, d.state == State.SENDING)
        ),
    )
    yield (
        "an accepted mail has its accepted try",
        select(d.key).where(
            d.state == State.ACCEPTED,
            or_(
                d.accepted_at.is_(None),
                ~exists().where(t.id == d.try_id, t.delivery_key == d.key, t.outcome == TryOutcome.ACCEPTED),
            ),
        ),
    )
    yield (
        "an accepted try has an answer that accepts, or evidence",
        select(t.id).where(t.outcome == TryOutcome.ACCEPTED, t.code != 0, or_(t.code < 200, t.code > 299)),
    )
    yield (
        "no mail was accepted twice without a counted release",
        _beside_tries(t.outcome == TryOutcome.ACCEPTED, lambda accepted: accepted > 1 + d.released),
    )
    yield (
        "a mail in doubt is listed with a try in doubt",
        select(d.key).where(
            d.state == State.IN_DOUBT,
            ~exists().where(t.id == d.try_id, t.delivery_key == d.key, t.outcome == TryOutcome.IN_DOUBT),
        ),
    )
    yield "tries are counted", _beside_tries(t.outcome.in_(_COUNTED), lambda counted: counted != d.tries)
    released = (
        select(func.count())
        .where(audit.c.subject == d.key, audit.c.what.in_(("doubt_released", "settled_released")))
        .scalar_subquery()
    )
    yield "every release from doubt is in the audit", select(d.key).where(d.released > 0, d.released != released)
    yield (
        "every arm of a mail has the same bytes",
        (
            select(t.delivery_key)
            .where(t.body_sha256 != "")
            .group_by(t.delivery_key)
            .having(func.count(t.body_sha256.distinct()) > 1)
        ),
    )
    yield (
        "an accepted mail has a fate, any other none",
        select(d.key).where(
            or_(and_(d.state == State.ACCEPTED, d.fate == ""), and_(d.state != State.ACCEPTED, d.fate != ""))
        ),
    )
    yield (
        "a deferred mail is due some time and not given up",
        select(d.key).where(d.state == State.DEFERRED, or_(d.due_at.is_(None), d.tries >= GIVE_UP_TRIES)),
    )
    closed = select(p.id).where(p.state == PlanState.CLOSED)
    yield (
        "nothing of a closed plan waits to be sent",
        select(d.key).where(d.plan_id.in_(closed), d.state.in_([*CLOSABLE, State.LEASED, State.SENDING])),
    )
    finished = select(p.id).where(p.state == PlanState.FINISHED)
    unsent = (State.PLANNED, State.LEASED, State.SENDING, State.DEFERRED)
    yield (
        "nothing of a finished plan waits to be sent",
        select(d.key).where(d.plan_id.in_(finished), d.state.in_(unsent)),
    )
    lower, next_lower = delivery.alias("lower"), delivery.alias("next_lower")
    same = [(name.c.release == d.release, name.c.rcpt_key == d.rcpt_key) for name in (lower, next_lower)]
    yield (
        "generations of a mail have no gap",
        select(d.key).where(
            exists().where(*same[0], lower.c.generation < d.generation),
            ~exists().where(*same[1], next_lower.c.generation == d.generation - 1),
        ),
    )
    before = delivery.alias("before")
    yield (
        "a mail is planned again only after a final failure, or with a reason",
        (
            select(d.key)
            .join(plan, p.id == d.plan_id)
            .join(
                before,
                and_(
                    before.c.release == d.release,
                    before.c.rcpt_key == d.rcpt_key,
                    before.c.generation < d.generation,
                ),
            )
            .where(
                or_(before.c.state.not_in(list(REGENERABLE_STATES)), maybe_taken(before)),
                p.reason == literal(""),
            )
        ),
    )


def _database(conn: Connection) -> CheckResult:
    """SQLite's own look at its pages and foreign keys; PostgreSQL answers for itself."""
    if not is_sqlite(conn):
        return CheckResult(invariant="the database is sound", ok=True, detail="PostgreSQL")
    said = [str(row[0]) for row in conn.exec_driver_sql("PRAGMA quick_check(5)")]
    if said == ["ok"]:
        said = [f"{row[0]} {row[1]} points to no {row[2]}" for row in conn.exec_driver_sql("PRAGMA foreign_key_check")]
    return CheckResult(invariant="the database is sound", ok=not said, detail="; ".join(said[:5]))


def _keys(conn: Connection) -> CheckResult:
    query = select(delivery.c.key, delivery.c.release, delivery.c.rcpt_key, delivery.c.generation)
    wrong = [
        row.key
        for row in conn.execute(query, execution_options={"yield_per": _CHUNK})
        if row.key != delivery_key(row.release, row.rcpt_key, row.generation)
    ]
    return CheckResult(invariant="a mail's key is made of what it is", ok=not wrong, detail=_detail(wrong))


def _incidents(conn: Connection) -> CheckResult:
    """The buckets of an incident add up to its affected mails."""
    wrong = []
    for row in conn.execute(select(incident.c.id, incident.c.counts).order_by(incident.c.id)):
        counts = json.loads(row.counts)
        buckets = counts.get("buckets", {})
        if sum(buckets.values()) != counts.get("affected", 0):
            wrong.append(f"{row.id} ({sum(buckets.values())} in buckets, {counts.get('affected')} affected)")
    return CheckResult(invariant="an incident's buckets add up", ok=not wrong, detail=_detail(wrong))


def _vetoed(conn: Connection) -> CheckResult:
    """No mail was armed while a veto on it stood. A hold that waited for the database may be older than its effect.

    Where a sender that was thought dead told of an acceptance later, the audit tells of it: that veto came too late.
    """
    stood = vetoes.matching().with_only_columns(func.min(veto.c.at)).scalar_subquery()
    told = select(audit.c.subject).where(audit.c.what.in_(("known_duplicate", "late_accepted")))
    bound = _COMMITTING if is_sqlite(conn) else _COMMITTING + _SKEW
    query = (
        select(delivery.c.key, try_.c.armed_at, stood.label("stood"))
        .join(try_, try_.c.delivery_key == delivery.c.key)
        .where(try_.c.armed_at > stood, delivery.c.key.not_in(told))
        .order_by(delivery.c.key)
    )
    wrong = [row.key for row in conn.execute(query) if from_text(row.armed_at) - from_text(row.stood) > bound]
    return CheckResult(invariant="nothing was sent against a veto", ok=not wrong, detail=_detail(wrong))


def _counts(conn: Connection) -> Iterator[CheckResult]:
    """Not faults, but to be seen: what is in doubt, came too late, or was sent twice knowingly."""
    doubt = conn.execute(select(func.count()).where(delivery.c.state == State.IN_DOUBT)).scalar_one()
    yield CheckResult(
        invariant="mails in doubt are listed", ok=True, detail=f"{doubt} in doubt: 'resend doubt list'" if doubt else ""
    )
    for fate, name, next_step in (
        (
            Fate.UNSEEN,
            "mails handed to a relay and not seen in its log are counted",
            ": 'resend reconcile' looks again",
        ),
        (Fate.QUEUED_AT_RELAY, "mails in a relay's queue are counted", ": the relay sends them, we do not"),
        (Fate.RETURNED, "mails that came back from a relay are counted", ": 'resend why ADDRESS' tells why"),
    ):
        found = conn.execute(select(func.count()).where(delivery.c.fate == fate)).scalar_one()
        yield CheckResult(invariant=name, ok=True, detail=f"{found}{next_step}" if found else "")
    for what, name in (
        ("veto_too_late", "vetoes that came too late are counted"),
        ("known_duplicate", "known duplicates are counted"),
    ):
        found = conn.execute(select(func.count()).where(audit.c.what == what)).scalar_one()
        yield CheckResult(invariant=name, ok=True, detail=f"{found}" if found else "")
