"""The catalog, to read: what was to be told, to whom, for which customer. Parquet snapshots named by `catalog.json`.

Written by stores/catalog_load.py only. Raises StoreError where a snapshot is damaged or gone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from resend.clock import from_text, to_micros
from resend.errors import StoreError
from resend.model import VetoKind, VetoReason
from resend.stores import sql
from resend.stores.home import Home
from resend.stores.rows import Veto

_VIEWS = {"releases": "release", "recipients": "recipient", "sendlog": "sendlog", "suppressions": "suppression"}
_COLUMNS = {
    "releases": (
        "id VARCHAR, customer VARCHAR, customer_name VARCHAR, title VARCHAR, sender VARCHAR, envelope_from VARCHAR,"
        " sent_at BIGINT, embargo_at BIGINT, expires_at BIGINT, withdrawn BOOLEAN, urgency INTEGER, content VARCHAR,"
        " template VARCHAR"
    ),
    "recipients": (
        "id VARCHAR, address VARCHAR, rcpt_key VARCHAR, folded VARCHAR, name VARCHAR, locale VARCHAR, tz VARCHAR,"
        " unsubscribed_at BIGINT, attrs VARCHAR"
    ),
    "sendlog": (
        "release VARCHAR, recipient VARCHAR, address VARCHAR, rcpt_key VARCHAR, message_id VARCHAR, sent_at BIGINT,"
        " envelope VARCHAR"
    ),
    "suppressions": "address VARCHAR, folded VARCHAR, reason VARCHAR, at BIGINT, scope VARCHAR",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One kind of row as it was loaded last. `rejected_rows`: the first of them, as 'place: reason'."""

    file: str
    source: str
    loaded_at: str
    rows: int
    rejected: int
    rejected_rows: list[str] = field(default_factory=list)


class Catalog:
    """The catalog of one home, to read."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def snapshots(self) -> dict[str, Snapshot]:
        """Snapshots by kind; only those that were ever loaded."""
        path = self.home.catalog / "catalog.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return {kind: Snapshot(**item) for kind, item in raw["kinds"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                "the catalog's index is damaged",
                where=str(path),
                next_step="delete catalog/ and load the catalog again",
            ) from None

    def id(self) -> str:
        """Changes when any row of the catalog does."""
        names = [f"{kind} {snapshot.file}" for kind, snapshot in sorted(self.snapshots().items())]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()

    def loaded_at(self) -> datetime | None:
        """When the oldest of its parts was loaded, aware UTC; None where nothing is."""
        return min((from_text(snapshot.loaded_at) for snapshot in self.snapshots().values()), default=None)

    def attach(self, con: duckdb.DuckDBPyConnection) -> None:
        """Create the temp views release, recipient, sendlog and suppression; empty where not loaded.

        A send log row that names its recipient by id only takes address and rcpt_key from the recipients.
        """
        snapshots = self.snapshots()
        for kind, view in _VIEWS.items():
            snapshot = snapshots.get(kind)
            if snapshot is None:
                columns = ", ".join(
                    f'CAST(NULL AS {type_}) AS "{name}"'
                    for name, type_ in (c.split() for c in _COLUMNS[kind].split(", "))
                )
                source = f"SELECT {columns} WHERE false"
            else:
                path = self.home.catalog / snapshot.file
                if not path.is_file():
                    raise StoreError("a snapshot is gone", where=str(path), next_step="load the catalog again")
                source = f"SELECT * FROM read_parquet({sql.quote(path)})"
            con.execute(f"CREATE OR REPLACE TEMP VIEW {view if kind != 'sendlog' else 'sendlog_row'} AS {source}")
        con.execute(
            "CREATE OR REPLACE TEMP VIEW sendlog AS SELECT s.release, s.recipient,"
            " CASE WHEN s.address = '' THEN coalesce(r.address, '') ELSE s.address END AS address,"
            " CASE WHEN s.rcpt_key = '' THEN coalesce(r.rcpt_key, '') ELSE s.rcpt_key END AS rcpt_key,"
            " s.message_id, s.sent_at, s.envelope FROM sendlog_row AS s"
            " LEFT JOIN recipient AS r ON s.rcpt_key = '' AND r.id = s.recipient"
        )

    def content_files(self) -> dict[str, tuple[str, ...]]:
        """File names that the catalog gives to releases, template first; only releases that have one."""
        with sql.connect(memory_limit="256MiB", threads=1) as con:
            self.attach(con)
            rows = con.execute(
                "SELECT id, template, content FROM release WHERE template <> '' OR content <> ''"
            ).fetchall()
        return {release: tuple(name for name in names if name) for release, *names in rows}


def veto_rows(home: Home, now: datetime) -> Iterator[Veto]:
    """What the catalog says must not be sent at `now` (aware UTC): suppressed, unsubscribed, withdrawn, out of date."""
    with sql.connect(memory_limit="512MiB", threads=1) as con:
        Catalog(home).attach(con)
        sql.set_params(con, {"now_us": to_micros(now)})
        cursor = con.execute(sql.load("catalog/setup/vetoes"))
        while chunk := cursor.fetchmany(5_000):
            for kind, subject, reason, scope, evidence in chunk:
                yield Veto(
                    kind=VetoKind(kind), subject=subject, reason=VetoReason(reason), scope=scope, evidence=evidence
                )
