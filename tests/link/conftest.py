"""Suspects and a catalog as a test writes them, through the real tables, rules and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from resend.config import Config, LinkConfig
from resend.linker.link import link
from resend.stores import sql
from resend.stores.catalog import Catalog
from resend.stores.catalog_load import load_catalog
from resend.stores.history import OwnTry
from resend.stores.home import Home

SUSPECT = {
    "outcome_id": "BIGINT", "message_id": "VARCHAR", "sender": "VARCHAR", "recipient": "VARCHAR", "domain": "VARCHAR",
    "status": "VARCHAR", "maybe_delivered": "BOOLEAN", "arrived_at": "BIGINT", "first_failed_at": "BIGINT",
    "at": "BIGINT", "delivered_at": "BIGINT", "attempts": "INTEGER", "relay": "VARCHAR", "relay_ip": "VARCHAR",
    "code": "INTEGER", "enhanced": "VARCHAR", "reply": "VARCHAR", "stage": "VARCHAR", "host": "VARCHAR",
    "instance": "VARCHAR", "qid": "VARCHAR", "epoch": "INTEGER", "last_host": "VARCHAR", "last_qid": "VARCHAR",
    "header_value": "VARCHAR", "chain": "VARCHAR", "evidence": "VARCHAR",
}  # fmt: skip
HOUR = 3_600_000_000
AT = 1_763_600_000_000_000  # microseconds UTC, in November 2025


def suspect(number: int, recipient: str, **values: Any) -> list[Any]:
    """One row of suspects: expired after a throttling reply of Office 365, unless `values` say otherwise."""
    row: dict[str, Any] = {
        "outcome_id": number,
        "message_id": f"<{number}@elsewhere.example.jp>",
        "sender": "bounce@example.jp",
        "recipient": recipient,
        "domain": recipient.rpartition("@")[2].lower(),
        "status": "expired",
        "maybe_delivered": False,
        "arrived_at": AT + number * 1_000_000,
        "first_failed_at": AT + number * 1_000_000 + 500_000,
        "at": AT + 24 * HOUR,
        "delivered_at": None,
        "attempts": 9,
        "relay": "example.mail.protection.outlook.com",
        "relay_ip": "192.0.2.1",
        "code": 451,
        "enhanced": "4.7.500",
        "reply": "host example.mail.protection.outlook.com[192.0.2.1] said: 451 4.7.500 Server busy. Try later",
        "stage": "rcpt",
        "host": "mta1",
        "instance": "postfix",
        "qid": f"Q{number}",
        "epoch": 0,
        "last_host": "mta1",
        "last_qid": f"Q{number}",
        "header_value": "",
        "chain": "",
        "evidence": f"mail.log:{number}",
    }
    assert not values.keys() - row.keys()
    return list((row | values).values())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def catalog(home: Home, tmp_path: Path) -> Callable[..., None]:
    """`catalog(recipients="id,address\\n...")`: load CSV texts of the named kinds."""

    def load(content: Path | None = None, **kinds: str) -> None:
        paths: dict[str, Any] = {}
        for kind, text in kinds.items():
            paths[kind] = tmp_path / f"{kind}.csv"
            paths[kind].write_text(text, encoding="utf-8")
        load_catalog(home, Config(), content=content, **paths)

    return load


Links = dict[int, dict[str, Any]]


@pytest.fixture
def linked(home: Home) -> Iterator[Callable[..., Links]]:
    """`linked(rows, own=[...], message_id=TEMPLATE)`: the links by outcome id."""
    with sql.connect(memory_limit="256MiB", threads=1) as con:
        yield lambda rows, **options: _link(con, home, rows, **options)


def _link(
    con: duckdb.DuckDBPyConnection, home: Home, rows: list[list[Any]], own: list[OwnTry] | None = None, **config: str
) -> Links:
    sql.create_table(con, "suspect", SUSPECT, rows)
    Catalog(home).attach(con)
    link(con, LinkConfig(**config), own or [])
    cursor = con.execute("SELECT * FROM link")
    names = [column[0] for column in cursor.description]
    found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    assert len(found) == len({row["outcome_id"] for row in found}) == len(rows)
    return {row["outcome_id"]: row for row in found}
