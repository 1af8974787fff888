"""Opening: schema, settings, and files that are no ledger of ours."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from resend.errors import ConfigError, StoreError
from resend.stores import ledger as ledger_module
from resend.stores.engine import _refuse_network
from resend.stores.home import Home
from resend.stores.ledger import Ledger, alembic_config, open_ledger
from resend.stores.tables import metadata
from tests import postgres
from tests.ledger.world import World
from tests.postgres import Server


def test_migrations_make_exactly_the_tables(ledger: Ledger) -> None:
    with ledger.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        for table in metadata.tables.values():
            made = {index["name"]: index["column_names"] for index in inspect(conn).get_indexes(table.name)}
            for index in table.indexes:
                assert made[index.name] == [column.name for column in index.columns]


def test_the_newest_migration_is_the_one_that_opening_asks_for() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == ledger_module.HEAD


def test_a_ledger_opens_again_with_what_is_in_it(ledger_url: str, home: Home) -> None:
    with open_ledger(ledger_url, home) as first:
        World(first).start()
    with open_ledger(ledger_url, home, create=False) as second, second.read() as conn:
        assert conn.execute(text("SELECT count(*) FROM delivery")).scalar() == 10


def test_a_ledger_that_is_not_there_is_said(home: Home) -> None:
    with pytest.raises(StoreError, match=r"no ledger yet.*resend incident open"):
        open_ledger("", home, create=False)


@pytest.mark.postgres
def test_an_empty_database_is_no_ledger_until_it_is_made_one(postgres_server: Server, home: Home) -> None:
    url = postgres_server.database()
    with pytest.raises(StoreError, match=r"no ledger yet.*resend incident open"):
        open_ledger(url, home, create=False)
    open_ledger(url, home).close()
    open_ledger(url, home, create=False).close()


def test_a_ledger_of_a_newer_program_is_refused(ledger_url: str, home: Home) -> None:
    with open_ledger(ledger_url, home) as first, first.write() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"newer version.*9999"):
        open_ledger(ledger_url, home)


@pytest.mark.parametrize("head", [b"hello, this is not a database at all" * 9, b"SQLite format 3\0", os.urandom(4096)])
def test_a_file_that_is_no_database_is_left_alone(home: Home, head: bytes) -> None:
    home.ledger_db.write_bytes(head)
    with pytest.raises(StoreError, match=r"move the file away|restore it"):
        open_ledger("", home)
    assert home.ledger_db.read_bytes() == head


def test_a_database_of_another_program_is_left_alone(home: Home) -> None:
    with sqlite3.connect(home.ledger_db) as con:
        con.execute("CREATE TABLE places (id INTEGER)")
    with pytest.raises(StoreError, match="another program"):
        open_ledger("", home)


def test_a_corrupt_ledger_says_so_with_the_next_step(home: Home) -> None:
    with open_ledger("", home) as first:
        World(first, count=500, size=100).start()
    size = home.ledger_db.stat().st_size
    with home.ledger_db.open("r+b") as handle:
        handle.seek(4096)
        handle.write(b"\xff" * (size - 4096))
    query = text("SELECT count(*), max(rcpt) FROM delivery WHERE reply = ''")
    with pytest.raises(StoreError, match="restore it from a backup"), open_ledger("", home) as broken:
        with_rows = broken.read()
        with with_rows as conn:
            conn.execute(query).all()


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql://x/y", "not a url", "oracle://"])
def test_an_unknown_kind_of_ledger_is_a_config_error(home: Home, url: str) -> None:
    with pytest.raises(ConfigError):
        open_ledger(url, home)


@pytest.mark.postgres
def test_a_server_that_does_not_answer_is_one_clear_line(home: Home) -> None:
    with pytest.raises(StoreError, match="database server is up") as caught:
        open_ledger("postgresql+psycopg://me:secret@127.0.0.1:1/ledger", home)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_sqlite_settings_hold_on_every_connection(home: Home) -> None:
    with open_ledger("", home) as opened:
        for context in (opened.read, opened.write, opened.snapshot):
            with context() as conn:
                for pragma, value in (
                    ("journal_mode", "wal"),
                    ("synchronous", 2),
                    ("wal_autocheckpoint", 0),
                    ("foreign_keys", 1),
                ):
                    assert conn.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value
        assert oct(home.ledger_db.stat().st_mode & 0o777) == "0o600"
        assert oct(home.ledger_write.stat().st_mode & 0o777) == "0o600"


def test_postgres_commits_synchronously(ledger: Ledger) -> None:
    if ledger.dialect == "sqlite":
        return
    with ledger.write() as conn:
        assert conn.execute(text("SHOW synchronous_commit")).scalar() == "on"


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    home = tmp_path / "with space"
    home.mkdir()
    point = str(home).replace(" ", "\\040")
    mounts.write_text(
        f"1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / {point} rw,relatime shared:1 - nfs4 server:/x rw,vers=4.2\n"
    )
    with pytest.raises(StoreError, match="network file system"):
        _refuse_network(home / "ledger.db", mounts)
    _refuse_network(tmp_path / "ledger.db", mounts)


def test_reading_goes_on_while_another_writes(ledger: Ledger) -> None:
    world = World(ledger).start()
    inside, done = threading.Event(), threading.Event()

    def write() -> None:
        with ledger.write() as conn:
            conn.execute(text("UPDATE delivery SET reason = 'x'"))
            inside.set()
            done.wait(10)

    writer = threading.Thread(target=write)
    writer.start()
    assert inside.wait(10)
    assert world.row(world.rows()[0].key)["reason"] == "", "a reader sees the last commit"
    done.set()
    writer.join()
    assert world.row(world.rows()[0].key)["reason"] == "x"


def test_what_raises_inside_a_write_leaves_nothing(ledger: Ledger) -> None:
    world = World(ledger).start()
    with pytest.raises(KeyError), ledger.write() as conn:
        conn.execute(text("UPDATE delivery SET reason = 'x'"))
        raise KeyError
    assert world.row(world.rows()[0].key)["reason"] == ""


def test_a_checkpoint_empties_the_log(home: Home) -> None:
    with open_ledger("", home) as opened:
        World(opened, count=500, size=100).start()
        assert opened.wal_bytes() > 100_000
        before = home.ledger_db.stat().st_size
        opened.checkpoint()
        assert home.ledger_db.stat().st_size > before


@pytest.mark.parametrize(("ci", "expected"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_a_server_tests_skip_but_fail_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, expected: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(postgres, "binaries", lambda: Path("/nowhere"))
    with pytest.raises(expected, match="PostgreSQL"):
        next(postgres.start_or_skip())
