"""When mail may be sent: daily windows in a time zone, and what rate holds at which hour. Pure; raises ValueError.

    08:00-21:00                 every day
    mon-fri 09:00-18:00         on these days; "sat,sun", "mon" too
    22:00-06:00                 over midnight; belongs to the day on which it begins

Several, one of which must be open, are separated by commas outside of the days: `mon-fri 09:00-18:00, sat 10:00-15:00`.
Wall clock decides: where a clock is set back an hour that comes twice is open twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN = re.compile(
    r"(?:(?P<days>[a-z]{3}(?:-[a-z]{3})?(?:,[a-z]{3}(?:-[a-z]{3})?)*)\s+)?"
    r"(?P<from>\d\d:\d\d)\s*-\s*(?P<to>\d\d:\d\d)(?:\s+(?P<rest>.+))?"
)
_BETWEEN = re.compile(r",\s+|,(?=\d)")  # a comma between spans; the days of one span are joined without a space
_DAY, _MINUTE = timedelta(days=1), timedelta(minutes=1)
_TURNED = timedelta(hours=4)  # no clock is turned by more, but for zones that changed their date
_WEEK = 7


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` for `length`, on the days (0 Monday) on which it begins."""

    days: frozenset[int]
    start: time
    length: timedelta

    def holds(self, local: datetime) -> bool:
        """Whether a wall clock time (naive) is inside."""
        for back in (timedelta(0), _DAY):
            day = local.date() - back
            begin = datetime.combine(day, self.start)
            if day.weekday() in self.days and begin <= local < begin + self.length:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Windows:
    """Spans of which one must be open; none at all is always open."""

    spans: tuple[Span, ...] = ()
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> Windows:
        """
        >>> saturday = datetime(2026, 11, 28, 2, tzinfo=UTC)
        >>> Windows.parse("mon-fri 09:00-18:00, sat 10:00-15:00").is_open(saturday, "Asia/Tokyo")
        True
        """
        if not text.strip():
            return cls()
        spans = []
        for part in _BETWEEN.split(text.strip().lower()):
            span, rest = _span(part, text)
            if rest:
                raise ValueError(f"not a window like '08:00-21:00': {text!r}")
            spans.append(span)
        return cls(tuple(spans), text.strip())

    def is_open(self, at: datetime, zone: str) -> bool:
        """Whether mail may leave at `at` (aware) for a recipient in `zone`."""
        local = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        return not self.spans or any(span.holds(local) for span in self.spans)

    def opens(self, at: datetime, zone: str) -> datetime:
        """The next moment, `at` or later, at which it is open; aware UTC, to the minute."""
        if self.is_open(at, zone):
            return at
        # A window of one day a week is left out where the clock skips all of it: then it opens a week later.
        for first in range(-1, 4 * _WEEK, _WEEK + 2):
            found = self._found(at, zone, range(first, first + _WEEK + 2))
            if found:
                return min(found)
        raise ValueError(f"it never opens: {self.text!r}")

    def _found(self, at: datetime, zone: str, days: range) -> list[datetime]:
        """Moments behind `at` at which it opens, of the windows that begin so many days from it."""
        where = ZoneInfo(zone)
        local = at.astimezone(where)
        minute = at.astimezone(UTC).replace(second=0, microsecond=0)
        found = []
        for ahead in days:
            day = (local + ahead * _DAY).date()
            for span in self.spans:
                if day.weekday() not in span.days:
                    continue
                naive = datetime.combine(day, span.start, where)
                for begin in {naive.replace(fold=fold).astimezone(UTC) for fold in (0, 1)}:
                    # Where the clock skips the start, or comes back into the span, it opens within hours of the start.
                    tried = max(begin, minute + _MINUTE)
                    while tried <= begin + _TURNED and not self.is_open(tried, zone):
                        tried += _MINUTE
                    if tried <= begin + _TURNED:
                        found.append(tried)
        return found


@dataclass(frozen=True, slots=True)
class Timetable:
    """Rates by the hour: the first span that holds gives the ceiling, in mails per second."""

    rows: tuple[tuple[Span, float], ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Timetable:
        """`["22:00-07:00 1/s", "sat,sun 00:00-24:00 5/s"]`."""
        from resend.clock import parse_rate

        rows = []
        for text in texts:
            span, rest = _span(text.strip().lower(), text)
            if not rest:
                raise ValueError(f"not a row like '22:00-07:00 1/s': {text!r}")
            rows.append((span, parse_rate(rest)))
        return cls(tuple(rows))

    def rate(self, at: datetime, zone: str) -> float | None:
        """The ceiling at `at` (aware) by the clock of `zone`; None where no row holds."""
        local = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        return next((rate for span, rate in self.rows if span.holds(local)), None)


def _span(text: str, whole: str) -> tuple[Span, str]:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"not a window like '08:00-21:00' or 'mon-fri 09:00-18:00': {whole!r}")
    start, end = _minutes(match["from"], whole), _minutes(match["to"], whole)
    if start == 1440:
        raise ValueError(f"a window cannot begin at 24:00: {whole!r}")
    length = end - start if end > start else end + 1440 - start
    days = _days(match["days"] or "mon-sun", whole)
    return Span(days, time(start // 60, start % 60), timedelta(minutes=length)), match["rest"] or ""


def _minutes(text: str, whole: str) -> int:
    hour, minute = map(int, text.split(":"))
    if minute > 59 or hour * 60 + minute > 1440:
        raise ValueError(f"no such time: {text} in {whole!r}")
    return hour * 60 + minute


def _days(text: str, whole: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last and last not in _DAYS):
            raise ValueError(f"no such day: {part} in {whole!r}")
        at, end = _DAYS.index(first), _DAYS.index(last or first)
        found.add(at)
        while at != end:
            at = (at + 1) % 7
            found.add(at)
    return frozenset(found)
