"""Addresses, hosts and IP addresses as reports write them: typed fields, xtext, angle brackets, comments.

Pure, linear. Raises nothing for any text.
"""

from __future__ import annotations

import ipaddress
import re

ADDRESS_MAX = 320  # characters

# A local part may begin and end with dots (docomo, au), and hold letters of any script (RFC 6531).
ADDRESS = (
    r"""(?:"[^"\x00-\x1f\x7f-\x9f\u2028\u2029<>]{1,64}"|[\w!#$%&'*+/=?^`{|}~.-]{1,128})"""
    r"""@(?:[\w-]{1,63}\.){0,20}[\w-]{1,63}"""
)
_ADDRESS = re.compile(ADDRESS)
_ANGLED = re.compile(r"<([^<>\n]{1,320})>")
_NO_DOMAIN = re.compile(r"[^\s@<>]{1,64}@[^\s@<>]{1,255}")
_TYPED = re.compile(r"\s*([A-Za-z][\w.-]{0,40})\s*;\s*(.*)", re.DOTALL)
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_UNITEXT = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_HOST = re.compile(r"(?=[^\s]*[A-Za-z])[A-Za-z0-9_](?:[\w-]*\.)+[A-Za-z][\w-]*")
_IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:]|\.\d)")


def address_of(text: str) -> str:
    """The first address in a text, without brackets and quotes around it; "" where there is none."""
    text = text[: 4 * ADDRESS_MAX]
    for inside in _ANGLED.findall(text):
        match = _ADDRESS.search(inside)
        if match:
            return _trimmed(match.group())
    match = _ADDRESS.search(text)
    return _trimmed(match.group()) if match else ""


def addresses_of(text: str) -> list[str]:
    """All addresses in a text, each once."""
    return list(dict.fromkeys(_trimmed(found) for found in _ADDRESS.findall(text)))


def _trimmed(address: str) -> str:
    """Without what quotes it: 'a@b.jp', `a@b.jp`, and the mailto: of a link."""
    if address[0] in "'`" and not address.startswith('"'):
        address = address.lstrip("'`")
    if address[:5].lower() == "smtp=":  # of an X.400 address (Exchange 5.5)
        address = address[5:]
    return address.removeprefix("mailto:").rstrip("-")


def typed(value: str) -> str:
    """The address of a field of a report: `rfc822; a@b`, `utf-8; a@b`, `<a@b>`, `a+40b`; "" where it names nobody.

    >>> typed("rfc822;taro+40example.jp"), typed("utf-8; \\\\x{5C71}@example.jp"), typed("LOCAL; <>")
    ('taro@example.jp', '山@example.jp', '')
    """
    match = _TYPED.match(value[: 4 * ADDRESS_MAX])
    text = (match.group(2) if match else value[: 4 * ADDRESS_MAX]).strip()
    if "\\x{" in text:
        text = _UNITEXT.sub(_scalar, text)
    found = address_of(text)
    if not found and "+40" in text:  # xtext (RFC 3461 4), as some write what came in ORCPT
        found = address_of(_XTEXT.sub(lambda code: chr(int(code.group(1), 16)), text))
    if found:
        return found.replace("+2B", "+").replace("+3D", "=")
    bare = text.strip(" <>\"'")
    if bare and len(bare) <= 64 and re.fullmatch(r"[\w.+-]+", bare) and (text.startswith("<") or match):
        return bare  # a mailbox of the reporting host
    if match and _NO_DOMAIN.fullmatch(bare):
        return bare  # as it was sent to, which is why it failed
    return ""


def _scalar(match: re.Match[str]) -> str:
    point = int(match.group(1), 16)
    return chr(point) if 0x20 < point < 0xD800 or 0xE000 <= point <= 0x10FFFF else match.group()


def host_of(value: str) -> str:
    """The host of `dns; mx.example.jp (192.0.2.1)` in lower case; "" where it names none."""
    match = _TYPED.match(value[:1_000])
    text = match.group(2) if match else value[:1_000]
    found = _HOST.match(text.strip(" <[(\"'").lower())
    return found.group().rstrip(".") if found else ""


def ip_of(text: str) -> str:
    """The first IP address in a text; "" where there is none."""
    for found in _IP.findall(text[:1_000]):
        try:
            return str(ipaddress.ip_address(found))
        except ValueError:
            continue
    return ""
