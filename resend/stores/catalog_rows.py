"""Reads catalog files (CSV, JSONL, Parquet) into raw text columns: what a row says, and where it stands.

A well-formed CSV is read by DuckDB; one that breaks RFC 4180 anywhere is read record by record, so that only the broken
rows are lost. Judges no value. Raises InputError where a whole file cannot be used: no header, a column lacking;
StoreError where there is too little memory or disk to read it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from resend.errors import InputError, StoreError
from resend.stores import sql
from resend.stores.catalog_rejected import Rejected
from resend.stores.csv_records import lines_of, records, wrong_with

MAX_FIELD = 65_536  # characters; a longer field is no catalog value but a broken quote or a wrong file
ATTR = "attr."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The columns of one kind of catalog row (CONTRACT, "Catalog files")."""

    kind: str
    columns: tuple[str, ...]
    required: tuple[tuple[str, ...], ...]  # each: at least one of these columns must be there
    attrs: bool = False


SHAPES = {
    "releases": Shape(
        kind="releases",
        columns=(
            "id", "customer", "customer_name", "title", "sender", "envelope_from", "sent_at", "embargo_at",
            "expires_at", "withdrawn", "urgency", "content", "template",
        ),
        required=(("id",), ("customer",), ("title",), ("sender",)),
    ),
    "recipients": Shape(
        kind="recipients",
        columns=("id", "address", "name", "locale", "tz", "unsubscribed_at"),
        required=(("id",), ("address",)),
        attrs=True,
    ),
    "sendlog": Shape(
        kind="sendlog",
        columns=("release", "recipient", "address", "message_id", "sent_at", "envelope"),
        required=(("release",), ("recipient", "address")),
    ),
    "suppressions": Shape(
        kind="suppressions", columns=("address", "reason", "at", "scope"), required=(("address",), ("reason",))
    ),
}  # fmt: skip
_BROKEN = (duckdb.InvalidInputException, duckdb.ConversionException)  # how DuckDB says that a CSV is not well-formed
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_TEXT = ("STRUCT", "MAP", "BLOB", "UNION", "BIT")  # types of Parquet columns that are not read as text


@dataclass(slots=True, kw_only=True)
class Raw:
    """What was read into temp table `raw`(n, columns, attrs): text, "" where absent; n identifies the row."""

    source: str
    rows: int  # in `raw` and in `rejected`
    unknown: list[str]
    rejected: list[tuple[str, str]] = field(default_factory=list)  # the first of what is no row at all
    locate: Callable[[Sequence[int]], dict[int, str]]  # n -> place, for example 'recipients.csv:17'


