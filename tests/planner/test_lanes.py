"""Time over several ways out: they send at once, each at its own figures, and share what a provider takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from resend.config import Config
from resend.planner import lanes
from resend.policy.hours import ALWAYS, Hours
from resend.policy.providers import ProviderTable
from resend.policy.routes import routes

NOW = datetime(2026, 11, 24, 0, 0, tzinfo=UTC)
PROFILE = replace(ProviderTable.load().profile("p.jp"), rate=2.0, start=2.0, canary=0, dwell=timedelta(0))
CONFIG = Config.model_validate(
    {
        "egress": {
            "a": {"source": "192.0.2.1", "weight": 3},
            "b": {"source": "192.0.2.2", "limits": {"p.jp": {"rate": "1/s", "daily_quota": 100}}},
        }
    }
)


def spans(counts: dict[tuple[str, str, str], int], accepted: float = 0.0, hours: Hours = ALWAYS) -> dict[str, float]:
    known = routes(CONFIG)
    profiles = {(egress, name): lanes.own(egress, PROFILE, known, {}) for egress, name, _ in counts}
    found = lanes.spans(counts, profiles, accepted={"p.jp": accepted}, hours=hours, now=NOW)
    return {lane.egress: lane.eta_s for lane in found}


def test_each_egress_takes_its_own_time_and_what_a_provider_takes_is_shared() -> None:
    both = {("direct:a", "p.jp", ""): 600, ("direct:b", "p.jp", ""): 200}
    assert spans(both) == {"direct:a": 300.0, "direct:b": 200.0}
    assert spans(both, accepted=0.4) == {"direct:a": 600 / 0.3, "direct:b": 200 / 0.1}
    assert spans({("direct:a", "p.jp", ""): 800})["direct:a"] == 400.0


def test_a_quota_of_one_egress_holds_there_alone() -> None:
    hours = Hours.load(CONFIG)
    assert (hours.quota("p.jp", "direct:b"), hours.quota("p.jp", "direct:a"), hours.quota("p.jp")) == (100, 0, 0)
    both = {("direct:a", "p.jp", ""): 600, ("direct:b", "p.jp", ""): 150}
    found = spans(both, hours=hours)
    assert found["direct:a"] == 300.0
    assert found["direct:b"] == pytest.approx(86400 + 50, abs=120)


def test_before_a_plan_the_weights_tell_the_shares() -> None:
    found = lanes.foreseen(401, PROFILE, routes(CONFIG), accepted=0.0)
    assert {lane.egress: lane.mails for lane in found} == {"direct:a": 300, "direct:b": 101}
    (alone,) = lanes.foreseen(401, PROFILE, routes(Config()), accepted=0.0)
    assert (alone.egress, alone.mails) == ("direct", 401)


def test_the_gap_between_two_mails_to_one_mailbox_bounds_the_time() -> None:
    known, counts = routes(CONFIG), {("direct:a", "p.jp", ""): 60, ("direct:b", "p.jp", ""): 60}
    profiles = {(egress, name): lanes.own(egress, PROFILE, known, {}) for egress, name, _ in counts}
    least = {("direct:b", "p.jp"): 1_800.0}
    found = lanes.spans(counts, profiles, accepted={}, hours=ALWAYS, now=NOW, least=least)
    assert {lane.egress: lane.eta_s for lane in found} == {"direct:a": 30.0, "direct:b": 1_800.0}
