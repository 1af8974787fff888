"""The evidence: immutable Parquet parts of events, the manifest that names them, and the views that queries read.

A part's id is the hash of its bytes and how they were read, so collecting again changes nothing and a rotated or
gzipped copy is known by its blocks. Commit: the part is renamed into place, then `manifest.json` is replaced, both under
`evidence.lock`; a crash between them leaves an orphan that the next collect sweeps. Raises StoreError.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from resend.errors import StoreError
from resend.stores import sql
from resend.stores.failpoints import failpoint
from resend.stores.home import Home, exclusive, rename_durably, replace_file

_LOSS_MARGIN_US = 60_000_000  # rate limiting drops lines for about its interval (30 s by default) around the message
EVENT_COLUMNS = {
    "at_us": "BIGINT", "host": "VARCHAR", "instance": "VARCHAR", "qid": "VARCHAR", "kind": "VARCHAR", "line": "UINTEGER",
    "sender": "VARCHAR", "recipient": "VARCHAR", "orig_to": "VARCHAR", "relay": "VARCHAR", "relay_ip": "VARCHAR",
    "relay_port": "INTEGER", "status": "VARCHAR", "code": "INTEGER", "enhanced": "VARCHAR", "delay": "BIGINT",
    "reply": "VARCHAR", "message_id": "VARCHAR", "next_qid": "VARCHAR", "size": "BIGINT", "nrcpt": "INTEGER",
    "text": "VARCHAR", "hash": "UBIGINT",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PartInfo:
    """Accounting of one part. Times in microseconds UTC, None where it has no event."""

    lines: int
    parsed: int
    rejected: int
    first_at: int | None
    last_at: int | None
    hosts: list[str]

    @property
    def ignored(self) -> int:
        return self.lines - self.parsed - self.rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file as it was last collected: its parts in order, each with the number of its first line."""

    id: str
    path: str
    format: str
    zone: str
    year: int
    size: int  # decompressed bytes
    blocks: list[tuple[str, int]]  # (part id, first line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that counts as evidence; what is not named here does not exist."""

    sources: dict[str, Source] = field(default_factory=dict)  # by path
    parts: dict[str, PartInfo] = field(default_factory=dict)
    snapshots: dict[str, dict[str, Any]] = field(default_factory=dict)  # file name -> host, taken_at, messages

    def id(self) -> str:
        """Hash of the content: the same evidence gives the same id, in whatever order it was collected."""
        lines = [f"part {name}" for name in sorted(self.parts)]
        lines += [f"source {s.path} {s.blocks}" for s in sorted(self.sources.values(), key=lambda s: s.path)]
        lines += [f"snapshot {name}" for name in sorted(self.snapshots)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """One row of `resend sources`. Times in microseconds UTC."""

    id: str
    path: str
    host: str
    format: str
    lines: int
    parsed: int
    ignored: int
    rejected: int
    first_at: int | None
    last_at: int | None
    gaps: int


class Evidence:
    """The evidence of one home, to read; `writing()` to change."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @property
    def parts(self) -> Path:
        return self.home.evidence / "parts"

    @property
    def _manifest_path(self) -> Path:
        return self.home.evidence / "manifest.json"

    def part_path(self, part: str) -> Path:
        return self.parts / f"{part}.parquet"

    def manifest(self) -> Manifest:
        """The manifest as committed last; empty before the first collect."""
        try:
            text = self._manifest_path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Manifest()
        try:
            raw = json.loads(text)
            return Manifest(
                sources={
                    path: Source(**{**item, "blocks": [(part, line) for part, line in item["blocks"]]})
                    for path, item in raw["sources"].items()
                },
                parts={name: PartInfo(**item) for name, item in raw["parts"].items()},
                snapshots=raw["snapshots"],
            )
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                "the manifest is damaged",
                where=str(self._manifest_path),
                next_step="delete evidence/ and collect again: evidence is rebuilt from the logs",
            ) from None

    def manifest_id(self) -> str:
        return self.manifest().id()

    @contextmanager
    def writing(self) -> Iterator[Manifest]:
        """Hold `evidence.lock` and yield the manifest to change in place; committed when the block ends well."""
        self.home.create()
        self.parts.mkdir(mode=0o700, exist_ok=True)
        with exclusive(self.home.evidence_lock, what="the evidence"):
            manifest = self.manifest()
            yield manifest
            self._commit(manifest)

    def adopt(self, temporary: Path, part: str) -> None:
        """Rename a finished part into place; it counts only once the manifest names it."""
        failpoint("collect.part_written")
        rename_durably(temporary, self.part_path(part))
        failpoint("collect.part_renamed")

    def _commit(self, manifest: Manifest) -> None:
        used = {part for source in manifest.sources.values() for part, _ in source.blocks}
        for part in [name for name in manifest.parts if name not in used]:
            del manifest.parts[part]
        replace_file(self._manifest_path, json.dumps(asdict(manifest), ensure_ascii=False).encode())
        failpoint("collect.manifest")
        for path in self.parts.iterdir():
            if path.stem not in manifest.parts:
                path.unlink(missing_ok=True)

    def sources(self) -> list[SourceInfo]:
        """Every source with exact accounting: lines = parsed + ignored + rejected."""
        manifest = self.manifest()
        gaps = self._gaps(manifest)
        found: list[SourceInfo] = []
        for source in sorted(manifest.sources.values(), key=lambda item: item.path):
            infos = [manifest.parts[part] for part, _ in source.blocks]
            firsts = [info.first_at for info in infos if info.first_at is not None]
            lasts = [info.last_at for info in infos if info.last_at is not None]
            hosts = sorted({host for info in infos for host in info.hosts})
            found.append(
                SourceInfo(
                    id=source.id,
                    path=source.path,
                    host=",".join(hosts[:3]) + (",…" if len(hosts) > 3 else ""),
                    format=source.format,
                    lines=sum(info.lines for info in infos),
                    parsed=sum(info.parsed for info in infos),
                    ignored=sum(info.ignored for info in infos),
                    rejected=sum(info.rejected for info in infos),
                    first_at=min(firsts, default=None),
                    last_at=max(lasts, default=None),
                    gaps=sum(gaps.get(part, 0) for part, _ in source.blocks),
                )
            )
        return found

    def _gaps(self, manifest: Manifest) -> dict[str, int]:
        if not manifest.parts:
            return {}
        with sql.connect(memory_limit="512MiB") as con:
            self.attach(con)
            return dict(con.execute("SELECT part, count(*) FROM events WHERE kind = 'loss' GROUP BY part").fetchall())

    def attach(self, con: duckdb.DuckDBPyConnection) -> Manifest:
        """Create the views that queries over evidence read.

        events(columns of sql/collect + part), duplicates of overlapping files removed · part_source(part, path, file,
        first_line) · snapshot(host, qid, sender, recipient, arrival, reason, taken_at) · loss_window(host, from_at,
        to_at) · own_host(address) of hosts that were collected, 127.0.0.1 and ::1.
        """
        manifest = self.manifest()
        self._attach_parts(con, manifest)
        rows = [
            (part, source.path, Path(source.path).name, first)
            for source in sorted(manifest.sources.values(), key=lambda item: item.path, reverse=True)
            for part, first in source.blocks
        ]
        sources = {part: (part, path, name, first) for part, path, name, first in rows}
        sql.create_table(
            con,
            "part_source",
            {"part": "VARCHAR", "path": "VARCHAR", "file": "VARCHAR", "first_line": "BIGINT"},
            sources.values(),
        )
        sql.create_table(
            con,
            "snapshot",
            {
                "host": "VARCHAR", "qid": "VARCHAR", "sender": "VARCHAR", "recipient": "VARCHAR", "arrival": "BIGINT",
                "reason": "VARCHAR", "taken_at": "BIGINT",
            },
            self._snapshot_rows(manifest),
        )  # fmt: skip
        con.execute(
            "CREATE OR REPLACE TEMP TABLE loss_window AS SELECT DISTINCT host, at_us - ? AS from_at, at_us + ? AS to_at"
            " FROM events WHERE kind = 'loss'",
            [_LOSS_MARGIN_US, _LOSS_MARGIN_US],
        )
        hosts = {host for info in manifest.parts.values() for host in info.hosts}
        sql.create_table(
            con, "own_host", {"address": "VARCHAR"}, [[name] for name in sorted(hosts | {"127.0.0.1", "::1"})]
        )
        return manifest

    def _snapshot_rows(self, manifest: Manifest) -> Iterator[list[Any]]:
        newest: dict[str, str] = {}
        for name, item in manifest.snapshots.items():
            known = newest.get(item["host"])
            if known is None or manifest.snapshots[known]["taken_at"] < item["taken_at"]:
                newest[item["host"]] = name
        for host, name in newest.items():
            item = manifest.snapshots[name]
            yield [host, "", "", "", None, "", item["taken_at"]]  # marks that a snapshot of this host exists
            for row in item["messages"]:
                yield [host, *row, item["taken_at"]]

    def _attach_parts(self, con: duckdb.DuckDBPyConnection, manifest: Manifest) -> None:
        if not manifest.parts:
            columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind in EVENT_COLUMNS.items())
            con.execute(f"CREATE OR REPLACE TEMP VIEW events AS SELECT {columns}, NULL::VARCHAR AS part WHERE false")
            return
        for part in manifest.parts:
            if not self.part_path(part).is_file():
                raise StoreError(
                    "a part of the evidence is gone",
                    where=str(self.part_path(part)),
                    next_step="collect the logs again",
                )
        everything = self._scan(sorted(manifest.parts))
        overlapping = overlaps(manifest)
        if not overlapping:
            con.execute(f"CREATE OR REPLACE TEMP VIEW events AS {everything}")
            return
        # Equal lines of overlapping files count once: same host, time and text, and the same ordinal among equals.
        con.execute(
            "CREATE OR REPLACE TEMP TABLE duplicate AS SELECT part, line FROM (SELECT part, line, row_number() OVER"
            " (PARTITION BY host, at_us, hash, n ORDER BY part) AS copy FROM (SELECT part, line, host, at_us, hash,"
            " row_number() OVER (PARTITION BY part, host, at_us, hash ORDER BY line) AS n"
            f" FROM ({self._scan(overlapping)}) WHERE kind <> 'rejected')) WHERE copy > 1"
        )
        con.execute(
            f"CREATE OR REPLACE TEMP VIEW events AS SELECT * FROM ({everything}) ANTI JOIN duplicate USING (part, line)"
        )

    def _scan(self, parts: list[str]) -> str:
        files = ", ".join(sql.quote(self.part_path(part)) for part in parts)
        return (
            "SELECT * EXCLUDE (filename), split_part(parse_filename(filename), '.', 1) AS part"
            f" FROM read_parquet([{files}], filename = true)"
        )


def overlaps(manifest: Manifest) -> list[str]:
    """Parts whose times overlap those of another part of the same host that never occurs in the same file."""
    together: dict[str, set[str]] = {}
    for source in manifest.sources.values():
        for part, _ in source.blocks:
            together.setdefault(part, set()).add(source.path)
    spans: list[tuple[int, int, str, str]] = []
    for part, info in manifest.parts.items():
        if info.first_at is not None and info.last_at is not None:
            spans += [(info.first_at, info.last_at, host, part) for host in info.hosts]
    found: set[str] = set()
    active: dict[str, list[tuple[int, str]]] = {}
    for first, last, host, part in sorted(spans):
        alive = [(end, other) for end, other in active.get(host, []) if end >= first]
        for _, other in alive:
            if other != part and not together[part] & together[other]:
                found |= {part, other}
        active[host] = [*alive, (last, part)]
    return sorted(found)
