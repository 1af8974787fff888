"""Time: the clock that impure code is given, and the one place where times become text and back.

Ledger and catalog times are aware UTC datetimes, written as fixed-width RFC 3339 text
(`2026-11-24T08:20:32.123456Z`), which sorts as text. Evidence and SQL use BIGINT microseconds since 1970, UTC.
Raises ValueError on malformed input; callers at a border turn that into an InputError with its place.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """What a run may know of time. `now` is aware UTC, `monotonic` is in seconds."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock and the event loop's timers."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # takes longer to load than most commands need it for

        await asyncio.sleep(max(0.0, seconds))


def to_text(at: datetime) -> str:
    """Aware datetime to fixed-width RFC 3339 UTC text with microseconds.

    >>> to_text(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05.000000Z'
    """
    if at.tzinfo is None:
        raise ValueError(f"naive datetime {at!r}")
    t = at if at.tzinfo is UTC else at.astimezone(UTC)
    parts = (t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ" % parts  # noqa: UP031 (several for each mail; isoformat takes twice as long)


_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|z|[+-]\d\d:\d\d)", re.ASCII)


def from_text(text: str) -> datetime:
    """RFC 3339 text with a zone to aware UTC datetime. Raises ValueError.

    >>> from_text("2026-01-02T12:04:05+09:00").isoformat()
    '2026-01-02T03:04:05+00:00'
    """
    match = _RFC3339.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not an RFC 3339 time with a zone: {text!r}")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micros = int((fraction or "0").ljust(6, "0")[:6])
    at = datetime(int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59), micros, tzinfo=UTC)
    if zone not in "Zz":
        sign = -1 if zone[0] == "-" else 1
        at -= sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    return at


def to_micros(at: datetime) -> int:
    """Aware datetime to microseconds since 1970 UTC."""
    return (at - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Microseconds since 1970 UTC to aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=micros)


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)", re.ASCII)
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> timedelta:
    """`5d`, `1h`, `10m`, `90s`, `250ms` to a timedelta. Raises ValueError.

    >>> parse_duration("1.5h")
    datetime.timedelta(seconds=5400)
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a duration like 10m, 2h or 5d: {text!r}")
    return timedelta(seconds=float(match.group(1)) * _UNIT_SECONDS[match.group(2)])


_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|m|min|h|d)", re.ASCII)


def parse_rate(text: str) -> float:
    """`5/s`, `1/min`, `600/h` to mails per second. Raises ValueError.

    >>> parse_rate("30/min")
    0.5
    """
    match = _RATE.fullmatch(text.strip())
    if match is None or float(match.group(1)) <= 0:
        raise ValueError(f"not a rate like 5/s, 30/min or 600/h: {text!r}")
    return float(match.group(1)) / _UNIT_SECONDS[match.group(2)]


def format_rate(per_second: float) -> str:
    """Mails per second to the shortest form that `parse_rate` reads.

    >>> format_rate(0.5), format_rate(5.0)
    ('30/min', '5/s')
    """
    if per_second >= 1:
        return f"{per_second:.4g}/s"
    if per_second * 60 >= 1:
        return f"{per_second * 60:.4g}/min"
    return f"{per_second * 3600:.4g}/h"


def exact_duration(span: timedelta) -> str:
    """A timedelta as `parse_duration` reads it: the largest unit that it is a whole number of.

    >>> [exact_duration(timedelta(seconds=s)) for s in (259200, 5400, 90, 0.25, 0)]
    ['3d', '90m', '90s', '250ms', '0s']
    """
    millis = span // timedelta(milliseconds=1)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if millis % size == 0 and (millis or unit == "s"):
            return f"{millis // size}{unit}"
    return f"{millis}ms"


def format_duration(span: timedelta) -> str:
    """A timedelta for people: `45s`, `12m`, `3h 20m`, `2d 4h`."""
    seconds = round(span.total_seconds())
    if seconds < 120:
        return f"{seconds}s"
    minutes = seconds // 60
    if minutes < 120:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h"
