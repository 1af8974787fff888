"""Runs one SELECT in a database of somebody else's: any SQLAlchemy URL, read-only.

The URL comes from the environment variable that the configuration names, never from a file or a flag. Changes nothing
there: read-only where the database can be told so, one SELECT, rolled back at the end. A value that Python cannot hold
(SQLite's text that is no UTF-8, PostgreSQL's times beyond the year 9999) comes as text, and stops no query. Raises
ConfigError, InputError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from resend.config import QueryConfig
from resend.errors import ConfigError, InputError

_READS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:select|with|values|table)\b", re.IGNORECASE | re.DOTALL)
_CHUNK = 5_000  # rows fetched at once


@dataclass(frozen=True, slots=True)
class Selected:
    """The rows of a query, to be read once: column names, rows, and where they are from without its password."""

    names: tuple[str, ...]
    rows: Iterator[Sequence[Any]]
    source: str


@contextmanager
def selected(config: QueryConfig, environ: Mapping[str, str], *, where: str) -> Iterator[Selected]:
    """The rows of the query of `where` (a section of the configuration), as long as the context lasts."""
    url = environ.get(config.url_env, "")
    if not url:
        raise ConfigError(
            f"the variable {config.url_env or 'url_env'} holds no database URL",
            where=where,
            next_step="set url_env to the name of a variable, and that variable to a SQLAlchemy URL",
        )
    if not _READS.match(config.query):
        raise ConfigError("the query is not a SELECT", where=where, next_step="write one that only reads")
    try:
        engine = create_engine(_read_only(make_url(url)), hide_parameters=True)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        reason = type(error).__name__ if isinstance(error, ValueError | ArgumentError) else str(error)
        raise ConfigError(f"no usable database URL: {reason}", where=f"{where} {config.url_env}") from None
    try:
        with engine.connect() as connection:
            _refuse_writes(connection)
            _take_any_value(connection)
            result = connection.execution_options(stream_results=True, yield_per=_CHUNK).execute(text(config.query))
            yield Selected(
                tuple(result.keys()), iter(result), f"{where} {make_url(url).render_as_string(hide_password=True)}"
            )
            connection.rollback()
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise InputError(
            f"the query failed: {cause}", where=where, next_step="try it with the database's own client"
        ) from None
    finally:
        engine.dispose()


def _read_only(url: URL) -> URL:
    """SQLite files are opened read-only, so that a mistyped name makes no empty database."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return url
    if url.database.startswith("file:"):
        return url
    return url.set(database=f"file:{url.database}", query={**url.query, "mode": "ro", "uri": "true"})


def _refuse_writes(connection: Connection) -> None:
    match connection.dialect.name:
        case "postgresql" | "mysql" | "mariadb" | "oracle":
            connection.execute(text("SET TRANSACTION READ ONLY"))
        case "sqlite":
            connection.execute(text("PRAGMA query_only = ON"))
        case _:  # no portable way: the query was checked to be a SELECT, and nothing is committed
            pass


def _take_any_value(connection: Connection) -> None:
    held: Any = connection.connection.driver_connection
    match connection.dialect.name, connection.dialect.driver:
        case "sqlite", "pysqlite":
            held.text_factory = lambda data: data.decode("utf-8", "replace")
        case "postgresql", "psycopg":
            for name, loader in _psycopg_loaders():
                held.adapters.register_loader(name, loader)
        case _:  # no way known
            pass


def _psycopg_loaders() -> Iterator[tuple[str, type[Any]]]:
    """Loaders of times that give PostgreSQL's own text (`infinity`, `0044-03-15 BC`) where Python has no such time."""
    from psycopg import DataError  # only where a PostgreSQL is read
    from psycopg.types import datetime as times

    for name, known in (
        ("date", times.DateLoader),
        ("timestamp", times.TimestampLoader),
        ("timestamptz", times.TimestamptzLoader),
    ):

        def load(self: Any, data: Any, known: Any = known) -> Any:
            try:
                return known.load(self, data)
            except DataError:
                return bytes(data).decode("utf-8", "replace")

        yield name, type(f"Any{known.__name__}", (known,), {"load": load})
