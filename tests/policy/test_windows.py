"""Send windows and rate timetables: wall clock, days, midnight, and clocks that are set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.policy.windows import Timetable, Windows

TOKYO, BERLIN = "Asia/Tokyo", "Europe/Berlin"


def local(text: str, zone: str = TOKYO) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


@pytest.mark.parametrize(
    ("window", "at", "is_open"),
    [
        ("08:00-21:00", "2026-11-24T08:00", True),
        ("08:00-21:00", "2026-11-24T20:59", True),
        ("08:00-21:00", "2026-11-24T21:00", False),
        ("22:00-06:00", "2026-11-24T05:59", True),
        ("22:00-06:00", "2026-11-24T12:00", False),
        ("fri 22:00-06:00", "2026-11-28T05:00", True),  # Saturday morning belongs to Friday's window
        ("fri 22:00-06:00", "2026-11-27T05:00", False),
        ("mon-fri 09:00-18:00, sat 10:00-15:00", "2026-11-28T11:00", True),
        ("mon-fri 09:00-18:00, sat 10:00-15:00", "2026-11-29T11:00", False),
        ("sat-mon 00:00-24:00", "2026-11-29T03:00", True),
        ("sat,sun 09:00-10:00", "2026-11-29T09:30", True),
        ("", "2026-11-29T03:00", True),
    ],
)
def test_a_window_by_the_recipients_clock(window: str, at: str, is_open: bool) -> None:
    assert Windows.parse(window).is_open(local(at), TOKYO) is is_open


windows = st.sampled_from(
    ["08:00-21:00", "22:00-06:00", "mon-fri 09:00-18:00, sat 10:00-15:00", "sun 02:10-02:20", "fri 23:59-00:01"]
)
times = st.integers(0, 2 * 365 * 24 * 60).map(
    lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)


@given(windows, times, st.sampled_from([TOKYO, BERLIN, "America/St_Johns", "UTC"]))
def test_it_opens_at_the_first_open_minute(text: str, at: datetime, zone: str) -> None:
    window = Windows.parse(text)
    opens = window.opens(at, zone)
    assert opens >= at and window.is_open(opens, zone)
    if opens > at:
        assert not window.is_open(opens - timedelta(microseconds=1), zone) or opens - at <= timedelta(minutes=1)
        for step in (0.0, 0.3, 0.6, 0.99):
            assert not window.is_open(at + (opens - at) * step - timedelta(microseconds=step > 0), zone)


def test_a_start_that_the_clock_skips() -> None:
    window = Windows.parse("02:30-04:00")  # on 29 March 2026 the clock of Berlin goes from 02:00 to 03:00
    assert window.opens(local("2026-03-29T00:30", BERLIN), BERLIN) == local("2026-03-29T03:00", BERLIN)


@pytest.mark.parametrize(
    ("text", "zone", "at", "opens"),
    [
        # All of it is skipped that Sunday: it opens on the next one.
        ("sun 02:10-02:20", BERLIN, "2026-03-23T12:00", "2026-04-05T02:10"),
        ("sun 02:10-02:20", BERLIN, "2026-03-22T02:20", "2026-04-05T02:10"),
        ("02:10-02:20", BERLIN, "2026-03-28T12:00", "2026-03-30T02:10"),
        ("fri 09:00-10:00", "Pacific/Apia", "2011-12-24T12:00", "2012-01-06T09:00"),  # Samoa had no 30 December
    ],
)
def test_a_window_that_the_clock_skips_opens_the_next_time(text: str, zone: str, at: str, opens: str) -> None:
    assert Windows.parse(text).opens(local(at, zone), zone) == local(opens, zone)


@pytest.mark.parametrize(
    "text", ["8-21", "08:00", "25:00-26:00", "08:60-09:00", "24:00-01:00", "mom 08:00-09:00", "08:00-09:00 5/s", "a, b"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"window|no such"):
        Windows.parse(text)


def test_a_timetable_gives_the_first_rate_that_holds() -> None:
    table = Timetable.parse(["22:00-07:00 30/min", "sat,sun 00:00-24:00 5/s"])
    assert table.rate(local("2026-11-28T23:00"), TOKYO) == 0.5
    assert table.rate(local("2026-11-28T12:00"), TOKYO) == 5
    assert table.rate(local("2026-11-27T12:00"), TOKYO) is None
    with pytest.raises(ValueError, match="22:00"):
        Timetable.parse(["22:00-07:00"])
