"""SPF (RFC 7208): whether a domain lets an address send its mail. Evaluates a record as a receiver would.

Pure: DNS is handed in. All of a record is read before any of it is asked, ten terms that ask DNS and two void answers
are the limit (4.6.4), whatever the record says. Explanations (`exp`) are checked and not fetched. Raises nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

from resend.policy.spfmacro import Macros, is_domain_spec, is_macro_string

Lookup = Callable[[str, str], Sequence[str]]
"""Records of (name, type) as text, MX hosts and PTR names bare, () where there are none; OSError: not told."""

Address: TypeAlias = IPv4Address | IPv6Address
_LOOKUPS, _VOID, _NAMES = 10, 2, 10
_MECHANISM = re.compile(r"([+\-~?]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?![A-Za-z0-9_.-])(.*)", re.IGNORECASE)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)")
_CIDR = re.compile(r"(?:/(?P<four>0|[1-9]\d?))?(?://(?P<six>0|[1-9]\d{0,2}))?$")


class Result(StrEnum):
    """The results of RFC 7208 2.6."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a receiver would find, and the term or the fault that decides it."""

    result: Result
    why: str


_QUALIFIERS = {"": Result.PASS, "+": Result.PASS, "-": Result.FAIL, "~": Result.SOFTFAIL, "?": Result.NEUTRAL}


class _Fault(Exception):
    def __init__(self, result: Result, why: str) -> None:
        self.result, self.why = result, why
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class _Term:
    text: str
    qualifier: Result
    name: str
    domain: str = ""  # domain-spec before its macros are filled in, "" the record's own domain
    four: int = 32
    six: int = 128
    network: str = ""


@dataclass(frozen=True, slots=True)
class _Record:
    terms: tuple[_Term, ...]
    redirect: str


def check(address: str, domain: str, *, sender: str, helo: str, lookup: Lookup) -> Verdict:
    """Whether mail of `domain` may come from `address`. `sender`: the envelope's; `helo`: our EHLO name."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if "@" not in sender:
        sender = f"postmaster@{sender or domain}"
    elif sender.startswith("@"):
        sender = f"postmaster{sender}"
    try:
        return _Check(ip, sender, helo, lookup).of(domain)
    except _Fault as fault:
        return Verdict(fault.result, fault.why)


@dataclass(slots=True)
class _Check:
    """One evaluation; what it asked so far counts over all records that it includes."""

    ip: Address
    sender: str
    helo: str
    lookup: Lookup
    _asked: int = 0
    _void: int = 0
    _known: dict[tuple[str, str], Sequence[str]] = field(default_factory=dict)

    def of(self, domain: str) -> Verdict:
        if not _is_name(domain) or "." not in domain.rstrip("."):
            return Verdict(Result.NONE, f"{domain!r} is no domain name")
        texts = self._ask(domain, "TXT")
        found = [text for text in texts if re.match(r"v=spf1(?: |$)", text, re.IGNORECASE)]
        if not found:
            return Verdict(Result.NONE, f"{domain} has no SPF record")
        if len(found) > 1:
            raise _Fault(Result.PERMERROR, f"{domain} has {len(found)} SPF records")
        record = _read(found[0], domain)
        macros = Macros(self.ip, self.sender, self.helo, domain, self._validated)
        for term in record.terms:
            if self._matches(term, macros, domain):
                return Verdict(term.qualifier, f"{term.text} of {domain}")
        if not record.redirect:
            return Verdict(Result.NEUTRAL, f"nothing in the record of {domain} matches")
        self._count(f"redirect={record.redirect}")
        target = macros.domain(record.redirect)
        verdict = self.of(target)
        if verdict.result is Result.NONE:
            raise _Fault(Result.PERMERROR, f"{domain} redirects to {target}, which has no SPF record")
        return verdict

    def _matches(self, term: _Term, macros: Macros, domain: str) -> bool:
        if term.name == "all":
            return True
        if term.name in ("ip4", "ip6"):
            return self._within(str(self.ip), ip_network(term.network, strict=False).network_address, term)
        self._count(term.text)
        target = macros.domain(term.domain) if term.domain else domain
        match term.name:
            case "include":
                return self._included(target)
            case "a":
                return any(self._within(address, self.ip, term) for address in self._addresses(target))
            case "mx":
                hosts = self._answers(target, "MX")
                if len(hosts) > _NAMES:
                    raise _Fault(Result.PERMERROR, f"{target} has more than {_NAMES} MX hosts")
                return any(
                    self._within(address, self.ip, term)
                    for host in hosts
                    for address in self._addresses(host, void=False)
                )
            case "ptr":
                return any(_below(name, target) for name in self._names())
            case "exists":
                return bool(self._answers(target, "A"))
        raise AssertionError(term.name)

    def _included(self, target: str) -> bool:
        verdict = self.of(target)
        match verdict.result:
            case Result.PASS:
                return True
            case Result.FAIL | Result.SOFTFAIL | Result.NEUTRAL:
                return False
            case Result.NONE:
                raise _Fault(Result.PERMERROR, f"{target} is included and has no SPF record")
            case Result.TEMPERROR | Result.PERMERROR:
                raise _Fault(verdict.result, verdict.why)

    def _within(self, address: str, other: Address, term: _Term) -> bool:
        """Whether two addresses are of one network of the term's length."""
        known = ip_address(address)
        if known.version != other.version:
            return False
        length = term.four if known.version == 4 else term.six
        return other in ip_network(f"{known}/{length}", strict=False)

    def _names(self) -> Iterator[str]:
        """Names of our address that lead back to it (5.5); a DNS that does not answer gives none."""
        try:
            names = self._answers(self.ip.reverse_pointer, "PTR")
        except _Fault as fault:
            if fault.result is Result.PERMERROR:
                raise
            return
        for name in list(names)[:_NAMES]:
            try:
                if any(ip_address(address) == self.ip for address in self._addresses(name, void=False)):
                    yield name
            except _Fault:
                continue

    def _validated(self, domain: str) -> str:
        """The macro %{p}: the best of those names, or "unknown"."""
        names = list(self._names())
        same = [name for name in names if name.rstrip(".").lower() == domain.rstrip(".").lower()]
        below = [name for name in names if _below(name, domain)]
        return next(iter(same or below or names), "unknown").rstrip(".")

    def _addresses(self, name: str, *, void: bool = True) -> Sequence[str]:
        kind = "A" if self.ip.version == 4 else "AAAA"
        return self._answers(name, kind) if void else self._ask(name, kind)

    def _answers(self, name: str, kind: str) -> Sequence[str]:
        """What a term asks for; nothing counts as a void lookup."""
        found = self._ask(name, kind)
        if not found:
            self._void += 1
            if self._void > _VOID:
                raise _Fault(Result.PERMERROR, f"more than {_VOID} names of the record lead nowhere, last {name}")
        return found

    def _ask(self, name: str, kind: str) -> Sequence[str]:
        if not _is_name(name):
            return ()
        key = (name.rstrip(".").lower(), kind)
        if key not in self._known:
            try:
                self._known[key] = self.lookup(key[0], kind)
            except OSError as error:
                raise _Fault(Result.TEMPERROR, f"{name} {kind}: {error}") from None
        return self._known[key]

    def _count(self, text: str) -> None:
        self._asked += 1
        if self._asked > _LOOKUPS:
            raise _Fault(Result.PERMERROR, f"more than {_LOOKUPS} terms ask DNS, {text} is one too many")


