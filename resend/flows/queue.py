"""`queue`: the script that holds, releases or deletes what an incident has waiting in mail queues, and its results.

Composes incident, evidence, script and results. Touches no queue itself. Raises UsageError where nothing waits or a
result does not fit, InputError for a file that is no result, StoreError.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from resend.config import Config
from resend.errors import UsageError
from resend.flows.ended import ended
from resend.linker.buckets import Affected, rebucket
from resend.linker.incident import find_incident
from resend.model import Bucket, VetoKind, VetoReason
from resend.report.ended import Ended
from resend.report.queue import QueuedCopy, Script, script
from resend.stores import queueacts, sql, vetoes
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.queueacts import QueueAct, QueueResult, RowState
from resend.stores.rows import IncidentRecord, Veto

_SKEW = timedelta(minutes=2)  # between the mail host's clock and ours
_WAITS = "status = 'still_queued' AND bucket <> 'delivered_late'"


@dataclass(frozen=True, slots=True)
class Printed:
    """A script, and what of the incident is not in it. `unlinked`: mails in it that could never be resent from here.

    `ended`: not in it, nor in the queue.
    """

    incident: IncidentRecord
    script: Script
    unplaced: int  # the evidence does not say under which queue id they wait
    resent: int  # not released: they were resent, or are about to be
    unlinked: int
    ended: Ended


@dataclass(frozen=True, slots=True)
class Confirmed:
    incident: IncidentRecord
    result: QueueResult
    states: Mapping[RowState, int]
    buckets: Mapping[Bucket, int]


def print_script(
    home: Home, config: Config, ledger: Ledger, ref: str, act: QueueAct, *, who: str, now: datetime
) -> Printed:
    """The script of an action for all mails of the incident that may still be queued. `now` is aware UTC.

    Printing a release puts its mails back among the queued at once, and vetoes a resend of them.
    """
    record = find_incident(ledger, ref)
    with rebucket(home, ledger, record.id, now=now) as affected:
        over = ended(affected, home, config, ledger, record, now=now)
        condition = f"{_WAITS} AND outcome_id NOT IN (SELECT outcome_id FROM ended)"
        resent = 0
        if act is QueueAct.RELEASE:
            resent = _count(affected, f"{condition} AND bucket = 'already_resent'")
            condition += " AND bucket <> 'already_resent'"
        deleted = [
            row
            for row, state in queueacts.standing(queueacts.results(home, record.id)).items()
            if state is RowState.DELETED
        ]
        con = affected.con
        sql.create_table(con, "deleted", {"outcome_id": "BIGINT"}, ([row] for row in deleted))
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE wanted AS SELECT outcome_id FROM affected WHERE {condition}"
            " AND outcome_id NOT IN (SELECT outcome_id FROM deleted)"
        )
        wanted = con.execute("SELECT count(*) FROM wanted").fetchone()
        unlinked = _count(affected, "recipient_id = '' AND outcome_id IN (SELECT outcome_id FROM wanted)")
        Evidence(home).attach(con)
        rows = con.execute(sql.load("queue/message")).fetchall()
        made = script((QueuedCopy(*row) for row in rows), incident=record.id, action=act.value, now=now)
        keys = _keys(affected, made.rows) if act is QueueAct.RELEASE else []
    if wanted is None or not wanted[0]:
        raise UsageError(
            "no mail of this incident is still queued, as far as it knows",
            where=f"incident {record.name}",
            next_step=over.sentence()
            or "open a new incident where mail was queued since, or see 'resend triage --queue FILE'",
        )
    if not made.mails:
        raise UsageError(
            f"the evidence does not say where its {wanted[0]:,} queued mails are",
            where=f"incident {record.name}",
            next_step="collect the logs of the mail hosts, with a queue snapshot: resend collect PATH --queue FILE",
        )
    if act is QueueAct.RELEASE:
        released = tuple((row, RowState.RELEASED) for row in made.rows)
        queueacts.keep(home, QueueResult(record.id, act, "", now, released), now=now)
        with ledger.write() as connection:
            found = (
                Veto(kind=VetoKind.DELIVERY, subject=key, reason=VetoReason.HELD, evidence="released in the mail queue")
                for key in keys
            )
            vetoes.put(connection, found, source=f"queue:{record.id}", now=now, who=who)
    return Printed(record, made, int(wanted[0]) - len(made.rows) - made.left_out, resent, unlinked, over)


def confirm(home: Home, ledger: Ledger, ref: str, path: Path, *, who: str, now: datetime) -> Confirmed:
    """Take in what the script did: mails that it held or deleted are out of the queue. `now` is aware UTC."""
    record = find_incident(ledger, ref)
    result = queueacts.read_result(path, incident=record.id)
    known = queueacts.results(home, record.id)
    if result.at > now + _SKEW:
        raise UsageError(
            "the result is from the future",
            where=str(path),
            next_step="set the clock of the mail host right, then run the script again",
        )
    out = {row for row, state in result.rows if state in (RowState.HELD, RowState.DELETED)}
    later = out & queueacts.rows_of(known, QueueAct.RELEASE, since=result.at - _SKEW)
    if later and any(state is RowState.HELD and row in later for row, state in result.rows):
        raise UsageError(
            f"{len(later):,} of these mails were released by a script that was printed later",
            where=str(path),
            next_step=f"run the script of 'resend queue {record.name} --hold' again, two minutes after that or later",
        )
    with rebucket(home, ledger, record.id, now=now) as affected:
        _check_rows(affected, result, path)
        freed = _keys(affected, sorted(out)) if any(one.act is QueueAct.RELEASE for one in known) else []
    if all(one.text() != result.text() for one in known):
        queueacts.keep(home, result, now=now)
    with ledger.write() as connection:
        for key in freed:
            vetoes.unhold(
                connection, VetoKind.DELIVERY, key, reason=f"{result.act} confirmed on {result.host}", who=who, now=now
            )
    with rebucket(home, ledger, record.id, now=now) as affected:
        buckets = affected.counts()
    return Confirmed(record, result, Counter(state for _, state in result.rows), buckets)


def _check_rows(affected: Affected, result: QueueResult, path: Path) -> None:
    sql.create_table(affected.con, "told", {"outcome_id": "BIGINT"}, ([row] for row, _ in result.rows))
    row = affected.con.execute(
        "SELECT count(*) FROM told ANTI JOIN (SELECT outcome_id FROM affected WHERE status = 'still_queued')"
        " USING (outcome_id)"
    ).fetchone()
    if row is not None and row[0]:
        raise UsageError(
            f"{row[0]:,} of its rows are no queued mails of this incident",
            where=str(path),
            next_step="give the file that the script wrote; nothing was taken in",
        )


def _keys(affected: Affected, rows: Sequence[int]) -> list[str]:
    """Delivery keys, standing and next, of these mails."""
    sql.create_table(affected.con, "named", {"outcome_id": "BIGINT"}, ([row] for row in rows))
    found = affected.con.execute(
        "SELECT DISTINCT unnest([key, standing_key]) AS key FROM key_of JOIN named USING (outcome_id)"
        " JOIN affected AS a USING (outcome_id)"
        " WHERE a.recipient_id <> '' AND a.confidence IN ('certain', 'probable')"
    ).fetchall()
    return sorted(key for (key,) in found if key)


def _count(affected: Affected, condition: str) -> int:
    row = affected.con.execute(f"SELECT count(*) FROM affected WHERE {condition}").fetchone()
    return 0 if row is None else int(row[0])
