"""What a plan asks of each (egress, provider): the figures that hold there, and how long its mails take.

What a provider took while it throttled is known of all ways out together: each is counted on for its share of the
mails. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from resend.planner import eta
from resend.policy.hours import Hours
from resend.policy.providers import Profile
from resend.policy.routes import Routes


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The mails of one (egress, provider), and the seconds until they are sent."""

    egress: str
    provider: str
    mails: int
    eta_s: float


def own(egress: str, profile: Profile, routes: Routes, rates: Mapping[str, float]) -> Profile:
    """The profile as it holds for an egress, with the ceiling of `rates` (PROVIDER, or EGRESS/PROVIDER before it)."""
    limited = routes.limited(egress, profile)
    rate = asked(rates, egress, profile.name)
    return limited if rate is None else replace(limited, rate=rate)


def asked(rates: Mapping[str, float], egress: str, provider: str) -> float | None:
    """The ceiling that `rates` names for an (egress, provider), None where it names none."""
    return rates.get(f"{egress.partition(':')[2]}/{provider}", rates.get(provider))


def spans(
    counts: Mapping[tuple[str, str, str], int],
    profiles: Mapping[tuple[str, str], Profile],
    *,
    accepted: Mapping[str, float],
    hours: Hours,
    now: datetime | None,
    times: float = 1.0,
    least: Mapping[tuple[str, str], float] | None = None,
) -> tuple[Lane, ...]:
    """A lane for each (egress, provider), by provider. `counts`: mails by (egress, provider, zone).

    `accepted` as in `eta.until_done`, of the provider; `times`: ceilings that many times as high. `least`: seconds to
    the last mail may go, by (egress, provider): the recipient gap.
    """
    least = least or {}
    zones: dict[tuple[str, str], dict[str, int]] = {}
    whole: Counter[str] = Counter()
    for (egress, provider, zone), count in counts.items():
        zones.setdefault((egress, provider), {})[zone] = count
        whole[provider] += count
    return tuple(
        Lane(
            egress=egress,
            provider=provider,
            mails=(mails := sum(inner.values())),
            eta_s=max(
                least.get((egress, provider), 0.0),
                eta.until_done(
                    inner,
                    profile := profiles[egress, provider],
                    ceiling=profile.rate * times,
                    accepted=accepted.get(provider, 0.0) * mails / whole[provider],
                    hours=replace(hours, quotas={provider: hours.quota(provider, egress)}),
                    now=now,
                ),
            ),
        )
        for (egress, provider), inner in sorted(zones.items(), key=lambda item: (item[0][1], item[0][0]))
    )


def foreseen(mails: int, profile: Profile, routes: Routes, *, accepted: float) -> tuple[Lane, ...]:
    """Lanes of a provider's mails before a plan is made: by the weights, as if mapped domains were like the others.

    `accepted` as in `eta.seconds`.
    """
    among = [one for one in routes.egresses if one.takes(profile.name)]
    shares = {one.name: one.config.weight for one in among} or {routes.egress(profile.name, ""): 1}
    whole, given = sum(shares.values()), 0
    found = []
    for number, (egress, weight) in enumerate(sorted(shares.items()), 1):
        part = mails - given if number == len(shares) else mails * weight // whole
        given += part
        limited = routes.limited(egress, profile)
        took = accepted * part / mails if mails else 0.0
        seconds = eta.seconds(part, limited, ceiling=limited.rate, accepted=took)
        found.append(Lane(egress=egress, provider=profile.name, mails=part, eta_s=seconds))
    return tuple(found)


def unknown_rates(rates: Mapping[str, float], places: Iterable[tuple[str, str]]) -> list[str]:
    """Keys of `rates` that name none of the (egress, provider) that get mail."""
    known = {name for egress, provider in places for name in (provider, f"{egress.partition(':')[2]}/{provider}")}
    return sorted(set(rates) - known)