def _read(text: str, domain: str) -> _Record:
    if not text.isascii():
        raise _Fault(Result.PERMERROR, f"the record of {domain} is not ASCII")
    terms: list[_Term] = []
    once: dict[str, str] = {}
    for word in text.split(" ")[1:]:
        if not word:
            continue
        term = _mechanism(word)
        if term is not None:
            terms.append(term)
            continue
        modifier = _MODIFIER.fullmatch(word)
        name = modifier[1].lower() if modifier else ""
        if modifier is None or not is_macro_string(modifier[2]):
            raise _Fault(Result.PERMERROR, f"{domain}: cannot read {word!r}")
        if name in ("redirect", "exp"):
            if name in once or not is_domain_spec(modifier[2]):
                raise _Fault(Result.PERMERROR, f"{domain}: cannot read {word!r}")
            once[name] = modifier[2]
    return _Record(tuple(terms), once.get("redirect", ""))


def _mechanism(word: str) -> _Term | None:
    """A directive; None where it is none, or its argument cannot be."""
    match = _MECHANISM.fullmatch(word)
    if match is None:
        return None
    name, rest, qualifier = match[2].lower(), match[3], _QUALIFIERS[match[1]]
    match name:
        case "all":
            return _Term(word, qualifier, name) if not rest else None
        case "ip4" | "ip6":
            return _literal(word, qualifier, name, rest)
        case "include" | "exists":
            fits = rest.startswith(":") and is_domain_spec(rest[1:])
            return _Term(word, qualifier, name, rest[1:]) if fits else None
        case "ptr":
            if not rest:
                return _Term(word, qualifier, name)
            fits = rest.startswith(":") and is_domain_spec(rest[1:])
            return _Term(word, qualifier, name, rest[1:]) if fits else None
    cidr = _CIDR.search(rest)
    assert cidr is not None  # it matches nothing as well
    domain = rest[: cidr.start()]
    four, six = int(cidr["four"] or 32), int(cidr["six"] or 128)
    if four > 32 or six > 128 or (domain and not (domain.startswith(":") and is_domain_spec(domain[1:]))):
        return None
    return _Term(word, qualifier, name, domain[1:], four, six)


def _literal(word: str, qualifier: Result, name: str, rest: str) -> _Term | None:
    address, slash, length = rest.removeprefix(":").partition("/")
    wide = 32 if name == "ip4" else 128
    if not rest.startswith(":") or (slash and not re.fullmatch(r"0|[1-9]\d{0,2}", length, re.ASCII)):
        return None
    bits = int(length) if slash else wide
    try:
        known = ip_address(address)
    except ValueError:
        return None
    if bits > wide or known.version != (4 if name == "ip4" else 6) or "%" in address:
        return None
    return _Term(word, qualifier, name, "", bits if wide == 32 else 32, bits if wide == 128 else 128, f"{known}/{bits}")


def _is_name(name: str) -> bool:
    bare = name.removesuffix(".")
    return 0 < len(bare) <= 253 and all(0 < len(label) <= 63 for label in bare.split("."))


def _below(name: str, domain: str) -> bool:
    """Whether a name is a domain or lies below it."""
    return f".{name.rstrip('.').lower()}".endswith(f".{domain.rstrip('.').lower()}")