def read_file(con: duckdb.DuckDBPyConnection, shape: Shape, path: Path, rejected: Rejected) -> Raw:
    """Read one file by its suffix: .jsonl and .ndjson, .parquet, else CSV. What is no row goes to `rejected`."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or a device, no file" if path.exists() else "no such file"
        raise InputError(what, where=str(path), next_step=f"name the {shape.kind} file")
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            return _read_jsonl(con, shape, path, rejected)
        case ".parquet":
            return _read_parquet(con, shape, path)
        case _:
            return _read_csv(con, shape, path, rejected)


def check_header(shape: Shape, names: Sequence[str], where: str) -> list[str]:
    """Names of unknown columns. Raises InputError for a column lacking or twice."""
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"column {doubled[0]!r} stands twice in the header", where=where, next_step="remove one")
    for choice in shape.required:
        if not any(name in names for name in choice):
            needed = " or ".join(repr(name) for name in choice)
            needs = f"a {shape.kind} file needs: {', '.join('|'.join(c) for c in shape.required)}"
            raise InputError(f"the column {needed} is lacking", where=where, next_step=_likely(names, choice) or needs)
    return [name for name in names if name not in shape.columns and not (shape.attrs and name.startswith(ATTR))]


def _likely(names: Sequence[str], choice: Sequence[str]) -> str:
    """What to do about a header without one of `choice`, where its look tells; spreadsheets write several kinds."""
    first = names[0] if names else ""
    if any("\0" in name for name in names) or first.startswith(("\udcff", "\udcfe")):
        return "the file is UTF-16: save it as 'CSV UTF-8 (comma delimited)'"
    if len(names) == 1 and (first.startswith("sep=") or any(mark in first for mark in ";\t|")):
        return f"its columns are not parted by commas: {first[:40]!r}; save it as 'CSV UTF-8 (comma delimited)'"
    same = [name for name in names if name.strip().lower() in choice]
    return f"write {same[0]!r} as {same[0].strip().lower()!r}" if same else ""


def fill(con: duckdb.DuckDBPyConnection, shape: Shape, rows: Iterable[tuple[int, dict[str, str]]]) -> int:
    """Make `raw` from (n, values) pairs; the count."""
    columns = {"n": "BIGINT", **dict.fromkeys(shape.columns, "VARCHAR"), "attrs": "VARCHAR"}

    def values() -> Iterator[list[Any]]:
        for n, row in rows:
            attrs = {name[len(ATTR) :]: value for name, value in sorted(row.items()) if name.startswith(ATTR)}
            packed = json.dumps(attrs, ensure_ascii=False, separators=(",", ":")) if shape.attrs else ""
            yield [n, *(row.get(name, "") for name in shape.columns), packed]

    return sql.create_table(con, "raw", columns, values())


def _select(shape: Shape, have: Sequence[str], expression: Callable[[str], str]) -> str:
    """The columns of `raw` out of a table with the columns `have`."""
    parts = [
        f"coalesce({expression(name)}, '') AS {_quoted(name)}" if name in have else f"'' AS {_quoted(name)}"
        for name in shape.columns
    ]
    attrs = sorted(name for name in have if name.startswith(ATTR)) if shape.attrs else []
    pairs = ", ".join(f"{sql.quote(name[len(ATTR) :])}, coalesce({expression(name)}, '')" for name in attrs)
    parts.append(f"{f'CAST(json_object({pairs}) AS VARCHAR)' if shape.attrs else sql.quote('')} AS attrs")
    return ", ".join(parts)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# --- CSV ---


def _read_csv(con: duckdb.DuckDBPyConnection, shape: Shape, path: Path, rejected: Rejected) -> Raw:
    names = _header(path, shape)
    unknown = check_header(shape, names, f"{path.name}:1")
    columns = ", ".join(f"{sql.quote(f'c{i}')}: 'VARCHAR'" for i in range(len(names)))
    places = {name: f"c{i}" for i, name in enumerate(names)}
    try:
        con.execute(
            "CREATE OR REPLACE TEMP TABLE raw AS SELECT row_number() OVER () AS n,"
            f" {_select(shape, names, places.__getitem__)} FROM read_csv({sql.quote(path)}, columns = {{{columns}}},"
            " header = true, auto_detect = false, delim = ',', quote = '\"', escape = '\"')"
        )
    except _BROKEN:  # somewhere: record by record, so that the rest loads
        return _read_broken(con, shape, path, names, unknown, rejected)
    except duckdb.InterruptException:  # Ctrl-C
        raise
    except duckdb.Error as error:  # nothing of the rows: the slow way needs the same memory, disk and file
        raise StoreError(
            f"cannot load the {shape.kind}: {str(error).splitlines()[0]}", where=str(path), next_step=_next(error)
        ) from error
    rows = _count(con)
    return Raw(source=str(path), rows=rows, unknown=unknown, locate=lambda ns: lines_of(path, ns))


def _next(error: duckdb.Error) -> str:
    again = "then load it again; what was loaded before stays"
    if isinstance(error, duckdb.OutOfMemoryException):
        return f"free space on the disk of the home, and leave out columns that nothing uses, {again}"
    if isinstance(error, duckdb.IOException):
        return f"see that the file is there and can be read, and that the disk of the home has space, {again}"
    return "export it as JSON lines (.jsonl), or report this as a defect"


def _header(path: Path, shape: Shape) -> list[str]:
    try:
        _, _, fields = next(records(path))
    except StopIteration:
        raise InputError("the file is empty", where=str(path), next_step=f"export the {shape.kind} again") from None
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=str(path)) from None
    if isinstance(fields, str):
        raise InputError(
            f"the header is no CSV: {fields}", where=f"{path.name}:1", next_step="export it as CSV in UTF-8"
        )
    return [name.strip() for name in fields]


def _read_broken(
    con: duckdb.DuckDBPyConnection,
    shape: Shape,
    path: Path,
    names: list[str],
    unknown: list[str],
    rejected: Rejected,
) -> Raw:
    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        for line, ordinal, fields in records(path):
            if ordinal == 0:
                continue
            wrong = wrong_with(fields, len(names))
            if wrong:
                rejected.add(f"{path.name}:{line}", wrong)
            else:
                yield line, dict(zip(names, fields, strict=False))

    count = fill(con, shape, rows())
    return Raw(
        source=str(path),
        rows=count + len(rejected.first),
        unknown=unknown,
        rejected=rejected.first,
        locate=lambda ns: {n: f"{path.name}:{n}" for n in ns},
    )


# --- JSON lines and Parquet ---


def _read_jsonl(con: duckdb.DuckDBPyConnection, shape: Shape, path: Path, rejected: Rejected) -> Raw:
    seen: dict[str, None] = {}

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        with path.open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                if not line.strip():
                    continue
                try:
                    item = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except ValueError as error:
                    rejected.add(f"{path.name}:{number}", f"not JSON in UTF-8: {error}")
                    continue
                if not isinstance(item, dict):
                    rejected.add(f"{path.name}:{number}", "not a JSON object")
                    continue
                values = _flat(item)
                wrong = _no_text(shape, values)
                if wrong:
                    rejected.add(f"{path.name}:{number}", wrong)
                    continue
                flat = {name: text_of(value) for name, value in values.items()}
                seen.update(dict.fromkeys(flat))
                yield number, flat

    count = fill(con, shape, rows())
    unknown = check_header(shape, list(seen), path.name) if count else []
    return Raw(
        source=str(path),
        rows=count + len(rejected.first),
        unknown=unknown,
        rejected=rejected.first,
        locate=lambda ns: {n: f"{path.name}:{n}" for n in ns},
    )


def _no_text(shape: Shape, values: dict[str, Any]) -> str:
    """What is wrong with values that no column of text holds: lists, objects, half of a surrogate pair."""
    for name, value in values.items():
        if name in shape.columns and isinstance(value, dict | list):
            return f"{name} is {'a list' if isinstance(value, list) else 'an object'}, not text"
        if isinstance(value, str) and not value.isascii() and _SURROGATE.search(value):
            return f"{name} holds half of a surrogate pair"
    return ""


def _flat(item: dict[str, Any]) -> dict[str, Any]:
    """`{"attr": {"outlet": "x"}}` as `{"attr.outlet": "x"}`; the rest as it is."""
    attrs = item.get("attr")
    if not isinstance(attrs, dict):
        return item
    return {key: value for key, value in item.items() if key != "attr"} | {ATTR + k: v for k, v in attrs.items()}


def text_of(value: object) -> str:
    """A JSON or database value as catalog text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value if isinstance(value, str) else str(value)


