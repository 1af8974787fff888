"""Suspects and a catalog as a test writes them, through the real tables, rules and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from link_suspects import SUSPECT

from resend.config import Config, LinkConfig
from resend.linker.link import link
from resend.stores import sql
from resend.stores.catalog import Catalog
from resend.stores.catalog_load import load_catalog
from resend.stores.history import OwnTry
from resend.stores.home import Home


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
