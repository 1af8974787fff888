"""Frozen plans on disk: `derived/plan-<id>.parquet`, one row per mail, in sending order.

Written once by the planner, read by a run batch by batch; never changed. Raises StoreError where the file is gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_type_hints

import duckdb

from resend.errors import StoreError
from resend.model import Identity
from resend.stores import sql
from resend.stores.home import Home, rename_durably
from resend.stores.parquet import write_parquet


class PlanRow(NamedTuple):
    """One mail as it was frozen: who, which bytes, from which batch. Times are RFC 3339 text, "" where absent.

    A tuple, because hundreds of thousands are made, written and read at once; by keyword only, all the same.
    """

    key: str
    release: str
    recipient_id: str
    rcpt_key: str
    rcpt: str
    generation: int
    incident_id: str
    customer: str
    domain: str
    provider: str
    egress: str
    batch_id: str
    batch_seq: int
    canary: bool
    seq: int
    rate: float  # mails per second: the ceiling that this batch was planned with
    after_s: int  # seconds from the plan's start before which the batch must not be sent (recipient gap)
    message_id: str
    identity: str
    date: str
    content_id: str
    content_kind: str  # template | kept | eml
    envelope_from: str
    sender: str
    title: str
    urgency: int
    expires_at: str
    not_before: str
    variables: str  # JSON object of the template's variables
    zone: str = ""  # the recipient's time zone; "" the config's


_TYPES = {str: "VARCHAR", int: "BIGINT", bool: "BOOLEAN", float: "DOUBLE"}
COLUMNS = {name: _TYPES[kind] for name, kind in get_type_hints(PlanRow).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanBatch:
    """One batch of a plan, in the columns that the ledger needs."""

    id: str
    egress: str
    provider: str
    seq: int
    size: int
    rate: float
    canary: bool
    after_s: int
    zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """So many mails of a plan leave by this egress to this provider under this envelope sender."""

    egress: str
    provider: str
    envelope_from: str
    mails: int


def plan_path(home: Home, plan_id: str) -> Path:
    return home.derived / f"plan-{plan_id}.parquet"


def write_plan(home: Home, plan_id: str, rows: Iterable[PlanRow]) -> int:
    """Freeze the rows, in the order given; the count. The file appears whole or not at all."""
    path = plan_path(home, plan_id)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    con = sql.connect(memory_limit="512MiB", temp_dir=home.derived)
    try:
        count = write_parquet(con, temporary, COLUMNS, rows)
        temporary.chmod(0o600)
        rename_durably(temporary, path)
    finally:
        con.close()
        temporary.unlink(missing_ok=True)
    return count


class PlanFile:
    """Reads one frozen plan. Holds a small DuckDB connection; `close()` or use as a context manager."""

    def __init__(self, home: Home, plan_id: str) -> None:
        self._path = plan_path(home, plan_id)
        if not self._path.is_file():
            raise StoreError(
                "the plan's file is gone",
                where=str(self._path),
                next_step="make the plan again, which writes the file anew",
            )
        self._con = sql.connect(memory_limit="128MiB", threads=1)
        self._source = f"read_parquet({sql.quote(self._path)})"
        known = {name for name, *_ in self._run(f"DESCRIBE SELECT * FROM {self._source}", []).fetchall()}
        self._zone = "zone" if "zone" in known else "''"  # plans were frozen without one before

    def __enter__(self) -> PlanFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._con.close()

    def total(self) -> int:
        return int(self._one(f"SELECT count(*) FROM {self._source}")[0])

    def rows(self, *, keys: Sequence[str] | None = None, batch_id: str = "") -> Iterator[PlanRow]:
        """Rows in sending order: all of them, those of one batch, or those with the given keys."""
        columns = ", ".join(self._zone if name == "zone" else name for name in COLUMNS)
        query = f"SELECT {columns} FROM {self._source}"
        values: list[object] = []
        if keys is not None:
            query += " WHERE key IN (SELECT unnest(?))"
            values = [list(keys)]
        elif batch_id:
            query += " WHERE batch_id = ?"
            values = [batch_id]
        cursor = self._run(query, values)  # in the file's order, which is the sending order: nothing to sort
        while chunk := cursor.fetchmany(2048):
            yield from map(PlanRow._make, chunk)

    def batches(self) -> Iterator[PlanBatch]:
        """The plan's batches in order."""
        cursor = self._run(
            "SELECT batch_id, egress, provider, batch_seq, count(*), min(rate), bool_or(canary), max(after_s),"
            f" min({self._zone})"
            f" FROM {self._source} GROUP BY batch_id, egress, provider, batch_seq ORDER BY egress, provider, batch_seq",
            [],
        )
        for id_, egress, provider, seq, size, rate, canary, after_s, zone in cursor.fetchall():
            yield PlanBatch(
                id=id_,
                egress=egress,
                provider=provider,
                seq=seq,
                size=size,
                rate=rate,
                canary=canary,
                after_s=after_s,
                zone=zone,
            )

    def frozen(self, path: str) -> set[str]:
        """The texts that the variables of mails of our own making hold at a JSON path; "" where one holds none."""
        query = (
            f"SELECT DISTINCT coalesce(json_extract_string(variables, ?), '') FROM {self._source}"
            f" WHERE identity = '{Identity.NEW}' OR content_kind = 'template'"
        )
        return {name for (name,) in self._run(query, [path]).fetchall()}

    def doors(self) -> Iterator[Door]:
        """By which egress the mails leave, to whom and under which envelope senders."""
        cursor = self._run(
            f"SELECT egress, provider, envelope_from, count(*) FROM {self._source} GROUP BY ALL ORDER BY ALL", []
        )
        for egress, provider, envelope_from, mails in cursor.fetchall():
            yield Door(egress=egress, provider=provider, envelope_from=envelope_from, mails=mails)

    def _run(self, query: str, values: Sequence[object]) -> duckdb.DuckDBPyConnection:
        try:
            return self._con.cursor().execute(query, values)
        except duckdb.Error as error:
            raise StoreError(
                f"cannot read the plan: {str(error).splitlines()[0]}",
                where=str(self._path),
                next_step="make the plan again, which writes the file anew",
            ) from None

    def _one(self, query: str) -> tuple[int, ...]:
        row = self._run(query, []).fetchone()
        assert row is not None
        return row
