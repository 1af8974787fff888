"""The log formats that `collect` reads: each is a file in sql/collect whose header says how its lines are known.

Header lines beside those of every query:

    -- Format: postfix, the log of Postfix         the name for --format, and what it is
    -- Version: 2                                  rises when the same bytes would give other events
    -- Input: syslog                               what its lines are, see `Input`
    -- Detect: [\\w/-]+/(?:smtp|qmgr)\\[             a regular expression that finds a line of it; any of several

A line may come wrapped (journald, docker, RFC 5424): a file in sql/collect/envelope takes the wrapping off and says by
`Detect` how it is known. A new format or wrapping is a new file. Where speed is worth it, sql/collect/shape says which
lines have the shape that most have, and sql/collect/usual reads these by fewer steps, with the same result.

Raises nothing; a bad header is a defect that tests find.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from resend.stores import sql


class Input(StrEnum):
    """What a format is made of."""

    SYSLOG = "syslog"  # lines of a time, a host, a program; Detect sees what follows the host
    LINES = "lines"  # lines of another shape
    JSON = "json"  # a JSON value a line; documents over several lines are put on one each
    CSV = "csv"  # a heading, then records; the heading is the parameter `heading` of each block
    MAIL = "mail"  # mails; each becomes a line of JSON first (resend/collect/mails.py)


@dataclass(frozen=True, slots=True)
class Format:
    """A format or (without `input`) a wrapping. `query` is the name of its SQL file.

    single: no line gives more than one event, so that counting events counts lines.
    """

    name: str
    title: str
    version: str
    input: Input | None
    query: str
    detect: tuple[re.Pattern[str], ...]
    single: bool

    def knows(self, line: str) -> bool:
        return any(pattern.search(line) for pattern in self.detect)


def _header(query: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in sql.load(query).splitlines():
        if not line.startswith("--"):
            break
        name, colon, value = line[2:].strip().partition(": ")
        if colon and name in ("Format", "Version", "Input", "Events", "Detect"):
            found.setdefault(name, []).append(value.strip())
    return found


def _read(folder: str) -> dict[str, Format]:
    found = {}
    for query in sql.names(folder):
        header = _header(query)
        if "Format" not in header:
            continue
        name, _, title = header["Format"][0].partition(", ")
        found[name] = Format(
            name,
            title,
            f"{name}-{header.get('Version', ['1'])[0]}",
            Input(header["Input"][0]) if "Input" in header else None,
            query,
            tuple(re.compile(pattern, re.ASCII) for pattern in header.get("Detect", ())),
            header.get("Events") == ["single"],
        )
    return found


@cache
def formats() -> dict[str, Format]:
    """All formats by name."""
    return _read("collect")


@cache
def envelopes() -> dict[str, Format]:
    """All wrappings by name."""
    return _read("collect/envelope")
