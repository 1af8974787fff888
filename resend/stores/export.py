"""The ledger carried out of itself: rows in a stable order, and whole copies for rehearsals.

A copy is an SQLite file in which every plan is marked as a rehearsal; it can never be resumed as real.
Raises StoreError.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from resend.clock import from_text
from resend.errors import StoreError
from resend.model import State
from resend.stores.home import Home, private_opener
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.tables import delivery, metadata, plan, try_

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


def export_tries(conn: Connection, *, plan_id: str = "", key: str = "") -> Iterator[dict[str, object]]:
    """Every try (of a plan, of one mail), oldest MAIL first."""
    query = select(try_).order_by(try_.c.mail_at, try_.c.id)
    if plan_id:
        query = query.join(delivery, delivery.c.key == try_.c.delivery_key).where(delivery.c.plan_id == plan_id)
    if key:
        query = query.where(try_.c.delivery_key == key)
    for row in conn.execute(query, execution_options={"yield_per": _CHUNK}).mappings():
        values = dict(row)
        for name in ("mail_at", "armed_at", "ended_at"):
            values[name] = _time(values[name])
        yield values


def copy_to(ledger: Ledger, path: Path) -> None:
    """Copy the ledger as it is now into a new SQLite file; open that with `open_ledger(f"sqlite:///{path}", home)`.

    Refuses a file that is there. The copy's mails under way or leased are as they are: recover it like a dead run's.
    """
    if path.exists():
        raise StoreError("there is a file already", where=str(path), next_step="choose another, or remove it")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if ledger.path is not None:
            os.close(private_opener(str(path), os.O_CREAT | os.O_RDWR))
            source, target = sqlite3.connect(ledger.path), sqlite3.connect(path)
            try:
                source.backup(target)
            finally:
                source.close()
                target.close()
        with open_ledger(f"sqlite:///{path}", Home(path.parent)) as copy:
            if ledger.path is None:
                _copy_rows(ledger, copy)
            with copy.write() as conn:
                conn.execute(update(plan).values(rehearsal=1))
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"cannot copy the ledger: {error}", where=str(path)) from error
        raise


def _copy_rows(ledger: Ledger, copy: Ledger) -> None:
    with ledger.snapshot() as source, copy.write() as target:
        for table in metadata.sorted_tables:
            rows = iter(source.execute(select(table), execution_options={"yield_per": _CHUNK}).mappings())
            while chunk := [dict(row) for row in islice(rows, _CHUNK)]:
                target.execute(insert(table), chunk)


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
