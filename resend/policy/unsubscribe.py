"""One-click unsubscribe (RFC 8058): the address for one mail, and its two header fields where a mail has none.

Pure. Raises ValueError for a template that cannot be read, ContentError for an address that is too long.
"""

from __future__ import annotations

import re

from resend.policy.message import ContentError, fields

ASKED_BY = {"google", "yahoo"}  # providers that ask bulk senders for it (facts: their sender guidelines of 2024)
_PLACE = re.compile(r"\{([^{}]*)\}")
_LINE_MAX = 970  # octets of the address: a field's line holds 998 (RFC 5322 2.1.1)
_TYPED = re.compile(r"[!-~]+")
_HTTPS = re.compile(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:[/?].*)?")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986 2.3


def parse(template: str) -> str:
    """Check a template such as `https://example.jp/u/{recipient}/{release}`; the template."""
    unknown = sorted(set(_PLACE.findall(template)) - {"recipient", "release"})
    if unknown:
        raise ValueError(f"{{{unknown[0]}}} is none of {{recipient}} and {{release}} in {template!r}")
    if "{recipient}" not in template:
        raise ValueError(f"{{recipient}} must stand in {template!r}: one click unsubscribes one person")
    rest = _PLACE.sub("", template)
    if not _TYPED.fullmatch(rest) or any(mark in rest for mark in '{}<>",'):
        raise ValueError(f"a space, a bracket, a comma or a letter beyond ASCII in {template!r}")
    if not _HTTPS.fullmatch(template):
        raise ValueError(f"RFC 8058 wants https and a host in {template!r}")
    return template


def address(template: str, *, recipient: str, release: str) -> str:
    """The address for one mail, ids percent-encoded.

    >>> address("https://example.jp/u/{recipient}/{release}", recipient="a/b", release="春")
    'https://example.jp/u/a%2Fb/%E6%98%A5'
    """
    given = {"recipient": recipient, "release": release}
    return _PLACE.sub(lambda place: _quoted(given[place.group(1)]), template)


def _quoted(text: str) -> str:
    octets = text.encode("utf-8", "replace")
    return "".join(chr(octet) if octet in _UNRESERVED else f"%{octet:02X}" for octet in octets)


def one_click(wire: bytes) -> bool:
    """Whether a mail carries both fields."""
    return {b"list-unsubscribe", b"list-unsubscribe-post"} <= {name for name, _, _ in fields(wire)}


def add(wire: bytes, url: str) -> bytes:
    """The mail with both fields behind its own; as it is where it has one of them, or where there is no address."""
    if not url:
        return wire
    found = fields(wire)
    if any(name.startswith(b"list-unsubscribe") for name, _, _ in found):
        return wire
    if len(url) > _LINE_MAX or not _TYPED.fullmatch(url):
        raise ContentError("the address for unsubscribing is too long for a header, or no ASCII")
    head = f"List-Unsubscribe: <{url}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n".encode("ascii")
    at = found[-1][2]
    return wire[:at] + head + wire[at:]
