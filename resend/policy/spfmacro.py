"""Macros of SPF records (RFC 7208 7): whether they are well formed, and what they stand for. Pure. Raises nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

_EXPAND = r"%\{[slodiphvSLODIPHV](?:0*[1-9]\d{0,2})?[rR]?[.\-+,/_=]*\}|%%|%_|%-"
_LITERAL = r"[\x21-\x24\x26-\x7e]"
_STRING = re.compile(rf"(?:{_EXPAND}|{_LITERAL})*")
_END = re.compile(r"\.(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])\.?$")
_MACRO = re.compile(r"%(?:\{([a-zA-Z])(\d*)([rR]?)([.\-+,/_=]*)\}|([%_-]))")
_RESERVED = re.compile(r"[^A-Za-z0-9._~-]")  # RFC 3986 2.3: all but the unreserved
_ESCAPES = {"%": "%", "_": " ", "-": "%20"}


def is_macro_string(text: str) -> bool:
    return _STRING.fullmatch(text) is not None


def is_domain_spec(text: str) -> bool:
    """A macro string that ends with a top label or a macro.

    >>> is_domain_spec("%{i}._spf.example.jp"), is_domain_spec("example.123"), is_domain_spec("%{d}")
    (True, False, True)
    """
    if not text or not is_macro_string(text):
        return False
    return re.search(rf"(?:{_EXPAND})$", text) is not None or _END.search(text) is not None


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


@dataclass(frozen=True, slots=True)
class Macros:
    """What the letters stand for while the record of `current` is evaluated. `validated`: %{p} of a domain."""

    ip: IPv4Address | IPv6Address
    sender: str
    helo: str
    current: str
    validated: Callable[[str], str]

    def domain(self, spec: str) -> str:
        """A domain-spec filled in; too long a name loses labels on its left (7.3)."""
        name = _MACRO.sub(self._one, spec).removesuffix(".")
        while len(name) > 253 and "." in name:
            name = name.partition(".")[2]
        return name

    def _one(self, match: re.Match[str]) -> str:
        letter, digits, reverse, delimiters, escape = match.groups()
        if escape:
            return _ESCAPES[escape]
        parts = re.split(f"[{re.escape(delimiters or '.')}]", self._value(letter.lower()))
        if reverse:
            parts.reverse()
        if digits:
            parts = parts[-int(digits) :]
        text = ".".join(parts)
        return _RESERVED.sub(_escaped, text) if letter.isupper() else text

    def _value(self, letter: str) -> str:
        local, _, domain = self.sender.rpartition("@")
        match letter:
            case "s":
                return self.sender
            case "l":
                return local
            case "o":
                return domain
            case "d":
                return self.current
            case "i":
                nibbles = ".".join(self.ip.exploded.replace(":", ""))
                return str(self.ip) if self.ip.version == 4 else nibbles
            case "p":
                return self.validated(self.current)
            case "v":
                return "in-addr" if self.ip.version == 4 else "ip6"
            case "h":
                return self.helo
        raise AssertionError(letter)
