"""From events to outcomes: runs sql/outcome over the evidence and keeps the result until the evidence changes.

Suspects (mail that failed once, or came late) get a row each; mail delivered in time stays aggregated. The result lies
under `derived/<hash of evidence, SQL and settings>/`, written whole or not at all. Raises StoreError, ConfigError.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from resend.clock import from_micros, to_text
from resend.config import Config
from resend.errors import ConfigError
from resend.model import OutcomeStatus
from resend.policy.address import domain_of
from resend.policy.linktemplate import LinkTemplate
from resend.policy.providers import ProviderTable
from resend.stores import mx, sql
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from resend.stores.manifest import Manifest

_ROUNDS_MAX = 8  # how far a chain of queue ids is followed, sql/outcome/60_chain
_MICROSECOND = timedelta(microseconds=1)
_PLACES = 1_000_000_000_000  # lines that one file has at most
_LEFT_AFTER_S = 86_400  # a computation that died leaves its folder
_STRETCH_US = 10_000_000  # 10 s
_SKEW_US = 60_000_000  # hosts' clocks
_SLICE = 40_000  # attempts looked at together: some 300 MiB
_FETCH = 2_048
_TABLES = ("suspects", "totals", "release_totals")


@dataclass(frozen=True, slots=True)
class OutcomeFiles:
    """Parquet files of one computation: columns in sql/outcome/90_suspect, 95_total and 97_release_total."""

    id: str
    suspects: Path
    totals: Path
    release_totals: Path


Own = Sequence[tuple[str, int]]  # queue ids that a relay gave to resends of ours, and when (microseconds UTC)


def outcomes(home: Home, config: Config, *, own: Own = ()) -> OutcomeFiles:
    """Compute the outcomes of all evidence, or find those that were computed from the same.

    `own` resends are left out: they are no originals, and their arrival says nothing of the original.
    """
    evidence = Evidence(home)
    own = _logged(evidence, own)
    id_ = _identity(evidence.manifest_id(), config, own)
    folder = home.derived / id_
    files = OutcomeFiles(id_, *(folder / f"{name}.parquet" for name in _TABLES))
    if folder.is_dir():
        return files
    home.create()
    _sweep(home)
    work = home.derived / f".{id_}.{os.getpid()}.tmp"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        with sql.connect(memory_limit="1500MiB", temp_dir=work / "spill") as con:
            prepare(con, evidence, config, own=own)
            run(con, "outcome/closure/suspect")
            _step(con, "suspect", "outcome/90_suspect")
            _a_labels(con)
            queries = ("SELECT * FROM suspect ORDER BY outcome_id", *map(sql.load, sql.names("outcome")[-2:]))
            for name, query in zip(_TABLES, queries, strict=True):
                path = work / f"{name}.parquet"
                con.execute(f"COPY ({query}) TO {sql.quote(path)} (FORMAT parquet)")
                path.chmod(0o600)
        shutil.rmtree(work / "spill", ignore_errors=True)
        with suppress(OSError):  # another process was quicker: its files are the same
            work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return files


def _logged(evidence: Evidence, own: Own) -> Own:
    """Those of `own` that the evidence has a line of: the others change nothing, however many a run adds."""
    if not own:
        return own
    with sql.connect() as con:
        evidence.attach(con)
        sql.create_table(con, "own_resend", {"qid": "VARCHAR", "at_us": "BIGINT"}, own)
        found = {
            qid for (qid,) in con.execute("SELECT DISTINCT qid FROM events SEMI JOIN own_resend USING (qid)").fetchall()
        }
    return [item for item in own if item[0] in found]


def _sweep(home: Home) -> None:
    before = time.time() - _LEFT_AFTER_S
    for path in home.derived.glob(".*.tmp"):
        if path.is_dir() and path.stat().st_mtime < before:
            shutil.rmtree(path, ignore_errors=True)


def _identity(manifest_id: str, config: Config, own: Own) -> str:
    digest = hashlib.sha256(manifest_id.encode())
    digest.update("".join(f"{qid} {at_us}\n" for qid, at_us in sorted(own)).encode())
    for name in [*sql.names("outcome"), *sql.names("outcome/closure")]:
        digest.update(sql.load(name).encode())
    digest.update(
        f"{config.outcome.late_after} {config.collect.queue_lifetime} {sorted(config.collect.own_relays)}"
        f" {config.link.message_id} {config.link.header}".encode()
    )
    return digest.hexdigest()[:24]


def prepare(
    con: duckdb.DuckDBPyConnection, evidence: Evidence, config: Config, *, all_mail: bool = False, own: Own = ()
) -> None:
    """Make what sql/outcome reads: events, part_order, snapshot, loss_window, own_host, own_resend, params.

    `own` resends are no copies of their originals. `all_mail`: they and what never failed get rows of their own.
    """
    manifest = evidence.attach(con)
    sql.create_table(con, "own_resend", {"qid": "VARCHAR", "at_us": "BIGINT"}, own)
    sql.create_table(con, "part_order", {"part": "VARCHAR", "base": "BIGINT"}, _order(manifest).items())
    con.executemany(
        "INSERT INTO own_host SELECT ? WHERE true",
        [[name.lower()] for name in (*config.collect.own_relays, "localhost")],
    )
    _own(con, "SELECT address FROM own_host")
    template = LinkTemplate("", "", "", ())
    if config.link.message_id:
        try:
            template = LinkTemplate.parse(config.link.message_id)
        except ValueError as error:
            raise ConfigError(
                str(error), where="[link] message_id", next_step="write it like in 'resend config show'"
            ) from None
    sql.set_params(
        con,
        {
            "late_after": config.outcome.late_after // _MICROSECOND,
            "queue_lifetime": config.collect.queue_lifetime // _MICROSECOND,
            "until_us": max((part.last_at for part in manifest.parts.values() if part.last_at is not None), default=0),
            "all_mail": int(all_mail),
            "header": config.link.header.lower(),
            "id_prefix": template.prefix,
            "id_infix": template.infix,
            "id_suffix": template.suffix,
            "id_parts": " ".join(template.parts),
        },
    )


def _order(manifest: Manifest) -> dict[str, int]:
    """Where the lines of each part stand among all: files by the time of their first line, then line by line."""
    infos = {info.path: info for info in manifest.source_infos()}
    paths = sorted(manifest.sources, key=lambda path: (infos[path].first_at or 0, path), reverse=True)
    return {
        part: (len(paths) - rank) * _PLACES + first
        for rank, path in enumerate(paths)
        for part, first in manifest.sources[path].blocks
    }


def _own(con: duckdb.DuckDBPyConnection, more: str) -> None:
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE own_host AS SELECT DISTINCT address FROM ({more} UNION ALL FROM own_host)"
    )


def run(con: duckdb.DuckDBPyConnection, where: str) -> None:
    """Make temp tables `life`, `message`, `leg`, `step`, `chain`, `mail` and `copy` from `events`.

    `where` names the query that says at which queue ids to look; what belongs to them is found from there.
    """
    _step(con, "near", where)
    con.execute("CREATE OR REPLACE TEMP TABLE fresh AS FROM near")
    _step(con, "seen", "outcome/closure/seen")
    for _ in range(_ROUNDS_MAX):
        _step(con, "said", "outcome/closure/said")
        _step(con, "fresh", "outcome/closure/near")
        added = con.execute("INSERT INTO near FROM fresh").fetchone()
        if added is None or not added[0]:
            break
        con.execute(f"INSERT INTO seen {sql.load('outcome/closure/seen')}")
    _step(con, "life", _named("life"))
    con.execute("DROP TABLE seen")
    for table in ("message", "leg", "step"):
        _step(con, table, _named(table))
    _own(con, sql.load(_named("learned")))
    for table in ("chain", "mail", "copy"):
        _step(con, table, _named(table))


def _named(table: str) -> str:
    return next(name for name in sql.names("outcome") if name.endswith(f"_{table}"))


def _step(con: duckdb.DuckDBPyConnection, table: str, query: str) -> None:
    con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {sql.load(query)}")


def _a_labels(con: duckdb.DuckDBPyConnection) -> None:
    """Domains that are not plain ASCII get the form that DNS and catalogs know."""
    odd = con.execute("SELECT DISTINCT domain FROM suspect WHERE strlen(domain) <> length(domain)").fetchall()
    for (domain,) in odd:
        with suppress(ValueError):
            con.execute("UPDATE suspect SET domain = ? WHERE domain = ?", [domain_of(f"x@{domain}"), domain])


def find(
    home: Home, config: Config, *, recipient: str = "", message_id: str = "", status: str = "", own: Own = ()
) -> Iterator[dict[str, Any]]:
    """Outcomes as JSON rows of `resend outcomes`, oldest first, of a recipient, a message-id, a status, or all.

    Of all mail, what failed or came late is first, then what was delivered at once.

    `own` resends have rows of their own; those that are not known to be ours count as copies of their originals.
    Mail that was delivered at once has no row in the files of `outcomes`: for it the lines are read.
    """
    table = ProviderTable.load(config.providers, mx.kept_hosts(home, datetime.now(UTC)))
    bare, address = message_id.strip("<>"), recipient.lower()
    with (
        tempfile.TemporaryDirectory(prefix="resend-") as spill,
        sql.connect(memory_limit="1500MiB", temp_dir=Path(spill)) as con,
    ):
        asked = bool(bare or address)
        if asked:
            prepare(con, Evidence(home), config, all_mail=True, own=own)
            con.execute("CREATE OR REPLACE TEMP TABLE asked AS SELECT ? AS recipient, ? AS message_id", [address, bare])
            run(con, "outcome/closure/asked")
            _step(con, "suspect", "outcome/90_suspect")
        else:
            source = sql.quote(outcomes(home, config, own=own).suspects)
            con.execute(f"CREATE OR REPLACE TEMP VIEW suspect AS FROM read_parquet({source})")
        query = (
            "SELECT * FROM suspect WHERE (? = '' OR status = ?) AND (? = '' OR trim(message_id, '<>') = ?)"
            " AND (? = '' OR ? IN (lower(recipient), lower(mailbox))) ORDER BY outcome_id"
        )
        rows = _rows(con, query, [status, status, bare, bare, address, address])
        yield from (_as_json(row, table) for row in rows)
        if not asked:
            yield from (_as_json(row, table) for row in _without_sender(con, home, config, own, status))
        if not asked and status in ("", OutcomeStatus.DELIVERED):
            source = sql.quote(outcomes(home, config, own=own).suspects)
            con.execute(
                f"CREATE TEMP TABLE told AS SELECT DISTINCT message_id, lower(mailbox) AS mailbox FROM {source}"
            )
            yield from (_as_json(row, table) for row in _at_once(con, home, config, own))


def _without_sender(
    con: duckdb.DuckDBPyConnection, home: Home, config: Config, own: Own, status: str
) -> Iterator[dict[str, Any]]:
    """Bounces of others that failed or came late: nobody's to send again, so that the kept outcomes lack them."""
    con.execute("DROP VIEW suspect")
    prepare(con, Evidence(home), config, all_mail=True, own=own)
    if not con.execute(f"SELECT 1 FROM ({sql.load('outcome/closure/null_sender')}\n) LIMIT 1").fetchone():
        return  # as in most evidence
    run(con, "outcome/closure/null_sender")
    _step(con, "suspect", "outcome/90_suspect")
    yield from _rows(
        con,
        "SELECT * FROM suspect WHERE sender = '' AND (? = '' OR status = ?)"
        " AND (first_failed_at IS NOT NULL OR status IN ('expired', 'delivered_late')) ORDER BY outcome_id",
        [status, status],
    )


