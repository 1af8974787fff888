"""A home, and a way to load a catalog written in a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resend.config import Config
from resend.stores import sql
from resend.stores.catalog import Catalog
from resend.stores.catalog_load import CatalogSummary, load_catalog
from resend.stores.home import Home

Load = Callable[..., CatalogSummary]
Rows = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def load(home: Home, tmp_path: Path) -> Load:
    """`load(recipients="id,address\\n...")`: text or bytes become files of that name; more keywords go through."""

    def run(config: Config | None = None, suffix: str = ".csv", **kinds: Any) -> CatalogSummary:
        files: dict[str, Any] = {}
        for kind, data in kinds.items():
            if kind in ("releases", "recipients", "sendlog", "suppressions"):
                path = tmp_path / f"{kind}{suffix}"
                path.write_bytes(data if isinstance(data, bytes) else data.encode())
                files[kind] = path
            else:
                files[kind] = data
        return load_catalog(home, config or Config(), **files)

    return run


@pytest.fixture
def rows(home: Home) -> Rows:
    """`rows(query)`: rows of a query over the catalog's views."""
    return lambda query: query_catalog(home, query)


def query_catalog(home: Home, query: str) -> list[tuple[Any, ...]]:
    with sql.connect(memory_limit="256MiB", threads=1) as con:
        Catalog(home).attach(con)
        return con.execute(query).fetchall()
