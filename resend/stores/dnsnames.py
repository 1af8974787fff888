"""Asks the DNS for records of single names: addresses, names of addresses, mail hosts, texts. Keeps each answer.

A time for each question and one for all: a command never hangs on a name server. Raises OSError where the DNS does not
tell; a name that does not exist has no records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver

from resend.config import DnsConfig, split_address

_RECORDS_MAX = 100  # of one answer


def asker(config: DnsConfig) -> Callable[[str, str], Sequence[str]]:
    """A function of (name, type) to the records as text; MX hosts, the best first, and PTR names without final dot."""
    known: dict[tuple[str, str], Sequence[str] | OSError] = {}
    ends = time.monotonic() + config.budget.total_seconds()
    resolver: dns.resolver.Resolver | None = None

    def ask(name: str, kind: str) -> Sequence[str]:
        nonlocal resolver
        if not config.enabled:
            raise OSError("DNS is switched off ([dns] enabled)")
        key = (name, kind)
        if key not in known:
            try:
                if resolver is None:
                    resolver = _resolver(config)
                left = min(config.timeout.total_seconds(), ends - time.monotonic())
                known[key] = _one(resolver, name, kind, left)
            except OSError as error:
                known[key] = error
        found = known[key]
        if isinstance(found, OSError):
            raise found
        return found

    return ask


def _resolver(config: DnsConfig) -> dns.resolver.Resolver:
    try:
        resolver = dns.resolver.Resolver(configure=not config.nameservers)
    except dns.exception.DNSException as error:  # the system names no server
        raise OSError(str(error)[:120]) from None
    set_up(resolver, config)
    return resolver


def set_up(resolver: dns.resolver.BaseResolver, config: DnsConfig) -> None:
    """Let a resolver ask whom `[dns]` names, each for its time."""
    if config.nameservers:
        resolver.nameservers = [
            dns.nameserver.Do53Nameserver(*split_address(address)) for address in config.nameservers
        ]
    resolver.timeout = config.timeout.total_seconds() / 2  # a lost datagram is asked for once more


def _one(resolver: dns.resolver.Resolver, name: str, kind: str, seconds: float) -> Sequence[str]:
    if seconds <= 0:
        raise OSError("the time for DNS is over ([dns] budget)")
    try:
        answer = resolver.resolve(f"{name.rstrip('.')}.", kind, lifetime=seconds, raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN:
        return ()
    except (dns.exception.DNSException, OSError, ValueError, EOFError) as error:
        raise OSError(str(error)[:120] or type(error).__name__) from None
    records = list(answer)[:_RECORDS_MAX] if answer.rrset is not None else []
    match kind:
        case "TXT":
            return tuple(b"".join(record.strings).decode("latin-1") for record in records)
        case "MX":
            ranked = sorted((record.preference, record.exchange.to_text(omit_final_dot=True)) for record in records)
            return tuple(host for _, host in ranked if host)
        case "PTR":
            return tuple(record.target.to_text(omit_final_dot=True) for record in records)
        case _:
            return tuple(record.address for record in records)
