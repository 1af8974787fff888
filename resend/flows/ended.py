"""Mail that was queued when its incident was frozen, and that bounced or expired since: how much, and what takes it.

Its rows stay as they are frozen: it may have ended for another cause than it was put off for, so that only a new
incident judges it. Raises StoreError, ConfigError.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path

import duckdb

from resend.config import Config
from resend.errors import StoreError
from resend.linker import causes
from resend.linker.buckets import Affected, rebucket
from resend.linker.incident import own_queue_ids
from resend.linker.outcomes import outcomes
from resend.model import Bucket, OutcomeStatus, PlanState, VetoKind, VetoReason
from resend.report.ended import NOTHING, Ended
from resend.stores import incidents, mx, queueacts, sql, vetoes
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.plans import PlanFile
from resend.stores.queueacts import QueueAct
from resend.stores.registry import incidents as incidents_of
from resend.stores.registry import selector_values
from resend.stores.rows import IncidentRecord

_LATER = ("message_id", "recipient", "host", "qid", "arrived_at", "status")
_OPTIONS = {"provider": "--provider", "cause": "--cause", "release": "--release", "customer": "--customer"} | {
    "from_at": "--from",
    "to_at": "--to",
}
_NAME_MAX = 90  # an incident's name has at most 100 characters


def ended(
    affected: Affected, home: Home, config: Config, ledger: Ledger, record: IncidentRecord, *, now: datetime
) -> Ended:
    """Count them, say so in their reasons, and leave temp table `ended`(outcome_id, today, status, taken).

    The table also has those that lie in other buckets than still_queued; they are not counted.
    """
    con = affected.con
    if not _known(con, home, config, ledger, record):
        con.execute(
            "CREATE OR REPLACE TEMP TABLE ended (outcome_id BIGINT, today BIGINT, status VARCHAR, taken INTEGER)"
        )
        return NOTHING
    con.execute(
        "UPDATE affected SET reason = 'queued when the incident was opened, ' || ended.status || ' since'"
        f" FROM ended WHERE ended.outcome_id = affected.outcome_id AND bucket = {sql.quote(Bucket.STILL_QUEUED)}"
    )
    rows = con.execute(
        "SELECT ended.status, count(*), sum(taken) FROM ended JOIN affected USING (outcome_id)"
        f" WHERE bucket = {sql.quote(Bucket.STILL_QUEUED)} GROUP BY ALL"
    ).fetchall()
    mails = {status: int(found) for status, found, _ in rows}
    bounced, expired = mails.get(OutcomeStatus.BOUNCED, 0), mails.get(OutcomeStatus.EXPIRED, 0)
    found = Ended(bounced=bounced, expired=expired, taken=sum(int(taken) for _, _, taken in rows))
    if found.mails == found.taken:
        return found
    with ledger.read() as connection:
        names = [known.name for known in incidents_of(connection)]
    command = _command(record, names, without=_changed(con, home, config, record, now))
    return dataclasses.replace(found, next=command)


def let_go(home: Home, config: Config, ledger: Ledger, record: IncidentRecord, *, who: str, now: datetime) -> int:
    """Let a resend have what a printed release kept from it, once its last word is known. The mails' count.

    Only what no open plan has: that was judged before it ended, so that a person closes the plan first. Nor what has a
    copy that may still wait.
    """
    if not any(act.act is QueueAct.RELEASE for act in queueacts.results(home, record.id)):
        return 0
    with rebucket(home, ledger, record.id, now=now) as affected:
        if not _known(affected.con, home, config, ledger, record):
            return 0
        rows = affected.con.execute(
            "SELECT DISTINCT key, release, rcpt_key FROM key_of JOIN frozen USING (outcome_id)"
            " SEMI JOIN ended USING (outcome_id)"
            f" SEMI JOIN (SELECT subject AS key FROM veto WHERE kind = {sql.quote(VetoKind.DELIVERY)}"
            f" AND reason = {sql.quote(VetoReason.HELD)}) USING (key)"
            " ANTI JOIN (SELECT key FROM key_of JOIN frozen USING (outcome_id) ANTI JOIN ended USING (outcome_id)"
            " WHERE frozen.status = 'still_queued') AS waits USING (key)"
            " WHERE standing_key = '' ORDER BY key"
        ).fetchall()
    planned = _planned(home, ledger) if rows else set()
    keys = [key for key, *mail in rows if tuple(mail) not in planned]
    with ledger.write() as connection:
        for key in keys:
            vetoes.unhold(connection, VetoKind.DELIVERY, key, reason="it ended in the mail queue", who=who, now=now)
    return len(keys)


def _planned(home: Home, ledger: Ledger) -> set[tuple[str, str]]:
    """(release, rcpt_key) of the mails of all open plans."""
    found: set[tuple[str, str]] = set()
    for plan in ledger.plans():
        if plan.state in (PlanState.READY, PlanState.STARTED):
            with suppress(StoreError), PlanFile(home, plan.id) as frozen:  # a plan whose file is gone sends nothing
                found.update((row.release, row.rcpt_key) for row in frozen.rows())
    return found


def _known(con: duckdb.DuckDBPyConnection, home: Home, config: Config, ledger: Ledger, record: IncidentRecord) -> bool:
    """Make temp table `ended` and view `suspect`; False where nothing can have ended."""
    if con.execute("SELECT 1 FROM frozen WHERE status = 'still_queued' LIMIT 1").fetchone() is None:
        return False
    if not Evidence(home).manifest().parts:
        return False
    files = outcomes(home, config, own=own_queue_ids(ledger))
    if files.id == record.evidence_id:
        return False
    with ledger.read() as connection:
        since = [known.id for known in incidents_of(connection) if known.opened_at > record.opened_at]
    _later(con, [path for path in (incidents.parquet_path(home, id_) for id_ in since) if path.is_file()])
    con.execute(f"CREATE OR REPLACE TEMP VIEW suspect AS SELECT * FROM read_parquet({sql.quote(files.suspects)})")
    con.execute(f"CREATE OR REPLACE TEMP TABLE ended AS {sql.load('link/freeze/ended')}")
    return True


def _later(con: duckdb.DuckDBPyConnection, paths: Sequence[Path]) -> None:
    parts = [f"SELECT {', '.join(_LATER)} FROM read_parquet({sql.quote(path)})" for path in paths]
    none = f"SELECT {', '.join(_LATER)} FROM frozen WHERE false"
    con.execute(f"CREATE OR REPLACE TEMP VIEW later AS {' UNION ALL '.join([none, *parts])}")


def _changed(
    con: duckdb.DuckDBPyConnection, home: Home, config: Config, record: IncidentRecord, now: datetime
) -> set[str]:
    """Of provider and cause those that the selection names and not all ended with: it would not find them again."""
    wanted = {"provider": record.selector.provider, "cause": record.selector.cause}
    if not any(wanted.values()):
        return set()
    con.execute(
        "CREATE OR REPLACE TEMP TABLE final AS SELECT s.* FROM suspect AS s"
        " SEMI JOIN (SELECT today FROM ended WHERE taken = 0) ON today = s.outcome_id"
    )
    con.execute("DROP VIEW suspect")
    con.execute("ALTER TABLE final RENAME TO suspect")
    causes.providers(con, config, mx.kept_hosts(home, now))
    causes.causes(con)
    rows = con.execute(
        # Named by its domain for want of an answer of the DNS, it is not known to have gone elsewhere.
        "SELECT DISTINCT CASE WHEN way = 'domain' THEN '' ELSE provider END, cause"
        " FROM suspect JOIN provider_of USING (relay, relay_ip, domain)"
        " JOIN cause_of USING (reply, code, enhanced, provider, stage)"
    ).fetchall()
    pairs = [pair for row in rows for pair in zip(wanted, row, strict=True)]
    return {name for name, value in pairs if value and value != wanted[name]}


def _command(record: IncidentRecord, names: Iterable[str], *, without: set[str]) -> str:
    """`resend incident open` under a free name, with the selection of an incident but what is to be left out."""
    taken = set(names)
    base, _, number = record.name.rpartition("-")
    if not number.isdigit() or base not in taken:
        base = record.name
    name = next(name for name in (f"{base[:_NAME_MAX]}-{place}" for place in count(2)) if name not in taken)
    words = ["resend", "incident", "open", name]
    for key, value in selector_values(record.selector).items():
        if key not in without:
            words += [_OPTIONS[key], value]
    return shlex.join(words)
