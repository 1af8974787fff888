"""What steers a run: commands of the operator, and the pacer's state of each (egress, provider).

Commands are rows that a run reads and marks as seen. Rates outlive a run: a restart goes on where the last one stood
and lets nothing out at once. In the caller's transaction. Never decides a rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    case,
    cast,
    func,
    insert,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from resend.clock import format_rate, from_text, to_micros, to_text
from resend.model import ControlKind
from resend.stores.engine import is_sqlite
from resend.stores.rows import Control, Rate, Reserved
from resend.stores.setwise import clean
from resend.stores.tables import audit, control, provider_rate, try_

CEILING_TOLD = "ceiling_told"  # the audit's word for what a run was told by the config or by its plan
_SLOWEST = 1 / 3600  # mails per second; no pace is none at all


def post(
    conn: Connection, kind: ControlKind, *, provider: str = "", value: str = "", reason: str, who: str, now: datetime
) -> int:
    """Leave a command for the running run, audited; its id."""
    at = to_text(now)
    values = {"provider": provider, "value": value, "reason": clean(reason), "who": clean(who), "at": at}
    posted = conn.execute(insert(control).values(kind=kind, **values).returning(control.c.id)).scalar_one()
    conn.execute(insert(audit).values(what=f"control_{kind}", subject=str(posted), **values))
    return int(posted)


def note(
    conn: Connection,
    what: str,
    *,
    plan_id: str = "",
    egress: str = "",
    provider: str = "",
    value: str = "",
    reason: str = "",
    who: str,
    now: datetime,
) -> None:
    """One row of the audit: what an operator allowed, or what a host met, and why."""
    conn.execute(
        insert(audit).values(
            what=what, plan_id=plan_id, egress=egress, provider=provider, value=clean(value), reason=clean(reason),
            who=clean(who), at=to_text(now),
        )
    )  # fmt: skip


def unseen(conn: Connection) -> list[Control]:
    """Commands that no run has obeyed yet, oldest first."""
    return _controls(conn, control.c.seen_at.is_(None))


def since(conn: Connection, last: int) -> list[Control]:
    """Commands with a greater id than `last`, also those that another host has seen: each host obeys all."""
    return _controls(conn, control.c.id > last)


def newest(conn: Connection) -> int:
    """The greatest id of a command, 0 before the first."""
    return int(conn.execute(select(func.coalesce(func.max(control.c.id), 0))).scalar_one())


def _controls(conn: Connection, which: ColumnElement[bool]) -> list[Control]:
    rows = conn.execute(select(control).where(which).order_by(control.c.id))
    return [
        Control(
            id=row.id,
            kind=ControlKind(row.kind),
            provider=row.provider,
            value=row.value,
            reason=row.reason,
            who=row.who,
            at=from_text(row.at),
        )
        for row in rows
    ]


def mark_seen(conn: Connection, ids: Sequence[int], *, now: datetime) -> int:
    """Say that a run obeyed these commands."""
    done = update(control).where(control.c.id.in_(list(ids)), control.c.seen_at.is_(None))
    return conn.execute(done.values(seen_at=to_text(now))).rowcount


def ensure_rate(conn: Connection, *, egress: str, provider: str, start: float, ceiling: float) -> Rate:
    """The pacer's row; made at `start` where there is none. An existing one stays, but never above `ceiling`."""
    make = sqlite.insert if is_sqlite(conn) else postgresql.insert
    first = make(provider_rate).values(
        egress=egress, provider=provider, rate=min(start, ceiling), ceiling=ceiling, tat_us=0
    )
    conn.execute(first.on_conflict_do_nothing())
    here = (provider_rate.c.egress == egress, provider_rate.c.provider == provider)
    conn.execute(
        update(provider_rate)
        .where(*here, provider_rate.c.rate > provider_rate.c.ceiling)
        .values(rate=provider_rate.c.ceiling)
    )
    return _rate(conn.execute(select(provider_rate).where(*here)).one())


def begin_rate(
    conn: Connection, *, egress: str, provider: str, start: float, ceiling: float, plan_id: str, now: datetime
) -> Rate:
    """`ensure_rate` for a run that begins: `ceiling`, by the config or the plan, counts where it was another last time.

    Else the last word does, which may be an operator's. What was learned of the receiver stays: a rate that was
    below the old ceiling stays as it is, one that had reached it goes on from `start` at least.
    """
    rate = ensure_rate(conn, egress=egress, provider=provider, start=start, ceiling=ceiling)
    here = (audit.c.egress == egress, audit.c.provider == provider)
    told = format_rate(ceiling)
    last = select(audit.c.value).where(audit.c.what == CEILING_TOLD, *here).order_by(audit.c.id.desc()).limit(1)
    before = conn.execute(last).scalar()
    if before == told:
        return rate
    conn.execute(
        insert(audit).values(
            what=CEILING_TOLD, egress=egress, provider=provider, plan_id=plan_id, value=told, at=to_text(now),
            who="config", reason=f"it was {before}" if before else "",
        )
    )  # fmt: skip
    spoken = (
        before is None
        and conn.execute(  # by an older version, which did not keep what the config said
            select(audit.c.id).where(audit.c.what == ControlKind.RATE, *here).limit(1)
        ).scalar()
    )
    if rate.ceiling == ceiling or spoken:
        return rate
    own = min(max(rate.rate, start), ceiling) if rate.rate >= rate.ceiling else min(rate.rate, ceiling)
    place = (provider_rate.c.egress == egress, provider_rate.c.provider == provider)
    conn.execute(update(provider_rate).where(*place).values(ceiling=ceiling, rate=own))
    return _rate(conn.execute(select(provider_rate).where(*place)).one())


