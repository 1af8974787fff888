"""The provider table: who a receiver is, by which way, and the figures of its profile."""

from __future__ import annotations

from datetime import timedelta

import pytest

from resend.config import ProviderConfig
from resend.errors import ConfigError
from resend.policy.providers import ParkRule, ProviderTable

TABLE = ProviderTable.load()


@pytest.mark.parametrize(
    ("relay", "ip", "domain", "expected"),
    [
        ("example-co-jp.mail.protection.outlook.com", "192.0.2.1", "example.co.jp", ("office365", "relay")),
        ("EXAMPLE.Mail.Protection.Outlook.com.", "", "example.co.jp", ("office365", "relay")),
        ("example.a1.mx.microsoft", "", "example.jp", ("office365", "relay")),
        ("hotmail-com.olc.protection.outlook.com", "", "hotmail.com", ("outlook", "relay")),
        ("aspmx.l.google.com", "", "example.jp", ("google", "relay")),
        ("mta5.am0.yahoodns.net", "", "yahoo.com", ("yahoo", "relay")),
        ("mx3.mail.yahoo.co.jp", "", "yahoo.co.jp", ("yahoo_jp", "relay")),
        ("mfsmax.docomo.ne.jp", "", "docomo.ne.jp", ("docomo", "relay")),
        ("none", "", "ezweb.ne.jp", ("au", "domain")),
        ("", "", "softbank.ne.jp", ("softbank", "domain")),
        ("none", "", "mail.example.co.jp", ("example.co.jp", "domain")),
        ("mx1.hosting.example", "192.0.2.1", "shop.example.jp", ("hosting.example", "relay")),
        ("192.0.2.1", "192.0.2.1", "gmail.com", ("google", "domain")),
        ("notgoogle.com.evil.example", "", "x.example", ("evil.example", "relay")),
        ("", "", "", ("unknown", "domain")),
    ],
)
def test_a_receiver_is_named_by_relay_else_domain(relay: str, ip: str, domain: str, expected: tuple[str, str]) -> None:
    assert TABLE.of(relay, ip, domain) == expected


def test_mx_hosts_stand_between_relay_and_domain() -> None:
    mx = {
        "corp.example.jp": ["backup.example.net", "Corp.Mail.Protection.Outlook.com."],
        "shop.example.jp": ["mx.other.example", "mx2.third.example"],
        "odd.example.jp": ["192.0.2.1"],
        "docomo.ne.jp": ["mx.somewhere.example"],
        "null.example.jp": [],
    }
    table = ProviderTable.load(mx=mx)
    assert table.of("none", "", "Corp.example.jp.") == ("office365", "mx")
    assert table.of("none", "", "shop.example.jp") == ("other.example", "mx")
    assert table.of("aspmx.l.google.com", "", "corp.example.jp") == ("google", "relay")
    assert table.of("mx1.hosting.example", "192.0.2.1", "corp.example.jp") == ("hosting.example", "relay")
    assert table.of("none", "", "docomo.ne.jp") == ("docomo", "domain")
    assert table.of("none", "", "odd.example.jp") == table.of("none", "", "null.example.jp") == ("example.jp", "domain")


def test_the_config_adds_and_wins_and_the_built_in_globs_stay() -> None:
    table = ProviderTable.load(
        {
            "office365": ProviderConfig(mx=("127.0.1.3",), rate=200.0, start=60.0),
            "partner": ProviderConfig(mx=("*.google.com", "partner.example")),
        }
    )
    assert table.of("127.0.1.3", "127.0.1.3", "anything.example") == ("office365", "relay")
    assert table.of("", "127.0.1.3", "anything.example") == ("office365", "relay")
    assert table.of("x.mail.protection.outlook.com", "", "x.example") == ("office365", "relay")
    assert table.of("aspmx.l.google.com", "", "x.example") == ("partner", "relay")  # over a longer built-in glob too
    assert table.of("none", "", "partner.example") == ("partner", "domain")
    profile = table.profile("office365")
    assert (profile.rate, profile.start, profile.connections) == (200.0, 60.0, 5)


def test_defaults_of_a_profile() -> None:
    nobody = TABLE.profile("example.co.jp")
    assert nobody.name == "example.co.jp"
    for name in [*TABLE.names(), "example.co.jp"]:
        profile = TABLE.profile(name)
        assert profile.start == pytest.approx(profile.rate / 5) and profile.floor == pytest.approx(1 / 60)
        assert profile.dwell == timedelta(minutes=2) and profile.canary == 20
        assert profile.cooldown >= timedelta(minutes=15) and profile.source and profile.advice and profile.park
    halved = ProviderTable.load({"google": ProviderConfig(rate=1.0)}).profile("google")
    assert halved.start == pytest.approx(0.2)  # a fifth of the new rate, not of the built-in one


@pytest.mark.parametrize(
    ("keys", "key", "reason"),
    [
        ({"start": 10.0, "rate": 5.0}, "start", "start is above rate"),
        ({"floor": 20.0}, "floor", "floor is above rate"),
        ({"park": ("rejected over 5%",)}, "park", "not a park rule"),
        ({"park": ("bored > 5% in 5m",)}, "park", "not 'bored'"),
        ({"park": ("rejected > 5% in 5 lightyears",)}, "park", "not a duration"),
        ({"park": ("rejected > 100% in 5m",)}, "park", "below 100"),
    ],
)
def test_an_override_that_does_not_fit_is_named(keys: dict[str, object], key: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        ProviderTable.load({"google": ProviderConfig(**keys)})  # type: ignore[arg-type]
    assert caught.value.where == f"providers.google.{key}"


def test_park_rules() -> None:
    rule = ParkRule.parse(" rejected > 2.5% in 10m ")
    assert (rule.what, rule.share, rule.window) == ("rejected", 0.025, timedelta(minutes=10))
    assert ParkRule.parse("sender_blocked > 0% in 1h").share == 0


def test_no_built_in_glob_is_hidden_by_another_provider() -> None:
    for name in TABLE.names():
        for glob in TABLE.profile(name).mx:
            assert TABLE.of(glob.replace("*", "some-host"), "", "x.example") == (name, "relay"), glob
        for glob in TABLE.profile(name).domains:
            assert TABLE.of("none", "", glob.replace("*", "some")) == (name, "domain"), glob
