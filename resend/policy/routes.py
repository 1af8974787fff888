"""Where a mail leaves: an egress, the relay, a mapped host, or the domain's MX. Says nothing of who the provider is.

Pure. Raises ConfigError for a route that cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resend.config import Config
from resend.errors import ConfigError
from resend.policy.egress import Egress, choose, egresses, limited
from resend.policy.providers import Profile

DIRECT = "direct"
_OURS = frozenset({"127.0.0.1", "::1", "localhost"})
_SMTP_PORT = 25


@dataclass(frozen=True, slots=True)
class Route:
    """A host to connect to. Behind a relay of ours, its 250 is not the end: fate comes from its log."""

    host: str
    port: int
    relay: bool
    egress: str  # limits, slots and rates belong to (egress, provider)
    submission: bool = False  # TLS and AUTH as configured for this relay


@dataclass(frozen=True, slots=True)
class Routes:
    """Routes of one config: a relay mapped by domain or provider, `[egress]`, `[relay]`, the rest of `[mx_map]`.

    Of `[mx_map]` the most specific key holds. A plan says which egress a mail of it leaves by; that stays so.
    """

    relay: Route | None
    mapped: Mapping[str, Route] = field(default_factory=dict)
    egresses: Sequence[Egress] = ()
    sink: Route | None = None  # a rehearsal's: all mail goes there, at the pace of its egress

    def of(self, provider: str, domain: str, egress: str = "") -> Route | None:
        """The route of a mail planned for `egress`, None where DNS MX decides."""
        if self.sink is not None:
            return self.sink
        named = self.named(egress)
        if named is not None and named.relay:
            return Route(named.config.host, named.config.port, True, named.name, submission=True)
        if named is not None:
            found = self._mapped(provider, domain)
            return None if found is None or found.relay else found
        found = self._mapped(provider, domain)
        if self.relay is None or (found is not None and found.relay and found.egress == egress):
            return found
        return self.relay

    def leaves_by(self, provider: str, domain: str, egress: str) -> str:
        """The egress by which a mail planned for `egress` leaves by this config. What is another one holds neither the
        planned pace nor the planned fate: through a relay an acceptance is no delivery."""
        if self.sink is not None or self.named(egress) is not None:
            return egress
        route = self.of(provider, domain, egress)
        return DIRECT if route is None else route.egress

    def egress(self, provider: str, domain: str) -> str:
        """The egress of mail that no `[egress]` takes."""
        route = self.of(provider, domain)
        return DIRECT if route is None else route.egress

    def choose(self, mails: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The egress of each (provider, rcpt_key), one pair given for each mail."""
        pairs = list(mails)
        if not self.egresses:
            return {pair: self.egress(pair[0], pair[1].rpartition("@")[2]) for pair in pairs}
        found: dict[tuple[str, str], str] = {}
        free = []
        for pair in pairs:
            domain = pair[1].rpartition("@")[2]
            mapped = self.mapped.get(domain) or self.mapped.get(f"provider:{pair[0]}")
            if mapped is not None and mapped.relay:
                found[pair] = mapped.egress
            else:
                free.append(pair)
        chosen = choose(free, self.egresses)
        return found | {pair: chosen.get(pair) or self.egress(pair[0], pair[1].rpartition("@")[2]) for pair in free}

    def limited(self, egress: str, profile: Profile) -> Profile:
        """A provider's profile as it holds for one egress."""
        named = self.named(egress)
        limits = named.config.limits.get(profile.name) if named is not None else None
        return profile if limits is None else limited(profile, limits)

    def named(self, egress: str) -> Egress | None:
        """The `[egress.NAME]` of a name in the ledger; None for another way out."""
        return next((one for one in self.egresses if one.name == egress), None)

    def relays(self) -> frozenset[str]:
        """Egress names whose acceptance is not delivery."""
        if self.sink is not None:
            return frozenset()
        routes = [*self.mapped.values(), *([self.relay] if self.relay else [])]
        named = {one.name for one in self.egresses if one.relay}
        return frozenset(route.egress for route in routes if route.relay) | named

    def names(self) -> frozenset[str]:
        """All egress names that mail can leave by now."""
        direct = set() if self.relay is not None else {DIRECT}
        return self.relays() | {one.name for one in self.egresses} | direct

    def logs(self, rest: Path | None) -> dict[Path, frozenset[str]]:
        """The logs to follow, and the egresses that each tells of. `rest`: of those that have no log of their own."""
        own = {one.name: Path(one.config.log) for one in self.egresses if one.config.log}
        found: dict[Path, frozenset[str]] = {}
        for name, path in own.items():
            found[path] = found.get(path, frozenset()) | {name}
        if rest is not None:
            found[rest] = found.get(rest, frozenset()) | (self.names() - own.keys())
        return found

    def _mapped(self, provider: str, domain: str) -> Route | None:
        return self.mapped.get(domain) or self.mapped.get(f"provider:{provider}") or self.mapped.get("*")


def routes(config: Config) -> Routes:
    """Read `[relay]`, `[egress]`, `[mx_map]`. A mapped host in `[collect] own_relays` (or 127.0.0.1, ::1) is a relay.

    Raises ConfigError.
    """
    ours = _OURS | set(config.collect.own_relays)
    mapped: dict[str, Route] = {}
    for key, value in config.mx_map.items():
        host, port = split_endpoint(value, where=f"mx_map.{key}")
        is_relay = host in ours or f"{host}:{port}" in ours
        name = key if key.startswith("provider:") else key.lower()
        mapped[name] = Route(host, port, is_relay, _relay_name(host, port) if is_relay else DIRECT)
    relay = None
    if config.relay.host:
        host, port = config.relay.host, config.relay.port
        relay = Route(host, port, True, _relay_name(host, port), submission=True)
    return Routes(relay, mapped, egresses(config))


def relay_log(config: Config) -> Path | None:
    """`[relay] log`, of every egress without one of its own."""
    return Path(config.relay.log) if config.relay.log else None


def unfollowed(config: Config, follow: Path | None = None) -> frozenset[str]:
    """Relays whose log nobody names: what becomes of mail that they accept stays unseen."""
    known = routes(config)
    return known.relays() - frozenset().union(*known.logs(follow or relay_log(config)).values())


def split_endpoint(text: str, *, where: str) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]:port` to (host, port); port 25 where none is given."""
    bare = text.strip()
    host, port = bare, ""
    if bare.startswith("["):
        host, _, rest = bare[1:].partition("]")
        port = rest.removeprefix(":")
    elif bare.count(":") == 1:
        host, port = bare.split(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise ConfigError(f"not a host or host:port: {text!r}", where=where, next_step='write it like "127.0.0.1:2525"')
    return host, int(port or _SMTP_PORT)


def _relay_name(host: str, port: int) -> str:
    return f"relay:{host}:{port}"
