"""Opens the ledger's database, SQLite or PostgreSQL, with the settings on which its promises rest.

SQLite: driver autocommit with explicit BEGIN (IMMEDIATE to write), WAL, synchronous=FULL, no automatic checkpoint; each
is read back on every connection. PostgreSQL: synchronous_commit is on. Raises StoreError where a setting does not take,
the file is not a ledger, or lies on a network file system.
"""

from __future__ import annotations

import os
import pwd
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from resend.errors import ConfigError, StoreError
from resend.stores.failpoints import number
from resend.stores.mounts import MOUNTS, NETWORK, file_system

APPLICATION_ID = 0x62726C67  # "brlg" in the SQLite header: this file is a bulk-resend ledger
_BUSY_MS = 5000
_IDLE_MS = int(number("idle_s", 15.0) * 1000)  # of a write transaction on PostgreSQL; well within a lease
_WAL_LEFT = 32 * 1024 * 1024  # bytes of write-ahead log that stay: a commit that makes the file longer takes longer
_RESTORE = "restore it from a backup; do not start a new one over it, or mail may be sent twice"
_WRITABLE = "check owner, mode and mount of the file and its directory: it is opened for writing, also to be read"


def sqlite_engine(path: Path) -> Engine:
    """Engine over a local SQLite file; every connection is set up and checked."""
    _refuse_network(path)
    _refuse_foreign(path)
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        connect_args={"check_same_thread": False, "timeout": _BUSY_MS / 1000},
        pool_size=4,
        max_overflow=4,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def postgres_engine(url: str) -> Engine:
    """Engine over `postgresql+psycopg://...`."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "not a database URL", where="ledger.url", next_step="write it like postgresql+psycopg://host/name"
        ) from None
    if parsed.drivername != "postgresql+psycopg":
        raise ConfigError(
            f"unknown kind of ledger {parsed.drivername!r}",
            where="ledger.url",
            next_step="leave it empty for SQLite in the home, or use postgresql+psycopg://host/name",
        )
    try:
        engine = create_engine(parsed, pool_size=4, max_overflow=4, pool_pre_ping=True)
    except ImportError:
        raise StoreError(
            "the PostgreSQL driver is not installed",
            where="ledger.url",
            next_step="pip install 'bulk-resend[postgres]'",
        ) from None
    event.listen(engine, "connect", _prepare_postgres)
    event.listen(engine, "begin", _begin_postgres)
    return engine


def is_sqlite(conn: Connection) -> bool:
    return conn.dialect.name == "sqlite"


def store_error(error: SQLAlchemyError, where: str) -> StoreError:
    """What a database error means to a person, with the next step."""
    text = str(error.orig).strip() if isinstance(error, DBAPIError) else str(error)
    text = text.splitlines()[0] if text else type(error).__name__
    if "database is locked" in text:
        step = "another process writes to it; try again when it is done"
    elif "malformed" in text or "not a database" in text:
        step = _RESTORE
    elif "full" in text:
        step = "free space on the disk, then run 'resend check'"
    elif "readonly" in text or "unable to open" in text:
        step = _WRITABLE
    elif "connect" in text or "server closed" in text or "terminat" in text:
        step = "see that the database server is up, then run the same command again"
    else:
        step = "run 'resend check'"
    return StoreError(text, where=where, next_step=step)


def _prepare_sqlite(raw: Any, _: object) -> None:
    raw.isolation_level = None  # the driver never begins a transaction by itself
    cursor = raw.cursor()
    try:
        for pragma, value, expected in (
            ("journal_mode", "WAL", "wal"),
            ("synchronous", "FULL", 2),
            ("wal_autocheckpoint", 0, 0),
            ("foreign_keys", "ON", 1),
            ("busy_timeout", _BUSY_MS, _BUSY_MS),
            ("journal_size_limit", _WAL_LEFT, _WAL_LEFT),
        ):
            cursor.execute(f"PRAGMA {pragma} = {value}")
            found = cursor.execute(f"PRAGMA {pragma}").fetchone()[0]
            if found != expected:
                raise StoreError(
                    f"SQLite refuses {pragma} = {value} (it is {found})",
                    where="ledger",
                    next_step="put the home on a local file system",
                )
        cursor.execute("PRAGMA cache_size = -65536")
        cursor.execute("PRAGMA temp_store = MEMORY")
    finally:
        cursor.close()


def _prepare_postgres(raw: Any, _: object) -> None:
    with raw.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
        cursor.execute("SET application_name TO 'bulk-resend'")
        cursor.execute("SET jit TO off")  # 15 ms to compile what runs in one, where the planner knows too little
    raw.commit()


def for_keys(conn: Connection) -> None:
    """Set up a connection that is kept for writing rows by their keys, and for nothing else.

    PostgreSQL then looks up each row by its key, by a plan that it makes once: it knows too little of a table that
    grows as it is written to, and would read all that is leased, or every try. Set for good, it costs no round trip.
    """
    conn.execution_options(ledger_write=True, settled=True)
    if not is_sqlite(conn):
        given = {"idle_in_transaction_session_timeout": str(_IDLE_MS), "plan_cache_mode": "force_generic_plan"}
        given |= dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "off")
        with conn.begin():
            for name, value in given.items():
                conn.exec_driver_sql(f"SET {name} TO '{value}'")


def _begin_postgres(conn: Connection) -> None:
    """A host that is stopped in the middle of a write holds locks that all others wait for: the server ends that."""
    options = conn.get_execution_options()
    if options.get("ledger_write") and not options.get("settled"):
        conn.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout TO '{_IDLE_MS}'")


def _begin(conn: Connection) -> None:
    on_driver(conn, "BEGIN IMMEDIATE" if conn.get_execution_options().get("ledger_write") else "BEGIN")


def on_driver(conn: Connection, told: str, rows: Iterable[Sequence[Any]] | None = None) -> Any:
    """Run SQLite's own text on its driver, once or for each of the rows; the driver's cursor.

    What SQLAlchemy does around a statement of every mail takes longer than the statement. Raises what it would raise.
    """
    raw: Any = conn.connection.dbapi_connection
    try:
        return raw.execute(told) if rows is None else raw.executemany(told, rows)
    except sqlite3.Error as error:
        raise DBAPIError.instance(told, None, error, sqlite3.Error, dialect=conn.dialect) from error


def _refuse_network(path: Path, mounts: Path = MOUNTS) -> None:
    """Other systems than Linux are not judged."""
    kind = file_system(path.parent.resolve(), mounts)
    if kind in NETWORK:
        raise StoreError(
            f"the ledger lies on a network file system ({kind}), where locks cannot be trusted",
            where=str(path),
            next_step="put the home on a local disk, or set ledger.url to a PostgreSQL database",
        )


def who_may(path: Path) -> str:
    """The next step where a file of the ledger may not be opened: whose it is, where it is somebody else's."""
    with suppress(OSError):
        owner = path.stat().st_uid
        if owner != os.geteuid():
            return f"run the same command as {_name(owner)}, who owns it"
    return _WRITABLE


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _refuse_foreign(path: Path) -> None:
    """A file that is there must be an SQLite database, and ours or empty."""
    try:
        head = path.open("rb").read(100) if path.exists() else b""
    except OSError as error:
        raise StoreError(f"cannot read: {error.strerror}", where=str(path), next_step=who_may(path)) from None
    if not head:
        return
    if not head.startswith(b"SQLite format 3\0") or len(head) < 100:
        raise StoreError(
            "not an SQLite database", where=str(path), next_step="move the file away, or choose another home"
        )
    con = None
    try:
        con = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=_BUSY_MS / 1000)
        ours = con.execute("PRAGMA application_id").fetchone()[0] in (0, APPLICATION_ID)
        tables = {row[0] for row in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        shut = "readonly" in str(error) or "unable to open" in str(error)  # nothing is wrong with the ledger
        what = f"cannot read the ledger: {error}"
        if shut and not os.access(path.parent, os.W_OK):
            what = "the ledger cannot be read where nothing may be written: what is new in it lies in a log beside it"
        raise StoreError(what, where=str(path), next_step=who_may(path) if shut else _RESTORE) from None
    finally:
        if con is not None:
            con.close()
    if not ours or (tables and "alembic_version" not in tables):
        raise StoreError(
            "an SQLite database of another program",
            where=str(path),
            next_step="move the file away, or choose another home",
        )
