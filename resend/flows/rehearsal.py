"""A rehearsal: the whole run of a plan, but on a copy of the ledger, and every mail goes to one sink.

The copy lies in `derived/rehearsal-<plan>/` with a lock of its own and is made anew each time; its plans are marked,
and nothing is ever sent for real from it. The real ledger is only read, the catalog is not asked again, the relay's log
not followed. Pace, canary, ramp and hours are those of the real run. Raises what a run raises, UsageError for no sink.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import insert, select, update

from resend.clock import to_text
from resend.config import Config
from resend.errors import ConfigError, StoreError, UsageError
from resend.executor.ending import RunSummary
from resend.flows import run as sending
from resend.flows.plan import find_plan
from resend.policy.egress import egresses
from resend.policy.routes import Route, Routes, split_endpoint
from resend.stores.home import Home, exclusive, private_opener
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.tables import control, metadata, plan, provider_rate, provider_slot

_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """How it ended, and the copy that it ended in (open)."""

    summary: RunSummary
    ledger: Ledger


@contextmanager
def rehearse(
    home: Home,
    config: Config,
    ledger: Ledger,
    plan_ref: str,
    options: sending.RunOptions,
    sink: str,
    *,
    progress: sending.Progress | None = None,
) -> Iterator[Rehearsed]:
    """Send what is left of a plan to `sink` (HOST:PORT), in a copy of `ledger`."""
    try:
        host, port = split_endpoint(sink, where="--to-sink")
    except ConfigError as error:
        raise UsageError(error.what, where="--to-sink", next_step="write it like 127.0.0.1:2525") from None
    record = find_plan(ledger, plan_ref)
    place = home.derived / f"rehearsal-{record.id[:12]}"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(place / "run.lock", what="the rehearsal"):
        copy(ledger, place / "ledger.db")
        with open_ledger(f"sqlite:///{place / 'ledger.db'}", Home(place), create=False) as copied:
            summary = sending.rehearsal(
                home,
                config,
                copied,
                record.id,
                replace(options, follow=None, blind=True, in_doubt="hold"),
                Routes(None, {}, egresses(config), sink=Route(host, port, relay=False, egress="sink")),
                progress=progress,
            )
            yield Rehearsed(summary, copied)


def copy(ledger: Ledger, path: Path) -> None:
    """Copy all of a ledger into a new SQLite file, marked as a rehearsal's; nothing in it is paused or parked."""
    for old in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        old.unlink(missing_ok=True)
    if ledger.path is not None:
        _backup(ledger.path, path)
    with open_ledger(f"sqlite:///{path}", Home(path.parent)) as copied:
        if ledger.path is None:
            _rows(ledger, copied)
        now = to_text(datetime.now(UTC))
        with copied.write() as conn:
            conn.execute(update(plan).values(rehearsal=1))
            conn.execute(update(control).where(control.c.seen_at.is_(None)).values(seen_at=now))
            conn.execute(update(provider_rate).values(paused=0, parked="", half_open=0))
            conn.execute(update(provider_slot).values(owner="", batch_id="", lease_until=None))


def _backup(source: Path, path: Path) -> None:
    """SQLite's own backup: one state of the source, also while it is written to."""
    os.close(private_opener(str(path), os.O_CREAT | os.O_RDWR))
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as from_,
            closing(sqlite3.connect(path)) as to,
        ):
            from_.backup(to)
    except sqlite3.Error as error:
        raise StoreError(f"cannot copy the ledger: {error}", where=str(path), next_step="free space there") from error


def _rows(source: Ledger, target: Ledger) -> None:
    """Table by table, from one snapshot."""
    with source.snapshot() as reading, target.write() as writing:
        for table in metadata.sorted_tables:
            found = reading.execution_options(yield_per=_CHUNK).execute(select(table))
            for part in found.mappings().partitions(_CHUNK):
                writing.execute(insert(table), [dict(row) for row in part])
