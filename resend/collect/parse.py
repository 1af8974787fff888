"""Parses one block of lines to events: the same SQL for a file of last year and for a line written just now.

Every line is accounted: parsed, ignored or rejected. Bytes that are no text (invalid UTF-8, NUL) become `?` or U+FFFD
and lines keep their numbers. Runs in worker processes; holds one DuckDB connection each. Raises nothing for bad lines.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import duckdb

from resend.stores import sql

VERSION = "postfix-1"  # rises when the same bytes would give other events
MAX_LINE = 1 << 20  # characters; what is longer is no Postfix line (they end at 2,000) and is kept cut
_CONTROLS = bytes.maketrans(b"\x00\x01\x02\r", b"??? ")


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read the times of a source: IANA zone, and the day of its last change there (for a missing year)."""

    format: str
    zone: str
    last_day: datetime
    host: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """Accounting of one block. Times in microseconds UTC, None where no event."""

    lines: int
    parsed: int
    rejected: int
    first_at: int | None
    last_at: int | None
    hosts: tuple[str, ...]

    @property
    def ignored(self) -> int:
        return self.lines - self.parsed - self.rejected


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    return sql.connect(memory_limit="768MiB", threads=1)


def clean(data: bytes) -> bytes:
    """Bytes that DuckDB reads as one line each: valid UTF-8, no NUL, no CR, no empty line."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    data = data.translate(_CONTROLS)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        data = data.decode("utf-8", "replace").encode()
    if data.startswith(b"\n"):
        data = b" " + data
    while b"\n\n" in data:
        data = data.replace(b"\n\n", b"\n \n")
    if len(data) > MAX_LINE and max(map(len, data.split(b"\n"))) > MAX_LINE:
        data = b"\n".join(line[:MAX_LINE].decode("utf-8", "ignore").encode() for line in data.split(b"\n"))
    return data


def _load(con: duckdb.DuckDBPyConnection, data: bytes, reading: Reading) -> int:
    cleaned = clean(data)
    if not cleaned.endswith(b"\n"):
        cleaned += b"\n"
    with tempfile.NamedTemporaryFile(suffix=".log") as handle:
        handle.write(cleaned)
        handle.flush()
        con.execute(
            "CREATE OR REPLACE TEMP TABLE lines AS SELECT row_number() OVER ()::UINTEGER AS line, text FROM read_csv("
            f"{sql.quote(handle.name)}, header = false, auto_detect = false, delim = chr(1), quote = '', escape = '',"
            " comment = '', columns = {'text': 'VARCHAR'}, nullstr = chr(2), parallel = false, new_line = '\\n',"
            " strict_mode = false, max_line_size = 16777216)"
        )
    sql.set_params(
        con,
        {
            "ref_year": reading.last_day.year,
            "ref_month": reading.last_day.month,
            "ref_day": reading.last_day.day,
            "zone": reading.zone,
            "host": reading.host,
        },
    )
    row = con.execute("SELECT count(*) FROM lines").fetchone()
    assert row is not None
    return int(row[0])


def parse_block(data: bytes, reading: Reading, out: Path) -> Parsed:
    """Write the events of `data` to the Parquet file `out`; the accounting of its lines."""
    con = _connection()
    lines = _load(con, data, reading)
    con.execute(
        f"COPY ({sql.load('collect/' + reading.format)}) TO {sql.quote(out)} (FORMAT parquet, COMPRESSION zstd)"
    )
    row = con.execute(
        "SELECT count(*) FILTER (WHERE kind <> 'rejected'), count(*) FILTER (WHERE kind = 'rejected'),"
        " min(at_us) FILTER (WHERE kind <> 'rejected'), max(at_us) FILTER (WHERE kind <> 'rejected'),"
        " coalesce(list(DISTINCT host ORDER BY host) FILTER (WHERE kind <> 'rejected'), [])"
        f" FROM read_parquet({sql.quote(out)})"
    ).fetchone()
    assert row is not None
    con.execute("DROP TABLE lines")
    return Parsed(lines, row[0], row[1], row[2], row[3], tuple(row[4]))


def parse_lines(data: bytes, reading: Reading) -> list[dict[str, object]]:
    """Events of a few lines as dicts of the event columns, for following a log live."""
    con = _connection()
    _load(con, data, reading)
    cursor = con.execute(sql.load("collect/" + reading.format) + "\nORDER BY line")
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
