"""Where a mail leaves: the relay, a mapped host, or the domain's MX. Says nothing of who the provider is.

Pure. Raises ConfigError for a route that cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from resend.config import Config
from resend.errors import ConfigError

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
    submission: bool = False  # [relay]: TLS and AUTH as configured there


@dataclass(frozen=True, slots=True)
class Routes:
    """Routes of one config. `[relay]` takes all mail; else `[mx_map]`, the most specific key first."""

    relay: Route | None
    mapped: Mapping[str, Route] = field(default_factory=dict)

    def of(self, provider: str, domain: str) -> Route | None:
        """The route of a mail, None where DNS MX decides (egress `direct`)."""
        if self.relay is not None:
            return self.relay
        return self.mapped.get(domain) or self.mapped.get(f"provider:{provider}") or self.mapped.get("*")

    def egress(self, provider: str, domain: str) -> str:
        route = self.of(provider, domain)
        return DIRECT if route is None else route.egress

    def relays(self) -> frozenset[str]:
        """Egress names whose acceptance is not delivery."""
        routes = [*self.mapped.values(), *([self.relay] if self.relay else [])]
        return frozenset(route.egress for route in routes if route.relay)


def routes(config: Config) -> Routes:
    """Read `[relay]` and `[mx_map]`. A mapped host in `[collect] own_relays` (or 127.0.0.1, ::1) is a relay of ours."""
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
    return Routes(relay, mapped)


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