def _at_once(con: duckdb.DuckDBPyConnection, home: Home, config: Config, own: Own) -> Iterator[dict[str, Any]]:
    """Mail that never failed and was in time, by arrival; some attempts at a time: memory does not grow with the log.

    A mail is seen from a minute before its stretch until it would be late, with what belongs to it there.
    """
    prepare(con, Evidence(home), config, all_mail=True, own=own)
    con.execute("ALTER VIEW events RENAME TO every_event")
    margin = config.outcome.late_after // _MICROSECOND + _SKEW_US
    for start, end in _stretches(con):
        con.execute(
            "CREATE OR REPLACE TEMP VIEW events AS SELECT * FROM every_event"
            f" WHERE at_us BETWEEN {start - _SKEW_US} AND {end + margin}"
        )
        con.execute(
            "CREATE OR REPLACE TEMP TABLE stretch AS SELECT ?::BIGINT AS from_us, ?::BIGINT AS to_us",
            [start - _SKEW_US, end],
        )
        run(con, "outcome/closure/within")
        _step(con, "suspect", "outcome/90_suspect")
        yield from _rows(
            con,
            "SELECT * FROM suspect AS s WHERE first_failed_at IS NULL AND arrived_at >= ? AND arrived_at < ?"
            " AND status IN ('delivered', 'no_evidence') AND NOT EXISTS (SELECT 1 FROM told AS t"
            " WHERE t.message_id = s.message_id AND t.mailbox = lower(s.mailbox) AND s.message_id <> '')"
            " ORDER BY outcome_id",
            [start, end],
        )


