"""Reactions of resend.toml: rows like the built-in ones, checked like them, and before them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from resend.config import ProviderConfig
from resend.errors import ConfigError
from resend.model import CauseClass
from resend.policy.providers import ProviderTable
from resend.policy.reactions import Act
from tests.cli.conftest import Cli, cli, place

__all__ = ["cli", "place"]
SLOW = {"on": "slow down, friend", "sample": "421 4.7.0 Slow down, friend", "do": {"cooldown": "90m"}}
BLOCKED = (
    "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider"
    " since part of their network is on our block list (S3150)."
)


def loaded(*rows: dict[str, Any], name: str = "office365") -> ProviderTable:
    return ProviderTable.load({name: ProviderConfig(reactions=rows)})


def test_a_row_of_the_config_comes_before_the_built_in_ones() -> None:
    sample = "421 4.7.0 Connection refused: the client would exceed max concurrent connections (IB007)"
    own = {"on": "IB007", "sample": sample, "do": {"connections": 2, "for": "10m"}, "times": 3}
    whole = loaded(own).profile("office365")
    found = whole.reaction(CauseClass.THROTTLED, sample)
    assert found is not None and (found.act, found.most, found.times) == (Act.CONNECTIONS, 2, 3)
    assert found.span == timedelta(minutes=10)
    assert whole.reactions[1:] == ProviderTable.load().profile("office365").reactions
    assert loaded(SLOW, name="example.jp").profile("example.jp").reactions[0].span == timedelta(minutes=90)


def test_a_cause_class_is_fired_by_a_sample_of_that_cause() -> None:
    row = {"on": "mailbox_temporary", "sample": "452 4.2.2 mailbox full", "do": {"cooldown": "10m"}}
    assert loaded(row).profile("office365").reactions[0].on == "mailbox_temporary"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (SLOW | {"on": "hurry"}, "'hurry' is not in its sample"),
        (SLOW | {"on": "greylisted"}, "nor its cause"),
        (SLOW | {"sample": "slow down, friend"}, "a reply like"),
        (SLOW | {"sample": BLOCKED, "on": "block list"}, "parks the provider"),
        (SLOW | {"do": {"dance": "1h"}}, "one of cooldown"),
        (SLOW | {"do": {"connections": 0, "for": "1h"}}, "at least 1"),
        (SLOW | {"do": {"connections": 1}}, "span of time"),
        (SLOW | {"do": "park"}, "do = {...}"),
        (SLOW | {"times": "often"}, "times from 1"),
        (SLOW | {"times": 0}, "times from 1"),
        (SLOW | {"on": 5}, "on, sample, do"),
        (SLOW | {"why": "x"}, "on, sample, do"),
    ],
)
def test_a_row_that_would_never_fire_is_refused(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(row)
    assert said in caught.value.what and caught.value.where == "providers.office365.reactions"


def test_a_row_behind_one_that_takes_all_of_its_replies_is_refused() -> None:
    with pytest.raises(ConfigError, match="comes first"):
        loaded(SLOW | {"on": "slow down"}, SLOW)


def test_both_commands_show_it(cli: Cli) -> None:
    Path("resend.toml").write_text(
        '[[providers.office365.reactions]]\non = "slow down, friend"\nsample = "421 4.7.0 Slow down, friend"\n'
        'do = {cooldown = "90m"}\n'
    )
    shown = cli("providers", "show", "office365", "--json").of("profile")[0]
    assert shown["reactions"][0] == "'slow down, friend': cooldown 90m" and "reactions" in shown["set_in_config"]
    settings = {row["key"]: row for row in cli("config", "show", "--json").of("setting")}
    setting = settings["providers.office365.reactions"]
    assert "slow down, friend" in setting["value"] and "resend.toml" in setting["origin"]
    Path("resend.toml").write_text(Path("resend.toml").read_text().replace("slow down, friend", "hurry"))
    refused = cli("providers", "show", "office365")
    assert refused.exit == 2 and "hurry" in refused.one_error()
