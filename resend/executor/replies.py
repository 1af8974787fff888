"""SMTP replies as bytes to values, strictly: what is not a reply by RFC 5321 4.2 is garbage, and garbage is no answer.

Pure. The first digit decides, however long the text is; 251 after the dot is success like 250.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from resend.model import Reply

LINE_MAX = 32 << 10  # octets; RFC 5321 4.5.3.1.5 grants 512
BYTES_MAX = 1 << 20  # of a reply: what is longer does not end
TEXT_MAX = 32 << 10  # characters of its text that are kept, and its last line
_LINE = re.compile(rb"([2-5][0-5][0-9])([ -]|$)(.*)", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s|$)", re.ASCII)
_QUEUED = re.compile(
    r"(?:queued as|queued_as:|message accepted for delivery[:,]?|[Oo][Kk],? id=|id=)\s*<?([0-9A-Za-z.-]+)", re.ASCII
)


class Garbage(ValueError):
    """Bytes that are no SMTP reply."""


def is_last(line: bytes) -> bool:
    """Whether this line (without its line end) ends a reply; also true of garbage, which no further line would mend."""
    match = _LINE.match(line)
    return match is None or match.group(2) != b"-"


def parse(lines: Sequence[bytes]) -> Reply:
    """Lines without their line ends to a reply, its text cut. Raises Garbage: no code, differing codes, too much.

    >>> parse([b"250-2.0.0 Ok", b"250 2.0.0 queued as 4Qx1"]).code
    250
    """
    size = sum(map(len, lines))
    if not lines or size > BYTES_MAX or (size > LINE_MAX and max(map(len, lines)) > LINE_MAX):
        raise Garbage("a reply that is empty or too long")
    codes: set[bytes] = set()
    texts: list[str] = []
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            raise Garbage(f"not a reply: {line[:80].decode('utf-8', 'replace')!r}")
        codes.add(match.group(1))
        texts.append(match.group(3).decode("utf-8", "replace"))
    if len(codes) != 1:
        raise Garbage("a reply whose lines have different codes")
    text = "\n".join(texts)
    if len(text) > TEXT_MAX:
        text = f"{text[:TEXT_MAX]}\n{texts[-1]}"  # which names the queue id
    return Reply(code=int(codes.pop()), enhanced=enhanced_code(texts[0]), text=text)


@lru_cache(maxsize=512)
def parsed(line: bytes) -> Reply:
    """A reply of one line, remembered: to MAIL and DATA a receiver always says the same."""
    return parse((line,))


def enhanced_code(text: str) -> str:
    """The enhanced status code that a reply's text begins with, "" where there is none (RFC 2034)."""
    match = _ENHANCED.match(text)
    return match.group(1) if match else ""


def remote_queue_id(text: str) -> str:
    """The queue id that the receiving side names in the reply to the dot, "" where it names none.

    >>> remote_queue_id("2.0.0 Ok: queued as 4RYx2B1")
    '4RYx2B1'
    """
    match = _QUEUED.search(text)
    return match.group(1).rstrip(".") if match else ""
