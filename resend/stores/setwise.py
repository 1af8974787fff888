"""Many rows in one statement: Python rows become a table that SQL reads, on both databases.

`json_rows` is that table as one JSON parameter: one statement serves any number of rows. `Setwise` is for the
statements of every single mail: compiled once and run as the driver's own text, because SQLAlchemy's way from a
statement to its text costs more than the statement; SQLite, which is no round trip away, runs it row by row, because
it updates from a table by way of a second one. Also the database's own clock as time text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from operator import itemgetter
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Float,
    Insert,
    Integer,
    Subquery,
    Text,
    Update,
    bindparam,
    cast,
    column,
    func,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from resend.stores.engine import on_driver

_TYPES: dict[type, type[Text] | type[Integer] | type[Float[float]]] = {str: Text, int: Integer, float: Float}
_WHOLE = {"render_postcompile": True}  # lists of constants written out
_GIVEN = "given_"  # before the names of the parameters that are cells of a row
DB_NOW_TEXT = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


def json_rows(dialect: str, name: str, *, few: bool = False, **columns: type) -> Subquery:
    """A table `name` with these columns (str, int or float), read from the parameter `name` that `dump` makes.

    `few`: so few rows that PostgreSQL shall look up what belongs to each by its key. It guesses a hundred, for which it
    reads a whole table that was small when the statement was planned.
    """
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
    rows = select(*cells).select_from(source)
    if few and dialect != "sqlite":  # a comparison of which it knows nothing: it then expects one row
        first = source.c.value.op("->>")(literal_column("0"))
        rows = rows.where(first.concat(literal_column("''")) == first)
    return rows.subquery(name)


Row = Sequence[str | int | float | None]


class Given(Protocol):
    """The columns of given rows, as a statement names them: `given.c.key` or `given.c["key"]`."""

    @property
    def c(self) -> Any: ...


class _Cells:
    """The columns of one row as parameters of the statement."""

    def __init__(self, columns: dict[str, type]) -> None:
        self._cells = {name: bindparam(_GIVEN + name, type_=_TYPES[kind]) for name, kind in columns.items()}

    @property
    def c(self) -> Any:
        return self

    def __getattr__(self, name: str) -> ColumnElement[Any]:
        return self._cells[name]

    def __getitem__(self, name: str) -> ColumnElement[Any]:
        return self._cells[name]


class Setwise:
    """An UPDATE or INSERT over given rows. `build` makes it of the dialect's name and the rows, a table `name`.

    On SQLite the statement runs once for each row, whose columns are then parameters and no table to join.
    """

    def __init__(self, name: str, columns: dict[str, type], build: Callable[[str, Given], Update | Insert]) -> None:
        self._name = name
        self._columns = columns
        self._build = build
        self._by_row: tuple[str, Callable[[Row], Row]] | None = None
        self._at_once: tuple[str, dict[str, Any]] | None = None

    def run(self, conn: Connection, rows: Sequence[Row]) -> int:
        """Run it; how many rows of the database it changed."""
        if conn.dialect.name == "sqlite":
            told, cells = self._by_row or self._compile_row(conn.dialect)
            return int(on_driver(conn, told, map(cells, rows)).rowcount)
        told, named = self._at_once or self._compile_json(conn.dialect)
        return conn.exec_driver_sql(told, {**named, self._name: dump(rows)}).rowcount

    def text(self, dialect: Dialect) -> str:
        """The statement, for a test that reads its plan."""
        return (self._compile_row(dialect) if dialect.name == "sqlite" else self._compile_json(dialect))[0]

    def _compile_json(self, dialect: Dialect) -> tuple[str, dict[str, Any]]:
        """The text where the rows are one JSON parameter, and its constants by name."""
        given = json_rows(dialect.name, self._name, few=True, **self._columns)
        made = self._build(dialect.name, given).compile(dialect=dialect, compile_kwargs=_WHOLE)
        named = {name: _plain(value) for name, value in made.params.items() if name != self._name}
        self._at_once = str(made), named
        return self._at_once

    def _compile_row(self, dialect: Dialect) -> tuple[str, Callable[[Row], Row]]:
        """The text for one row, its constants written out; and which cells of a row it wants, in its order."""
        made = self._build(dialect.name, _Cells(self._columns)).compile(dialect=dialect, compile_kwargs=_WHOLE)
        names = list(self._columns)
        literals = dialect.statement_compiler(dialect, None)
        pieces = str(made).split("?")
        order = made.positiontup or []
        if len(pieces) != len(order) + 1:
            raise AssertionError(f"a question mark in a constant of {self._build.__name__}")
        told, wanted = pieces[0], []
        for name, piece in zip(order, pieces[1:], strict=True):
            if name.startswith(_GIVEN):
                wanted.append(names.index(name.removeprefix(_GIVEN)))
                told += "?" + piece
            else:
                value = _plain(made.params[name])
                value = int(value) if isinstance(value, bool) else value
                told += literals.render_literal_value(value, _TYPES[type(value)]()) + piece
        self._by_row = told, itemgetter(*wanted)
        return self._by_row


def _plain(value: Any) -> Any:
    """A constant as the driver takes it at once: a str, not one of its kinds."""
    return value.value if isinstance(value, Enum) else value


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


def is_in(dialect: str, state: ColumnElement[str], value: str) -> ColumnElement[bool]:
    """Whether a row that was found by its key is in this state; on PostgreSQL never a way to find it."""
    return (state if dialect == "sqlite" else state.concat(literal(""))) == value


def db_now(conn: Connection) -> str | None:
    """PostgreSQL's clock as text; None on SQLite, whose host's clock the caller already has."""
    if conn.dialect.name == "sqlite":
        return None
    return str(conn.execute(select(pg_now())).scalar_one())
