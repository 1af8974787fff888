"""JSON over several lines, or a single list of everything, as one value a line: what the queries of sql/collect read.

Of a list at the top each element is a line of its own, so that an export of any size has lines of a sane length; and,
where it is asked for, those of a list in an object: `{"events": [...], "nextToken": ...}`.
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
_HOLDS_LIST = re.compile(  # perhaps after members that are no lists, which then are left out
    r'\{(?:\s*"\w{1,64}"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,)*\s*"\w{1,64}"\s*:\s*\[(?=\s*\{)'
)
_HEAD_MAX = 1_000  # characters from an object's brace to the list in it, at the most
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


def holds_list(text: str) -> bool:
    """Whether it begins with an object that holds a list of objects, before any other list or object."""
    return bool(_HOLDS_LIST.match(text.lstrip()[:_HEAD_MAX]))


def values(chunks: Iterable[str], *, opened: bool = False) -> Iterator[str]:
    """The values of a text that comes in `chunks`, each on one line.

    opened: of an object that holds a list of objects, these, and then an object of the members after the list.
    """
    pending, at, inside, within = "", 0, False, False
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
            if within:  # what follows the list are members of its object, or the end of that
                within, pending, at = False, _after_list(pending[at:], source), 0
            continue
        if opened and pending[at] == "{" and not inside:
            if len(pending) - at < _HEAD_MAX:
                pending, at = pending[at:] + next(source, ""), 0
            if match := _HOLDS_LIST.match(pending[at : at + _HEAD_MAX]):
                inside, within, at = True, True, at + match.end()
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


def _after_list(rest: str, source: Iterator[str]) -> str:
    """`rest`, which follows a list in an object, with the members of that object as one of their own."""
    while not (found := rest.lstrip().removeprefix(",").lstrip()):
        if not (more := next(source, "")):
            return ""
        rest += more
    return found[1:] if found[0] == "}" else "{" + found


def _value(text: str, at: int) -> tuple[str | None, int]:
    """The JSON value at this place as a line, and where it ends; None where it is no whole value."""
    try:
        _, end = _decode(text, at)
    except (ValueError, RecursionError):
        return None, at
    if end == len(text) and text[end - 1] not in '}]"':
        return None, at  # a number or a word may go on
    return text[at:end].replace("\r", " ").replace("\n", " "), end


def blocks(chunks: Iterable[str], *, opened: bool = False) -> Iterator[bytes]:
    """Values a line, in blocks of about 16 MiB."""
    lines: list[bytes] = []
    size = 0
    for value in values(chunks, opened=opened):
        lines.append(value.encode("utf-8", "replace"))
        size += len(lines[-1]) + 1
        if size >= BLOCK_BYTES:
            yield b"\n".join(lines) + b"\n"
            lines, size = [], 0
    if lines:
        yield b"\n".join(lines) + b"\n"
