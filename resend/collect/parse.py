"""Parses one block of a source to events: the same SQL for a file of last year and for a line written just now.

A block goes through at most three steps: mails become lines of JSON (mails.py), a wrapping is taken off the lines
(sql/collect/envelope), and the format's query makes events of them (sql/collect), one or several of a line.

Every line is accounted: parsed, ignored or rejected. Bytes that are no text (invalid UTF-8, NUL) become U+FFFD or `?`,
NULs before a line are left out, and lines keep their numbers. Runs in worker processes; holds one DuckDB connection
each. Raises nothing for bad lines.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import duckdb

from resend.collect.formats import Format, Input, envelopes, formats
from resend.model import EventKind
from resend.stores import sql
from resend.stores.evidence import WITHOUT_NULL
from resend.stores.home import private_opener

_LOGS = (Input.SYSLOG, Input.LINES)
USUAL_BYTES = 256 << 10  # of a block; fewer lines are read by the full query alone, as two cost more to plan
ALL = 255  # class of a line for which the full query needs the whole block
LINE_MAX = 1 << 20  # bytes; what is longer is no log line (Postfix ends them at 2,000) and is kept cut
_MEMORY = "768MiB"
_BLANK_RUN = re.compile(rb"\n{64,}")  # so many that reading without them pays
_MANY_BLANK = (b"\n" * 64, b"\r\n" * 64)
_NULS = re.compile(rb"^\x00+", re.MULTILINE)
_CONTROLS = bytes.maketrans(b"\x00\x01\x02\r", b"????")
_BOM = b"\xef\xbb\xbf"
# Filters pushed below the cheap words would compute those words once for each filter (measured: 40 % slower); a list of
# words made a join costs more than looking through the list (a quarter of a delivery table's time).
_KEEP_ORDER = "filter_pushdown,cte_filter_pusher,in_clause"
# In queries of logs the smaller side of a join is the right one. The optimizer takes the distinct times for as many
# as the lines, and puts the lines in the hash table (measured: a tenth of Postfix's time, a twelfth of OpenSMTPD's).
_KEEP_SIDES = f"{_KEEP_ORDER},build_side_probe_side"
# Queue ids and addresses hardly repeat: no large dictionaries, no Bloom filters, zstd at its fastest.
_PARQUET = (
    "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, COMPRESSION_LEVEL 1, DICTIONARY_SIZE_LIMIT 1000,"
    " WRITE_BLOOM_FILTER false, USE_TMP_FILE false"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a source: IANA zone of times without one, the log's last day (for a missing year), host or "".

    envelope: how its lines are wrapped, "" not at all. heading: the first record of a CSV file.
    """

    format: str
    zone: str
    last_day: date
    host: str
    envelope: str = ""
    heading: str = ""

    @property
    def id(self) -> str:
        """What of it decides which events the same bytes give, but for the day."""
        wrapping = envelopes()[self.envelope].version if self.envelope else ""
        more = f"{wrapping}\0{self.heading}\0" if wrapping or self.heading else ""
        return f"{formats()[self.format].version}\0{self.format}\0{self.host}\0{self.zone}\0{more}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """Accounting of one block. Times in microseconds UTC, None where no event. losses: (host, from, to)."""

    lines: int
    parsed: int
    rejected: int
    first_at: int | None
    last_at: int | None
    hosts: tuple[str, ...]
    losses: tuple[tuple[str, int, int], ...]


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    con = sql.connect(memory_limit=_MEMORY, threads=1)
    # A part's words are text all the same, but of an enum the writer need not look each one up.
    con.execute(f"CREATE TYPE event_kind AS ENUM ({', '.join(sql.quote(kind) for kind in EventKind)})")
    return con


@cache
def _set_up() -> None:
    """The macros and views that formats share, once: they find `lines` and `params` by name when they are read."""
    _connection().execute("CREATE TEMP TABLE IF NOT EXISTS lines (line UINTEGER, text VARCHAR)")
    _as_read()
    for name in sql.names("collect/setup"):
        _connection().execute(sql.load(name))


@cache
def _view(query: str) -> str:
    """A view of a query of sql/: it finds its tables by name, and is not parsed anew for each block."""
    name = query.replace("/", "_")
    _connection().execute(f"CREATE OR REPLACE TEMP VIEW {name} AS ({sql.load(query)})")
    return name


@cache
def _usual_ones() -> frozenset[str]:
    """Formats whose lines of the usual shape have a query of their own, in sql/collect/usual."""
    return frozenset(name.rpartition("/")[2] for name in sql.names("collect/usual"))


@cache
def _scratch() -> tuple[int, str]:
    """A file in memory (on disk where the system has none) that hands a block to DuckDB's line reader."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("lines")
        return descriptor, f"/proc/self/fd/{descriptor}"
    descriptor, name = tempfile.mkstemp(suffix=".log")
    return descriptor, name


