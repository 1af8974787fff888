"""One look at the ledger: plans, where the mails of each provider stand, the last decisions. Reads only."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from resend.clock import from_text
from resend.model import State
from resend.stores import control, registry, vetoes
from resend.stores.ledger import Ledger
from resend.stores.rows import Decision, ProviderStatus, Status
from resend.stores.tables import audit, delivery
from resend.stores.tables import control as commands

DECISIONS = 20


def status(ledger: Ledger, *, plan_id: str = "") -> Status:
    """`look` at one instant."""
    with ledger.snapshot() as conn:
        return look(conn, plan_id=plan_id)


def look(conn: Connection, *, plan_id: str = "") -> Status:
    """Everything a person asks of a run. On `Ledger.snapshot()` all of it is of one instant."""
    counts = (
        select(
            delivery.c.egress,
            delivery.c.provider,
            delivery.c.state,
            delivery.c.fate,
            func.count(),
            func.min(delivery.c.due_at),
        )
        .group_by(delivery.c.egress, delivery.c.provider, delivery.c.state, delivery.c.fate)
        .order_by(delivery.c.egress, delivery.c.provider)
    )
    if plan_id:
        counts = counts.where(delivery.c.plan_id == plan_id)
    states: dict[tuple[str, str], dict[State, int]] = {}
    fates: dict[tuple[str, str], dict[str, int]] = {}
    due: dict[tuple[str, str], datetime] = {}
    for egress, provider, state, fate, count, due_at in conn.execute(counts):
        place = (egress, provider)
        states.setdefault(place, {})[State(state)] = states.get(place, {}).get(State(state), 0) + count
        if fate:
            fates.setdefault(place, {})[fate] = fates.get(place, {}).get(fate, 0) + count
        if state == State.DEFERRED and due_at:
            at = from_text(due_at)
            due[place] = min(at, due.get(place, at))
    rates = {(rate.egress, rate.provider): rate for rate in control.rates(conn)}
    return Status(
        plans=tuple(item for item in registry.plans(conn) if not plan_id or item.id == plan_id),
        providers=tuple(
            ProviderStatus(
                egress=place[0],
                provider=place[1],
                states=states.get(place, {}),
                fates=fates.get(place, {}),
                rate=rates.get(place),
                next_due=due.get(place),
            )
            for place in sorted(states.keys() if plan_id else states.keys() | rates.keys())
        ),
        decisions=tuple(decisions(conn, limit=DECISIONS)),
        unseen_controls=int(conn.execute(select(func.count()).where(commands.c.seen_at.is_(None))).scalar_one()),
        watermarks=tuple(vetoes.watermarks(conn)),
    )


def decisions(
    conn: Connection, *, limit: int | None = None, plan_id: str = "", what: str = "", subject: str = ""
) -> list[Decision]:
    """Rows of the audit, newest first."""
    query = select(audit).order_by(audit.c.id.desc())
    for column, value in ((audit.c.plan_id, plan_id), (audit.c.what, what), (audit.c.subject, subject)):
        if value:
            query = query.where(column == value)
    if limit is not None:
        query = query.limit(limit)
    return [
        Decision(
            at=from_text(row.at),
            who=row.who,
            what=row.what,
            plan_id=row.plan_id,
            egress=row.egress,
            provider=row.provider,
            subject=row.subject,
            value=row.value,
            reason=row.reason,
        )
        for row in conn.execute(query)
    ]
