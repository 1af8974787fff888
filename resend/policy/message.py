"""Bytes of whole mails that are kept: checked, wire-ready, and given a new identity where the operator wants one.

Nothing is parsed and written again: a signature stays valid. Dot-stuffing is the sender's work. Pure. Raises
ContentError.
"""

from __future__ import annotations

import io
import re

_LINE_MAX = 998  # octets without CRLF, RFC 5321 4.5.3.1.6
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")  # RFC 5322 2.2, and the obsolete space before the colon
_MAILBOX_LINE = b"From "
_OLD_IDENTITY = frozenset({b"message-id", b"date", b"dkim-signature", b"domainkey-signature"})
_OLD_IDENTITY_PREFIX = (b"arc-", b"x-google-dkim")


class ContentError(ValueError):
    """This mail cannot be made, or must not be sent as it is; the text says why."""


def kept(raw: bytes) -> bytes:
    """The bytes of a stored mail as they go on the wire: CRLF at every line's end, the last one too.

    A file that has no CR at all was stored with Unix line ends and gets CRLF. Otherwise a bare CR or LF is refused:
    receivers disagree on where such a mail ends (SMTP smuggling, CVE-2023-51764 and its like). So are NUL, a line of
    more than 998 octets and text that does not begin with a header.
    """
    if not raw:
        raise ContentError("the mail is empty")
    if b"\0" in raw:
        raise ContentError(f"NUL in line {_line(raw, raw.index(0))}")
    wire = raw if b"\r" in raw else raw.replace(b"\n", b"\r\n")
    pairs = wire.count(b"\r\n")
    if wire.count(b"\r") != pairs:
        raise ContentError("a CR without LF")
    if wire.count(b"\n") != pairs:
        raise ContentError("a LF without CR")
    if not wire.endswith(b"\r\n"):
        wire += b"\r\n"
    lengths = [len(line) for line in wire.split(b"\n")]
    if max(lengths) > _LINE_MAX + 1:
        line = next(number for number, length in enumerate(lengths, 1) if length > _LINE_MAX + 1)
        raise ContentError(f"line {line} is longer than {_LINE_MAX} octets")
    fields(wire)
    return wire


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def fields(wire: bytes) -> list[tuple[bytes, int, int]]:
    """The header fields of a wire-ready mail: lower-case name, start and end (behind the CRLF of its last line)."""
    found: list[tuple[bytes, int, int]] = []
    at, end = 0, len(wire)
    while at < end:
        stop = wire.index(b"\r\n", at) + 2
        if stop == at + 2:
            break
        match = _FIELD.match(wire, at, stop)
        if match:
            found.append((match.group(1).lower(), at, stop))
        elif found and wire[at] in b" \t":
            found[-1] = (*found[-1][:2], stop)
        else:
            hint = " (an mbox 'From ' line)" if wire.startswith(_MAILBOX_LINE, at) else ""
            raise ContentError(f"line {_line(wire, at)} is no header field{hint}")
        at = stop
    if not found:
        raise ContentError("no header")
    return found


def whole_lines(wire: bytes) -> bool:
    """Whether every line ends in CRLF and no CR, LF or NUL stands elsewhere. Each mail is looked at, so it is fast.

    >>> whole_lines(b"a\\r\\nb\\r\\n"), whole_lines(b"a\\r\\nb\\n"), whole_lines(b"a")
    (True, False, False)
    """
    seen = io.IncrementalNewlineDecoder(None, translate=False)  # it notes which line ends it saw, in one pass
    seen.decode(wire.decode("latin-1"), final=True)
    return seen.newlines == "\r\n" and wire.endswith(b"\r\n") and b"\0" not in wire


def identity_of(wire: bytes) -> tuple[str, str]:
    """Message-ID (with brackets) and Date of a wire-ready mail as they stand in it, "" where there is none."""
    values = {b"message-id": "", b"date": ""}
    for name, start, end in reversed(fields(wire)):
        if name in values:
            values[name] = " ".join(wire[start:end].partition(b":")[2].decode("utf-8", "replace").split())
    return values[b"message-id"], values[b"date"]


def renew(wire: bytes, *, message_id: str, date: str) -> bytes:
    """A wire-ready mail under a new identity: Message-ID and Date replaced, signatures of the old one removed.

    `date`: RFC 5322 text. All other bytes stay.
    """
    if not (message_id.isascii() and date.isascii() and message_id.isprintable() and date.isprintable()):
        raise ContentError("the new Message-ID or Date is not printable ASCII")
    kept_fields = [
        wire[start:end]
        for name, start, end in fields(wire)
        if name not in _OLD_IDENTITY and not name.startswith(_OLD_IDENTITY_PREFIX)
    ]
    new = f"Message-ID: {message_id}\r\nDate: {date}\r\n".encode("ascii")
    return b"".join(kept_fields) + new + wire[fields(wire)[-1][2] :]