@cache
def _as_read() -> None:
    """A view of the lines in the scratch file."""
    _, name = _scratch()
    _connection().execute(
        "CREATE OR REPLACE TEMP VIEW as_read AS SELECT row_number() OVER ()::UINTEGER AS line, text FROM read_csv("
        f"{sql.quote(name)}, header = false, auto_detect = false, delim = chr(1), quote = '', escape = '',"
        " comment = '', columns = {'text': 'VARCHAR'}, nullstr = chr(2), parallel = false, new_line = '\\n',"
        " strict_mode = false, max_line_size = 16777216)"
    )


def clean(data: bytes) -> bytes:
    """Bytes that DuckDB reads as one line each: valid UTF-8, no control that it gives a meaning, no line too long."""
    data = data.removeprefix(_BOM).replace(b"\r\n", b"\n")
    if b"\x00" in data:  # those before a line are what a file system leaves of a write that power did not outlast
        data = _NULS.sub(b"", data)
    data = data.translate(_CONTROLS)
    data = data.decode("utf-8", "replace").encode()
    if _has_long_line(data):
        data = b"\n".join(line[:LINE_MAX].decode("utf-8", "ignore").encode() for line in data.split(b"\n"))
    data = b" " + data if data.startswith(b"\n") else data
    while b"\n\n" in data:
        data = data.replace(b"\n\n", b"\n \n")
    return data


def _has_long_line(data: bytes) -> bool:
    """A line longer than LINE_MAX leaves a window of half that size without a newline."""
    window = LINE_MAX // 2
    return any(data.find(b"\n", at, at + window) < 0 for at in range(0, len(data) - window + 1, window))


def _is_odd(data: bytes) -> bool:
    marks = (b"\r", b"\x00", b"\x01", b"\x02")
    return data.startswith(_BOM) or any(mark in data for mark in marks) or _has_long_line(data)


def load(con: duckdb.DuckDBPyConnection, data: bytes) -> int:
    """Make the table `lines` of a block; returns how many lines it has."""
    if not data.endswith(b"\n") and data:
        data += b"\n"
    if (lines := _load_as_it_is(con, data)) is not None:
        return lines
    if any(run in data for run in _MANY_BLANK):  # not before: looking for them costs each block some thousandths
        return _load_without_blank(con, data)
    return _load_cleaned(con, data)


def _load_as_it_is(con: duckdb.DuckDBPyConnection, data: bytes) -> int | None:
    """The usual way; None where some byte of the block asks for another."""
    if _is_odd(data):
        return None
    try:
        lines, size = _read(con, data)
    except duckdb.Error:  # not valid UTF-8
        return None
    return lines if lines + size == len(data) else None


def _load_cleaned(con: duckdb.DuckDBPyConnection, data: bytes) -> int:
    lines, _ = _read(con, clean(data))  # without this, empty lines are passed over
    if lines != (expected := data.count(b"\n")):
        raise AssertionError(f"{lines} of {expected} lines were read")  # a defect of ours, never of the log
    return lines


def _load_without_blank(con: duckdb.DuckDBPyConnection, data: bytes) -> int:
    """`load` for a block with long runs of blank lines: a line of nothing costs as much as another, and says nothing.

    A packed file of them is small: 16 million lines a block. The other lines keep their numbers.
    """
    data = data.replace(b"\r\n", b"\n")
    kept: list[bytes] = []
    moved: list[tuple[int, int]] = []  # (a line as it is read, how many lines were left out before it)
    at = number = left_out = 0
    for run in _BLANK_RUN.finditer(data):
        kept.append(data[at : run.start()] + b"\n")
        number += kept[-1].count(b"\n")
        left_out += data.count(b"\n", run.start(), run.end()) - 1
        moved.append((number + 1, left_out))
        at = run.end()
    kept.append(data[at:])
    rest = b"".join(kept)
    lines = _load_as_it_is(con, rest)
    if lines is None:  # not `load`: line ends that are made of many CRs show a new run each time that one is taken off
        lines = _load_cleaned(con, rest)
    sql.create_table(con, "moved", {"line": "UINTEGER", "by": "UINTEGER"}, moved)
    con.execute(sql.load("collect/moved"))
    return lines + left_out


