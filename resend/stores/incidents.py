"""Frozen incidents on disk: `derived/incident-<id>.parquet`, one row per affected mail, and what surrounds it as JSON.

Written once when an incident is opened, never changed: what a person decided on stays what it was. Raises StoreError.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from resend.errors import StoreError
from resend.stores import sql
from resend.stores.home import Home, rename_durably, replace_file

ACCEPTED = "accepted"  # the dimension of what a provider took in its best hour of throttling


@dataclass(frozen=True, slots=True, kw_only=True)
class Mails:
    """All mail of one value of a dimension (total, provider, domain, release, customer, hour), for shares; ACCEPTED."""

    dimension: str
    value: str
    mails: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an incident's rows cannot say. Times are RFC 3339 text, "" where not known."""

    id: str
    name: str
    selector: Mapping[str, Any]
    evidence_id: str
    catalog_id: str
    opened_at: str
    affected: int
    no_evidence: int
    missing: int
    own_resends: int  # outcomes that were resends of ours, left out
    first_at: str  # the evidence's range
    last_at: str
    catalog_loaded_at: str
    mails: tuple[Mails, ...]
    warnings: tuple[str, ...]
    mx_first: str = ""  # when the DNS was asked for the MX hosts that name receivers here: first and last
    mx_last: str = ""
    mx_silent: int = 0  # mails named by their domain because the DNS was not asked, or did not answer

    @classmethod
    def from_json(cls, text: str) -> Surroundings:
        raw = json.loads(text)
        mails = tuple(Mails(dimension=d, value=v, mails=n) for d, v, n in raw.pop("mails"))
        return cls(**{**raw, "mails": mails, "warnings": tuple(raw["warnings"])})

    def accepted(self) -> dict[str, float]:
        """Mails per second that a provider took while it throttled, by the evidence; those of which it is known."""
        return {item.value: item.mails / 3600 for item in self.mails if item.dimension == ACCEPTED}

    def to_json(self) -> str:
        values = {name: getattr(self, name) for name in self.__slots__}
        values["mails"] = [[item.dimension, item.value, item.mails] for item in self.mails]
        return json.dumps(values, ensure_ascii=False, indent=1)


def parquet_path(home: Home, incident_id: str) -> Path:
    return home.derived / f"incident-{incident_id}.parquet"


def json_path(home: Home, incident_id: str) -> Path:
    return home.derived / f"incident-{incident_id}.json"


def freeze(con: duckdb.DuckDBPyConnection, home: Home, table: str, about: Surroundings) -> None:
    """Write `table` of the connection and what surrounds it; the Parquet file first, so that JSON proves both."""
    path = parquet_path(home, about.id)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        con.execute(
            f"COPY (SELECT * FROM {table} ORDER BY outcome_id) TO {sql.quote(temporary)}"
            " (FORMAT parquet, COMPRESSION zstd)"
        )
        temporary.chmod(0o600)
        rename_durably(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    replace_file(json_path(home, about.id), about.to_json().encode())


def surroundings(home: Home, incident_id: str) -> Surroundings:
    """What was frozen beside the rows."""
    path = json_path(home, incident_id)
    try:
        return Surroundings.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _gone(path) from None
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            "the incident's file is damaged", where=str(path), next_step="open the incident again"
        ) from None


def attach(con: duckdb.DuckDBPyConnection, home: Home, incident_id: str) -> None:
    """Create temp view `frozen` over the incident's rows, and temp table `mails`(dimension, value, mails)."""
    path = parquet_path(home, incident_id)
    if not path.is_file():
        raise _gone(path)
    con.execute(f"CREATE OR REPLACE TEMP VIEW frozen AS SELECT * FROM read_parquet({sql.quote(path)})")
    about = surroundings(home, incident_id)
    sql.create_table(
        con,
        "mails",
        {"dimension": "VARCHAR", "value": "VARCHAR", "mails": "BIGINT"},
        ((item.dimension, item.value, item.mails) for item in about.mails),
    )


def _gone(path: Path) -> StoreError:
    return StoreError(
        "the incident's file is gone", where=str(path), next_step="open the incident again, by another name"
    )
