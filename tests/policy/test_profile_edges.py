"""Figures and rows at their edges: egress limits, park rules, reactions, and names that look like others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from resend.config import Config, ProviderConfig
from resend.errors import ConfigError
from resend.model import CauseClass
from resend.policy.egress import choose, egresses, limited
from resend.policy.providers import ParkRule, ProviderTable
from resend.policy.reactions import Act, Reaction

TABLE = ProviderTable.load()


def ways(**tables: dict[str, Any]) -> Config:
    return Config.model_validate({"egress": tables})


def limits(**figures: object) -> Any:
    (one,) = egresses(ways(a={"source": "192.0.2.7", "limits": {"p.jp": figures}}))
    return one.config.limits["p.jp"]


def test_a_receiver_that_no_profile_names_has_an_egress_by_its_domain_and_no_other_name_passes() -> None:
    (one,) = egresses(ways(a={"source": "192.0.2.7", "providers": ["example.jp", "docomo"]}))
    assert one.takes("example.jp") and one.takes("docomo") and not one.takes("office365")
    with pytest.raises(ConfigError, match="no provider is called 'dokomo'"):
        egresses(ways(a={"source": "192.0.2.7", "providers": ["dokomo"]}))


def test_limits_of_an_egress_fit_together() -> None:
    profile = TABLE.profile("p.jp")
    own = limited(profile, limits(rate="2/min", daily_quota=50))
    assert own.rate == own.start == pytest.approx(1 / 30) and own.floor == pytest.approx(1 / 60)
    slow = limited(profile, limits(rate="30/h"))
    assert slow.floor == slow.rate == pytest.approx(30 / 3600), "the floor of everybody gives way"
    assert limited(profile, limits(rate="1/s", floor="1/s")).floor == 1.0
    with pytest.raises(ConfigError, match="floor is above rate"):
        limits(rate="1/s", start="1/s", floor="2/s")
    with pytest.raises(ConfigError, match="start is above rate"):
        limits(rate="1/s", start="2/s")


def test_shares_are_of_mails_not_of_mailboxes() -> None:
    known = egresses(ways(a={"host": "a", "weight": 1}, b={"host": "b", "weight": 1}))
    mails = [("p.jp", "a@p.jp")] * 9 + [("p.jp", f"b{n}@p.jp") for n in range(9)]
    found = choose(mails, known)
    busy = found["p.jp", "a@p.jp"]
    assert sum(found[pair] == busy for pair in mails) == 9
    assert {found["p.jp", f"b{n}@p.jp"] for n in range(9)} == {"relay:a", "relay:b"} - {busy}


@pytest.mark.parametrize(
    "text", ["rejected > 100% in 5m", "rejected > 5% in 0m", "rejected > 5%", "rejected < 5% in 5m", "rejected"]
)
def test_what_is_no_park_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"rejected"):
        ParkRule.parse(text)


def test_a_provider_owns_its_name_and_its_domains() -> None:
    assert TABLE.profile("google").owns("gmail.com") and not TABLE.profile("google").owns("customer.example.jp")
    assert TABLE.profile("example.jp").owns("example.jp") and not TABLE.profile("example.jp").owns("mail.example.jp")


def test_the_pattern_that_a_receiver_is_known_by() -> None:
    table = ProviderTable.load(mx={"corp.example.jp": ["corp.mail.protection.outlook.com"]})
    by_host = table.glob("corp.mail.protection.outlook.com")
    assert by_host and table.glob("corp.example.jp") == by_host
    assert table.glob("gmail.com") == "gmail.com"
    assert table.glob("nobody.example.jp") == ""


@pytest.mark.parametrize(
    ("relay", "expected"),
    [
        ("localhost", ("shop.co.jp", "domain")),  # no receiver's name has no dot
        ("co.jp", ("co.jp", "relay")),
        ("mx.shop.co.jp", ("shop.co.jp", "relay")),
        ("mx.shop.com", ("shop.com", "relay")),
    ],
)
def test_the_part_of_a_name_that_somebody_registered(relay: str, expected: tuple[str, str]) -> None:
    assert TABLE.of(relay, "", "www.shop.co.jp") == expected


def reaction(**row: object) -> Reaction:
    return Reaction.parse({"on": "go away", "sample": "450 4.7.1 Please go away", **row})


def test_a_reaction_that_parks_needs_no_span() -> None:
    assert (reaction(do={"park": True}).act, reaction(do={"park": True}).text) == (Act.PARK, "'go away': park")
    with pytest.raises(ValueError, match="span of time"):
        reaction(do={"cooldown": "0s"})


def test_how_often_is_said_where_it_is_more_than_once() -> None:
    assert reaction(do={"cooldown": "90m"}).text == "'go away': cooldown 90m"
    often = reaction(do={"connections": 1, "for": "2h"}, times=2)
    assert often.text == "'go away' 2 times in 1h: connections 1 for 2h 00m"


def test_a_cause_class_means_the_cause_and_never_the_word() -> None:
    by_class = reaction(on="greylisted", sample="450 4.7.1 Greylisted", do={"cooldown": "1h"})
    assert by_class.fits(CauseClass.GREYLISTED, "450 come back later")
    assert not by_class.fits(CauseClass.THROTTLED, "450 you were greylisted")
    by_text = reaction(do={"cooldown": "1h"})
    assert by_text.fits(CauseClass.THROTTLED, "450 GO AWAY") and not by_text.fits(CauseClass.THROTTLED, "450 stay")


def test_several_rows_of_the_config_stand_beside_each_other() -> None:
    rows = [
        {"on": "too quick", "sample": "421 4.7.0 You are too quick", "do": {"cooldown": "5m"}},
        {"on": "too hasty", "sample": "421 4.7.0 You are too hasty", "do": {"cooldown": "6m"}},
    ]
    own = ProviderTable.load({"office365": ProviderConfig(reactions=rows)}).profile("office365")
    hasty = own.reaction(CauseClass.THROTTLED, "421 4.7.0 You are too hasty")
    assert hasty is not None and hasty.span == timedelta(minutes=6)
    with pytest.raises(ConfigError, match="'too quick again' never fires: 'too quick': cooldown 5m comes first"):
        again = rows[0] | {"on": "too quick again", "sample": "421 4.7.0 You are too quick again"}
        ProviderTable.load({"office365": ProviderConfig(reactions=[*rows, again])})
