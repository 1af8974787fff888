"""Ways out: which egress each mail of a new plan leaves by, in the shares of their weights, and the limits of each.

A mailbox has one egress: the gap between two mails to it is kept there, and a receiver that greylists meets the same
address again. Pure: the same mails in any order get the same egress. Raises ConfigError.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from resend.config import Config, EgressConfig, LimitsConfig
from resend.errors import ConfigError
from resend.policy.providers import Profile, ProviderTable


@dataclass(frozen=True, slots=True)
class Egress:
    """One `[egress.NAME]`. `name` is the ledger's: `relay:NAME`, whose 250 is not the end, or `direct:NAME`."""

    name: str
    config: EgressConfig

    @property
    def relay(self) -> bool:
        return bool(self.config.host)

    @property
    def where(self) -> str:
        """Its table in the config, for messages."""
        return f"[egress.{self.name.partition(':')[2]}]"

    def takes(self, provider: str) -> bool:
        """Whether new mail to this provider may leave here."""
        return self.config.weight > 0 and (not self.config.providers or provider in self.config.providers)


def egresses(config: Config) -> tuple[Egress, ...]:
    """All of the config by name. Refused: what is there twice, providers that nobody knows, limits that do not fit."""
    found = tuple(
        Egress(f"{'relay' if one.host else 'direct'}:{name}", one) for name, one in sorted(config.egress.items())
    )
    ways = Counter(_way(one.config) for one in found)
    for one in found:
        if ways[_way(one.config)] > 1:
            raise ConfigError(
                f"another egress leaves the same way, {_way(one.config)}: a receiver would see both paces as one",
                where=one.where,
                next_step="make one of the two, with the sum of their weights",
            )
    table = ProviderTable.load(config.providers) if found else None
    for one in found:
        assert table is not None
        for provider in {*one.config.providers, *one.config.limits}:
            if "." not in provider and provider not in table.names():
                raise ConfigError(
                    f"no provider is called {provider!r}", where=one.where, next_step="see 'resend providers list'"
                )
        for provider, limits in one.config.limits.items():
            try:
                limited(table.profile(provider), limits)
            except ValueError as error:
                raise ConfigError(f"limits.{provider}: {error}", where=one.where) from None
    return found


def limited(profile: Profile, limits: LimitsConfig) -> Profile:
    """The profile with an egress' own figures. Raises ValueError where they do not fit together."""
    given: dict[str, Any] = {
        key: value
        for key in LimitsConfig.model_fields
        if (value := getattr(limits, key)) is not None and key != "daily_quota"  # policy/hours
    }
    rate = given.get("rate", profile.rate)
    own = replace(profile, **{"start": min(profile.start, rate), "floor": min(profile.floor, rate), **given})
    if own.start > own.rate:
        raise ValueError("start is above rate")
    if own.floor > own.rate:
        raise ValueError("floor is above rate")
    return own


def dealt(mailboxes: Mapping[str, int], among: Sequence[Egress]) -> dict[str, str]:
    """The egress' name of each mailbox (rcpt_key -> its mails), as near to the weights as whole mailboxes allow.

    Dealt by domain, so that each domain sees the same shares, and each egress has domains enough for its canary.
    """
    whole = sum(one.config.weight for one in among)
    owed = {one.name: 0 for one in among}  # in mails times `whole`: what its weight asks for, less what it got
    found: dict[str, str] = {}
    for mailbox in sorted(mailboxes, key=lambda key: (key.rpartition("@")[2], key)):
        count = mailboxes[mailbox]
        for one in among:
            owed[one.name] += one.config.weight * count
        chosen = max(owed, key=owed.__getitem__)
        owed[chosen] -= whole * count
        found[mailbox] = chosen
    return found


def choose(mails: Iterable[tuple[str, str]], known: Sequence[Egress]) -> dict[tuple[str, str], str]:
    """Egress names by (provider, rcpt_key), one pair given for each mail; pairs that no egress takes are left out."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for provider, mailbox in mails:
        counts[provider][mailbox] += 1
    found: dict[tuple[str, str], str] = {}
    for provider, mailboxes in counts.items():
        among = [one for one in known if one.takes(provider)]
        if among:
            found |= {(provider, mailbox): name for mailbox, name in dealt(mailboxes, among).items()}
    return found


def _way(config: EgressConfig) -> str:
    return f"{config.host}:{config.port}" if config.host else config.source
