"""The evidence: immutable Parquet parts of events, the manifest that names them, and the views that queries read.

A part's id is the hash of its bytes and how they were read, so collecting again changes nothing and a rotated or
gzipped copy is known by its blocks. Commit: parts are renamed into place, then `manifest.json` is replaced, both under
`evidence.lock`; a crash between them leaves orphans, which are ignored and swept later. Raises StoreError.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from resend.errors import StoreError
from resend.stores import sql
from resend.stores.failpoints import failpoint
from resend.stores.home import Home, exclusive, replace_file
from resend.stores.manifest import Manifest, PartInfo, SnapshotInfo, Source, SourceInfo

__all__ = ["Evidence", "Manifest", "PartInfo", "SnapshotInfo", "Source", "SourceInfo"]

_SWEEP_AFTER_S = 900  # a query that began before the last commit may still read a part that it dropped
EVENT_COLUMNS = {
    "at_us": "BIGINT", "host": "VARCHAR", "instance": "VARCHAR", "qid": "VARCHAR", "kind": "VARCHAR",
    "line": "UINTEGER", "sender": "VARCHAR", "recipient": "VARCHAR", "orig_to": "VARCHAR", "relay": "VARCHAR",
    "relay_ip": "VARCHAR", "relay_port": "INTEGER", "status": "VARCHAR", "code": "INTEGER", "enhanced": "VARCHAR",
    "delay": "BIGINT", "reply": "VARCHAR", "message_id": "VARCHAR", "next_qid": "VARCHAR", "size": "BIGINT",
    "nrcpt": "INTEGER", "text": "VARCHAR",
}  # fmt: skip
_NEVER_NULL = ("host", "instance", "qid", "kind")  # in the parts; the others are NULL there where absent
WITHOUT_NULL = ", ".join(  # absent text is '', an absent code 0; an absent port, delay, size or count stays NULL
    f"coalesce({name}, '') AS {name}" if kind == "VARCHAR" and name not in _NEVER_NULL
    else "coalesce(code, 0) AS code" if name == "code" else name
    for name, kind in EVENT_COLUMNS.items()
)  # fmt: skip
_SNAPSHOT_COLUMNS = {
    "host": "VARCHAR", "qid": "VARCHAR", "sender": "VARCHAR", "recipient": "VARCHAR", "arrival": "BIGINT",
    "queue_name": "VARCHAR", "reason": "VARCHAR", "taken_at": "BIGINT",
}  # fmt: skip


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
        except (FileNotFoundError, NotADirectoryError):  # a home that cannot be made is told where it is made
            return Manifest()
        try:
            return Manifest.from_json(text)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreError(
                "the manifest is damaged",
                where=str(self._manifest_path),
                next_step="delete evidence/ and collect again: evidence is rebuilt from the logs",
            ) from None

    def manifest_id(self) -> str:
        """Changes when, and only when, the evidence changes."""
        return self.manifest().id()

    @contextmanager
    def writing(self) -> Iterator[Manifest]:
        """Hold `evidence.lock` and yield the manifest to change in place; committed when the block ends well."""
        self.home.create()
        self.parts.mkdir(mode=0o700, exist_ok=True)
        with exclusive(self.home.evidence_lock, what="the evidence"):
            for path in self.parts.glob(".*.tmp"):  # of a collect that was killed: the lock says that none is running
                path.unlink(missing_ok=True)
            manifest = self.manifest()
            yield manifest
            self.commit(manifest)
            self._sweep(manifest)

    def adopt(self, temporary: Path, part: str) -> None:
        """Rename a finished part into place; it counts only once the manifest names it."""
        failpoint("collect.part_written")
        temporary.replace(self.part_path(part))
        failpoint("collect.part_renamed")

    def commit(self, manifest: Manifest) -> None:
        """Make the manifest what counts. Durable: the names of the parts are on disk before the manifest is."""
        manifest.tidy()
        descriptor = os.open(self.parts, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # A file name that is no UTF-8 has surrogates, which stand in JSON as escapes and come back from them.
        replace_file(self._manifest_path, manifest.to_json().encode("utf-8", "backslashreplace"))
        failpoint("collect.manifest")

    def _sweep(self, manifest: Manifest) -> None:
        before = time.time() - _SWEEP_AFTER_S
        named = set(manifest.live(manifest.parts)) - manifest.packed().keys() | manifest.packs.keys()
        for path in self.parts.iterdir():
            if path.stem not in named and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)

    def sources(self) -> list[SourceInfo]:
        """Every source with exact accounting: lines = parsed + ignored + rejected."""
        return self.manifest().source_infos()

    def attach(self, con: duckdb.DuckDBPyConnection) -> Manifest:
        """Create the views that queries over evidence read.

        events(columns of sql/collect + part), duplicates of overlapping files removed · part_source(part, path, file,
        first_line): a row's evidence is file:(first_line + line - 1) · snapshot(host, qid, sender, recipient,
        arrival, queue_name, reason, taken_at), the newest of each host, with one row of an empty qid for each ·
        loss_window(host, from_at, to_at) · own_host(address) of hosts that were collected, 127.0.0.1 and ::1.
        """
        manifest = self.manifest()
        self._attach_parts(con, manifest)
        places: dict[str, tuple[str, str, str, int]] = {}
        for source in sorted(manifest.sources.values(), key=lambda item: item.path, reverse=True):
            for part, first in source.blocks:
                places[part] = (part, source.path, Path(source.path).name, first)
        sql.create_table(
            con,
            "part_source",
            {"part": "VARCHAR", "path": "VARCHAR", "file": "VARCHAR", "first_line": "BIGINT"},
            places.values(),
        )
        self._attach_snapshots(con, manifest)
        sql.create_table(
            con, "loss_window", {"host": "VARCHAR", "from_at": "BIGINT", "to_at": "BIGINT"}, manifest.loss_windows()
        )
        hosts = {host for info in manifest.parts.values() for host in info.hosts if host}
        sql.create_table(
            con, "own_host", {"address": "VARCHAR"}, [[name] for name in sorted(hosts | {"127.0.0.1", "::1"})]
        )
        return manifest

    def snapshot_path(self, name: str) -> Path:
        return self.home.evidence / "snapshots" / f"{name}.jsonl"

    def _attach_snapshots(self, con: duckdb.DuckDBPyConnection, manifest: Manifest) -> None:
        newest = manifest.newest_snapshots()
        marks = [(info.host, "", "", "", None, "", "", info.taken_at) for _, info in newest]
        sql.create_table(con, "snapshot", _SNAPSHOT_COLUMNS, marks)
        columns = ", ".join(f"{sql.quote(name)}: {sql.quote(kind)}" for name, kind in _SNAPSHOT_COLUMNS.items())
        for name, info in newest:
            path = self._present(self.snapshot_path(name))
            con.execute(
                f"INSERT INTO snapshot SELECT * REPLACE (? AS host) FROM read_json({sql.quote(path)},"
                f" format = 'newline_delimited', columns = {{{columns}}})",
                [info.host],
            )

    def _attach_parts(self, con: duckdb.DuckDBPyConnection, manifest: Manifest) -> None:
        live = sorted(manifest.live(manifest.parts))
        if not live:
            columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind in EVENT_COLUMNS.items())
            con.execute(f"CREATE OR REPLACE TEMP VIEW events AS SELECT {columns}, NULL::VARCHAR AS part WHERE false")
            return
        everything = self._scan(manifest, live)
        overlapping = manifest.overlaps()
        if not overlapping:
            con.execute(f"CREATE OR REPLACE TEMP VIEW events AS {everything}")
            return
        # Their columns stand for their text: those of a delivery are all that its line says but for process ids.
        key = ", ".join(name for name in EVENT_COLUMNS if name != "line")
        con.execute(
            f"CREATE OR REPLACE TEMP VIEW overlapping AS SELECT part, line, host, at_us, hash({key}) AS hash"
            f" FROM ({self._scan(manifest, overlapping)}) WHERE kind <> 'rejected'"
        )
        con.execute("CREATE OR REPLACE TEMP TABLE duplicate AS " + sql.load("collect/duplicate"))
        con.execute(
            f"CREATE OR REPLACE TEMP VIEW events AS SELECT * FROM ({everything}) ANTI JOIN duplicate USING (part, line)"
        )

    def _scan(self, manifest: Manifest, parts: Sequence[str]) -> str:
        """The events of these parts: of files of their own, and of packs that hold them, perhaps among others."""
        pack_of = manifest.packed()
        loose = [part for part in parts if part not in pack_of]
        wanted: dict[str, list[str]] = {}
        for part in parts:
            if part in pack_of:
                wanted.setdefault(pack_of[part], []).append(part)
        whole = [pack for pack, inside in wanted.items() if len(inside) == len(manifest.packs[pack])]
        queries = []
        if loose:
            queries.append(
                f"SELECT {WITHOUT_NULL}, split_part(parse_filename(filename), '.', 1) AS part FROM {self._read(loose)}"
            )
        if whole:
            queries.append(f"SELECT {WITHOUT_NULL}, part FROM {self._read(whole)}")
        queries += [
            f"SELECT {WITHOUT_NULL}, part FROM {self._read([pack])} WHERE part IN ({', '.join(map(sql.quote, inside))})"
            for pack, inside in wanted.items()
            if pack not in whole
        ]
        return " UNION ALL ".join(queries)

    def _read(self, names: Sequence[str]) -> str:
        files = ", ".join(sql.quote(self._present(self.part_path(name))) for name in names)
        return f"read_parquet([{files}], filename = true)"

    def _present(self, path: Path) -> Path:
        if not path.is_file():
            raise StoreError("a part of the evidence is gone", where=str(path), next_step="collect the logs again")
        return path

    def add_snapshot(self, manifest: Manifest, *, host: str, taken_at: int, rows: Sequence[Sequence[Any]]) -> None:
        """Keep a queue snapshot; `rows` are (qid, sender, recipient, arrival in us, queue name, reason)."""
        names = list(_SNAPSHOT_COLUMNS)
        data = Manifest.lines(dict(zip(names, (host, *row, taken_at), strict=True)) for row in rows)
        name = manifest.snapshot_name(host, data)
        path = self.snapshot_path(name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        replace_file(path, data)
        manifest.snapshots[name] = SnapshotInfo(host=host, taken_at=taken_at, rows=len(rows))
