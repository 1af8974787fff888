"""Many rows in one statement: Python rows become one JSON parameter that SQL reads as a table, on both databases.

One cached statement serves any number of rows. Also the database's own clock as time text. Does no IO.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    Subquery,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

_TYPES: dict[type, type[Text] | type[Integer] | type[Float[float]]] = {str: Text, int: Integer, float: Float}
DB_NOW_TEXT = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


def json_rows(dialect: str, name: str, **columns: type) -> Subquery:
    """A table `name` with these columns (str, int or float), read from the parameter `name` that `dump` makes."""
    parameter = bindparam(name, type_=Text)
    if dialect == "sqlite":
        source = func.json_each(parameter).table_valued(column("value", Text), name=f"{name}_json")
        cells: list[ColumnElement[Any]] = [
            func.json_extract(source.c.value, literal_column(f"'$[{index}]'"), type_=_TYPES[kind]).label(label)
            for index, (label, kind) in enumerate(columns.items())
        ]
    else:
        source = (
            func.jsonb_array_elements(cast(parameter, JSONB))
            .table_valued(column("value", JSONB), name=f"{name}_json")
            .render_derived()
        )
        cells = [
            cast(source.c.value.op("->>")(literal_column(str(index))), _TYPES[kind]).label(label)
            for index, (label, kind) in enumerate(columns.items())
        ]
    return select(*cells).select_from(source).subquery(name)


def dump(rows: Iterable[Sequence[Any]]) -> str:
    """Rows of str, int, float or None as the parameter of `json_rows`."""
    return json.dumps(list(rows), ensure_ascii=True, separators=(",", ":"))


def clean(value: str) -> str:
    """Text from outside as both databases store it: no NUL, no lone surrogate."""
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def pg_now(plus_s: float | None = None) -> ColumnElement[str]:
    """PostgreSQL's clock (not the transaction's start) as ledger time text, plus so many seconds."""
    at: ColumnElement[Any] = func.clock_timestamp()
    if plus_s is not None:
        at = at + text(f"interval '{float(plus_s)} seconds'")
    return func.to_char(func.timezone("UTC", at), DB_NOW_TEXT, type_=Text)


def db_now(conn: Connection) -> str | None:
    """PostgreSQL's clock as text; None on SQLite, whose host's clock the caller already has."""
    if conn.dialect.name == "sqlite":
        return None
    return str(conn.execute(select(pg_now())).scalar_one())
