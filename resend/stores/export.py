"""Rows of the ledger carried out of it, in a stable order, for proofs and other programs. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection, select

from resend.clock import from_text
from resend.model import State
from resend.stores.tables import delivery

_CHUNK = 5000
_TIMES = ("due_at", "first_try_at", "accepted_at", "fate_at", "expires_at")


def export_rows(conn: Connection, *, plan_id: str = "", incident_id: str = "") -> Iterator[dict[str, object]]:
    """Every mail (of a plan, of an incident) as a dict, by key. The fields of the JSON `delivery`, then all others.

    Addresses are whole: masking is the reader's. Times are aware UTC or None.
    """
    query = select(delivery).order_by(delivery.c.key)
    if plan_id:
        query = query.where(delivery.c.plan_id == plan_id)
    if incident_id:
        query = query.where(delivery.c.incident_id == incident_id)
    for row in conn.execute(query, execution_options={"yield_per": _CHUNK}).mappings():
        yield _exported(dict(row))


def _exported(row: dict[str, object]) -> dict[str, object]:
    first = {
        "key": row.pop("key"),
        "release": row.pop("release"),
        "recipient": row.pop("rcpt"),
        "provider": row.pop("provider"),
        "state": State(str(row.pop("state"))),
        "fate": row.pop("fate"),
        "due_at": _time(row.pop("due_at")),
        "tries": row.pop("tries"),
    }
    return {**first, **{name: _time(value) if name in _TIMES else value for name, value in row.items()}}


def _time(value: object) -> datetime | None:
    return from_text(str(value)) if value else None