def _read_parquet(con: duckdb.DuckDBPyConnection, shape: Shape, path: Path) -> Raw:
    source = f"read_parquet({sql.quote(path)})"
    try:
        types = {str(row[0]): str(row[1]) for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        unknown = check_header(shape, list(types), path.name)

        def expression(name: str) -> str:
            column = _quoted(name)
            if types[name] == "TIMESTAMP WITH TIME ZONE":
                return f"strftime(timezone('UTC', {column}), '%Y-%m-%dT%H:%M:%S.%fZ')"
            if name in shape.columns and (types[name].startswith(_NO_TEXT) or types[name].endswith("]")):
                raise InputError(
                    f"column {name!r} is {types[name]}, not text", where=path.name, next_step="export it as text"
                )
            if types[name] == "BOOLEAN":
                return f"CAST(CAST({column} AS INTEGER) AS VARCHAR)"
            return f"CAST({column} AS VARCHAR)"

        con.execute(
            "CREATE OR REPLACE TEMP TABLE raw AS SELECT row_number() OVER () AS n,"
            f" {_select(shape, list(types), expression)} FROM {source}"
        )
    except duckdb.Error as error:
        raise InputError(f"not a Parquet file: {str(error).splitlines()[0]}", where=str(path)) from None
    return Raw(
        source=str(path),
        rows=_count(con),
        unknown=unknown,
        locate=lambda ns: {n: f"{path.name}: row {n}" for n in ns},
    )


def _count(con: duckdb.DuckDBPyConnection) -> int:
    row = con.execute("SELECT count(*) FROM raw").fetchone()
    assert row is not None
    return int(row[0])
