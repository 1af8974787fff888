"""The time that a plan foresees is the time that pacer and guard take when every mail is accepted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.config import Config
from resend.executor.guard import Guard
from resend.executor.pacer import Pacer
from resend.planner import lanes
from resend.planner.eta import seconds, until_done
from resend.policy.hours import Hours
from resend.policy.providers import Profile, ProviderTable
from resend.policy.routes import routes
from resend.policy.windows import Windows

NOW = datetime(2026, 11, 24, tzinfo=UTC)
OPEN = Hours(zone="Asia/Tokyo", window=Windows.parse("00:00-24:00"))
PROFILE = replace(ProviderTable.load().profile("p.jp"), rate=2.0, start=2.0, canary=0, dwell=timedelta(0))

PROFILES = st.builds(
    lambda start, canary, dwell, clean: replace(
        PROFILE, start=start, canary=canary, dwell=timedelta(seconds=dwell), clean_for=timedelta(seconds=clean)
    ),
    st.floats(0.2, 5.0),
    st.integers(0, 30),
    st.integers(0, 300),
    st.integers(20, 900),
)


def taken(mails: int, profile: Profile, ceiling: float) -> float:
    """Seconds until the last of so many mails leaves, with an answer at once."""
    guard = Guard(profile=profile, rate=min(profile.start, ceiling), ceiling=ceiling)
    pacer, now = Pacer(guard.pace), 0
    for number in range(mails):
        if number == profile.canary:
            now += int(profile.dwell.total_seconds() * 1e6)
            guard.finish_canary(NOW + timedelta(microseconds=now))
        now = pacer.reserve(now)
        if guard.accepted(NOW + timedelta(microseconds=now)) is not None:
            pacer.change(guard.pace, now)
    return now / 1e6


@given(st.integers(1, 3000), PROFILES, st.floats(0.2, 12.0))
def test_what_is_foreseen_is_what_clean_weather_takes(mails: int, profile: Profile, ceiling: float) -> None:
    foreseen, real = seconds(mails, profile, ceiling=ceiling), taken(mails, profile, ceiling)
    assert foreseen == pytest.approx(real, rel=0.03, abs=3 / min(profile.start, ceiling))


@given(st.integers(1, 3000), PROFILES, st.floats(0.2, 12.0), st.sampled_from([0.0, 0.1, 1.0, 50.0]))
def test_hours_that_never_close_change_nothing(mails: int, profile: Profile, ceiling: float, accepted: float) -> None:
    work = seconds(mails, profile, ceiling=ceiling, accepted=accepted)
    hours = until_done({"": mails, "Asia/Tokyo": 0}, profile, ceiling=ceiling, accepted=accepted, hours=OPEN, now=NOW)
    # in steps of a minute, of which the canary, its dwell and the last one are not always full
    assert hours == pytest.approx(work, rel=0.03, abs=3 * 60 + 1 / min(profile.start, ceiling))


def test_what_a_receiver_took_is_a_ceiling_and_nothing_is_done_at_once() -> None:
    assert seconds(100, PROFILE, ceiling=2.0, accepted=0.5) == 200.0
    assert seconds(100, PROFILE, ceiling=2.0, accepted=9.0) == seconds(100, PROFILE, ceiling=2.0) == 50.0
    assert seconds(0, PROFILE, ceiling=2.0) == 0.0


def test_a_rate_that_need_not_be_clean_for_any_time_is_the_ceiling_at_once() -> None:
    assert seconds(100, replace(PROFILE, start=0.5, clean_for=timedelta(0)), ceiling=2.0) == 50.0


def test_what_never_ends_is_looked_at_for_so_long() -> None:
    closed = replace(OPEN, quotas={"p.jp": 1})
    assert until_done({"": 10_000}, PROFILE, ceiling=2.0, hours=closed, now=NOW) >= 400 * 86400


def test_what_a_provider_took_is_shared_before_a_plan_as_well() -> None:
    config = Config.model_validate(
        {"egress": {"a": {"source": "192.0.2.1", "weight": 3}, "b": {"source": "192.0.2.2", "weight": 1}}}
    )
    found = lanes.foreseen(400, PROFILE, routes(config), accepted=0.4)
    assert [(lane.mails, lane.eta_s) for lane in found] == [(300, pytest.approx(1000.0)), (100, pytest.approx(1000.0))]
    assert [lane.eta_s for lane in lanes.foreseen(0, PROFILE, routes(config), accepted=0.4)] == [0.0, 0.0]
