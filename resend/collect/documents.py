"""JSON over several lines, or a single list of everything, as one value a line: what the queries of sql/collect read.

Of a list at the top each element is a line of its own, so that an export of any size has lines of a sane length.
What is no JSON passes as it stands, for the query to reject. "Line" then counts values, not lines. Raises nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

BLOCK_BYTES = 16 << 20
_VALUE_MAX = 32 << 20  # characters; a value that is longer is no event and is cut into lines as it stands
_LINE_LONG = 1 << 19
_BETWEEN = re.compile(r"[\s,]*")
_decode = json.JSONDecoder().raw_decode


def is_spread(text: str) -> bool:
    """Whether the JSON that begins with `text` is not one value a line, or its lines are too long to be read so."""
    first, newline, rest = text.lstrip().partition("\n")
    if first[:1] not in ("{", "[") or (first[0] == "[" and first[1:].lstrip()[:1] not in ("", "{", "[", '"', "]")):
        return False  # `[pod/mail-0/postfix] ...` is no JSON
    if len(first) > _LINE_LONG or any(len(line) > _LINE_LONG for line in rest.split("\n")):
        return True
    if first.strip() == "[":
        return True
    try:
        json.loads(first)
    except ValueError:
        return bool(newline) and not rest.lstrip().startswith(("{", "[{"))
    except RecursionError:
        return False
    return False


def values(chunks: Iterable[str]) -> Iterator[str]:
    """The values of a text that comes in `chunks`, each on one line."""
    pending, at, inside = "", 0, False
    source = iter(chunks)
    ended = False
    while True:
        match = _BETWEEN.match(pending, at)
        at = match.end() if match else at
        if at == len(pending):
            more = next(source, "")
            if not more:
                return
            pending, at = more, 0
            continue
        if pending[at] == "[" and not inside:
            inside, at = True, at + 1
            continue
        if pending[at] == "]" and inside:
            inside, at = False, at + 1
            continue
        value, end = _value(pending, at)
        if value is None and not ended and len(pending) - at < _VALUE_MAX:
            more = next(source, "")
            ended = not more
            pending, at = pending[at:] + more, 0
            continue
        if value is None:
            line, _, _ = pending[at:].partition("\n")
            value, end = line, at + len(line)
        yield value
        at = end


def _value(text: str, at: int) -> tuple[str | None, int]:
    """The JSON value at this place as a line, and where it ends; None where it is no whole value."""
    try:
        _, end = _decode(text, at)
    except (ValueError, RecursionError):
        return None, at
    if end == len(text) and text[end - 1] not in '}]"':
        return None, at  # a number or a word may go on
    return text[at:end].replace("\r", " ").replace("\n", " "), end


def blocks(chunks: Iterable[str]) -> Iterator[bytes]:
    """Values a line, in blocks of about 16 MiB."""
    lines: list[bytes] = []
    size = 0
    for value in values(chunks):
        lines.append(value.encode("utf-8", "replace"))
        size += len(lines[-1]) + 1
        if size >= BLOCK_BYTES:
            yield b"\n".join(lines) + b"\n"
            lines, size = [], 0
    if lines:
        yield b"\n".join(lines) + b"\n"
