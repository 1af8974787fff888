"""The ledger: what was decided and done about each mail. The only mutable truth, durable before it matters.

Opens the database, hands out read and write transactions, and applies groups of transitions. On SQLite every write
transaction and every checkpoint holds the flock `ledger.write`; reading goes on beside it. Never sends.
Raises StoreError for anything the database refuses, with the next step.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, make_url, select, text
from sqlalchemy.exc import SQLAlchemyError

from resend.errors import StoreError
from resend.stores import apply, registry
from resend.stores.engine import APPLICATION_ID, for_keys, postgres_engine, sqlite_engine, store_error, who_may
from resend.stores.failpoints import failpoint
from resend.stores.home import Home, private_opener
from resend.stores.rows import IncidentRecord, PlanRecord
from resend.stores.transitions import Result, Transition

if TYPE_CHECKING:
    from alembic.config import Config as AlembicConfig

HEAD = "0004"  # the newest migration; a test holds it equal to stores/migrations
_UPGRADE_LOCK = 0x62726C67  # pg_advisory_xact_lock: two hosts that open a new ledger at once


def open_ledger(url: str, home: Home, *, create: bool = True) -> Ledger:
    """Open the ledger of `home` (SQLite; url "" or sqlite:///PATH) or at `postgresql+psycopg://...`, schema upgraded.

    With `create=False` a ledger that is not there raises StoreError.
    """
    if url and not url.startswith("sqlite"):
        ledger = Ledger(postgres_engine(url), where=make_url(url).render_as_string(hide_password=True))
    else:
        path = Path(make_url(url).database or home.ledger_db) if url else home.ledger_db
        if not create and not path.exists():
            raise StoreError("there is no ledger yet", where=str(path), next_step="run 'resend incident open NAME'")
        if create and not url:
            home.create()
        if create and not path.exists():
            os.close(private_opener(str(path), os.O_CREAT | os.O_RDWR))
        ledger = Ledger(sqlite_engine(path), where=str(path), path=path)
    try:
        ledger.upgrade(create=create)
    except BaseException:
        ledger.close()
        raise
    return ledger


class Ledger:
    """An open ledger. Threads may share it: reads run beside each other, writes one after the other."""

    def __init__(self, engine: Engine, *, where: str, path: Path | None = None) -> None:
        self.where = where
        self.path = path  # of the SQLite file, None on PostgreSQL
        self._engine = engine
        self._writing = engine.execution_options(ledger_write=True)
        self._thread_lock = threading.Lock()  # flock does not keep threads that share a descriptor apart
        self._kept_lock = threading.Lock()
        self._kept: Connection | None = None  # what transitions are applied over; on SQLite whatever is written
        self._lock_fd = -1
        if path is not None:
            self._lock_fd = _open_lock(path.with_name("ledger.write"))

    @property
    def dialect(self) -> str:
        """'sqlite' or 'postgresql'."""
        return self._engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one consistent look on SQLite, statement by statement on PostgreSQL."""
        try:
            with self._engine.begin() as conn:
                yield conn
        except SQLAlchemyError as error:
            raise store_error(error, self.where) from error

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A read transaction that sees one state of everything, on both databases."""
        options: dict[str, object] = {} if self.path else {"isolation_level": "REPEATABLE READ"}
        try:
            with self._engine.execution_options(**options).begin() as conn:
                yield conn
        except SQLAlchemyError as error:
            raise store_error(error, self.where) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: all of it durable when the block ends, nothing of it when the block raises."""
        try:
            with self.transaction() as conn:
                yield conn
        except SQLAlchemyError as error:
            raise store_error(error, self.where) from error

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """As `write`, with the database's own errors: for LedgerWriter, which must tell them apart."""
        if self.path is not None:  # what one connection writes, the others have to read anew
            with self._applying() as conn:
                yield conn
            return
        with self._writing.begin() as conn:
            yield conn
            failpoint("ledger.mid_commit")

    @contextmanager
    def _applying(self) -> Iterator[Connection]:
        """As `transaction`, over one connection that is kept and set up for rows by their keys (stores/engine)."""
        with self._kept_lock, self.writers_turn():
            if self._kept is None or self._kept.invalidated:
                self._let_go()
                self._kept = self._engine.connect()
                for_keys(self._kept)
            with self._kept.begin():
                yield self._kept
                failpoint("ledger.mid_commit")

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    @contextmanager
    def writers_turn(self) -> Iterator[None]:
        """Hold `ledger.write` (SQLite); nothing to hold on PostgreSQL. Not re-entrant."""
        if self.path is None:
            yield
            return
        with self._thread_lock:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def apply(self, transitions: Sequence[Transition]) -> list[Result]:
        """Apply a group in one transaction, in order; one result each. On return all is durable."""
        try:
            return self.apply_raw(transitions)
        except SQLAlchemyError as error:
            raise store_error(error, self.where) from error

    def apply_raw(self, transitions: Sequence[Transition]) -> list[Result]:
        """As `apply`, with the database's own errors."""
        try:
            with self._applying() as conn:
                return apply.set_wise(conn, transitions)
        except apply.Unexpected:  # some row is not where its transition wants it: find out which, one by one
            with self._applying() as conn:
                return apply.one_by_one(conn, transitions)

    def incidents(self) -> list[IncidentRecord]:
        """All incidents, the oldest first."""
        with self.read() as conn:
            return registry.incidents(conn)

    def add_incident(self, record: IncidentRecord) -> None:
        with self.write() as conn:
            registry.add_incident(conn, record)

    def close_incident(self, incident_id: str, *, now: datetime) -> None:
        with self.write() as conn:
            registry.close_incident(conn, incident_id, now=now)

    def plans(self) -> list[PlanRecord]:
        """All plans, the oldest first."""
        with self.read() as conn:
            return registry.plans(conn)

    def wal_bytes(self) -> int:
        """Size of SQLite's write-ahead log; 0 on PostgreSQL."""
        if self.path is None:
            return 0
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except OSError:
            return 0

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database as far as readers allow (PASSIVE), holding `ledger.write`.

        Raises StoreError.
        """
        if self.path is None:
            return
        with self.writers_turn(), self._engine.connect() as conn:
            raw = conn.connection.dbapi_connection
            assert raw is not None
            try:
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error as error:
                step = (
                    "free space on the disk, then run 'resend check'" if "full" in str(error) else "run 'resend check'"
                )
                raise StoreError(f"checkpoint: {error}", where=self.where, next_step=step) from error

    def upgrade(self, *, create: bool = True) -> None:
        """Bring the schema to HEAD; a ledger of a newer program is refused."""
        with self.read() as conn:
            if self._revision(conn) == HEAD:
                return
        with self.write() as conn:
            if self.path is None:
                conn.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _UPGRADE_LOCK})
            revision = self._revision(conn)
            if revision == HEAD:
                return
            if not revision and not create:
                raise StoreError(
                    "there is no ledger yet", where=self.where, next_step="run 'resend incident open NAME'"
                )
            self._migrate(conn, revision)

    def close(self) -> None:
        """Checkpoint what is left and let go of every connection."""
        try:
            if self.wal_bytes():
                self.checkpoint()
            with self.writers_turn():  # SQLite checkpoints when its last connection closes
                self._let_go()
                self._engine.dispose()
        except SQLAlchemyError as error:
            raise store_error(error, self.where) from error
        finally:
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1
                self.path = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _revision(self, conn: Connection) -> str:
        if not inspect(conn).has_table("alembic_version"):
            return ""
        return str(conn.execute(select(text("version_num")).select_from(text("alembic_version"))).scalar() or "")

    def _migrate(self, conn: Connection, revision: str) -> None:
        from alembic import command
        from alembic.script import ScriptDirectory

        config = alembic_config()
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if revision and revision not in known:
            raise StoreError(
                f"the ledger was made by a newer version (revision {revision})",
                where=self.where,
                next_step="upgrade bulk-resend",
            )
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
        if self.path is not None:
            conn.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def _open_lock(path: Path) -> int:
    """Its descriptor. A command that root once ran by mistake leaves a file that nobody else may open."""
    try:
        return private_opener(str(path), os.O_RDWR | os.O_CREAT)
    except PermissionError as error:
        raise StoreError(f"cannot lock: {error.strerror}", where=str(path), next_step=who_may(path)) from None


def alembic_config() -> AlembicConfig:
    """Alembic's view of the migrations that ship with the package."""
    from alembic.config import Config as AlembicConfig

    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config
