"""The time that a plan takes counts the hours at which nothing may leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from resend.planner.eta import seconds, until_done
from resend.policy.hours import ALWAYS, Hours
from resend.policy.providers import ProviderTable
from resend.policy.windows import Timetable, Windows

PROFILE = replace(ProviderTable.load().profile("p"), rate=1.0, start=1.0, canary=0, dwell=timedelta(0))
EVENING = datetime(2026, 11, 24, 11, 0, tzinfo=UTC)  # 20:00 in Tokyo
DAY = Hours(zone="Asia/Tokyo", window=Windows.parse("08:00-21:00"))
HOUR = 3600


def hours(zones: dict[str, int], known: Hours) -> float:
    return until_done(zones, PROFILE, ceiling=1.0, hours=known, now=EVENING) / HOUR


def test_without_hours_it_is_the_time_under_way() -> None:
    assert until_done({"": 500}, PROFILE, ceiling=1.0, hours=ALWAYS, now=EVENING) == seconds(500, PROFILE, ceiling=1.0)


def test_a_night_lies_between() -> None:
    assert hours({"": 1 * HOUR}, DAY) == pytest.approx(1, abs=0.05)
    assert hours({"": 2 * HOUR}, DAY) == pytest.approx(13, abs=0.05)
    # New York opens when Tokyo has closed (22:00 there): its mails do not wait for the morning
    assert hours({"": HOUR // 2, "America/New_York": HOUR // 2}, DAY) == pytest.approx(2.5, abs=0.1)


def test_quota_and_timetable_count() -> None:
    quota = Hours(zone="Asia/Tokyo", quotas={"p": 1000})
    assert hours({"": 2500}, quota) == pytest.approx(28 + 500 / HOUR, abs=0.05)  # two midnights
    night = Hours(zone="Asia/Tokyo", timetables={"p": Timetable.parse(["21:00-09:00 6/min"])})
    assert hours({"": HOUR + 12 * 360 + 1800}, night) == pytest.approx(13.5, abs=0.05)
