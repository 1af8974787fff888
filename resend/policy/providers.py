"""Who a receiver is, and how fast it may be fed: the provider table.

A provider is the receiving mail system, not the domain: thousands of domains stand behind one MX pool, and limits
belong to the pool. Built-in profiles lie in providers.toml; the config adds and overrides. Pure but for reading that
file. Raises ConfigError for an override that does not fit.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase, translate
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from resend.clock import parse_duration, parse_rate
from resend.config import MEND, ProviderConfig
from resend.errors import ConfigError
from resend.model import CauseClass
from resend.policy.reactions import Reaction, lint

T = TypeVar("T")
DEFAULT = "default"
_START_SHARE = 1 / 5  # of the rate (DESIGN: pace, react, stop)
_NO_RELAY = frozenset({"", "none", "local", "virtual"})
_SECOND_LEVEL = frozenset(
    ("ac", "ad", "co", "com", "ed", "edu", "go", "gob", "gov", "gr", "lg", "ltd", "ne", "net", "or", "org", "sch")
)  # below two-letter domains
_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f.]*:[0-9a-f:.]*", re.IGNORECASE)
_PARK = re.compile(r"(?P<what>[a-z_]+)\s*>\s*(?P<share>\d+(?:\.\d+)?)\s*%\s+in\s+(?P<window>\d+(?:\.\d+)?\s*[a-z]+)")
_PARK_WORDS = frozenset({"rejected", "deferred", "in_doubt"} | set(CauseClass))


@dataclass(frozen=True, slots=True)
class ParkRule:
    """Park a provider when more than `share` (0..1) of its replies in `window` were `what`: an outcome or a cause."""

    what: str
    share: float
    window: timedelta
    text: str

    @classmethod
    def parse(cls, text: str) -> ParkRule:
        """
        >>> ParkRule.parse("rejected > 5% in 5m").share
        0.05
        """
        match = _PARK.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"not a park rule like 'rejected > 5% in 5m': {text!r}")
        if match["what"] not in _PARK_WORDS:
            raise ValueError(f"a park rule counts one of {', '.join(sorted(_PARK_WORDS))}, not {match['what']!r}")
        share, window = float(match["share"]) / 100, parse_duration(match["window"])
        if not (0 <= share < 1 and window > timedelta(0)):
            raise ValueError(f"a park rule needs a share below 100 % and a window: {text!r}")
        return cls(match["what"], share, window, text.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How to feed one provider. Rates in mails per second; the keys are those of `[providers.NAME]`."""

    name: str
    mx: tuple[str, ...]
    domains: tuple[str, ...]
    rate: float
    connections: int
    start: float
    dwell: timedelta  # after the canary, for final outcomes
    cooldown: timedelta  # after a throttling reply
    floor: float
    mails_per_connection: int
    clean_for: timedelta  # before the rate rises by a tenth
    cap_for: timedelta  # how long a rate that was throttled bounds the rise
    canary: int
    park: tuple[ParkRule, ...]
    advice: str
    source: str
    reactions: tuple[Reaction, ...] = ()  # the first that fits holds: the config's, the provider's, everybody's

    def owns(self, domain: str) -> bool:
        """Whether a domain is the provider itself (gmail.com), not one of many that stand behind its pool."""
        return domain == self.name or any(fnmatchcase(domain, glob) for glob in self.domains)

    def reaction(self, cls: CauseClass, reply: str) -> Reaction | None:
        return next((item for item in self.reactions if item.fits(cls, reply)), None)


@dataclass(frozen=True, slots=True)
class _Glob:
    text: str
    pattern: re.Pattern[str]
    rank: tuple[int, int]  # config before built-in, then the longest
    provider: str


