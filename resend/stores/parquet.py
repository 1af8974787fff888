"""Writes rows of Python into a Parquet file while they are made: text through a pipe, which DuckDB reads in a thread.

DuckDB lets Python go on while it reads, compresses and writes, so that both cores work and no second copy of the rows
is kept. Text, because DuckDB takes rows one by one slowly, and pandas or pyarrow are no dependencies of ours. The pipe
is named by /dev/fd. Raises what making the rows raises, and DuckDB's error; the file is then not whole.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import duckdb

from resend.stores import sql

_ROW_GROUP = 8_192  # rows: a reader that wants one batch reads little else
_CHUNK = 2_048  # rows of one piece of text
_LINE_MAX = 4 << 20  # bytes; attributes of a recipient are at most 64 KiB
# Control characters, which hardly any text holds: what holds one is quoted, the rest is written as it is.
_BETWEEN, _END, _QUOTE, _NULL = "\x1f", "\n", "\x1e", "\x1d"
_ODD = ("\r", _QUOTE, _NULL)


def write_parquet(
    con: duckdb.DuckDBPyConnection, path: Path, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]
) -> int:
    """Write tuples of str, int, bool and float (never None) in the order given; the count. `columns`: name -> type."""
    types = ", ".join(f"{sql.quote(name)}: {sql.quote(kind)}" for name, kind in columns.items())
    source, sink = os.pipe()
    query = (
        f"COPY (SELECT * FROM read_csv('/dev/fd/{source}', columns = {{{types}}}, auto_detect = false, header = false,"
        f" delim = {sql.quote(_BETWEEN)}, quote = {sql.quote(_QUOTE)}, escape = {sql.quote(_QUOTE)}, new_line = '\\n',"
        f" nullstr = {sql.quote(_NULL)}, allow_quoted_nulls = false, max_line_size = {_LINE_MAX}))"
        f" TO {sql.quote(path)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
    )

    def read() -> None:
        try:
            con.execute(query)
        finally:
            os.close(source)  # whoever still writes is told at once

    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read)
        try:
            with os.fdopen(sink, "wb") as out:
                count = _write(out, len(columns), rows)
        except BrokenPipeError:
            reading.result()  # says why
            raise
        reading.result()
    return count


def _write(out: BinaryIO, width: int, rows: Iterable[Sequence[Any]]) -> int:
    count, source = 0, iter(rows)
    form = _BETWEEN.join(["%s"] * width)
    while chunk := list(islice(source, _CHUNK)):
        count += len(chunk)
        text = _END.join(map(form.__mod__, chunk)) + _END
        if text.count(_END) != len(chunk) or text.count(_BETWEEN) != len(chunk) * (width - 1) or _any(_ODD, text):
            text = _quoted(chunk)
        out.write(text.encode("utf-8", "replace"))
    return count


def _any(parts: Iterable[str], text: str) -> bool:
    return any(part in text for part in parts)


def _quoted(rows: Iterable[Sequence[Any]]) -> str:
    """The same text with quotes around what needs them."""
    out = io.StringIO()
    csv.writer(out, delimiter=_BETWEEN, quotechar=_QUOTE, lineterminator=_END, quoting=csv.QUOTE_ALL).writerows(rows)
    return out.getvalue()
