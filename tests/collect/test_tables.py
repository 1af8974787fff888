"""A sender's own delivery table, read from a database into blocks of JSON lines, and those to events."""

from __future__ import annotations

import json
import sqlite3
from datetime import date
from pathlib import Path

import pytest

from resend.collect import parse, tables
from resend.config import QueryConfig, load
from resend.errors import ConfigError, InputError

QUERY = "SELECT sent_at AS at, address AS recipient, result AS status, said AS reply, mid AS message_id FROM delivery"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "own.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE delivery (sent_at TEXT, address TEXT, result TEXT, said TEXT, mid TEXT)")
        connection.executemany(
            "INSERT INTO delivery VALUES (?, ?, ?, ?, ?)",
            [
                ("2026-11-20 10:00:00", "花子@example.jp", "Hard Bounce", "550 5.1.1 宛先不明", "<1@s.example>"),
                ("2026-11-20 10:00:01", "b@example.jp", "no idea", None, "<2@s.example>"),
            ],
        )
    return path


def test_rows_become_events(database: Path) -> None:
    config = QueryConfig(url_env="OWN", query=QUERY)
    blocks = list(tables.table_blocks("own", config, {"OWN": f"sqlite:///{database}"}))
    assert len(blocks) == 1 and blocks[0].count(b"\n") == 2
    found = parse.parse_lines(blocks[0], parse.Reading(tables.FORMAT, "Asia/Tokyo", date(2026, 12, 7), ""))
    assert [(event["kind"], event["status"]) for event in found] == [("attempt", "bounced"), ("rejected", "")]
    assert found[0]["recipient"] == "花子@example.jp"
    assert found[0]["at_us"] == 1795136400000000  # ten o'clock in Tokyo
    assert "no idea" in found[1]["reply"]


def test_blocks_are_small(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK_BYTES", 10)
    config = QueryConfig(url_env="OWN", query=QUERY)
    blocks = list(tables.table_blocks("own", config, {"OWN": f"sqlite:///{database}"}))
    assert [json.loads(block)["message_id"] for block in blocks] == ["<1@s.example>", "<2@s.example>"]


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ("DELETE FROM delivery", ConfigError, "not a SELECT"),
        ("SELECT address AS recipient FROM delivery", ConfigError, "at, status or code"),
        ("SELECT nothing FROM delivery", InputError, "the query failed"),
        ("WITH x AS (SELECT 1) INSERT INTO delivery SELECT 1, 2, 3, 4, 5", InputError, "the query failed"),
    ],
)
def test_a_bad_query_says_so_and_changes_nothing(
    database: Path, query: str, error: type[Exception], words: str
) -> None:
    before = database.read_bytes()
    with pytest.raises(error, match=words):
        list(tables.table_blocks("own", QueryConfig(url_env="OWN", query=query), {"OWN": f"sqlite:///{database}"}))
    assert database.read_bytes() == before


def test_the_configuration_names_tables(tmp_path: Path) -> None:
    (tmp_path / "resend.toml").write_text(
        '[collect.tables.own]\nurl_env = "BULK_RESEND_OWN__URL"\nquery = "SELECT 1"\n', encoding="utf-8"
    )
    loaded = load(directory=tmp_path, environ={"BULK_RESEND_OWN__URL": "sqlite://"})
    assert loaded.config.collect.tables["own"].url_env == "BULK_RESEND_OWN__URL"
    (tmp_path / "resend.toml").write_text('[collect.tables.own]\nurl = "x"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="url_env"):
        load(directory=tmp_path, environ={})
