"""Judges the raw rows of one catalog kind and keeps the good ones: typed, unique, ready for a snapshot.

DuckDB vouches for plain values (sql/catalog); every other distinct address and time passes the Python function once.
Writes nothing outside its connection. Raises InputError where rows were given and not one is usable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from zoneinfo import ZoneInfo

import duckdb

from resend.clock import from_text, to_micros
from resend.errors import InputError
from resend.policy.address import fold, rcpt_key, validate_rcpt
from resend.stores import sql
from resend.stores.catalog_rows import MAX_FIELD, Raw, Shape

_ADDRESSES = {
    "releases": ("sender", "envelope_from"),
    "recipients": ("address",),
    "sendlog": ("address",),
    "suppressions": ("address",),
}
_TIMES = {
    "releases": ("sent_at", "embargo_at", "expires_at"),
    "recipients": ("unsubscribed_at",),
    "sendlog": ("sent_at",),
    "suppressions": ("at",),
}
_SHOWN = 60  # characters of a bad value in its reason


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Make the macros that the checks use."""
    con.execute(sql.load("catalog/setup/macros"))


def check(con: duckdb.DuckDBPyConnection, shape: Shape, raw: Raw) -> tuple[list[tuple[str, str]], list[str]]:
    """Make temp table `good`(columns of the view) from `raw`; returns (place, reason) of bad rows, and warnings."""
    _check_addresses(con, _ADDRESSES[shape.kind])
    _check_times(con, _TIMES[shape.kind])
    con.execute(f"CREATE OR REPLACE TEMP TABLE checked AS {sql.load(f'catalog/{shape.kind}')}")
    bad: dict[int, str] = dict(con.execute("SELECT n, problem FROM checked WHERE problem <> ''").fetchall())
    bad |= _too_long(con, shape)
    keep = "problem = ''"
    if bad:
        sql.create_table(con, "bad_row", {"n": "BIGINT"}, ([n] for n in bad))
        keep = "n NOT IN (SELECT n FROM bad_row)"
    first_of: dict[int, int] = {}
    if "id" in shape.columns:
        first_of = dict(
            con.execute(
                "SELECT n, first FROM (SELECT n, min(n) OVER (PARTITION BY id) AS first, row_number() OVER"
                f" (PARTITION BY id ORDER BY n) AS copy FROM checked WHERE {keep}) WHERE copy > 1"
            ).fetchall()
        )
        if first_of:
            sql.create_table(con, "doubled_row", {"n": "BIGINT"}, ([n] for n in first_of))
            keep += " AND n NOT IN (SELECT n FROM doubled_row)"
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE good AS SELECT * EXCLUDE (n, problem) FROM checked WHERE {keep} ORDER BY n"
    )
    places = raw.locate(sorted({*bad, *first_of, *first_of.values()}))
    rejected = [*raw.rejected, *((places.get(n, f"row {n}"), reason) for n, reason in sorted(bad.items()))]
    rejected += [
        (places.get(n, f"row {n}"), f"the id is that of {places[first]}") for n, first in sorted(first_of.items())
    ]
    if raw.rows and len(rejected) >= raw.rows:
        place, reason = rejected[0]
        raise InputError(
            f"no row is usable; the first: {reason}",
            where=place,
            next_step=f"mend the {shape.kind}; what was loaded before stays",
        )
    warnings = [f"{raw.source}: unknown column {name!r} is not used" for name in raw.unknown]
    if shape.kind == "recipients":
        warnings += _unknown_zones(con, raw.source)
    return rejected, warnings


def _check_addresses(con: duckdb.DuckDBPyConnection, columns: Iterable[str]) -> None:
    values = _suspicious(con, columns, "NOT plain_address(text)")

    def judged() -> Iterator[list[str]]:
        for value in values:
            try:
                yield [value, validate_rcpt(value), rcpt_key(value), fold(value), ""]
            except ValueError as error:
                yield [value, "", "", "", _said(error, value)]

    columns_ = dict.fromkeys(("text", "wire", "rcpt_key", "folded", "problem"), "VARCHAR")
    sql.create_table(con, "address_check", columns_, judged())


def _check_times(con: duckdb.DuckDBPyConnection, columns: Iterable[str]) -> None:
    values = _suspicious(con, columns, "plain_time(text) IS NULL")

    def judged() -> Iterator[list[object]]:
        for value in values:
            try:
                yield [value, to_micros(from_text(value)), ""]
            except (ValueError, OverflowError) as error:
                yield [value, None, _said(error, value)]

    sql.create_table(con, "time_check", {"text": "VARCHAR", "at": "BIGINT", "problem": "VARCHAR"}, judged())


def _suspicious(con: duckdb.DuckDBPyConnection, columns: Iterable[str], condition: str) -> list[str]:
    """Distinct values for which the cheap check does not vouch."""
    union = " UNION ".join(f'SELECT DISTINCT trim("{name}") AS text FROM raw' for name in columns)
    rows = con.execute(f"SELECT text FROM ({union}) WHERE text <> '' AND {condition} ORDER BY text").fetchall()
    return [text for (text,) in rows]


def _said(error: Exception, value: str) -> str:
    """What is wrong, with the value where the message does not hold it yet; always on one line."""
    text = str(error)
    if len(value) > _SHOWN:
        return f"{text[:_SHOWN]}… ({len(value)} characters)"
    return text if repr(value) in text else f"{text}: {value!r}"


def _too_long(con: duckdb.DuckDBPyConnection, shape: Shape) -> dict[int, str]:
    longest = ", ".join(f'length("{name}")' for name in shape.columns)
    rows = con.execute(f"SELECT n FROM raw WHERE greatest({longest}) > {MAX_FIELD}").fetchall()
    return {n: f"a field is longer than {MAX_FIELD:,} characters" for (n,) in rows}


def _unknown_zones(con: duckdb.DuckDBPyConnection, source: str) -> list[str]:
    names = [name for (name,) in con.execute("SELECT DISTINCT tz FROM good WHERE tz <> '' ORDER BY tz").fetchall()]
    unknown = [name for name in names if not _accepts(ZoneInfo, name)]
    for name in unknown:
        con.execute("UPDATE good SET tz = '' WHERE tz = ?", [name])
    return [f"{source}: {name!r} is no time zone; these recipients count as having none" for name in unknown]


def _accepts(function: Callable[[str], object], value: str) -> bool:
    try:
        function(value)
    except (KeyError, ValueError, OSError):
        return False
    return True
