"""Reads catalog rows from a database: any SQLAlchemy URL and one query, read-only.

The URL comes from the environment variable that the configuration names, never from a file or a flag. Changes nothing
there: read-only where the database can be told so, one SELECT, rolled back at the end. Raises ConfigError, InputError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

import duckdb
from sqlalchemy import Connection, CursorResult, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from resend.config import QueryConfig
from resend.errors import ConfigError, InputError
from resend.stores.catalog_rows import Raw, Shape, check_header, fill, text_of

_READS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:select|with|values|table)\b", re.IGNORECASE | re.DOTALL)
_CHUNK = 5_000  # rows fetched at once


def read_query(con: duckdb.DuckDBPyConnection, shape: Shape, config: QueryConfig, environ: Mapping[str, str]) -> Raw:
    """Run `[catalog.<kind>]`'s query and fill `raw`. Row numbers count from 1, as the query returns them."""
    where = f"[catalog.{shape.kind}]"
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
            result = connection.execution_options(stream_results=True, yield_per=_CHUNK).execute(text(config.query))
            names = list(result.keys())
            unknown = check_header(shape, names, where)
            count = fill(con, shape, _rows(result, names))
            connection.rollback()
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise InputError(
            f"the query failed: {cause}", where=where, next_step="try it with the database's own client"
        ) from None
    finally:
        engine.dispose()
    return Raw(
        source=f"{where} {make_url(url).render_as_string(hide_password=True)}",
        rows=count,
        unknown=unknown,
        locate=lambda ns: {n: f"{where} row {n}" for n in ns},
    )


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


def _rows(result: CursorResult[Any], names: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    for number, row in enumerate(result, start=1):
        yield number, {name: _text(value) for name, value in zip(names, row, strict=True)}


def _text(value: object) -> str:
    if isinstance(value, datetime):  # without a zone it stays without one and is rejected like in a file
        return value.isoformat(sep="T")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return text_of(value)
