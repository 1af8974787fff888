"""A sender's own delivery table, read from a database into blocks of JSON lines, and those to events."""

from __future__ import annotations

import json
import sqlite3
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from resend.collect import parse, tables
from resend.config import QueryConfig, load
from resend.errors import ConfigError, InputError
from tests.postgres import Server

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
    assert "no idea" in str(found[1]["reply"])


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


def test_values_of_any_kind_come_as_text_and_stop_no_query(tmp_path: Path) -> None:
    """Text that is no UTF-8, no numbers, names of columns in capitals."""
    path = tmp_path / "odd.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE odd (sent, address, result, said, size)")
        connection.execute(
            "INSERT INTO odd VALUES (1795136400, 'a@s.example', '421', CAST(x'34323120ff' AS TEXT), 9e999)"
        )
    query = 'SELECT sent AS "AT", address AS "Recipient", result AS status, said AS "REPLY", size AS "X-Size" FROM odd'
    (block,) = tables.table_blocks("own", QueryConfig(url_env="OWN", query=query), {"OWN": f"sqlite:///{path}"})
    header, attempt = parse.parse_lines(block, parse.Reading(tables.FORMAT, "UTC", date(2026, 12, 7), ""))
    assert (attempt["status"], attempt["code"], attempt["reply"]) == ("deferred", 421, "421 \ufffd")
    assert header["text"] == "header X-Size: inf"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Decimal("NaN"), "NaN"),
        (Decimal("451.0"), 451.0),
        (float("nan"), "nan"),
        (b"\xff", "\ufffd"),
        ([1, Decimal("2")], '[1, "2"]'),
        ({"a": None}, '{"a": null}'),
        (timedelta(seconds=1.5), 1.5),
        (date(2026, 11, 20), "2026-11-20"),
    ],
)
def test_a_value_as_json_has_it(value: object, told: object) -> None:
    assert tables._plain(value) == told


def test_times_that_python_does_not_have_come_from_postgresql(postgres_server: Server) -> None:
    """Only the row that has one is rejected."""
    url = postgres_server.database()
    query = (
        "SELECT sent AS at, 'a@s.example' AS recipient, 550 AS code, 'nan'::numeric AS \"X-N\" FROM (VALUES"
        " ('infinity'::timestamptz), ('0044-03-15 BC'), ('2026-11-20 10:00+09')) AS sent (sent)"
    )
    try:
        (block,) = tables.table_blocks("own", QueryConfig(url_env="OWN", query=query), {"OWN": url})
    finally:
        postgres_server.drop(url)
    found = parse.parse_lines(block, parse.Reading(tables.FORMAT, "UTC", date(2026, 12, 7), ""))
    assert [(event["line"], event["kind"]) for event in found if event["kind"] != "header"] == [
        (1, "rejected"),
        (2, "rejected"),
        (3, "attempt"),
    ]
    assert {event["reply"] for event in found if event["kind"] == "rejected"} == {"no such time"}
