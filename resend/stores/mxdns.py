"""Asks the DNS for the MX hosts of many domains at once, within a budget of time.

A cap on questions under way, a time for each, a time for all; a name server that answers nothing at all is given up
after the first of them. Answers are hostile: what is kept of one is bounded and has the shape of host names. Keeps
nothing and raises nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from resend.config import DnsConfig
from resend.stores.dnsnames import set_up
from resend.stores.mx import Answer, Progress, Word, is_host

_AT_ONCE = 64  # questions under way
_GIVE_UP = 32  # questions without any answer from the first on: there is no name server
_HOSTS_MAX = 10  # MX hosts kept of a domain, the best


async def ask(
    domains: Sequence[str], config: DnsConfig, *, now: datetime, progress: Progress | None = None
) -> dict[str, Answer]:
    """What was said of the domains, in their order as far as the budget reaches; `now` dates the answers.

    Where no name server answers, all of them are silent, so that the next command does not wait for it again at once.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + config.budget.total_seconds()
    found: dict[str, Answer] = {}
    try:
        resolver = _resolver(config)
    except dns.exception.DNSException:  # the system names no server
        return {domain: Answer(Word.SILENT, (), now) for domain in domains}
    todo = iter(domains)
    heard = False

    async def work() -> None:
        nonlocal heard
        for domain in todo:
            left = ends - loop.time()
            if left <= 0 or (not heard and len(found) >= _GIVE_UP):
                return
            patience = config.timeout.total_seconds()
            word, hosts = await _one(resolver, domain, min(patience, left))
            if word is Word.SILENT and left < patience:
                return  # cut short by the budget: that says nothing of the domain
            heard |= word is not Word.SILENT
            found[domain] = Answer(word, hosts, now)
            if progress is not None:
                progress(len(found), len(domains))

    await asyncio.gather(*(work() for _ in range(min(_AT_ONCE, len(domains)))))
    if not heard and len(found) >= min(_GIVE_UP, len(domains)):
        return {domain: Answer(Word.SILENT, (), now) for domain in domains}
    return found


def _resolver(config: DnsConfig) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=not config.nameservers)
    set_up(resolver, config)
    return resolver


async def _one(resolver: dns.asyncresolver.Resolver, domain: str, lifetime: float) -> tuple[Word, tuple[str, ...]]:
    try:
        name = dns.name.from_text(f"{domain}.")
        answer = await resolver.resolve(name, dns.rdatatype.MX, lifetime=lifetime, raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN:
        return Word.GONE, ()
    except (dns.exception.DNSException, OSError, ValueError, EOFError):
        return Word.SILENT, ()
    if answer.rrset is None:
        return Word.NONE, ()
    ranked = sorted((record.preference, record.exchange.to_text(omit_final_dot=True).lower()) for record in answer)
    return read(ranked)


def read(ranked: Iterable[tuple[int, str]]) -> tuple[Word, tuple[str, ...]]:
    """What records of (preference, host without its final dot) say, the best first; "" or "." is the null MX.

    >>> read([(0, ".")]), read([(10, "mx.example.jp"), (20, "127.0.0.1")])
    ((<Word.NULL: 'null'>, ()), (<Word.HOSTS: 'hosts'>, ('mx.example.jp',)))
    """
    names = [name for _, name in ranked]
    hosts = tuple(dict.fromkeys(name for name in names if is_host(name)))[:_HOSTS_MAX]
    if hosts:
        return Word.HOSTS, hosts
    return (Word.NULL if names and all(name in ("", ".") for name in names) else Word.NONE), ()
