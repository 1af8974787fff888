"""`collect`: files into evidence. Reading the same bytes again finds the parts there; a killed collect is run again.

The parent reads and decompresses; worker processes parse blocks (DuckDB, one thread each). One bad line never stops a
file and one bad file never stops the others: what could not be read is in `CollectSummary.warnings`. Raises InputError
for a path that does not exist or a format that is not known.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from resend.collect import parse
from resend.collect.detect import detect
from resend.collect.files import Block, blocks, expand, reading
from resend.collect.queue import read_snapshot
from resend.config import Config
from resend.errors import InputError
from resend.stores import sql
from resend.stores.evidence import Evidence, Manifest, PartInfo, Source
from resend.stores.home import Home

WORKERS_MAX = 4
_SAMPLE_BYTES = 64 << 10
_REJECTED_SHOWN = 20
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
    messages_queued: int = 0
    rejected_lines: list[str] = field(default_factory=list)  # "mail.log:12: not understood: ..." (the first ones)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Job:
    part: str
    block: Block


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
    progress: Progress | None = None,
) -> CollectSummary:
    """Read `paths` (and a `postqueue -j` snapshot) into the evidence of `home`. `progress(done, total)` in file bytes."""
    zone = tz or config.tz
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise InputError(
            f"not a time zone name: {zone!r}", where="--tz", next_step="write it like Asia/Tokyo"
        ) from None
    files = expand(paths)
    formats = {path: _format_of(path, format) for path in files}
    evidence = Evidence(home)
    summary = CollectSummary(files=len(files))
    total = sum(path.stat().st_size for path in files)
    with evidence.writing() as manifest:
        done = 0
        with _Pool(evidence, summary, manifest) as pool:
            for path in files:
                how = _reading(path, formats[path], zone, year, host)
                manifest.sources[str(path.resolve())] = _collect_file(path, how, zone, year, pool, summary)
                done += path.stat().st_size
                if progress is not None:
                    progress(done, total)
        if queue is not None:
            name, snapshot = read_snapshot(queue, host=host, summary_warnings=summary.warnings)
            manifest.snapshots[name] = snapshot
            summary.messages_queued = len(snapshot["messages"])
        _account(files, manifest, summary)
    if summary.rejected:
        summary.rejected_lines = _rejected(evidence, [str(path.resolve()) for path in files])
    return summary


def _format_of(path: Path, asked: str) -> str:
    with reading(path) as stream:
        try:
            sample = stream.read(_SAMPLE_BYTES)
        except (EOFError, OSError, ValueError) as error:
            raise InputError(f"cannot decompress: {error}", where=str(path), next_step="copy the file again") from None
    return detect(sample, where=str(path), asked=asked)


def _reading(path: Path, format_: str, zone: str, year: int, host: str) -> parse.Reading:
    """How to read the file's times: without `--year` its last change names the year of its last line."""
    last = datetime.fromtimestamp(path.stat().st_mtime, UTC).astimezone(ZoneInfo(zone))
    if year:
        last = datetime(year, 12, 31, tzinfo=UTC)
    return parse.Reading(format_, zone, last, host)


def _collect_file(path: Path, how: parse.Reading, zone: str, year: int, pool: _Pool, summary: CollectSummary) -> Source:
    found: list[tuple[str, int]] = []
    size = 0
    digest = hashlib.sha256()
    for block in blocks(path, summary.warnings):
        # The year that the file's date implies is no part of the id: a rotated copy with a later date is the same part.
        head = f"{parse.VERSION}\0{how.format}\0{how.host}\0{zone}\0{year}\0"
        part = hashlib.sha256(head.encode() + block.data).hexdigest()[:40]
        pool.submit(_Job(part, block), how)
        found.append((part, block.first_line))
        size += len(block.data)
        digest.update(part.encode())
    return Source(
        id=digest.hexdigest()[:12],
        path=str(path.resolve()),
        format=how.format,
        zone=zone,
        year=year,
        size=size,
        blocks=found,
    )


class _Pool:
    """Worker processes that parse blocks which are not evidence yet; started only when there is work for two."""

    def __init__(self, evidence: Evidence, summary: CollectSummary, manifest: Manifest) -> None:
        self._evidence = evidence
        self._summary = summary
        self._manifest = manifest
        self._executor: ProcessPoolExecutor | None = None
        self._running: dict[str, tuple[Future[parse.Parsed], Path]] = {}
        self._first: tuple[_Job, parse.Reading] | None = None
        self._workers = max(1, min(WORKERS_MAX, os.cpu_count() or 1))

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                if self._first is not None:
                    job, how = self._first
                    self._done(job.part, parse.parse_block(job.block.data, how, self._temporary(job)))
                for part in list(self._running):
                    self._finish(part)
        finally:
            if self._executor is not None:
                self._executor.shutdown(cancel_futures=True)

    def submit(self, job: _Job, how: parse.Reading) -> None:
        first = self._first[0].part if self._first else ""
        if job.part in self._manifest.parts or job.part in self._running or job.part == first:
            self._summary.known_parts += 1
            return
        self._summary.new_parts += 1
        if self._executor is None and self._first is None:
            self._first = (job, how)
            return
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._workers, mp_context=context)
            assert self._first is not None
            waiting, self._first = self._first, None
            self._start(*waiting)
        self._start(job, how)

    def _start(self, job: _Job, how: parse.Reading) -> None:
        assert self._executor is not None
        while len(self._running) > self._workers:  # bounds memory: blocks wait on disk, not here
            self._finish(next(iter(self._running)))
        temporary = self._temporary(job)
        future = self._executor.submit(parse.parse_block, job.block.data, how, temporary)
        self._running[job.part] = (future, temporary)

    def _temporary(self, job: _Job) -> Path:
        return self._evidence.parts / f".{job.part}.{os.getpid()}.tmp"

    def _finish(self, part: str) -> None:
        future, _ = self._running.pop(part)
        self._done(part, future.result())

    def _done(self, part: str, parsed: parse.Parsed) -> None:
        temporary = self._evidence.parts / f".{part}.{os.getpid()}.tmp"
        temporary.chmod(0o600)
        self._evidence.adopt(temporary, part)
        self._manifest.parts[part] = PartInfo(
            lines=parsed.lines,
            parsed=parsed.parsed,
            rejected=parsed.rejected,
            first_at=parsed.first_at,
            last_at=parsed.last_at,
            hosts=list(parsed.hosts),
        )


def _account(files: Sequence[Path], manifest: Manifest, summary: CollectSummary) -> None:
    for path in files:
        for part, _ in manifest.sources[str(path.resolve())].blocks:
            info = manifest.parts[part]
            summary.lines += info.lines
            summary.parsed += info.parsed
            summary.ignored += info.ignored
            summary.rejected += info.rejected


def _rejected(evidence: Evidence, paths: Sequence[str]) -> list[str]:
    """The first rejected lines of these files, each with its place."""
    with sql.connect(memory_limit="512MiB") as con:
        evidence.attach(con)
        return [line for line in _rejected_rows(con, paths)]


def _rejected_rows(con: object, paths: Sequence[str]) -> Iterator[str]:
    rows = con.execute(sql.load("collect/rejected"), [list(paths), _REJECTED_SHOWN]).fetchall()  # type: ignore[attr-defined]
    for file, line, reason, text in rows:
        yield f"{file}:{line}: {reason}: {text[:160]}"
