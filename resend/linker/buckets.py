"""The one place that decides into which bucket each affected mail falls; preview, plan and opening all ask here.

Puts the facts of now (what was resent, what must not be sent, the content, the time) beside what was frozen, and asks
policy.verdict once for each distinct combination. Changes neither the frozen file nor the ledger. Raises StoreError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import duckdb
from sqlalchemy import Connection

from resend.clock import to_micros
from resend.model import Action, Bucket, CauseClass, Confidence, Fate, OutcomeStatus, State
from resend.policy.address import fold
from resend.policy.verdict import Facts, bucket_of
from resend.stores import incidents, queueacts, sql
from resend.stores.catalog import Catalog
from resend.stores.content import ContentStore
from resend.stores.history import past_deliveries, standing_vetoes
from resend.stores.home import Home
from resend.stores.incidents import Surroundings
from resend.stores.rows import Veto


class Readable(Protocol):
    """The ledger, as far as it is needed here."""

    def read(self) -> AbstractContextManager[Connection]: ...


@dataclass(frozen=True, slots=True)
class Affected:
    """The affected mails with their buckets of now: table `affected` of the connection, and `mails` beside it."""

    con: duckdb.DuckDBPyConnection
    about: Surroundings

    def counts(self) -> dict[Bucket, int]:
        """Mails in each bucket; all buckets, in the order of decision."""
        found = dict(self.con.execute("SELECT bucket, count(*) FROM affected GROUP BY bucket").fetchall())
        return {bucket: int(found.get(bucket.value, 0)) for bucket in Bucket}

    def rows(self, bucket: Bucket | None = None, *, columns: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
        """Rows of `affected` by outcome_id, as dicts; all of them, or those of one bucket. `columns`: not all."""
        condition = "" if bucket is None else "WHERE bucket = ?"
        return self._rows(condition, [] if bucket is None else [bucket.value], ", ".join(columns) or "*")

    def to(self, folded: str, logged: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Rows of `affected` for one address (policy.address.fold), and those that a log names by a text of `logged`.

        A mail whose link has another address in the catalog lies under that one.
        """
        return self._rows("WHERE folded = ? OR list_contains(?, lower(recipient))", [folded, sorted(logged)])

    def _rows(self, condition: str, values: Sequence[object], columns: str = "*") -> Iterator[dict[str, Any]]:
        cursor = self.con.cursor().execute(f"SELECT {columns} FROM affected {condition} ORDER BY outcome_id", values)
        names = [column[0] for column in cursor.description or []]
        while chunk := cursor.fetchmany(2_048):
            for row in chunk:
                yield dict(zip(names, row, strict=True))


@contextmanager
def rebucket(
    home: Home,
    ledger: Readable,
    incident_id: str,
    *,
    includes: Iterable[str] = (),
    again: bool = False,
    now: datetime,
) -> Iterator[Affected]:
    """The affected mails of a frozen incident as they stand at `now` (aware UTC).

    `includes`: probable, maybe_delivered, ask:CAUSE. `again`: what was accepted before may be sent once more.
    """
    with sql.connect(memory_limit="1GiB", temp_dir=home.derived) as con:
        incidents.attach(con, home, incident_id)
        with ledger.read() as connection:
            place(con, home, connection, incident=incident_id, includes=includes, again=again, now=now)
        yield Affected(con, incidents.surroundings(home, incident_id))


def place(
    con: duckdb.DuckDBPyConnection,
    home: Home,
    connection: Connection,
    *,
    incident: str = "",
    includes: Iterable[str] = (),
    again: bool = False,
    now: datetime,
) -> None:
    """Make table `affected` from `frozen`: its rows with bucket, reason and generation of now.

    `incident`: its id, once it is open: what was held or deleted in the queue since counts.
    """
    Catalog(home).attach(con)
    sql.set_params(con, {"now_us": to_micros(now)})
    standing(con, connection)
    _keys(con)
    _vetoes(con, standing_vetoes(connection))
    _bodiless(con, ContentStore(home))
    queueacts.attach(con, home, incident)
    con.execute(f"CREATE OR REPLACE TEMP TABLE facts AS {sql.load('link/freeze/facts')}")
    _judge(con, frozenset(includes), again)
    # Not temporary: `Affected.rows` reads it by a cursor of its own, which sees no temporary table.
    con.execute(f"CREATE OR REPLACE TABLE affected AS {sql.load('link/freeze/placed')}")


