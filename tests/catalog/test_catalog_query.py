"""Rows from a database: validated like files, read-only, with errors that name the section and never the password."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resend.config import Config
from resend.errors import ConfigError, InputError, UsageError
from resend.stores.catalog_load import CatalogSummary, load_catalog
from resend.stores.home import Home

Run = Callable[..., CatalogSummary]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE person (id INTEGER, mail TEXT, name TEXT, gone TEXT, outlet TEXT);"
            "INSERT INTO person VALUES (1, 'A@Example.jp', '山田', NULL, '朝刊'), (2, 'nobody', 'x', NULL, ''),"
            " (3, 'c@example.jp', 'y', '2026-11-20 09:00:00', ''),"
            " (4, 'd@example.jp', NULL, '2026-11-20T09:00:00Z', '');"
        )
    return path


@pytest.fixture
def run(home: Home, database: Path) -> Run:
    def load(query: str, url: str = "", kind: str = "recipients") -> CatalogSummary:
        config = Config.model_validate({"catalog": {kind: {"url_env": "APP_DB", "query": query}}})
        environ = {"APP_DB": url or f"sqlite:///{database}"}
        return load_catalog(home, config, from_config=True, environ=environ)

    return load


QUERY = 'SELECT id, mail AS address, name, gone AS unsubscribed_at, outlet AS "attr.outlet" FROM person ORDER BY id'


def test_rows_are_judged_like_those_of_a_file(rows: Callable[[str], list[tuple[Any, ...]]], run: Run) -> None:
    found = run(QUERY)
    assert [line.split(": ")[0] for line in found.rejected_rows] == [
        "[catalog.recipients] row 2",
        "[catalog.recipients] row 3",
    ]
    assert "zone" in found.rejected_rows[1]
    assert rows("SELECT id, address, rcpt_key, name, attrs FROM recipient ORDER BY id") == [
        ("1", "A@Example.jp", "A@example.jp", "山田", '{"outlet":"朝刊"}'),
        ("4", "d@example.jp", "d@example.jp", "", '{"outlet":""}'),
    ]


@pytest.mark.parametrize("query", ["DELETE FROM person", "UPDATE person SET id = 1", "  -- x\nDROP TABLE person", ""])
def test_a_query_that_does_not_read_is_refused(run: Run, database: Path, query: str) -> None:
    with pytest.raises((ConfigError, UsageError)):
        run(query)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM person").fetchone() == (4,)


def test_a_write_in_disguise_changes_nothing(run: Run, database: Path) -> None:
    with pytest.raises(InputError, match="the query failed"):
        run("WITH x AS (SELECT 1) DELETE FROM person WHERE id IN (SELECT * FROM x) RETURNING id, mail AS address")
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM person").fetchone() == (4,)


def test_errors_say_where_and_keep_the_password(run: Run, tmp_path: Path, home: Home) -> None:
    with pytest.raises(InputError, match=r"\[catalog\.recipients\].*no such column"):
        run("SELECT absent FROM person")
    with pytest.raises(InputError, match="'address' is lacking"):
        run("SELECT id FROM person")
    with pytest.raises(InputError, match="unable to open"):
        run(QUERY, url=f"sqlite:///{tmp_path}/absent.db")
    assert not (tmp_path / "absent.db").exists()
    for url in ("nonsense", "unknown+driver://me:s3cret@db/x", "postgresql+psycopg://me:s3cret@127.0.0.1:1/x"):
        with pytest.raises((ConfigError, InputError)) as caught:
            run(QUERY, url=url)
        assert "s3cret" not in caught.value.line()
    config = Config.model_validate({"catalog": {"recipients": {"url_env": "APP_DB", "query": QUERY}}})
    with pytest.raises(ConfigError, match="APP_DB"):
        load_catalog(home, config, from_config=True, environ={})
