"""Loads the catalog: reads, checks and snapshots releases, recipients, send log, suppressions and content.

`catalog.json` names the snapshots that count and is replaced last, so a crash leaves the catalog of before. A load
replaces the kinds that it names and keeps the others. Raises UsageError, InputError, ConfigError, StoreError.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from resend.clock import to_text
from resend.config import Config
from resend.errors import UsageError
from resend.stores import sql
from resend.stores.catalog import Catalog, Snapshot
from resend.stores.catalog_check import check, prepare
from resend.stores.catalog_query import read_query
from resend.stores.catalog_rejected import KEPT, SUFFIX, Rejected, line, write_all
from resend.stores.catalog_rows import SHAPES, read_file
from resend.stores.content import load_content
from resend.stores.home import Home, exclusive, rename_durably, replace_file

Progress = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSummary:
    """What one load did. `rejected_rows` and `warnings` are lines for people."""

    loaded: Mapping[str, int]  # kind -> good rows
    rejected: int
    rejected_rows: list[str]
    warnings: list[str]
    content: int = 0  # files taken over or found unchanged


def load_catalog(
    home: Home,
    config: Config,
    *,
    releases: Path | None = None,
    recipients: Path | None = None,
    sendlog: Path | None = None,
    suppressions: Path | None = None,
    content: Path | None = None,
    from_config: bool = False,
    environ: Mapping[str, str] = os.environ,
    progress: Progress | None = None,
) -> CatalogSummary:
    """Load what is named: files, content, or the queries of `[catalog.*]`. Rows count together or not at all."""
    files = {"releases": releases, "recipients": recipients, "sendlog": sendlog, "suppressions": suppressions}
    queries = {kind: getattr(config.catalog, kind) for kind in SHAPES} if from_config else {}
    wanted = [kind for kind in SHAPES if files[kind] is not None or (kind in queries and queries[kind].query)]
    if not wanted and content is None:
        raise UsageError(
            "nothing to load",
            next_step="give --releases, --recipients, --sendlog, --suppressions, --content, or --from-config",
        )
    home.create()
    loaded: dict[str, int] = {}
    lines: list[str] = []
    warnings: list[str] = []
    rejected = taken = 0
    with exclusive(home.catalog / "catalog.lock", what="the catalog"):
        new: dict[str, Snapshot] = {}
        with sql.connect(memory_limit="1GiB", temp_dir=home.derived) as con:
            prepare(con)
            for number, kind in enumerate(wanted):
                if progress is not None:
                    progress(number, len(wanted), kind)
                path = files[kind]
                shape = SHAPES[kind]
                with Rejected() as no_rows:
                    if path is not None:
                        raw = read_file(con, shape, path, no_rows)
                    else:
                        raw = read_query(con, shape, queries[kind], environ)
                    bad, said = check(con, shape, raw)
                    new[kind] = _write(con, home, kind, raw.source, bad, no_rows.more)
                    all_rejected = _rejected_file(home, new[kind].file)
                    if write_all(all_rejected, bad, no_rows):
                        said.append(f"all {new[kind].rejected:,} rejected {kind} are listed in {all_rejected}")
                loaded[kind] = new[kind].rows
                rejected += new[kind].rejected
                lines += new[kind].rejected_rows
                warnings += said
        if content is not None:
            found = load_content(home, content)
            taken, rejected = found.taken, rejected + len(found.rejected)
            lines += found.rejected
            warnings += found.warnings
        _commit(home, new)
    if progress is not None:
        progress(len(wanted), len(wanted))
    warnings += _across(home)
    return CatalogSummary(loaded=loaded, rejected=rejected, rejected_rows=lines, warnings=warnings, content=taken)


def _write(
    con: duckdb.DuckDBPyConnection, home: Home, kind: str, source: str, bad: list[tuple[str, str]], more: int
) -> Snapshot:
    """Write temp table `good` to a file named by its content; the snapshot does not count yet.

    `more`: how many rows were rejected besides `bad`.
    """
    temporary = home.catalog / f".{kind}.{os.getpid()}.tmp"
    con.execute(f"COPY good TO {sql.quote(temporary)} (FORMAT parquet, COMPRESSION zstd)")
    temporary.chmod(0o600)
    with temporary.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()[:12]
    name = f"{kind}-{digest}.parquet"
    rename_durably(temporary, home.catalog / name)
    row = con.execute("SELECT count(*) FROM good").fetchone()
    assert row is not None
    return Snapshot(
        file=name,
        source=source,
        loaded_at=to_text(datetime.now(UTC)),
        rows=int(row[0]),
        rejected=len(bad) + more,
        rejected_rows=[line(place, reason) for place, reason in bad[:KEPT]],
    )


def _rejected_file(home: Home, snapshot: str) -> Path:
    """Where the rejected rows of a load are that are too many for catalog.json; it goes when its snapshot goes."""
    return home.catalog / Path(snapshot).with_suffix(SUFFIX)


def _commit(home: Home, new: Mapping[str, Snapshot]) -> None:
    """Make the new snapshots count, and sweep those that neither this nor the last catalog names."""
    before = Catalog(home).snapshots()
    after = {**before, **new}
    document = {"kinds": {kind: asdict(snapshot) for kind, snapshot in after.items()}}
    text = json.dumps(document, ensure_ascii=False, indent=1)
    replace_file(home.catalog / "catalog.json", text.encode("utf-8", "backslashreplace"))  # file names are any bytes
    named = {snapshot.file for snapshot in (*before.values(), *after.values())}
    named |= {_rejected_file(home, name).name for name in named}
    for pattern in ("*.parquet", f"*{SUFFIX}"):
        for path in home.catalog.glob(pattern):
            if path.name not in named:
                path.unlink(missing_ok=True)


def _across(home: Home) -> list[str]:
    """What does not fit together between the kinds; counts, with one example."""
    found: list[str] = []
    with sql.connect() as con:
        Catalog(home).attach(con)
        for name in sql.names("catalog/across"):
            for count, example, text in con.execute(sql.load(name)).fetchall():
                if count:
                    found.append(f"{count:,} {text}, for example {example!r}")
    return found