def _stretches(con: duckdb.DuckDBPyConnection) -> Iterator[tuple[int, int]]:
    """The evidence's time in stretches of some attempts each, microseconds; without gaps between them."""
    counted = con.execute(
        "SELECT at_us // ?, count(*) FROM every_event WHERE kind = 'attempt' GROUP BY 1 ORDER BY 1", [_STRETCH_US]
    ).fetchall()
    start, tries = 0, 0
    for place, count in counted:
        tries += count
        if tries >= _SLICE or place == counted[-1][0]:
            end = (place + 1) * _STRETCH_US
            yield start, end
            start, tries = end, 0


def _rows(con: duckdb.DuckDBPyConnection, query: str, values: Sequence[object]) -> Iterator[dict[str, Any]]:
    cursor = con.execute(query, values)
    names = [column[0] for column in cursor.description or ()]
    while rows := cursor.fetchmany(_FETCH):
        yield from (dict(zip(names, row, strict=True)) for row in rows)


def _as_json(row: dict[str, Any], table: ProviderTable) -> dict[str, Any]:
    provider, _ = table.of(row["relay"], row["relay_ip"], row["domain"])
    return {
        "message_id": row["message_id"],
        "sender": row["sender"],
        "recipient": row["mailbox"],
        "status": row["status"],
        "maybe_delivered": bool(row["maybe_delivered"]),
        "at": None if row["at"] is None else to_text(from_micros(row["at"])),
        "attempts": int(row["attempts"]),
        "provider": provider,
        "code": row["code"],
        "enhanced": row["enhanced"],
        "reply": row["reply"],
        "queue_id": row["qid"],
        "host": row["host"],
        "evidence": row["evidence"],
        "queue_ids": row["chain"].split(">"),
        "original_recipient": row["recipient"],
    }