def rates(conn: Connection) -> list[Rate]:
    """The state of every (egress, provider) that ever sent."""
    query = select(provider_rate).order_by(provider_rate.c.egress, provider_rate.c.provider)
    return [_rate(row) for row in conn.execute(query)]


def reserve(
    conn: Connection, *, egress: str, provider: str, count: int, now: datetime, floor: float = 0.0
) -> Reserved | None:
    """Reserve the next `count` send times of (egress, provider) for one of several hosts (GCRA, burst 1).

    One UPDATE moves the theoretical arrival time; on PostgreSQL by the database's clock. None: paused, parked, unknown.
    The pace is that of Guard.pace: the rate, the hour's bound, and what live mail leaves of the ceiling, but `floor`.
    """
    clock: ColumnElement[int] = literal(to_micros(now), BigInteger)
    if not is_sqlite(conn):
        clock = cast(func.extract("epoch", func.statement_timestamp()) * 1_000_000, BigInteger)
    least, greatest = (func.min, func.max) if is_sqlite(conn) else (func.least, func.greatest)
    bound = func.coalesce(func.nullif(provider_rate.c.bound, 0.0), provider_rate.c.rate)
    leaves = greatest(provider_rate.c.ceiling - provider_rate.c.live, floor or _SLOWEST, type_=Float)
    left = case((provider_rate.c.live > 0, leaves), else_=provider_rate.c.rate)
    step = cast(1_000_000 / least(provider_rate.c.rate, bound, left, type_=Float), BigInteger) + 1
    row = conn.execute(
        update(provider_rate)
        .where(
            provider_rate.c.egress == egress,
            provider_rate.c.provider == provider,
            provider_rate.c.paused == 0,
            provider_rate.c.parked == "",
        )
        .values(tat_us=greatest(provider_rate.c.tat_us, clock) + count * step)
        .returning(provider_rate.c.tat_us, step.label("step"), clock.label("clock"))
    ).one_or_none()
    if row is None:
        return None
    first = row.tat_us - count * row.step
    return Reserved(times_us=tuple(first + n * row.step for n in range(count)), now_us=row.clock)


def reopen(conn: Connection, *, egress: str, provider: str) -> bool:
    """Whether this host is the one that probes a provider whose cool-down is over; for all others it is too late."""
    done = update(provider_rate).where(
        provider_rate.c.egress == egress,
        provider_rate.c.provider == provider,
        provider_rate.c.parked != "",
        provider_rate.c.cooldown_until.is_not(None),
    )
    return conn.execute(done.values(parked="", half_open=1)).rowcount == 1


def probe_next(
    conn: Connection, *, egress: str, provider: str, before: datetime | None, now: datetime
) -> datetime | None:
    """Take over the probes of a host that died: the cool-down's new end, which tells all others; None: one was first.

    `before`: the cool-down's end as this host knows it.
    """
    known = null() if before is None else literal(to_text(before))
    at = to_text(now)
    done = update(provider_rate).where(
        provider_rate.c.egress == egress,
        provider_rate.c.provider == provider,
        provider_rate.c.half_open == 1,
        provider_rate.c.cooldown_until.is_not_distinct_from(known),
    )
    return from_text(at) if conn.execute(done.values(cooldown_until=at)).rowcount == 1 else None


def last_mail_at(conn: Connection) -> dict[tuple[str, str], datetime]:
    """When the last MAIL of each (egress, provider) was sent: a restart paces on from there."""
    query = select(try_.c.egress, try_.c.provider, func.max(try_.c.mail_at)).group_by(try_.c.egress, try_.c.provider)
    return {(egress, provider): from_text(at) for egress, provider, at in conn.execute(query)}


def _rate(row: object) -> Rate:
    times = ("capped_until", "cooldown_until", "clean_since", "dwell_until", "connections_until", "mails_until")
    values = dict(row._mapping)  # type: ignore[attr-defined]
    values.update({name: from_text(values[name]) if values[name] else None for name in times})
    values.update({name: bool(values[name]) for name in ("canary_done", "paused", "half_open")})
    return Rate(**values)
