"""Reads the .sql files that ship with the package and runs them in DuckDB.

Every file opens with a header comment: purpose, parameters, columns. A query reads its parameters from a one-row table
`params`. Nothing here builds SQL from outside text: paths and names that reach SQL are quoted by `quote`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def sql_root() -> Path:
    """The folder `sql/`: inside the installed package, or beside it in a checkout."""
    inside = _PACKAGE / "sql"
    return inside if inside.is_dir() else _PACKAGE.parent / "sql"


@cache
def load(name: str) -> str:
    """Text of `sql/<name>.sql`, for example `load("outcome/10_suspects")`."""
    return (sql_root() / f"{name}.sql").read_text(encoding="utf-8")


def names(folder: str) -> list[str]:
    """Names of the queries in `sql/<folder>/`, in their order."""
    return [f"{folder}/{path.stem}" for path in sorted((sql_root() / folder).glob("*.sql"))]


def quote(text: str | Path) -> str:
    """A SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def connect(*, memory_limit: str = "2GiB", threads: int = 2, temp_dir: Path | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that loads no extension from outside and spills to `temp_dir`."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "threads": threads,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "preserve_insertion_order": True,
    }
    if temp_dir is not None:
        config["temp_directory"] = str(temp_dir)
    con = duckdb.connect(":memory:", config=config)
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET enable_progress_bar = false")  # else a process without a __file__ (a helper) draws one on stdout
    return con


def set_params(con: duckdb.DuckDBPyConnection, values: Mapping[str, object]) -> None:
    """(Re)create the one-row table `params` with one column per value."""
    columns = ", ".join(f'? AS "{name}"' for name in values)
    con.execute(f"CREATE OR REPLACE TEMP TABLE params AS SELECT {columns}", list(values.values()))


def create_table(
    con: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]
) -> int:
    """(Re)create temp table `table` (column -> DuckDB type) from Python rows; returns the row count.

    By way of a private JSON-lines file: DuckDB's row-by-row insert is slow, and pandas or pyarrow are no dependencies
    of ours. None becomes NULL, "" stays "", times go in as microseconds or text.
    """
    spec = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    con.execute(f"CREATE OR REPLACE TEMP TABLE {table} ({spec})")
    count = 0
    keys = [str(number) for number in range(len(columns))]  # short: they are written and read with every row
    encode = json.JSONEncoder(ensure_ascii=False).encode

    def lines() -> Iterator[str]:
        nonlocal count
        for row in rows:
            count += 1
            yield encode(dict(zip(keys, row, strict=True))) + "\n"

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8", errors="replace") as handle:
        handle.writelines(lines())
        handle.flush()
        if count:
            types = ", ".join(f"'{key}': {quote(kind)}" for key, kind in zip(keys, columns.values(), strict=True))
            con.execute(
                f"INSERT INTO {table} SELECT * FROM read_json({quote(handle.name)}, format = 'newline_delimited',"
                f" columns = {{{types}}}, maximum_object_size = 67108864)"
            )
    return count
