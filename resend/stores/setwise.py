"""Many rows in one statement: Python rows become a table that SQL reads, on both databases.

`json_rows` is that table as one JSON parameter: one statement serves any number of rows. `Setwise` is for the
statements of every single mail: compiled once and run as the driver's own text, because SQLAlchemy's way from a
statement to its text costs more than the statement; on SQLite its rows are bound one by one, because reading JSON there
costs as much again. Also the database's own clock as time text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from itertools import chain
from typing import Any, NamedTuple

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

_TYPES: dict[type, type[Text] | type[Integer] | type[Float[float]]] = {str: Text, int: Integer, float: Float}
_WHOLE = {"render_postcompile": True}  # lists of constants written out
_MOST = 32  # rows of one statement on SQLite; times columns they stay within its limit of parameters (32,766)
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


Row = Sequence[str | int | float | None]


class _Compiled(NamedTuple):
    """Text for the driver, and its constants: those before and after the rows, or all of them by name."""

    text: str
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    named: dict[str, Any]


class Setwise:
    """An UPDATE or INSERT over given rows. `build` makes it of the dialect's name and the rows as a table `name`.

    The statement must pass over rows whose first column is NULL: they fill up the number of rows that it has.
    """

    def __init__(self, name: str, columns: dict[str, type], build: Callable[[str, Subquery], Update | Insert]) -> None:
        self._name = name
        self._columns = columns
        self._build = build
        self._compiled: dict[tuple[str, int], _Compiled] = {}

    def run(self, conn: Connection, rows: Sequence[Row]) -> int:
        """Run it; how many rows of the database it changed."""
        if conn.dialect.name != "sqlite":
            known = self.statement(conn.dialect, 0)
            return conn.exec_driver_sql(known.text, {**known.named, self._name: dump(rows)}).rowcount
        changed = 0
        for at in range(0, len(rows), _MOST):
            part = rows[at : at + _MOST]
            size = 1 << (len(part) - 1).bit_length()  # few sizes: few statements to keep ready
            known = self.statement(conn.dialect, size)
            empty = (None,) * ((size - len(part)) * len(self._columns))
            cells = (*known.before, *chain.from_iterable(part), *empty, *known.after)
            changed += conn.exec_driver_sql(known.text, cells).rowcount
        return changed

    def statement(self, dialect: Dialect, size: int) -> _Compiled:
        """The text for `size` rows with its constants; size 0: the rows are one JSON parameter."""
        known = self._compiled.get((dialect.name, size))
        if known is None:
            known = self._compile_json(dialect) if not size else self._compile(dialect, size)
            self._compiled[dialect.name, size] = known
        return known

    def _compile_json(self, dialect: Dialect) -> _Compiled:
        given = json_rows(dialect.name, self._name, **self._columns)
        made = self._build(dialect.name, given).compile(dialect=dialect, compile_kwargs=_WHOLE)
        named = {name: _plain(value) for name, value in made.params.items() if name != self._name}
        return _Compiled(str(made), (), (), named)

    def _compile(self, dialect: Dialect, size: int) -> _Compiled:
        given_as = {name: f"{self._name}_{name}" for name in self._columns}  # not the name of a column that is set
        row = select(
            *(bindparam(given_as[name], type_=_TYPES[kind]).label(name) for name, kind in self._columns.items())
        )
        made = self._build(dialect.name, row.subquery(self._name)).compile(dialect=dialect, compile_kwargs=_WHOLE)
        one = str(row.compile(dialect=dialect))
        head, given, tail = str(made).partition(one)
        order: list[Any] = list(made.positiontup or ())
        start = head.count("?")
        end = start + len(self._columns)
        if not given or one in tail or order[start:end] != list(given_as.values()):
            raise AssertionError(f"the rows of {self._name} do not stand in one place of the statement")
        before, after = ([_plain(made.params[name]) for name in part] for part in (order[:start], order[end:]))
        return _Compiled(head + " UNION ALL ".join([one] * size) + tail, tuple(before), tuple(after), {})


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


def by_key(conn: Connection) -> None:
    """For the rest of this transaction PostgreSQL looks up each given row by its key.

    It knows too little of a table that grows as it is written to, and would read all that is leased, or every try.
    """
    if conn.dialect.name != "sqlite":
        names = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
        conn.execute(select(*(func.set_config(name, "off", True) for name in names)))


def db_now(conn: Connection) -> str | None:
    """PostgreSQL's clock as text; None on SQLite, whose host's clock the caller already has."""
    if conn.dialect.name == "sqlite":
        return None
    return str(conn.execute(select(pg_now())).scalar_one())
