"""What is known of receiving systems, and which one a host belongs to. No test asks the DNS."""

from __future__ import annotations

import pytest

from resend.errors import Exit


def test_every_profile_is_listed_with_its_limits(cli):
    found = cli("providers", "list", "--json")
    names = [row["name"] for row in found.of("profile")]
    assert found.exit == 0 and len(names) == len(set(names)) == found.summary["providers"] >= 25
    assert {"office365", "outlook", "google", "yahoo", "yahoo_jp", "icloud", "docomo", "au", "softbank"} <= set(names)
    assert all(row["source"] and row["advice"] and row["connections"] >= 1 for row in found.of("profile"))
    assert all(len(line) <= 80 for line in cli("providers", "list").out.splitlines()[:-1])


@pytest.mark.parametrize(
    ("host", "provider", "way"),
    [
        ("example-com.mail.protection.outlook.com", "office365", "relay"),
        ("eur.olc.protection.outlook.com", "outlook", "relay"),
        ("gmail-smtp-in.l.google.com.", "google", "relay"),
        ("hanako@docomo.ne.jp", "docomo", "domain"),
        ("ezweb.ne.jp", "au", "domain"),
        ("somewhere.example", "somewhere.example", "domain"),
    ],
)
def test_a_host_is_explained(cli, host, provider, way):
    found = cli("providers", "explain", host, "--no-dns", "--json")
    (row,) = found.of("provider")
    assert (row["provider"], row["way"]) == (provider, way)
    assert row["known"] == bool(row["matched"])


def test_what_the_config_says_is_marked(cli, place):
    (place / "resend.toml").write_text('[providers.docomo]\nrate = "1/s"\nmx = ["*.lab.example"]\n')
    found = cli("providers", "show", "docomo", "--json").of("profile")[0]
    assert found["rate"] == "1/s" and found["set_in_config"] == ["mx", "rate"]
    assert "(resend.toml)" in cli("providers", "show", "docomo").out
    assert cli("providers", "explain", "a.lab.example", "--no-dns", "--json").summary["provider"] == "docomo"


def test_the_limits_of_each_egress_are_shown(cli, place):
    (place / "resend.toml").write_text(
        '[providers.office365]\ndaily_quota = 900\n[egress.mta2]\nsource = "192.0.2.7"\n'
        '[egress.mta2.limits.office365]\nrate = "30/min"\n'
        '[egress.relay1]\nhost = "relay1.example.jp"\nproviders = ["office365"]\nweight = 0\n'
    )
    mta2, relay1 = cli("providers", "show", "office365", "--json").of("limits")
    assert (mta2["egress"], mta2["rate"], mta2["start"], mta2["set_in_config"]) == (
        "direct:mta2", "30/min", "30/min", ["rate"]
    )  # fmt: skip
    assert (relay1["egress"], relay1["rate"], relay1["daily_quota"], relay1["weight"]) == (
        "relay:relay1",
        "5/s",
        900,
        0,
    )
    said = cli("providers", "show", "office365").out
    assert "rate 30/min  (resend.toml)" in " ".join(said.split()).replace(" (", "  (")
    assert "900" in said and "nothing new: weight 0" in said
    assert "relay1" not in cli("providers", "show", "docomo").out, "it serves others only"


@pytest.mark.parametrize(
    ("host", "provider"), [("192.0.2.1", "unknown"), ("2001:db8::1", "unknown"), ("例え.jp", "xn--r8jz45g.jp")]
)
def test_an_address_that_nobody_knows_is_not_taken_for_a_domain(cli, host, provider):
    assert cli("providers", "explain", host, "--no-dns", "--json").summary["provider"] == provider


@pytest.mark.parametrize("host", ["two words", "a/b", "@", "..例"])
def test_what_is_no_host_is_refused(cli, host):
    assert cli("providers", "explain", host, "--no-dns").exit == Exit.USAGE


def test_an_unknown_provider_gets_the_nearest_name(cli):
    found = cli("providers", "show", "ofice365")
    assert found.exit == Exit.USAGE and "did you mean 'office365'" in found.one_error()