class ProviderTable:
    """All profiles of one config. Answers are cached: a log names the same receivers again and again."""

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        default: Profile,
        from_config: Iterable[tuple[str, str]] = (),
        mx: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`from_config`: (provider, glob) that the config gave; they win over built-in globs of any length.

        `mx`: the MX hosts of domains, best first, as far as they are known.
        """
        self._profiles = dict(profiles)
        self._default = default
        self._mx = mx or {}
        own = frozenset(from_config)
        self._by_host = _globs((p.name, p.mx, own) for p in self._profiles.values())
        self._by_domain = _globs((p.name, (*p.mx, *p.domains), own) for p in self._profiles.values())
        self._hosts: dict[str, str] = {}
        self._domains: dict[str, str] = {}

    @classmethod
    def load(
        cls, overrides: Mapping[str, ProviderConfig] | None = None, mx: Mapping[str, Sequence[str]] | None = None
    ) -> ProviderTable:
        """The built-in table with the config's `[providers]` over it; their `mx` adds to the built-in globs and wins.

        `mx`: the MX hosts of domains, best first, as far as they are known.
        """
        default_raw, raw = _built_in()
        default = _profile(DEFAULT, default_raw, {})
        profiles = {name: _profile(name, default_raw, row) for name, row in raw.items()}
        globbed: list[tuple[str, str]] = []
        for name, override in (overrides or {}).items():
            keys = {key: value for key in ProviderConfig.model_fields if (value := getattr(override, key)) is not None}
            globbed += [(name, glob) for glob in keys.get("mx", ())]
            where = f"providers.{name}"
            try:
                if name == DEFAULT:
                    raise ValueError("this name is taken; override a provider by its own name")
                profiles[name] = _profile(name, default_raw, raw.get(name, {"advice": "", "source": "config"}), keys)
                where += ".reactions"
                lint(name, profiles[name].reactions, own=len(keys.get("reactions", ())))
            except _Unfit as error:
                raise ConfigError(str(error), where=f"{where}.{error.key}", next_step=MEND) from None
            except ValueError as error:
                raise ConfigError(str(error), where=where, next_step=MEND) from None
        return cls(profiles, default, globbed, mx)

    def names(self) -> list[str]:
        return sorted(self._profiles)

    def profile(self, name: str) -> Profile:
        """The profile of a provider; the default's figures for a receiver that nobody knows."""
        return self._profiles.get(name) or replace(self._default, name=name)

    def glob(self, name: str) -> str:
        """The pattern by which a host, a domain or its MX hosts are known; "" where none fits."""
        mx = self._mx.get(name, ())
        for globs, texts in ((self._by_host, (name,)), (self._by_host, mx), (self._by_domain, (name,))):
            for text in texts:
                for glob in globs:
                    if glob.pattern.match(text):
                        return glob.text
        return ""

    def of(self, relay: str, relay_ip: str, domain: str) -> tuple[str, str]:
        """The provider, and by which way it was found: relay, mx or domain.

        `relay` is the receiver's host as logged ('' or none where none was reached). A receiver that nobody knows is
        named by the registrable part of its host or of the domain's best MX, else of the domain.
        """
        host = relay.lower().rstrip(".")
        if host not in _NO_RELAY or relay_ip:
            known = self._host(host) or self._host(relay_ip.lower())
            if known or (host not in _NO_RELAY and "." in host and not _ADDRESS.fullmatch(host)):
                return known or _registrable(host), "relay"
        bare = domain.lower().rstrip(".")
        mx = [exchanger.lower().rstrip(".") for exchanger in self._mx.get(bare, ())]
        for exchanger in mx:
            known = self._host(exchanger)
            if known:
                return known, "mx"
        if bare not in self._domains:
            self._domains[bare] = _first(self._by_domain, bare)
        if self._domains[bare]:
            return self._domains[bare], "domain"
        if mx and "." in mx[0] and not _ADDRESS.fullmatch(mx[0]):
            return _registrable(mx[0]), "mx"
        return ("unknown" if _ADDRESS.fullmatch(bare) else _registrable(bare) or "unknown"), "domain"

    def _host(self, host: str) -> str:
        if host in _NO_RELAY:
            return ""
        known = self._hosts.get(host)
        if known is None:
            known = self._hosts[host] = _first(self._by_host, host)
        return known


def _globs(lists: Iterable[tuple[str, Iterable[str], Collection[tuple[str, str]]]]) -> list[_Glob]:
    found = [
        _Glob(
            text=glob,
            pattern=re.compile(translate(glob.lower().rstrip("."))),
            rank=(0 if (name, glob) in own else 1, -len(glob)),
            provider=name,
        )
        for name, globs, own in lists
        for glob in globs
    ]
    return sorted(found, key=lambda glob: glob.rank)


def _first(globs: Iterable[_Glob], text: str) -> str:
    return next((glob.provider for glob in globs if glob.pattern.match(text)), "")


def _registrable(host: str) -> str:
    """About the part of a name that somebody registered; good enough to name a receiver.

    >>> _registrable("mx1.mail.example.co.jp"), _registrable("mx.example.com")
    ('example.co.jp', 'example.com')
    """
    labels = host.split(".")
    keep = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL else 2
    return ".".join(labels[-keep:])


@cache
def _built_in() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    document = tomllib.loads(files("resend.policy").joinpath("providers.toml").read_text(encoding="utf-8"))
    return document["default"], document["provider"]


def _profile(
    name: str, default: Mapping[str, Any], row: Mapping[str, Any], override: Mapping[str, Any] | None = None
) -> Profile:
    """A profile from TOML rows, the later over the earlier. Raises _Unfit where the figures do not fit together."""
    given = override or {}
    keys = {**default, **row, **given}
    rate = _rate(keys["rate"])
    start = _rate(keys["start"]) if "start" in keys else rate * _START_SHARE
    floor = _rate(keys["floor"])
    if "floor" not in given:
        floor = min(floor, rate)
    if start > rate:
        raise _Unfit("start" if "start" in given else "rate", "start is above rate")
    if floor > rate:
        raise _Unfit("floor", "floor is above rate")
    return Profile(
        name=name,
        mx=(*given.get("mx", ()), *row.get("mx", ())),
        domains=tuple(keys.get("domains", ())),
        rate=rate,
        connections=keys["connections"],
        start=start,
        dwell=_span(keys["dwell"]),
        cooldown=_span(keys["cooldown"]),
        floor=floor,
        mails_per_connection=keys["mails_per_connection"],
        clean_for=_span(keys["clean_for"]),
        cap_for=_span(keys["cap_for"]),
        canary=keys["canary"],
        park=_parsed("park", ParkRule.parse, keys["park"]),
        advice=keys["advice"],
        source=keys["source"],
        reactions=_parsed(
            "reactions",
            Reaction.parse,
            (*given.get("reactions", ()), *row.get("reaction", ()), *default.get("reaction", ())),
        ),
    )


class _Unfit(ValueError):
    """A value of a profile does not fit; `key` is the one to mend."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def _parsed(key: str, parse: Callable[[Any], T], items: Iterable[Any]) -> tuple[T, ...]:
    try:
        return tuple(parse(item) for item in items)
    except ValueError as error:
        raise _Unfit(key, str(error)) from None


def _rate(value: object) -> float:
    return parse_rate(value) if isinstance(value, str) else float(value)  # type: ignore[arg-type]


def _span(value: object) -> timedelta:
    return parse_duration(value) if isinstance(value, str) else value  # type: ignore[return-value]
