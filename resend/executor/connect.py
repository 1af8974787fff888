"""Opens SMTP sessions: the route's host, else the domain's MX hosts in their order. aiosmtplib does TLS, EHLO and AUTH.

Another MX is tried only here, before any mail is under way. Raises Refused for a greeting, EHLO or a login for now that
says no (a reply to judge like any other; the last one where several hosts do), OSError for hosts that cannot be
reached, LoginRefused, ConnectError for a certificate that fails.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

import aiosmtplib
import dns.asyncresolver
import dns.exception
import dns.resolver
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from resend.config import DnsConfig, EgressConfig, RelayConfig
from resend.errors import ConnectError
from resend.executor.replies import enhanced_code
from resend.executor.session import Session
from resend.model import Reply
from resend.policy.routes import Route
from resend.stores.dnsnames import set_up

_CONNECT_S = 30.0
_ATTEMPTS = 3
_SMTP = 25
_MX_KEPT_S = 600.0
_UNKNOWN_COMMAND = (500, 502)
_NULL_MX = Reply(code=556, enhanced="5.1.10", text="the domain takes no mail (null MX, RFC 7505)")

Hosts = tuple[tuple[str, int], ...]  # host and port, the best first


class Refused(Exception):
    """The receiver answered before any mail, and said no."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(f"{reply.code} {reply.text}")


class LoginRefused(ConnectError):
    """The relay refuses user and password: no mail will go by it until a person mends that."""


class Connector(Protocol):
    """What a run is given to reach receivers."""

    async def hosts(self, route: Route | None, domain: str) -> Hosts:
        """Where mail of this domain goes. Sessions are used again for mail with the same hosts only."""
        ...

    async def open(self, route: Route | None, domain: str, egress: str = "") -> Session: ...


@dataclass(slots=True)
class SmtpConnector:
    """Real sockets. `relay` says how `[relay]` wants TLS and AUTH; mapped hosts and MX get opportunistic nothing.

    `egresses` by their name in the ledger: relays with their own TLS and AUTH, and source addresses to bind to.
    """

    relay: RelayConfig
    local_hostname: str = ""
    egresses: Mapping[str, EgressConfig] = field(default_factory=dict)
    dns: DnsConfig = field(default_factory=DnsConfig)  # whom to ask for MX
    _mx_known: dict[str, tuple[float, Hosts]] = field(default_factory=dict)

    async def hosts(self, route: Route | None, domain: str) -> Hosts:
        if route is not None:
            return ((route.host, route.port),)
        known = self._mx_known.get(domain)
        if known is None or time.monotonic() - known[0] > _MX_KEPT_S:
            known = self._mx_known[domain] = (time.monotonic(), await _mx(domain, self.dns))
        return known[1]

    async def open(self, route: Route | None, domain: str, egress: str = "") -> Session:
        last: Exception
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.2, max=2.0),
            retry=retry_if_exception_type(OSError),
            reraise=True,
        ):
            with attempt:
                last = OSError("no host")
                for host, port in await self.hosts(route, domain):
                    try:
                        return await self._open(host, port, route, self.egresses.get(egress))
                    except (OSError, Refused) as error:  # a word counts for more than silence
                        last = error if isinstance(error, Refused) or isinstance(last, OSError) else last
                raise last
        raise AssertionError("unreachable")

    async def _open(self, host: str, port: int, route: Route | None, egress: EgressConfig | None) -> Session:
        relay = egress.as_relay() if egress is not None and egress.host else self.relay
        source = egress.source if egress is not None else ""
        submission = route is not None and route.submission
        user = relay.user if submission else ""
        password = os.environ.get(relay.password_env, "")
        if user and not password:
            raise ConnectError(
                f"the variable {relay.password_env} is not set, and the relay wants its password",
                where=f"{host}:{port}",
                next_step="set it, or take the relay's `user` away where no login is needed",
            )
        client = aiosmtplib.SMTP(
            hostname=host,
            port=port,
            timeout=_CONNECT_S,
            use_tls=submission and relay.tls == "implicit",
            start_tls=submission and relay.tls == "starttls",
            username=user or None,
            password=password if user else None,
            local_hostname=(egress.ehlo if egress is not None else "") or self.local_hostname or None,
            source_address=(source, 0) if source else None,
        )
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                await _greet(client)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            client.close()
            raise _told(error, host, port) from None
        except BaseException:  # cancelled
            client.close()
            raise
        transport = client.transport
        if transport is None:
            raise OSError("the connection closed at once")
        extensions = {name.upper() for name in client.esmtp_extensions}
        size = client.esmtp_extensions.get("size", "")
        session = Session(frozenset(extensions), int(size) if size.isascii() and size.isdigit() else 0)
        session.attach(cast(asyncio.Transport, transport))
        return session


async def _greet(client: aiosmtplib.SMTP) -> None:
    """EHLO; HELO where the receiver does not know that command (RFC 5321 3.2)."""
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError as error:
        if error.code not in _UNKNOWN_COMMAND or not client.is_connected:
            raise
        await client.helo()


def _told(error: Exception, host: str, port: int) -> Exception:
    """What a failed opening means: a reply to judge, a host that is not there now, or a setting to mend."""
    match error:
        case aiosmtplib.SMTPAuthenticationError() if error.code >= 500:
            return LoginRefused(
                f"the relay refuses the login: {error.code} {error.message}",
                where=f"{host}:{port}",
                next_step="check [relay] user and the variable named by password_env",
            )
        case aiosmtplib.SMTPResponseException() if 200 <= error.code < 600:
            return Refused(Reply(code=error.code, enhanced=enhanced_code(error.message), text=error.message))
        case _ if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
            what = f"TLS fails: {error}"
            next_step = "check the host's certificate and [relay] tls"
        case aiosmtplib.SMTPResponseException():
            return OSError(f"no SMTP greeting: {error.message[:80]!r}")
        case OSError():  # unreachable, closed at once, silent
            return OSError(str(error) or type(error).__name__)
        case _:
            what = f"no SMTP session: {error}"
            next_step = "check the host, its port and [relay] tls"
    return ConnectError(what, where=f"{host}:{port}", next_step=next_step)


async def _mx(domain: str, config: DnsConfig) -> Hosts:
    """Hosts of a domain by preference; the domain itself where it has no MX (RFC 5321 5.1)."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=not config.nameservers)
        set_up(resolver, config)
        answer = await resolver.resolve(f"{domain}.", "MX", lifetime=_CONNECT_S)
    except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
        return ((domain, _SMTP),)
    except dns.exception.DNSException as error:
        raise OSError(f"no MX of {domain}: {error}") from None
    ranked = sorted((record.preference, str(record.exchange).rstrip(".")) for record in answer)
    found = tuple((host, _SMTP) for _, host in ranked if host)
    if not found:
        raise Refused(_NULL_MX)
    return found


def missing_source(source: str) -> str:
    """Why connections cannot be bound to an address on this host, "" where they can."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((source, 0))
    except OSError as error:
        return error.strerror or str(error)
    return ""
