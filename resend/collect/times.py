"""The year of times that are logged without one. Reads the end of a file at most; raises InputError for a bad zone."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from resend.collect.files import last_bytes
from resend.errors import InputError

_TAIL_BYTES = 64 << 10
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STAMP = re.compile(rb"^(?:<\d{1,3}>)?([A-Z][a-z]{2}) ([ \d]\d) \d\d:\d\d:\d\d[ .]", re.MULTILINE)


def check_zone(name: str, *, where: str) -> str:
    """`name` if it is an IANA zone."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InputError(f"not a time zone name: {name!r}", where=where, next_step="write it like Asia/Tokyo") from None
    return name


def last_day(path: Path, *, zone: str, year: int) -> date:
    """The day that dates the log: no line is later, so December before January is the year before.

    Without `year` it is the day of the file's last change, in `zone`. `year` is that of the last line.
    """
    if not year:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).astimezone(ZoneInfo(zone)).date()
    tail = b"" if path.is_dir() else last_bytes(path, _TAIL_BYTES)
    for month, day in reversed(_STAMP.findall(tail)):
        if (name := month.decode()) in _MONTHS:
            try:
                return date(year, _MONTHS.index(name) + 1, int(day))
            except ValueError:
                continue
    return date(year, 12, 31)
