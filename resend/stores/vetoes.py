"""Vetoes: what must not be sent. Each source projects what it knows; the arm compares in the same statement.

Holds of the operator are vetoes too and end in `held`, every other reason in `suppressed`. Address vetoes compare
case-folded (policy.address.fold). A mail under way is not taken back: `veto_too_late`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from resend.clock import from_text, to_text
from resend.model import State, VetoKind, VetoReason
from resend.policy.address import fold
from resend.stores.batches import reopen
from resend.stores.rows import Veto, Watermark
from resend.stores.setwise import clean, dump, json_rows
from resend.stores.tables import audit, delivery, veto, watermark

_CHUNK = 5000
_UNDER_WAY = (State.SENDING, State.IN_DOUBT, State.ACCEPTED)


def matching() -> Select[tuple[str]]:
    """The vetoes that meet a row of `delivery`, for use inside a statement over it (correlated)."""
    scopes = ("", literal("customer:").concat(delivery.c.customer), literal("release:").concat(delivery.c.release))
    address = and_(veto.c.kind == VetoKind.ADDRESS, veto.c.subject == delivery.c.folded, veto.c.scope.in_(scopes))
    others = [
        and_(veto.c.kind == kind, veto.c.subject == column)
        for kind, column in (
            (VetoKind.DELIVERY, delivery.c.key),
            (VetoKind.RELEASE, delivery.c.release),
            (VetoKind.CUSTOMER, delivery.c.customer),
            (VetoKind.DOMAIN, delivery.c.domain),
            (VetoKind.PROVIDER, delivery.c.provider),
        )
    ]
    return select(veto.c.reason).where(or_(address, *others)).correlate(delivery)


def not_to_send(now: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a row of `delivery` is vetoed or out of date at `now`."""
    return or_(matching().exists(), delivery.c.expires_at <= now)


def _strongest() -> ScalarSelect[str]:
    found = matching().where(veto.c.reason != VetoReason.HELD).subquery()
    return select(func.min(found.c.reason)).scalar_subquery()


@cache
def sweep() -> Update:
    """Take vetoed and outdated rows out: -> suppressed | held. Add what rows and from which states; parameter `now`."""
    now = bindparam("now", type_=delivery.c.expires_at.type)
    strongest = func.coalesce(
        _strongest(), case((delivery.c.expires_at <= now, VetoReason.EXPIRED), else_=VetoReason.HELD)
    )
    return (
        update(delivery)
        .values(
            state=case((strongest == VetoReason.HELD, State.HELD), else_=State.SUPPRESSED),
            reason=strongest,
            due_at=null(),
        )
        .where(not_to_send(now))
    )


def put(conn: Connection, vetoes: Iterable[Veto], *, source: str, now: datetime, who: str = "") -> int:
    """Add vetoes; those that stand already are left as they are. The count of new ones.

    Mails that were armed before are counted in the audit as `veto_too_late`, one row for each veto that comes too late.
    """
    at = to_text(now)
    added = 0
    rows: list[dict[str, str]] = []
    for item in vetoes:
        rows.append(_row(item, source, at))
        if len(rows) == _CHUNK:
            added += _put(conn, rows, at, who or source)
            rows = []
    return added + (_put(conn, rows, at, who or source) if rows else 0)


def remove(conn: Connection, kind: VetoKind, subject: str, reason: VetoReason, *, scope: str = "") -> int:
    """Take a veto back; the count of rows (0: there was none). Held rows: see `unhold`."""
    subject = _subject(kind, subject)
    found = conn.execute(
        delete(veto).where(
            veto.c.kind == kind, veto.c.subject == subject, veto.c.reason == reason, veto.c.scope == _scope(scope)
        )
    )
    return found.rowcount


def project(
    conn: Connection, vetoes: Iterable[Veto], *, source: str, seen_to: datetime, now: datetime, replace: bool = False
) -> int:
    """Add what a source knows and note how fresh it is. The count of new vetoes.

    `replace`: the source is read whole, so vetoes of it that it no longer names go. Suppressed rows stay suppressed.
    """
    seen = list(vetoes)
    if replace:
        keep = {
            (row["kind"], row["subject"], row["reason"], row["scope"]) for row in (_row(v, source, "") for v in seen)
        }
        standing = conn.execute(
            select(veto.c.kind, veto.c.subject, veto.c.reason, veto.c.scope).where(veto.c.source == source)
        ).all()
        for kind, subject, reason, scope in standing:
            if (kind, subject, reason, scope) not in keep:
                remove(conn, VetoKind(kind), subject, VetoReason(reason), scope=scope)
    added = put(conn, seen, source=source, now=now)
    mark(conn, source, seen_to=seen_to, now=now)
    return added


def mark(conn: Connection, source: str, *, seen_to: datetime, now: datetime) -> None:
    """Note that a source was read at `now` and held everything up to `seen_to` (never moves back)."""
    values = {"seen_to": to_text(seen_to), "refreshed_at": to_text(now)}
    if not conn.execute(update(watermark).where(watermark.c.source == source), {"refreshed_at": to_text(now)}).rowcount:
        conn.execute(insert(watermark).values(source=source, **values))
        return
    conn.execute(
        update(watermark).where(watermark.c.source == source, watermark.c.seen_to < values["seen_to"]),
        {"seen_to": values["seen_to"]},
    )


