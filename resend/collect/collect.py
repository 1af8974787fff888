"""`collect`: files into evidence. Reading the same bytes again finds the parts there; a killed collect is run again.

This process cuts files into blocks and commits; blocks become parts in a pool (pool.py). One bad line never stops a
file, and a bad file never stops the others: what should have been read and was not is in `CollectSummary.unread`.
Raises NothingCollected where there was nothing else.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from resend.collect.again import Before
from resend.collect.files import Unreadable
from resend.collect.pool import Done, Job, Pool
from resend.collect.queue import read_snapshot
from resend.collect.rejected import rejected
from resend.collect.sources import Given, find, tables
from resend.collect.times import check_zone
from resend.config import Config
from resend.errors import InputError
from resend.stores.evidence import Evidence, Manifest, PartInfo, Source
from resend.stores.home import Home

_REJECTED_SHOWN = 20
_COMMIT_EVERY_S = 5.0  # of a long file: what a killed collect has to do again
Progress = Callable[[int, int], None]


@dataclass(slots=True, kw_only=True)
class CollectSummary:
    """What one collect did. lines = parsed + ignored + rejected, over the files given."""

    files: int = 0
    lines: int = 0
    parsed: int = 0
    ignored: int = 0
    rejected: int = 0
    new_parts: int = 0
    known_parts: int = 0
    messages_queued: int = 0  # recipients in the queue snapshot
    rejected_lines: list[str] = field(default_factory=list)  # "mail.log:12: cut short: ..." (the first ones)
    warnings: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)  # "a.txt: not a log format known here; ...": nothing of it is here


class NothingCollected(InputError):
    """No path that was given could be collected; `unread` says why, a line for each."""

    def __init__(self, errors: Sequence[InputError]) -> None:
        self.unread = [error.line() for error in errors]
        first = errors[0]
        if len(errors) == 1:
            super().__init__(first.what, where=first.where, next_step=first.next_step)
        else:
            super().__init__(
                f"none of {len(errors)} could be collected; the first: {first.what}",
                where=first.where,
                next_step=first.next_step,
            )


def _how_id(given: Given) -> str:
    # The year that the file's date implies is no part of it: a rotated copy with a later date is the same part.
    return f"{given.how.id}{given.year}\0"


def _source(given: Given) -> Source:
    digest = hashlib.sha256("".join(part for part, _ in given.done).encode())
    return Source(
        id=digest.hexdigest()[:12],
        path=given.name,
        format=given.how.format,
        zone=given.how.zone,
        year=given.year,
        last_day=given.how.last_day.isoformat(),
        size=given.size,
        mtime_us=given.mtime_us,
        host=given.how.host,
        blocks=list(given.done),
    )


def collect(
    home: Home,
    config: Config,
    paths: Sequence[Path],
    *,
    format: str = "",
    tz: str = "",
    year: int = 0,
    host: str = "",
    queue: Path | None = None,
    from_config: bool = False,
    environ: Mapping[str, str] = os.environ,
    progress: Progress | None = None,
) -> CollectSummary:
    """Read `paths` (and a `postqueue -j` snapshot) into the evidence of `home`. `progress` gets bytes: done, total.

    `from_config`: the delivery tables of `[collect.tables]` as well.
    """
    zone = check_zone(tz or config.tz, where="--tz")
    evidence = Evidence(home)
    before = Before(evidence.manifest().sources)
    if not 0 <= year <= date.max.year:
        raise InputError(f"not a year: {year}", where="--year", next_step="write it like 2026")
    summary = CollectSummary()
    unread: list[InputError] = []
    files = find(
        paths, asked=format, tz=tz, zone=zone, year=year, host=host, before=before, warn=summary.warnings, unread=unread
    )
    summary.warnings += before.notes()
    if from_config:
        files += tables(config, environ, zone=zone, host=host)
    if unread and not files and queue is None:
        raise NothingCollected(unread)
    snapshot = read_snapshot(queue, host=host, warn=summary.warnings) if queue is not None else None
    with evidence.writing() as manifest:
        run = _Run(evidence, manifest, summary, unread, progress, total=sum(file.packed for file in files))
        run.collect(files)
        if snapshot is not None:
            hosts = {name for info in manifest.parts.values() for name in info.hosts}
            of = snapshot.host or (hosts.pop() if len(hosts) == 1 else "")
            evidence.add_snapshot(manifest, host=of, taken_at=snapshot.taken_at, rows=snapshot.rows)
            summary.messages_queued = len(snapshot.rows)
    if unread and not summary.files and snapshot is None:
        raise NothingCollected(unread)
    summary.unread = [error.line() for error in unread]
    if summary.rejected:
        summary.rejected_lines = rejected(evidence, _REJECTED_SHOWN, [file.name for file in files])
    return summary


class _Run:
    """One collect under the lock: jobs out, parts in, the manifest kept up to date."""

    def __init__(
        self,
        evidence: Evidence,
        manifest: Manifest,
        summary: CollectSummary,
        unread: list[InputError],
        progress: Progress | None,
        *,
        total: int,
    ) -> None:
        self._evidence = evidence
        self._manifest = manifest
        self._summary = summary
        self._unread = unread
        self._gone: set[int] = set()  # id() of files that went away since they were found
        self._progress = progress or (lambda done, total: None)
        self._total = total
        self._seen = 0
        self._committed = time.monotonic()
        self._partly: Given | None = None  # committed so far, not complete
        self._given: deque[tuple[Given, int | None]] = deque()  # of each job not done yet: file, how far it reaches

    def collect(self, files: Sequence[Given]) -> None:
        previous: Given | None = None
        with Pool(frozenset(self._manifest.parts)) as pool:
            for done in pool.run(self._jobs(files)):
                file, packed_to = self._given.popleft()
                if previous is not None and previous is not file:
                    self._manifest.put(_source(previous))
                previous = file
                self._take(file, done, packed_to)
        # Of a file that is gone before its turn nothing is known anew: what was collected of it before stays.
        read = [file for file in files if file.done or id(file) not in self._gone]
        for file in read:
            self._manifest.put(_source(file))
        self._summary.files = len(read)
        self._progress(self._total, self._total)

    def _jobs(self, files: Sequence[Given]) -> Iterator[Job]:
        for file in files:
            try:
                for block in file.blocks(self._summary.warnings):
                    self._given.append((file, block.packed_to))
                    yield Job(block, file.how, _how_id(file), self._evidence.parts)
            except Unreadable as error:
                self._unread.append(error)
                self._gone.add(id(file))

    def _take(self, file: Given, done: Done, packed_to: int | None) -> None:
        parsed = done.parsed
        if parsed is None or done.part in self._manifest.parts:
            self._summary.known_parts += 1
            if done.temporary is not None:  # of an equal block, a moment ago
                done.temporary.unlink(missing_ok=True)
        else:
            assert done.temporary is not None
            self._evidence.adopt(done.temporary, done.part)
            self._summary.new_parts += 1
            self._manifest.parts[done.part] = PartInfo(
                lines=parsed.lines,
                parsed=parsed.parsed,
                rejected=parsed.rejected,
                first_at=parsed.first_at,
                last_at=parsed.last_at,
                hosts=list(parsed.hosts),
                head=done.head,
                losses=list(parsed.losses),
            )
        info = self._manifest.parts[done.part]
        file.done.append((done.part, file.lines + 1))
        file.lines += info.lines
        file.size += done.length
        if done.missing:
            self._summary.warnings.append(
                f"{file.path}: moved away or cut shorter while it was read: {done.missing:,} bytes are missing;"
                " collect it again, and what it was rotated to"
            )
        for name in ("lines", "parsed", "ignored", "rejected"):
            setattr(self._summary, name, getattr(self._summary, name) + getattr(info, name))
        seen = file.seen + done.length if packed_to is None else packed_to
        self._seen += seen - file.seen
        file.seen = seen
        self._progress(min(self._seen, self._total), self._total)
        # Of a file that was collected before, the old parts count until the new ones are complete.
        new = file.name not in self._manifest.sources or self._partly is file
        if new and time.monotonic() - self._committed > _COMMIT_EVERY_S:
            self._partly = file
            self._manifest.put(_source(file))
            self._evidence.commit(self._manifest)
            self._committed = time.monotonic()
