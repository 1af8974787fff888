"""Mail addresses: what may be sent to, by which key an address is known, and how it is shown.

Pure. Never repairs an address: what RCPT says on the wire equals what was checked, but for a domain in other letters,
which becomes its A-label. Two dots in a row and a trailing dot in the local part are real (docomo, au before 2009) and
pass as they are, unquoted. Quoted local parts do not pass: receivers disagree on them and nobody registers one.
Raises ValueError with the reason; total over any text.
"""

from __future__ import annotations

import re

import idna

_LOCAL_MAX = 64  # octets, RFC 5321 4.5.3.1.1
_ADDRESS_MAX = 254  # octets: a path of 256 (RFC 5321 4.5.3.1.3) without its angle brackets
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}", re.ASCII)  # dot-atom (RFC 5321 4.1.2), dots anywhere
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?", re.ASCII)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SHOWN_START = re.compile(r"[^\w]*\w?")


def validate_rcpt(address: str) -> str:
    """The address as RCPT and MAIL send it. Raises ValueError where it must not stand in a command.

    >>> validate_rcpt("..docomo..user.@docomo.ne.jp")
    '..docomo..user.@docomo.ne.jp'
    >>> validate_rcpt("taro@例え.jp")
    'taro@xn--r8jz45g.jp'
    """
    local, domain = _split(address)
    if not local.isascii():
        raise ValueError(f"the local part needs SMTPUTF8: {_shown(address)}")
    if local.startswith('"'):
        raise ValueError(f"a quoted local part: {_shown(address)}")
    if not _LOCAL.fullmatch(local):
        bad = sorted({letter for letter in local if not _LOCAL.fullmatch(letter)})
        raise ValueError(f"{' '.join(map(repr, bad))} in the local part: {_shown(address)}")
    wire = f"{local}@{domain if domain.isascii() else _a_label(domain, address)}"
    if not _DOMAIN.fullmatch(wire[len(local) + 1 :]):
        _a_label(domain, address)  # says what is wrong
    if len(wire) > _ADDRESS_MAX:
        raise ValueError(f"longer than {_ADDRESS_MAX} octets: {_shown(address)}")
    return wire


def rcpt_key(address: str) -> str:
    """By what an address is known: local part byte-exact, domain as lower-case A-label. Raises ValueError.

    >>> rcpt_key("Taro.Yamada@Example.JP")
    'Taro.Yamada@example.jp'
    """
    local, domain = _split(address)
    return f"{local}@{_a_label(domain, address)}"


def fold(address: str) -> str:
    """By what suppressions compare: `rcpt_key` with the local part case-folded. Raises ValueError."""
    local, _, domain = rcpt_key(address).rpartition("@")
    return f"{local.casefold()}@{domain}"


def domain_of(address: str) -> str:
    """The domain as lower-case A-label. Raises ValueError."""
    return _a_label(_split(address)[1], address)


def in_unicode(domain: str) -> str:
    """A domain of A-labels as people read it; as it is where one of them is none.

    >>> in_unicode("xn--r8jz45g.jp")
    '例え.jp'
    """
    try:
        return idna.decode(domain)
    except UnicodeError:
        return domain


def needs_smtputf8(address: str) -> bool:
    """Whether the local part is not ASCII; a domain never needs it."""
    return not address.rpartition("@")[0].isascii()


def mask(address: str) -> str:
    """An address as logs and reports show it; any other text comes back as it is.

    >>> mask("<taro@example.jp>")
    '<t***@example.jp>'
    """
    local, at, domain = address.rpartition("@")
    if not at:
        return address
    start = _SHOWN_START.match(local)
    return f"{start.group() if start else ''}***@{domain}"


def _split(address: str) -> tuple[str, str]:
    """Local part and domain, at the last @."""
    if len(address) > 2 * _ADDRESS_MAX:
        raise ValueError(f"longer than {_ADDRESS_MAX} octets: {_shown(address)}")
    if _UNPRINTABLE.search(address):
        raise ValueError(f"a control character in the address: {_shown(address)}")
    local, at, domain = address.rpartition("@")
    if not at:
        raise ValueError(f"no @ in the address: {_shown(address)}")
    if not local or not domain:
        raise ValueError(f"nothing {'before' if not local else 'after'} the @: {_shown(address)}")
    if len(local) > _LOCAL_MAX or len(local.encode()) > _LOCAL_MAX:
        raise ValueError(f"a local part longer than {_LOCAL_MAX} octets: {_shown(address)}")
    return local, domain


def _a_label(domain: str, address: str) -> str:
    """The domain as lower-case A-label with at least two labels and no address literal."""
    ascii_domain = domain.lower()
    if not domain.isascii():
        try:
            ascii_domain = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()
        except UnicodeError as error:
            raise ValueError(f"the domain is not valid in IDNA 2008 ({error}): {_shown(address)}") from None
    if not _DOMAIN.fullmatch(ascii_domain) or len(ascii_domain) > _ADDRESS_MAX - 2:
        raise ValueError(f"not a mail domain: {_shown(address)}")
    return ascii_domain


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")
