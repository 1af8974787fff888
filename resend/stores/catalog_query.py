"""Reads catalog rows from a database: the query of `[catalog.<kind>]`, by way of database_query.py, read-only.

Raises ConfigError, InputError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import duckdb

from resend.config import QueryConfig
from resend.stores.catalog_rows import Raw, Shape, check_header, fill, text_of
from resend.stores.database_query import selected


def read_query(con: duckdb.DuckDBPyConnection, shape: Shape, config: QueryConfig, environ: Mapping[str, str]) -> Raw:
    """Run `[catalog.<kind>]`'s query and fill `raw`. Row numbers count from 1, as the query returns them."""
    where = f"[catalog.{shape.kind}]"
    with selected(config, environ, where=where) as found:
        names = list(found.names)
        unknown = check_header(shape, names, where)
        count = fill(con, shape, _rows(found.rows, names))
    return Raw(
        source=found.source,
        rows=count,
        unknown=unknown,
        locate=lambda ns: {n: f"{where} row {n}" for n in ns},
    )


def _rows(rows: Iterable[Sequence[Any]], names: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    for number, row in enumerate(rows, start=1):
        yield number, {name: _text(value) for name, value in zip(names, row, strict=True)}


def _text(value: object) -> str:
    if isinstance(value, datetime):  # without a zone it stays without one and is rejected like in a file
        return value.isoformat(sep="T")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return text_of(value)
