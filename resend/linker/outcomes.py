"""From events to outcomes: runs sql/outcome over the evidence and keeps the result until the evidence changes.

Suspects (mail that failed once, or came late) get a row each; mail delivered in time stays aggregated. The result lies
under `derived/<hash of evidence, SQL and settings>/`, written whole or not at all. Raises StoreError.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb

from resend.clock import from_micros, to_text
from resend.config import Config
from resend.policy.content import LinkTemplate
from resend.policy.providers import ProviderTable
from resend.stores import sql
from resend.stores.evidence import Evidence
from resend.stores.home import Home

_HOPS_MAX = 6  # how far a chain of queue ids is followed
_MICROSECOND = timedelta(microseconds=1)
_OWN_MARGIN_US = 60_000_000  # a relay's clock and ours


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
    id_ = _identity(evidence.manifest_id(), config, own)
    folder = home.derived / id_
    files = OutcomeFiles(id_, folder / "suspects.parquet", folder / "totals.parquet", folder / "release_totals.parquet")
    if folder.is_dir():
        return files
    home.create()
    work = home.derived / f".{id_}.{os.getpid()}.tmp"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        with sql.connect(memory_limit="1500MiB", temp_dir=work / "spill") as con:
            prepare(con, evidence, config, own=own)
            run(con)
            for name, query in (
                ("suspects", "SELECT * FROM suspect ORDER BY outcome_id"),
                ("totals", sql.load("outcome/95_total")),
                ("release_totals", sql.load("outcome/97_release_total")),
            ):
                con.execute(f"COPY ({query}) TO {sql.quote(work / f'{name}.parquet')} (FORMAT parquet)")
        shutil.rmtree(work / "spill", ignore_errors=True)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return files


def _identity(manifest_id: str, config: Config, own: Own) -> str:
    digest = hashlib.sha256(manifest_id.encode())
    digest.update("".join(f"{qid} {at_us}\n" for qid, at_us in sorted(own)).encode())
    for name in [*sql.names("outcome"), *sql.names("outcome/closure")]:
        digest.update(sql.load(name).encode())
    digest.update(
        f"{config.outcome.late_after} {config.collect.queue_lifetime} {sorted(config.collect.own_relays)}"
        f" {config.link.message_id}".encode()
    )
    return digest.hexdigest()[:24]


def prepare(
    con: duckdb.DuckDBPyConnection, evidence: Evidence, config: Config, *, all_mail: bool = False, own: Own = ()
) -> None:
    """Make what sql/outcome reads: events, snapshot, loss_window, own_host, params. `all_mail`: also unfailed mail."""
    evidence.attach(con)
    if own:
        _leave_out(con, own, config)
    con.executemany(
        "INSERT INTO own_host SELECT ? WHERE true", [[name] for name in (*config.collect.own_relays, "localhost")]
    )
    con.execute("CREATE OR REPLACE TEMP TABLE own_host AS SELECT DISTINCT address FROM own_host")
    newest = con.execute("SELECT coalesce(max(at_us), 0) FROM events WHERE kind <> 'rejected'").fetchone()
    prefix, infix = "", ""
    if config.link.message_id:
        template = LinkTemplate.parse(config.link.message_id)
        prefix, infix = template.prefix, template.infix
    assert newest is not None
    sql.set_params(
        con,
        {
            "late_after": config.outcome.late_after // _MICROSECOND,
            "queue_lifetime": config.collect.queue_lifetime // _MICROSECOND,
            "until_us": newest[0],
            "all_mail": int(all_mail),
            "id_prefix": prefix,
            "id_infix": infix,
        },
    )


def _leave_out(con: duckdb.DuckDBPyConnection, own: Own, config: Config) -> None:
    """Hide the events of our own resends; a queue id that is used again later is another mail's."""
    sql.create_table(con, "own_resend", {"qid": "VARCHAR", "at_us": "BIGINT"}, own)
    con.execute("ALTER VIEW events RENAME TO all_events")
    lifetime = config.collect.queue_lifetime // _MICROSECOND
    con.execute(
        "CREATE TEMP VIEW events AS SELECT * FROM all_events AS e WHERE NOT EXISTS (SELECT 1 FROM own_resend AS o"
        f" WHERE o.qid = e.qid AND e.at_us BETWEEN o.at_us - {_OWN_MARGIN_US} AND o.at_us + {lifetime})"
    )


def run(con: duckdb.DuckDBPyConnection, *, suspects: str = "outcome/20_suspect") -> None:
    """Make temp table `suspect` from `events`; `suspects` names the query that says where to look."""
    _step(con, "hop", "outcome/10_hop")
    _step(con, "near", suspects)
    for _ in range(_HOPS_MAX):
        _step(con, "more", "outcome/closure/near")
        added = con.execute("INSERT INTO near SELECT host, qid FROM more").fetchone()
        if added is None or not added[0]:
            break
    _step(con, "life", "outcome/30_life")
    for table in ("message", "leg", "step", "chain", "mail", "elsewhere", "suspect"):
        _step(
            con, table, next(name for name in sql.names("outcome") if name.endswith(f"_{table}") and "20_" not in name)
        )


def _step(con: duckdb.DuckDBPyConnection, table: str, query: str) -> None:
    con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {sql.load(query)}")


def find(
    home: Home, config: Config, *, recipient: str = "", message_id: str = "", status: str = ""
) -> Iterator[dict[str, Any]]:
    """Outcomes as JSON rows of `resend outcomes`, delivered mail included, of a recipient, a message-id or a status.

    Without recipient and message-id only suspects are looked at: delivered mail is kept as counts.
    """
    table = ProviderTable.load(config.providers)
    with sql.connect(memory_limit="1GiB", temp_dir=home.derived if home.derived.is_dir() else None) as con:
        if recipient or message_id:
            prepare(con, Evidence(home), config, all_mail=True)
            con.execute(
                "CREATE OR REPLACE TEMP TABLE asked AS SELECT ? AS recipient, ? AS message_id",
                [recipient.lower(), message_id.strip("<>")],
            )
            run(con, suspects="outcome/closure/asked")
            source = "(SELECT * FROM suspect) AS o"
        else:
            source = f"read_parquet({sql.quote(outcomes(home, config).suspects)}) AS o"
        query = (
            f"SELECT * FROM {source} WHERE (? = '' OR status = ?)"
            " AND (? = '' OR lower(recipient) = ?) AND (? = '' OR trim(message_id, '<>') = ?) ORDER BY outcome_id"
        )
        bare = message_id.strip("<>")
        cursor = con.execute(query, [status, status, recipient.lower(), recipient.lower(), bare, bare])
        names = [column[0] for column in cursor.description or ()]
        while rows := cursor.fetchmany(2048):
            for values in rows:
                yield _as_json(dict(zip(names, values, strict=True)), table)


def _as_json(row: dict[str, Any], table: ProviderTable) -> dict[str, Any]:
    provider, _ = table.of(row["relay"], row["relay_ip"], row["domain"])
    return {
        "message_id": row["message_id"],
        "sender": row["sender"],
        "recipient": row["recipient"],
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
    }