def watermarks(conn: Connection) -> list[Watermark]:
    """How fresh each source is, by name."""
    return [
        Watermark(source=row.source, seen_to=from_text(row.seen_to), refreshed_at=from_text(row.refreshed_at))
        for row in conn.execute(select(watermark).order_by(watermark.c.source))
    ]


def hold(conn: Connection, kind: VetoKind, subject: str, *, reason: str, who: str, now: datetime) -> int:
    """The operator holds what is named. The count of mails it keeps from being sent; a run obeys at its next arm."""
    item = Veto(kind=kind, subject=subject, reason=VetoReason.HELD, evidence=reason)
    put(conn, [item], source="operator", now=now, who=who)
    waiting = (State.PLANNED, State.DEFERRED)
    held = conn.execute(
        sweep().where(delivery.c.state.in_(waiting), _meets(kind, _subject(kind, subject))), {"now": to_text(now)}
    ).rowcount
    _note(conn, to_text(now), who, "held", kind, subject, held, reason)
    return held


def unhold(conn: Connection, kind: VetoKind, subject: str, *, reason: str, who: str, now: datetime) -> int:
    """Take a hold back: what no other hold meets goes held -> planned (another veto stops it there). The count."""
    remove(conn, kind, subject, VetoReason.HELD)
    free = and_(
        delivery.c.state == State.HELD,
        _meets(kind, _subject(kind, subject)),
        ~matching().where(veto.c.reason == VetoReason.HELD).exists(),
    )
    keys = list(conn.scalars(select(delivery.c.key).where(free)))
    conn.execute(update(delivery).where(free).values(state=State.PLANNED, reason="", due_at=null()))
    reopen(conn, keys)
    _note(conn, to_text(now), who, "unheld", kind, subject, len(keys), reason)
    return len(keys)


def _put(conn: Connection, rows: Sequence[dict[str, str]], at: str, who: str) -> int:
    columns: dict[str, Any] = dict.fromkeys(("kind", "subject", "reason", "scope", "evidence", "source", "at"), str)
    given = json_rows(conn.dialect.name, "given", **columns)
    told = {(row["kind"], row["subject"], row["reason"], row["scope"]): row for row in rows}
    parameter = {"given": dump([row[name] for name in columns] for row in told.values())}
    fresh = select(given).where(
        ~select(veto.c.kind)
        .where(*(veto.c[name] == given.c[name] for name in ("kind", "subject", "reason", "scope")))
        .correlate(given)
        .exists()
    )
    new = conn.execute(fresh, parameter).mappings().all()
    if not new:
        return 0
    make = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
    conn.execute(make(veto).on_conflict_do_nothing(), [dict(row) for row in new])
    for kind in sorted({row["kind"] for row in new}):
        subjects = [row for row in new if row["kind"] == kind]
        named = json_rows(conn.dialect.name, "named", subject=str, scope=str, reason=str)
        late = (
            select(named.c.subject, named.c.reason, func.count())
            .select_from(named.join(delivery, _meets(VetoKind(kind), named.c.subject)))
            .where(delivery.c.state.in_(_UNDER_WAY))
            .group_by(named.c.subject, named.c.reason)
            .order_by(named.c.subject, named.c.reason)
        )
        if kind == VetoKind.ADDRESS:
            late = late.where(
                or_(
                    named.c.scope == "",
                    named.c.scope == literal("customer:").concat(delivery.c.customer),
                    named.c.scope == literal("release:").concat(delivery.c.release),
                )
            )
        names = {"named": dump([row["subject"], row["scope"], row["reason"]] for row in subjects)}
        for subject, reason, count in conn.execute(late, names).all():
            _note(conn, at, who, "veto_too_late", VetoKind(kind), subject, count, reason)
    return len(new)


def _meets(kind: VetoKind, subject: ColumnElement[str] | str) -> ColumnElement[bool]:
    match kind:
        case VetoKind.ADDRESS:
            return delivery.c.folded == subject
        case VetoKind.DELIVERY:
            return delivery.c.key == subject
        case VetoKind.RELEASE:
            return delivery.c.release == subject
        case VetoKind.CUSTOMER:
            return delivery.c.customer == subject
        case VetoKind.DOMAIN:
            return delivery.c.domain == subject
        case VetoKind.PROVIDER:
            return delivery.c.provider == subject


def _row(item: Veto, source: str, at: str) -> dict[str, str]:
    return {
        "kind": str(item.kind),
        "subject": _subject(item.kind, item.subject),
        "reason": str(item.reason),
        "scope": _scope(item.scope),
        "evidence": clean(item.evidence),
        "source": source,
        "at": at,
    }


def _subject(kind: VetoKind, subject: str) -> str:
    """Addresses are folded, domains lower-case; an address that cannot be folded is compared lower-case."""
    if kind == VetoKind.ADDRESS:
        try:
            return fold(subject)
        except ValueError:
            return clean(subject).casefold()
    return subject.lower() if kind == VetoKind.DOMAIN else subject


def _scope(scope: str) -> str:
    return "" if scope == "all" else scope


def _note(
    conn: Connection, at: str, who: str, what: str, kind: VetoKind, subject: str, count: int, reason: str
) -> None:
    conn.execute(
        insert(audit).values(at=at, who=who, what=what, subject=f"{kind}:{subject}", value=str(count), reason=reason)
    )
