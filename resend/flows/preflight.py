"""Whether receivers will trust an address that mail is to leave from: its name and back, the EHLO name, SPF, history.

Looks at direct egresses of `[egress]` only: for a relay the relay answers. What DNS does not tell is said, and stops
nothing. Asks DNS and the ledger; changes nothing. Raises what the ledger raises.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address, ip_network

from resend.clock import format_rate
from resend.config import Config
from resend.linker.warmth import delivered
from resend.planner import lanes
from resend.policy import spf
from resend.policy.egress import Egress
from resend.policy.providers import ProviderTable
from resend.policy.routes import routes
from resend.policy.spf import Lookup, Result
from resend.stores.dnsnames import asker
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.plans import Door
from resend.stores.warmth import Warmth, warmth

_COLD = timedelta(days=30)  # of silence, after which receivers have forgotten an address
_DOMAINS = 20  # sender domains that are looked at for one egress, those of most mails first
_TRANSLATED = [
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7", "::1/128")
]  # no receiver sees these


class Check(StrEnum):
    """What is looked at."""

    PTR = "ptr"
    EHLO = "ehlo"
    SPF = "spf"
    HISTORY = "history"


class Standing(StrEnum):
    """What was found. FAILS keeps a plan from starting, unless a person says why."""

    OK = "ok"
    WARNS = "warns"
    FAILS = "fails"
    UNKNOWN = "unknown"  # could not be told


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check of one egress, in words."""

    egress: str
    check: Check
    standing: Standing
    text: str


def inspect(
    home: Home, config: Config, ledger: Ledger, doors: Iterable[Door], *, now: datetime, lookup: Lookup | None = None
) -> list[Finding]:
    """Findings for the direct egresses among `doors`. `lookup`: DNS, that of `[dns]` unless given."""
    known, ask = routes(config), lookup or asker(config.dns)
    direct = [one for one in known.egresses if not one.relay]
    if not direct:
        return []
    used: defaultdict[str, list[Door]] = defaultdict(list)
    for door in doors:
        used[door.egress].append(door)
    direct = [one for one in direct if one.name in used]
    with ledger.read() as conn:
        warm = warmth(conn, [one.name for one in direct])
    logged = delivered(home, config, {one.name: _helo(one) for one in direct}, now=now)
    table = ProviderTable.load(config.providers)
    found: list[Finding] = []
    for one in direct:
        found += _address(one, used[one.name], ask)
        for provider in sorted({door.provider for door in used[one.name]}):
            start = lanes.own(one.name, table.profile(provider), known, {}).start
            place = (one.name, provider)
            found.append(_history(one, provider, warm.get(place), logged.get(place), start, now))
    return found


def _address(one: Egress, doors: Sequence[Door], ask: Lookup) -> Iterator[Finding]:
    """What DNS says of an egress' address."""
    seen, helo = one.config.public or one.config.source, _helo(one)
    if any(ip_address(seen) in net for net in _TRANSLATED if net.version == ip_address(seen).version):
        text = f"{seen} is not the address that receivers see; name that one as {one.where} public"
        yield Finding(egress=one.name, check=Check.PTR, standing=Standing.UNKNOWN, text=text)
        return
    yield _told(one, Check.PTR, _ptr(seen, ask))
    yield _told(one, Check.EHLO, _ehlo(seen, helo, ask))
    mails: defaultdict[str, int] = defaultdict(int)
    for door in doors:
        mails[door.envelope_from.rpartition("@")[2].lower() or helo] += door.mails
    ranked = sorted(mails, key=lambda name: (-mails[name], name))
    for domain in ranked[:_DOMAINS]:
        yield _told(one, Check.SPF, _spf(seen, domain, helo, ask))
    if len(ranked) > _DOMAINS:
        text = f"{len(ranked) - _DOMAINS:,} more sender domains were not looked at"
        yield Finding(egress=one.name, check=Check.SPF, standing=Standing.UNKNOWN, text=text)


def _helo(one: Egress) -> str:
    return one.config.ehlo or socket.gethostname()


def _told(one: Egress, check: Check, found: tuple[Standing, str]) -> Finding:
    return Finding(egress=one.name, check=check, standing=found[0], text=found[1])


def _ptr(address: str, ask: Lookup) -> tuple[Standing, str]:
    """Name of the address, which must lead back to it: large receivers refuse mail without (RFC 1912 2.1)."""
    kind = "AAAA" if ":" in address else "A"
    try:
        names = list(ask(ip_address(address).reverse_pointer, "PTR"))[:10]
        if not names:
            return Standing.FAILS, f"{address} has no name (PTR record): Gmail and others refuse its mail"
        back = [name for name in names if any(ip_address(a) == ip_address(address) for a in ask(name, kind))]
    except OSError as error:
        return Standing.UNKNOWN, f"the name of {address} could not be looked up: {error}"
    if not back:
        return Standing.FAILS, f"{address} is called {names[0]}, which does not lead back to it: that counts as no name"
    return Standing.OK, f"{address} is {back[0]}, and back"


def _ehlo(address: str, helo: str, ask: Lookup) -> tuple[Standing, str]:
    kind = "AAAA" if ":" in address else "A"
    if "." not in helo:
        return Standing.WARNS, f"the EHLO name {helo!r} is no full name; set ehlo"
    if helo.startswith("["):
        return Standing.WARNS, f"the EHLO name {helo} is an address; receivers trust a name that leads to it"
    try:
        found = list(ask(helo, kind))
    except OSError as error:
        return Standing.UNKNOWN, f"the EHLO name {helo} could not be looked up: {error}"
    if not any(ip_address(one) == ip_address(address) for one in found):
        return Standing.WARNS, f"the EHLO name {helo} leads to {', '.join(found) or 'nowhere'}, not to {address}"
    return Standing.OK, f"the EHLO name {helo} leads to {address}"


def _spf(address: str, domain: str, helo: str, ask: Lookup) -> tuple[Standing, str]:
    try:
        ascii_domain = domain if domain.isascii() else domain.encode("idna").decode()
    except UnicodeError:
        return Standing.UNKNOWN, f"{domain} cannot be asked for"
    verdict = spf.check(address, ascii_domain, sender=f"postmaster@{ascii_domain}", helo=helo, lookup=ask)
    said = f"SPF of {domain} for {address}: {verdict.result} ({verdict.why})"
    match verdict.result:
        case Result.PASS:
            return Standing.OK, said
        case Result.FAIL:
            return Standing.FAILS, said
        case Result.SOFTFAIL | Result.NEUTRAL | Result.NONE | Result.PERMERROR:
            return Standing.WARNS, said
        case Result.TEMPERROR:
            return Standing.UNKNOWN, said


def _history(
    one: Egress, provider: str, known: Warmth | None, logged: Warmth | None, start: float, now: datetime
) -> Finding:
    """`known`: by the ledger; `logged`: by the log of the mail host there."""
    parts = [f"{_much(known)} of ours"] if known is not None else []
    parts += [f"{_much(logged)} of its mail host, by the log"] if logged is not None else []
    last = max((item.last_at for item in (known, logged) if item is not None), default=None)
    standing = Standing.WARNS if last is None or now - last > _COLD else Standing.OK
    if last is None:
        text = f"no mail from here to {provider} is known: to it this address is new; begins at {format_rate(start)}"
    else:
        text = f"to {provider}: {', '.join(parts)}, the last on {last:%Y-%m-%d}"
    return Finding(egress=one.name, check=Check.HISTORY, standing=standing, text=text)


def _much(known: Warmth) -> str:
    return f"{known.mails:,} mails on {known.days:,} {'day' if known.days == 1 else 'days'}"
