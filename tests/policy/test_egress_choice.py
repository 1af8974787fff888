"""Which egress a mail leaves by: shares as the weights say, one for each mailbox, the same whatever the order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.config import Config
from resend.errors import ConfigError
from resend.policy.egress import choose, egresses
from resend.policy.providers import ProviderTable
from resend.policy.routes import routes, unfollowed


def config(**tables: Mapping[str, object]) -> Config:
    return Config.model_validate({"egress": tables})


MAILBOXES = st.lists(
    st.tuples(
        st.sampled_from(["office365", "docomo", "example.net"]),
        st.builds("u{}@d{}.jp".format, st.integers(0, 40), st.integers(0, 5)),
    ),
    max_size=200,
)


@given(MAILBOXES, st.lists(st.integers(0, 7), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_shares_are_as_the_weights_and_the_order_changes_nothing(
    mails: list[tuple[str, str]], weights: list[int], rng: random.Random
) -> None:
    known = egresses(config(**{f"e{n}": {"host": f"h{n}", "weight": weight} for n, weight in enumerate(weights)}))
    found = choose(mails, known)
    rng.shuffle(mails)
    assert choose(mails, known) == found
    if not sum(weights):
        assert found == {}
        return
    assert found.keys() == set(mails)
    for provider in {provider for provider, _ in mails}:
        counts = Counter(found[pair] for pair in mails if pair[0] == provider)
        most = max(Counter(pair for pair in mails if pair[0] == provider).values())
        for one in known:
            due = counts.total() * one.config.weight / sum(weights)
            assert abs(counts[one.name] - due) <= most * max(1, len(weights) - 1)


def test_sixty_mailboxes_at_two_to_one_are_forty_and_twenty_in_every_domain() -> None:
    known = egresses(config(a={"host": "a", "weight": 2}, b={"source": "192.0.2.7"}))
    found = choose([("office365", f"u{n}@d{n % 10}.jp") for n in range(60)], known)
    assert Counter(found.values()) == {"relay:a": 40, "direct:b": 20}
    assert Counter((key[1].partition("@")[2], name) for key, name in found.items())["d3.jp", "relay:a"] == 4


def test_an_egress_serves_its_providers_and_the_rest_goes_as_without_it() -> None:
    known = routes(
        Config.model_validate(
            {
                "egress": {"a": {"source": "192.0.2.7", "providers": ["office365"]}},
                "relay": {"host": "r.example.jp"},
                "mx_map": {"own.jp": "127.0.0.1:2525", "corp.jp": "192.0.2.99"},
            }
        )
    )
    pairs = [
        ("office365", "u@x.jp"),
        ("docomo", "u@docomo.ne.jp"),
        ("office365", "u@own.jp"),
        ("office365", "u@corp.jp"),
    ]
    found = known.choose(pairs)
    assert [found[pair] for pair in pairs] == [
        "direct:a", "relay:r.example.jp:587", "relay:127.0.0.1:2525", "direct:a",
    ]  # fmt: skip
    assert known.of("office365", "x.jp", "direct:a") is None  # by its MX
    there = known.of("office365", "corp.jp", "direct:a")
    assert there is not None and (there.host, there.port) == ("192.0.2.99", 25)
    assert known.names() == {"direct:a", "relay:r.example.jp:587", "relay:127.0.0.1:2525"}


def test_limits_are_an_egress_own_and_start_never_above_its_rate() -> None:
    known = routes(config(a={"host": "a", "limits": {"office365": {"rate": "0.5/s", "connections": 2}}}))
    profile = ProviderTable.load().profile("office365")
    own = known.limited("relay:a", profile)
    assert (own.rate, own.start, own.connections) == (0.5, min(profile.start, 0.5), 2)
    assert own.floor <= own.rate and own.canary == profile.canary
    assert known.limited("relay:b", profile) is profile


def test_each_relay_has_its_log_and_what_has_none_is_named() -> None:
    two = config(a={"host": "a", "log": "/var/a.log"}, b={"host": "b"})
    assert unfollowed(two) == {"relay:b"}
    assert unfollowed(two.model_copy(update={"relay": two.relay.model_copy(update={"log": "/var/all.log"})})) == set()


@pytest.mark.parametrize(
    ("tables", "word"),
    [
        ({"a": {"source": "192.0.2.7"}, "b": {"source": "192.0.2.7"}}, "same way"),
        ({"a": {"source": "192.0.2.7", "providers": ["ofice365"]}}, "ofice365"),
        ({"a": {"host": "h", "limits": {"office365": {"rate": "1/s", "start": "2/s"}}}}, "start is above"),
    ],
)
def test_what_cannot_be_is_refused_by_its_table(tables: dict[str, dict[str, object]], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        routes(config(**tables))
    assert "egress." in caught.value.where