def _read(con: duckdb.DuckDBPyConnection, data: bytes) -> tuple[int, int]:
    """Hand the bytes to DuckDB; lines, and bytes without their newlines, that it found."""
    descriptor, _ = _scratch()
    view = memoryview(data)
    at = 0
    while at < len(data):
        at += os.pwrite(descriptor, view[at:], at)
    os.ftruncate(descriptor, len(data))
    con.execute("CREATE OR REPLACE TEMP TABLE lines AS FROM as_read")
    row = con.execute("SELECT count(*), coalesce(sum(strlen(text)), 0) FROM lines").fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _prepare(con: duckdb.DuckDBPyConnection, data: bytes, how: Reading) -> tuple[int, str]:
    """Make `lines`, `params` and the views of sql/collect/setup; the number of lines, and the query of their events."""
    kind = formats()[how.format]
    if kind.input is Input.MAIL:
        from resend.collect import mails  # a helper that reads logs starts without it

        data = mails.as_lines(data)
    con.execute(f"SET TimeZone = {sql.quote(how.zone)}")
    con.execute(f"SET disabled_optimizers = '{_KEEP_SIDES if kind.input in _LOGS else _KEEP_ORDER}'")
    day = how.last_day
    values = {
        "ref_year": day.year,
        "ref_month": day.month,
        "ref_day": day.day,
        "host": how.host,
        "heading": how.heading,
    }
    sql.set_params(con, values)
    _set_up()
    lines = load(con, data)
    if how.envelope:
        con.execute(f"CREATE OR REPLACE TEMP TABLE lines AS ({sql.load(envelopes()[how.envelope].query)})")
    elif how.format in _usual_ones() and len(data) >= USUAL_BYTES:
        return lines, _by_shape(con, kind)
    return lines, f"FROM {_view(kind.query)}"


def _by_shape(con: duckdb.DuckDBPyConnection, kind: Format) -> str:
    """The query of a format whose lines of the usual shape have one of their own; the others take the full one.

    The query of shapes (sql/collect/shape) gives each line a class: 0 is the full query's, ALL that of a line that says
    something of others, so that the full query needs all of them.
    """
    con.execute(f"CREATE OR REPLACE TEMP TABLE shaped AS FROM {_view(f'collect/shape/{kind.name}')}")
    row = con.execute("SELECT count(*) FILTER (class = 0), max(class) FROM shaped").fetchone()
    odd, highest = row or (0, 0)
    if kind.input is Input.SYSLOG and highest not in (None, ALL):
        con.execute(f"CREATE OR REPLACE TEMP TABLE moment AS FROM {_view('collect/moments')}")
        if con.execute("SELECT count(*) FROM moment WHERE at_us IS NULL").fetchone() != (0,):
            highest = ALL  # what has no time is rejected, whatever it says
    full = f"FROM {_view(kind.query)}"
    if highest == ALL:
        return full
    usual = f"FROM {_view(f'collect/usual/{kind.name}')}"
    if odd == 0:
        return usual
    con.execute("CREATE OR REPLACE TEMP TABLE lines AS SELECT line, text FROM shaped WHERE class = 0")
    return f"{usual} UNION ALL {full}"


def parse_block(data: bytes, how: Reading, out: Path) -> Parsed:
    """Write the events of `data` to the Parquet file `out`, synced; the accounting of its lines."""
    con = _connection()
    lines, query = _prepare(con, data, how)
    with open(out, "wb", opener=private_opener) as handle:
        events = f"SELECT * REPLACE (kind::event_kind AS kind) FROM ({query})"
        con.execute(f"COPY ({events}) TO {sql.quote(out)} ({_PARQUET})")
        os.fsync(handle.fileno())
    counting = "collect/accounting_single" if formats()[how.format].single else "collect/accounting"
    row = con.execute(sql.load(counting), [str(out)]).fetchone()
    assert row is not None
    parsed, rejected, lost, first_at, last_at, hosts = row
    losses = con.execute(sql.load("collect/losses"), [str(out)]).fetchall() if lost else []
    return Parsed(lines, parsed, rejected, first_at, last_at, tuple(hosts), tuple(losses))


def query_of(data: bytes, how: Reading) -> str:
    """The query that gives the events of a block, by the names of its views."""
    return _prepare(_connection(), data, how)[1]


def parse_lines(data: bytes, how: Reading) -> list[dict[str, object]]:
    """Events of a few lines as dicts of the event columns, for following a log live."""
    con = _connection()
    _, query = _prepare(con, data, how)
    cursor = con.execute(f"SELECT {WITHOUT_NULL} FROM ({query}) ORDER BY line")
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def beginning(data: bytes, how: Reading) -> tuple[str, str]:
    """Of a single line: its text without the wrapping and, of a syslog, the program that it names (else "")."""
    con = _connection()
    _prepare(con, data, how)
    row = con.execute("SELECT text FROM lines").fetchone()
    text = "" if row is None else str(row[0])
    if formats()[how.format].input is not Input.SYSLOG:
        return text, ""
    row = con.execute(
        "SELECT regexp_extract(substring(text, start, colon - start), '^[^ ]+ (.*?)(?:\\[|$)', 1) FROM stamped"
    ).fetchone()
    return text, "" if row is None else str(row[0] or "")
