"""Cuts a CSV file into its records by RFC 4180, each with its line: for files that are broken somewhere.

One broken record costs itself only. Judges no value; holds one record at a time. Raises OSError.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

_MAX_RECORD = 1_000  # lines that one quoted record may span before its quote counts as never closed
_OPEN = "a quote is never closed"


def records(path: Path) -> Iterator[tuple[int, int, list[str] | str]]:
    """(first line, ordinal among records, fields or what is wrong) of each record; the header has ordinal 0.

    A quote that is never closed loses its own line only, not the rest of the file.
    """
    limit = csv.field_size_limit(1 << 30)
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
            yield from _split(handle)
    finally:
        csv.field_size_limit(limit)


def _split(handle: io.TextIOWrapper) -> Iterator[tuple[int, int, list[str] | str]]:
    ahead: deque[str] = deque()  # lines read for a quote that was never closed

    def pull() -> str:
        return ahead.popleft() if ahead else handle.readline()

    line, ordinal = 1, 0
    while text := pull():
        if text.strip("\r\n") == "":
            line += 1
            continue
        block, fields = [text], _parse(text)
        quotes = text.count('"')
        while fields == _OPEN and len(block) < _MAX_RECORD and (more := pull()):
            block.append(more)
            quotes += more.count('"')
            if quotes % 2 == 0:  # RFC 4180: a closed record has an even number of quotes
                fields = _parse("".join(block))
        if isinstance(fields, str):
            ahead.extendleft(reversed(block[1:]))
            del block[1:]
        yield line, ordinal, fields
        line += len(block)
        ordinal += 1


def _parse(text: str) -> list[str] | str:
    """Fields of one record, or what is wrong with it."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        return _OPEN if "unexpected end of data" in str(error) else f"not RFC 4180: {error}"
    return rows[0] if len(rows) == 1 else "not RFC 4180: a line break outside quotes"


def wrong_with(fields: list[str] | str, expected: int) -> str:
    if isinstance(fields, str):
        return fields
    if len(fields) < expected or any(fields[expected:]):  # a spreadsheet's empty fields at the end are nothing
        return f"{len(fields)} fields, the header has {expected}"
    for value in fields:
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            return "not valid UTF-8"
    return ""


def lines_of(path: Path, ordinals: Sequence[int]) -> dict[int, str]:
    """Places of rows by their ordinal (1: the first after the header), by reading the file once more."""
    wanted = set(ordinals)
    found: dict[int, str] = {}
    if not wanted:
        return found
    limit = csv.field_size_limit(1 << 30)
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
            reader = csv.reader(handle)
            ordinal, before = -1, 0
            for row in reader:
                first, before = before + 1, reader.line_num
                if not row:
                    continue
                ordinal += 1
                if ordinal in wanted:
                    found[ordinal] = f"{path.name}:{first}"
                    if len(found) == len(wanted):
                        break
    finally:
        csv.field_size_limit(limit)
    return found
