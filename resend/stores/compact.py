"""`compact`: the parts of each finished day become one Parquet file; events, parts and lines stay the same.

A part is in the pack of the day of its last event (UTC) and keeps its id, so a source that is read again finds it
known, a grown file replaces its tail part as ever, and outcomes name the same line. Commit like collect: the pack is
written, compared with what it stands for, renamed into place, then the manifest names it; the files that it replaces
stay for a while, for queries that read them. A compact that was killed is simply run again. Raises StoreError.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

from resend.clock import from_micros
from resend.errors import StoreError
from resend.stores import sql
from resend.stores.evidence import EVENT_COLUMNS, Evidence
from resend.stores.failpoints import failpoint
from resend.stores.manifest import Manifest

_VERSION = "1"
_MEMORY = "1GiB"
# Read many times, written once: a better compression than that of parts, which must be written fast.
_PARQUET = (
    "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, COMPRESSION_LEVEL 6, WRITE_BLOOM_FILTER false,"
    " USE_TMP_FILE false"
)
_COLUMNS = ", ".join(EVENT_COLUMNS)
Progress = Callable[[int, int], None]


@dataclass(slots=True, kw_only=True)
class CompactSummary:
    """What one compact did: days packed, how many files and bytes they were in before, and are in now."""

    days: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    events: int = 0


def compact(evidence: Evidence, *, now: datetime, progress: Progress | None = None) -> CompactSummary:
    """Pack every day that is over, by the evidence and at `now` (aware UTC), and is not in one file yet."""
    summary = CompactSummary()
    with evidence.writing() as manifest, sql.connect(memory_limit=_MEMORY, threads=1) as con:
        days = _days(manifest, now)
        for number, (day, parts) in enumerate(sorted(days.items())):
            if progress is not None:
                progress(number, len(days))
            _pack(con, evidence, manifest, day, parts, summary)
    return summary


def _days(manifest: Manifest, now: datetime) -> dict[date, list[str]]:
    """Days that are over and lie in more than one file, or in one with events that do not count any more."""
    placed: dict[date, list[str]] = {}
    pack_of = manifest.packed()
    for part, at in _last_at(manifest).items():  # what is in a pack stays with it
        day = date.fromisoformat(pack_of[part][4:14]) if part in pack_of else from_micros(at).date()
        placed.setdefault(day, []).append(part)
    if not placed:
        return {}
    end = min(max(placed), now.date())
    chosen = {}
    for day, parts in placed.items():
        packs = {pack_of[part] for part in parts if part in pack_of}
        done = len(packs) == 1 and sorted(manifest.packs[next(iter(packs))]) == sorted(parts)
        if day < end and not done:
            chosen[day] = sorted(parts, key=lambda part: (manifest.parts[part].first_at or 0, part))
    return chosen


def _last_at(manifest: Manifest) -> Mapping[str, int]:
    """When each part ends; one without events (only rejected lines) ends with the part before it in its source."""
    live = set(manifest.live(manifest.parts))
    found: dict[str, int] = {}
    for source in manifest.sources.values():
        before: int | None = None
        for part, _ in source.blocks:
            last = manifest.parts[part].last_at
            before = last if last is not None else before
            if before is not None and part in live:
                found.setdefault(part, before)
    return found


def _pack(
    con: duckdb.DuckDBPyConnection,
    evidence: Evidence,
    manifest: Manifest,
    day: date,
    parts: list[str],
    summary: CompactSummary,
) -> None:
    pack_of = manifest.packed()
    loose = [part for part in parts if part not in pack_of]
    packs = sorted({pack_of[part] for part in parts if part in pack_of})
    files = [evidence.part_path(name) for name in (*loose, *packs)]
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise StoreError("a part of the evidence is gone", where=str(missing), next_step="collect the logs again")
    digest = hashlib.sha256("\n".join([_VERSION, *sorted(parts)]).encode()).hexdigest()
    name = f"day-{day.isoformat()}-{digest[:16]}"
    temporary = evidence.parts / f".{name}.{os.getpid()}.tmp"
    events = _write(con, temporary, evidence, loose, packs, parts)
    failpoint("compact.pack_written")
    before = sum(path.stat().st_size for path in files)
    for path in files:  # a query that began before keeps them for as long as the sweep waits
        os.utime(path)
    temporary.replace(evidence.part_path(name))
    failpoint("compact.pack_renamed")
    for pack in packs:
        del manifest.packs[pack]
    manifest.packs[name] = parts
    evidence.commit(manifest)
    failpoint("compact.manifest")
    summary.days += 1
    summary.files_before += len(files)
    summary.files_after += 1
    summary.bytes_before += before
    summary.bytes_after += evidence.part_path(name).stat().st_size
    summary.events += events


def _write(
    con: duckdb.DuckDBPyConnection,
    temporary: Path,
    evidence: Evidence,
    loose: Iterable[str],
    packs: Iterable[str],
    parts: list[str],
) -> int:
    """Write the pack, synced, and compare it with what it was made of; the count of its events."""
    sql.create_table(con, "packing", {"part": "VARCHAR"}, ([part] for part in parts))
    queries = [
        f"SELECT {_COLUMNS}, split_part(parse_filename(filename), '.', 1) AS part"
        f" FROM read_parquet({_list(evidence, loose)}, filename = true, union_by_name = true)"
        if loose
        else "",
        f"SELECT {_COLUMNS}, part FROM read_parquet({_list(evidence, packs)}) WHERE part IN (SELECT part FROM packing)"
        if packs
        else "",
    ]
    source = " UNION ALL ".join(query for query in queries if query)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        con.execute(f"COPY ({source}) TO {sql.quote(temporary)} ({_PARQUET})")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # Sums of hashes do not depend on the order of rows.
    check = f"SELECT count(*), coalesce(sum(hash({_COLUMNS}, part)), 0) FROM"
    was = con.execute(f"{check} ({source})").fetchone()
    now = con.execute(f"{check} read_parquet({sql.quote(temporary)})").fetchone()
    if was is None or was != now:
        temporary.unlink(missing_ok=True)
        raise StoreError(
            "a packed day differs from its parts",
            where=str(temporary),
            next_step="check the disk; nothing was changed, and the parts are as they were",
        )
    return int(was[0])


def _list(evidence: Evidence, names: Iterable[str]) -> str:
    return f"[{', '.join(sql.quote(evidence.part_path(name)) for name in names)}]"
