"""Ceilings that an operator names: of a provider, of one egress before it, and those that name nobody."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from resend.config import Config
from resend.planner import lanes
from resend.policy.hours import ALWAYS
from resend.policy.providers import ProviderTable
from resend.policy.routes import routes

PROFILE = replace(ProviderTable.load().profile("p.jp"), rate=2.0, start=0.3, canary=0, dwell=timedelta(0))
RATES = {"p.jp": 0.5, "b/p.jp": 0.25}


@pytest.mark.parametrize(("egress", "rate"), [("direct", 0.5), ("relay:a", 0.5), ("direct:b", 0.25), ("relay:b", 0.25)])
def test_an_egress_goes_before_its_provider(egress: str, rate: float) -> None:
    assert lanes.asked(RATES, egress, "p.jp") == rate
    assert lanes.own(egress, PROFILE, routes(Config()), RATES).rate == rate
    assert lanes.asked(RATES, egress, "q.jp") is None
    assert lanes.own(egress, PROFILE, routes(Config()), {"q.jp": 9.0}).rate == 2.0


def test_a_key_that_names_nobody_is_told() -> None:
    places = [("direct:b", "p.jp"), ("direct", "q.jp")]
    assert lanes.unknown_rates({**RATES, "q.jp": 1.0, "r.jp": 1.0, "b/q.jp": 1.0}, places) == ["b/q.jp", "r.jp"]


def test_a_ceiling_is_what_counts_not_the_profiles() -> None:
    flat = replace(PROFILE, start=0.5)
    counts = {("direct", "p.jp", "Asia/Tokyo"): 60, ("direct", "p.jp", ""): 40, ("relay:a", "o.jp", ""): 10}
    profiles = {("direct", "p.jp"): replace(flat, rate=0.5), ("relay:a", "o.jp"): replace(flat, rate=1.0, start=1.0)}
    found = lanes.spans(counts, profiles, accepted={}, hours=ALWAYS, now=None)
    assert [(lane.provider, lane.mails, lane.eta_s) for lane in found] == [("o.jp", 10, 10.0), ("p.jp", 100, 200.0)]
    twice = {**profiles, ("direct", "p.jp"): replace(flat, rate=0.5, start=1.0)}
    assert lanes.spans(counts, twice, accepted={}, hours=ALWAYS, now=None, times=2.0)[1].eta_s == 100.0


def test_only_ways_out_that_take_a_provider_share_its_mail() -> None:
    config = Config.model_validate(
        {
            "egress": {
                "a": {"source": "192.0.2.1", "weight": 2, "providers": ["p.jp"]},
                "b": {"source": "192.0.2.2", "weight": 1},
                "c": {"source": "192.0.2.3", "weight": 1, "providers": ["docomo"]},
            }
        }
    )
    found = lanes.foreseen(90, PROFILE, routes(config), accepted=0.0)
    assert {lane.egress: lane.mails for lane in found} == {"direct:a": 60, "direct:b": 30}
