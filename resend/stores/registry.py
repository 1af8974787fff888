"""Incident and plan rows: written once, then only their state changes. Knows nothing of mails.

Raises UsageError for a row that is not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.engine import RowMapping

from resend.clock import from_text, to_text
from resend.errors import UsageError
from resend.model import PlanState, Selector
from resend.stores.rows import IncidentRecord, PlanRecord
from resend.stores.tables import audit, incident, plan


def selector_values(selector: Selector) -> dict[str, str]:
    """What a selector bounds, as text; nothing for what it leaves open."""
    values = {name: getattr(selector, name) for name in ("provider", "cause", "release", "customer")}
    for name in ("from_at", "to_at"):
        at = getattr(selector, name)
        values[name] = "" if at is None else to_text(at)
    return {name: value for name, value in values.items() if value}


def selector_text(selector: Selector) -> str:
    """Canonical JSON of a selector."""
    return json.dumps(selector_values(selector), ensure_ascii=False, sort_keys=True)


def incidents(conn: Connection) -> list[IncidentRecord]:
    """All incidents, the oldest first."""
    rows = conn.execute(select(incident).order_by(incident.c.opened_at, incident.c.id)).mappings()
    return [_incident(row) for row in rows]


def add_incident(conn: Connection, record: IncidentRecord) -> None:
    conn.execute(
        insert(incident).values(
            id=record.id,
            name=record.name,
            selector=selector_text(record.selector),
            state="open" if record.open else "closed",
            counts=json.dumps(record.counts, ensure_ascii=False, sort_keys=True),
            evidence_id=record.evidence_id,
            opened_at=to_text(record.opened_at),
        )
    )


def close_incident(conn: Connection, incident_id: str, *, now: datetime) -> None:
    done = conn.execute(
        update(incident)
        .where(incident.c.id == incident_id, incident.c.state == "open")
        .values(state="closed", closed_at=to_text(now))
    )
    if not done.rowcount:
        raise UsageError(f"no open incident {incident_id!r}", next_step="see 'resend incident list'")


def plans(conn: Connection) -> list[PlanRecord]:
    """All plans, the oldest first."""
    return [_plan(row) for row in conn.execute(select(plan).order_by(plan.c.made_at, plan.c.id)).mappings()]


def add_plan(conn: Connection, record: PlanRecord) -> None:
    conn.execute(
        insert(plan).values(
            id=record.id,
            incident_id=record.incident_id,
            state=record.state.value,
            total=record.total,
            batches=record.batches,
            params=record.params,
            eta_s=record.eta_s,
            made_at=to_text(record.made_at),
            reason=record.reason,
            rehearsal=int(record.rehearsal),
        )
    )


def reopen_plan(conn: Connection, record: PlanRecord) -> None:
    """closed -> ready, for a plan that never started and is made once more, as `record` has it now; audited."""
    at = to_text(record.made_at)
    conn.execute(
        update(plan)
        .where(plan.c.id == record.id, plan.c.state == PlanState.CLOSED, plan.c.started_at.is_(None))
        .values(state=PlanState.READY, eta_s=record.eta_s, made_at=at, finished_at=None, reason=record.reason)
    )
    conn.execute(
        insert(audit).values(
            at=at,
            who="plan make",
            what="plan_reopened",
            plan_id=record.id,
            value=str(record.total),
            reason=record.reason,
        )
    )


def find_plan(conn: Connection, ref: str) -> PlanRecord:
    """A plan by its id or an unambiguous beginning of it; UsageError otherwise."""
    found = [record for record in plans(conn) if ref and record.id.startswith(ref)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{ref!r} fits {len(found)} plans", next_step="write more of the id; see 'resend plan list'")
    incident_ = next((known for known in incidents(conn) if ref and ref in (known.name, known.id)), None)
    if incident_ is not None:
        own = [record.id[:12] for record in plans(conn) if record.incident_id == incident_.id]
        made = f"its plans: {', '.join(own[-3:])}" if own else f"make its plan: resend plan make {incident_.id}"
        raise UsageError(f"{ref!r} is an incident, no plan", next_step=made)
    raise UsageError(f"there is no plan {ref!r}", next_step="see 'resend plan list'")


def _incident(row: RowMapping) -> IncidentRecord:
    return IncidentRecord(
        id=row["id"],
        name=row["name"],
        selector=_selector(json.loads(row["selector"])),
        open=row["state"] == "open",
        counts=json.loads(row["counts"]),
        evidence_id=row["evidence_id"],
        opened_at=from_text(row["opened_at"]),
        closed_at=_time(row["closed_at"]),
    )


def _plan(row: RowMapping) -> PlanRecord:
    return PlanRecord(
        id=row["id"],
        incident_id=row["incident_id"],
        state=PlanState(row["state"]),
        total=row["total"],
        batches=row["batches"],
        params=row["params"],
        eta_s=row["eta_s"],
        made_at=from_text(row["made_at"]),
        started_at=_time(row["started_at"]),
        finished_at=_time(row["finished_at"]),
        reason=row["reason"],
        rehearsal=bool(row["rehearsal"]),
    )


def _time(text: str | None) -> datetime | None:
    return from_text(text) if text else None


def _selector(values: Mapping[str, str]) -> Selector:
    texts = {name: values.get(name, "") for name in ("provider", "cause", "release", "customer")}
    return Selector(**texts, from_at=_time(values.get("from_at")), to_at=_time(values.get("to_at")))
