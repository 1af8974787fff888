"""Opens SMTP sessions: the route's host, else the domain's MX hosts in their order. aiosmtplib does TLS, EHLO and AUTH.

Another MX is tried only here, before any mail is under way. Raises Refused for a greeting or EHLO that says no (a reply
to judge like any other), ConnectError for a host that cannot be reached or a login that fails.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import aiosmtplib
import dns.asyncresolver
import dns.exception
import dns.resolver
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from resend.config import RelayConfig
from resend.errors import ConnectError
from resend.executor.session import Session
from resend.model import Reply
from resend.policy.routes import Route

_CONNECT_S = 30.0
_ATTEMPTS = 3
_SMTP = 25


class Refused(Exception):
    """The receiver answered before any mail, and said no."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(f"{reply.code} {reply.text}")


class Connector(Protocol):
    """What a run is given to reach receivers."""

    async def open(self, route: Route | None, domain: str) -> Session: ...


@dataclass(slots=True)
class SmtpConnector:
    """Real sockets. `relay` says how `[relay]` wants TLS and AUTH; mapped hosts and MX get opportunistic nothing."""

    relay: RelayConfig
    local_hostname: str = ""

    async def open(self, route: Route | None, domain: str) -> Session:
        hosts = [(route.host, route.port)] if route is not None else await self._mx(domain)
        last: Exception | None = None
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.2, max=2.0),
            retry=retry_if_exception_type(OSError),
            reraise=True,
        ):
            with attempt:
                for host, port in hosts:
                    try:
                        return await self._open(host, port, route)
                    except (OSError, aiosmtplib.SMTPConnectError, aiosmtplib.SMTPTimeoutError) as error:
                        if isinstance(error, aiosmtplib.SMTPConnectResponseError):
                            raise Refused(Reply(code=error.code, enhanced="", text=error.message)) from None
                        last = error
                raise OSError(str(last))
        raise AssertionError("unreachable")

    async def _open(self, host: str, port: int, route: Route | None) -> Session:
        submission = route is not None and route.submission
        user = self.relay.user if submission else ""
        client = aiosmtplib.SMTP(
            hostname=host,
            port=port,
            timeout=_CONNECT_S,
            use_tls=submission and self.relay.tls == "implicit",
            start_tls=submission and self.relay.tls == "starttls",
            username=user or None,
            password=(os.environ.get(self.relay.password_env) or None) if user else None,
            local_hostname=self.local_hostname or None,
        )
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
        except aiosmtplib.SMTPAuthenticationError as error:
            raise ConnectError(
                f"the relay refuses the login: {error.code} {error.message}",
                where=f"{host}:{port}",
                next_step="check [relay] user and the variable named by password_env",
            ) from None
        except aiosmtplib.SMTPConnectError:
            raise
        except aiosmtplib.SMTPResponseException as error:
            client.close()
            raise Refused(Reply(code=error.code, enhanced="", text=error.message)) from None
        except (aiosmtplib.SMTPException, ValueError) as error:
            client.close()
            raise ConnectError(
                f"no SMTP session: {error}",
                where=f"{host}:{port}",
                next_step="check the host, its port and [relay] tls",
            ) from None
        extensions = {name.upper() for name in client.esmtp_extensions}
        size = client.esmtp_extensions.get("size", "")
        session = Session(frozenset(extensions), int(size) if size.isascii() and size.isdigit() else 0)
        transport = client.transport
        if transport is None:
            raise OSError("the connection closed at once")
        session.attach(cast(asyncio.Transport, transport))
        return session

    async def _mx(self, domain: str) -> Sequence[tuple[str, int]]:
        """Hosts of a domain by preference; the domain itself where it has no MX (RFC 5321 5.1)."""
        try:
            answer = await dns.asyncresolver.resolve(domain, "MX", lifetime=_CONNECT_S)
        except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
            return [(domain, _SMTP)]
        except dns.exception.DNSException as error:
            raise OSError(f"no MX of {domain}: {error}") from None
        ranked = sorted((record.preference, str(record.exchange).rstrip(".")) for record in answer)
        return [(host, _SMTP) for _, host in ranked if host]
