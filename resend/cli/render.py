"""Text for people: tables that fit the terminal, counts, times, masked addresses. Pure; prints nothing, raises nothing.

East Asian wide characters count two columns. What came from outside is shown without its control characters, so a
log line cannot steer the terminal.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Literal

from resend.clock import format_duration

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, bidi marks, surrogates, unknown: never printed as is


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. `give` columns are shortened first when the table is too wide; numbers never are."""

    title: str
    align: Literal["left", "right"] = "left"
    give: bool = True


def number(title: str) -> Column:
    """A right-aligned column that is never shortened."""
    return Column(title, "right", give=False)


def fixed(title: str) -> Column:
    """A left-aligned column that is never shortened: ids, states."""
    return Column(title, "left", give=False)


def clean(text: str) -> str:
    """Text on one line without control, bidirectional or surrogate characters.

    >>> clean("a\\x1b[31m\\tb")
    'a?[31m b'
    """
    if text.isascii() and text.isprintable():
        return text
    out = []
    for char in text:
        if char in "\t\r\n":
            out.append(" ")
        else:
            out.append("?" if unicodedata.category(char) in _HIDDEN else char)
    return "".join(out)


def width(text: str) -> int:
    """Columns that `text` takes on a terminal.

    >>> width("新製品 ABC"), width("e\\u0301")
    (10, 1)
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def shorten(text: str, columns: int) -> str:
    """Text cut to at most `columns`, the cut shown as …

    >>> shorten("新製品のお知らせ", 9)
    '新製品の…'
    """
    if width(text) <= columns:
        return text
    used, out = 0, []
    for char in text:
        used += width(char)
        if used > columns - 1:
            break
        out.append(char)
    return "".join(out) + "…" if columns > 0 else ""


def wrap(text: str, columns: int) -> list[str]:
    """Text as lines of at most `columns`, broken at spaces, else within a word.

    >>> wrap("host mx said: 451 Server busy", 14)
    ['host mx said:', '451 Server', 'busy']
    """
    columns = max(columns, 3)  # the least that takes a wide character
    lines: list[str] = []
    for word in clean(text).split():
        if lines and width(lines[-1]) + 1 + width(word) <= columns:
            lines[-1] = f"{lines[-1]} {word}"
            continue
        while width(word) > columns:
            head = shorten(word, columns)[:-1]
            lines.append(head)
            word = word[len(head) :]
        lines.append(word)
    return lines


def _pad(text: str, columns: int, align: str) -> str:
    space = " " * (columns - width(text))
    return space + text if align == "right" else text + space


def table(columns: Sequence[Column], rows: Sequence[Sequence[object]], *, total: int = 80) -> list[str]:
    """Lines of a table with a heading, at most `total` columns wide; int cells are grouped by thousands."""
    cells = [[_cell(value) for value in row] for row in rows]
    titles = [column.title for column in columns]
    widths = [max([width(title), *(width(row[i]) for row in cells)], default=0) for i, title in enumerate(titles)]
    _squeeze(columns, widths, total - 2 * (len(columns) - 1))
    lines = []
    for row in [titles, *cells]:
        parts = [
            _pad(shorten(text, room), room, column.align)
            for text, room, column in zip(row, widths, columns, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return lines


def _squeeze(columns: Sequence[Column], widths: list[int], room: int) -> None:
    """Take from the widest column that may give, one column at a time, until the row fits; then from any."""
    for floor, may_give in ((8, lambda c: c.give), (8, lambda c: c.align == "left"), (1, lambda c: True)):
        while sum(widths) > room:
            candidates = [i for i, column in enumerate(columns) if may_give(column) and widths[i] > floor]
            if not candidates:
                break
            widths[max(candidates, key=widths.__getitem__)] -= 1


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.1f}"
    return clean(str(value))


def reply(code: int, enhanced: str, text: str) -> str:
    """A reply with its codes, each said once.

    >>> reply(451, "4.7.500", "4.7.500 Server busy"), reply(550, "5.1.1", "host mx said: 550 5.1.1 gone")
    ('451 4.7.500 Server busy', 'host mx said: 550 5.1.1 gone')
    """
    if code and str(code) in text:
        return text
    return " ".join(filter(None, (str(code or ""), "" if enhanced and enhanced in text else enhanced, text)))


def count(number_: int) -> str:
    """1234567 as 1,234,567."""
    return f"{number_:,}"


def some(number_: int, noun: str) -> str:
    """A count with its noun.

    >>> some(1, "mail"), some(1200, "file"), some(0, "row")
    ('1 mail', '1,200 files', '0 rows')
    """
    return f"{count(number_)} {noun}{'' if number_ == 1 else 's'}"


def share(part: int, whole: int) -> str:
    """A share in percent; '-' of nothing, '<0.1 %' rather than a zero that is none.

    >>> share(192080, 7682607), share(1, 5000), share(0, 0)
    ('2.5 %', '<0.1 %', '-')
    """
    if whole <= 0:
        return "-"
    percent = 100 * part / whole
    return "<0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def at(moment: datetime | None, zone: tzinfo) -> str:
    """A time as people read it, in the configured zone, to the second."""
    return "-" if moment is None else moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def minute(moment: datetime | None, zone: tzinfo) -> str:
    """A time in a table: month, day, hour and minute in the configured zone."""
    return "-" if moment is None else moment.astimezone(zone).strftime("%m-%d %H:%M")


def span(seconds: float | None) -> str:
    """Seconds for people: `45s`, `3h 20m`; '-' unknown."""
    return "-" if seconds is None else format_duration(timedelta(seconds=seconds))