def standing(con: duckdb.DuckDBPyConnection, connection: Connection) -> None:
    """Make temp table `standing` from `frozen`: the newest Delivery that the ledger has of each mail."""
    columns = dict.fromkeys(("release", "rcpt_key", "generation", "state", "fate"), "VARCHAR") | {
        "generation": "INTEGER"
    }
    rows = past_deliveries(connection)
    sql.create_table(
        con, "past", columns, ((row.release, row.rcpt_key, row.generation, row.state, row.fate) for row in rows)
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE standing AS {sql.load('link/freeze/standing')}")


def _keys(con: duckdb.DuckDBPyConnection) -> None:
    """Delivery keys and folded addresses, as vetoes name them; odd addresses are folded in Python, once each."""
    con.execute(sql.load("catalog/setup/macros"))
    odd = con.execute("SELECT DISTINCT rcpt FROM standing WHERE NOT plain_address(rcpt)").fetchall()

    def folded() -> Iterator[Sequence[str]]:
        for (rcpt,) in odd:
            try:
                yield rcpt, fold(rcpt)
            except ValueError:
                yield rcpt, rcpt

    sql.create_table(con, "odd_fold", {"rcpt": "VARCHAR", "folded": "VARCHAR"}, folded())
    con.execute(f"CREATE OR REPLACE TEMP TABLE key_of AS {sql.load('link/freeze/key_of')}")


def _vetoes(con: duckdb.DuckDBPyConnection, standing: Iterable[Veto]) -> None:
    """The catalog's vetoes as the catalog is now, and those that the ledger has from elsewhere."""
    columns = dict.fromkeys(("kind", "subject", "reason", "scope", "evidence"), "VARCHAR")
    sql.create_table(con, "veto", columns, ((v.kind, v.subject, v.reason, v.scope, v.evidence) for v in standing))
    con.execute(f"INSERT INTO veto {sql.load('catalog/setup/vetoes')}")


def _bodiless(con: duckdb.DuckDBPyConnection, content: ContentStore) -> None:
    """Mails for which there is no content any more."""
    releases = [
        release
        for (release,) in con.execute("SELECT DISTINCT release FROM frozen WHERE release <> ''").fetchall()
        if not content.has(release, "")
    ]
    sql.create_table(con, "bodiless_release", {"release": "VARCHAR"}, ([release] for release in releases))
    rows = con.execute(
        "SELECT DISTINCT release, message_id FROM frozen JOIN bodiless_release USING (release)"
    ).fetchall()
    sql.create_table(
        con,
        "bodiless",
        {"release": "VARCHAR", "message_id": "VARCHAR"},
        ((release, message_id) for release, message_id in rows if not content.has_kept(message_id)),
    )


def _judge(con: duckdb.DuckDBPyConnection, includes: frozenset[str], again: bool) -> None:
    """Make temp table `judged`: each distinct combination of facts with its bucket and reason."""
    names = [row[0] for row in con.execute("DESCRIBE facts").fetchall() if row[0] not in ("outcome_id", "generation")]
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE combination AS SELECT row_number() OVER () AS id, * FROM"
        f" (SELECT DISTINCT {', '.join(names)} FROM facts)"
    )
    rows = con.execute(f"SELECT id, {', '.join(names)} FROM combination").fetchall()

    def judged() -> Iterator[Sequence[object]]:
        for number, *values in rows:
            bucket, reason = bucket_of(_facts(dict(zip(names, values, strict=True)), again), includes)
            yield number, bucket.value, reason

    sql.create_table(con, "judged_id", {"id": "BIGINT", "bucket": "VARCHAR", "reason": "VARCHAR"}, judged())
    con.execute("CREATE OR REPLACE TEMP TABLE judged AS SELECT * FROM combination JOIN judged_id USING (id)")


def _facts(row: dict[str, Any], again: bool) -> Facts:
    return Facts(
        folded=row["folded"],
        past_state=State(row["past_state"]) if row["past_state"] else None,
        past_fate=Fate(row["past_fate"]) if row["past_fate"] else None,
        again=again,
        arrived=row["arrived"],
        status=OutcomeStatus(row["status"]),
        maybe_delivered=row["maybe_delivered"],
        confidence=Confidence(row["confidence"]),
        link_reason=row["doubt"],
        cause=CauseClass(row["cause"]),
        action=Action(row["action"]),
        rule=row["verdict_rule"],
        verdict_reason=row["verdict_reason"],
        suppressed=row["suppressed"],
        withdrawn=row["withdrawn"],
        expired=row["expired"],
        held=row["held"],
        embargo=row["embargo"],
        too_early=row["too_early"],
        content=row["content"],
    )
