"""Where a report's own text ends and the mail that it returns in line begins.

Pure, linear in the text. Raises nothing for any text.
"""

from __future__ import annotations

import re

from resend.collect.bounces.mime import Fields, read_fields
from resend.collect.bounces.phrases import ORIGINAL_FOLLOWS

LINES_MAX = 4_000

_KNOWN = frozenset(
    {"received", "return-path", "message-id", "from", "to", "subject", "date", "mime-version", "content-type"}
)
_HEADER_START = re.compile(
    r"^(?:Received|Return-Path|Message-Id|DKIM-Signature|X-Received|From|To|Date|Subject|MIME-Version):", re.I | re.M
)
_FOOTER = re.compile(r"^(?:-- |[_-]{30,}[ \t]*\n.{0,80}\bmailing list\b.{0,80})$", re.M)


def without_footer(text: str) -> str:
    """A text without what a mailing list or a virus scanner puts under all mails."""
    match = _FOOTER.search(text)
    return text[: match.start()] if match and text[: match.start()].strip() else text


def cut_original(text: str) -> tuple[str, Fields, str]:
    """The report's own text, the header of the mail that it returns in line, and all that is returned."""
    marks = [match.start() for match in _HEADER_START.finditer(text)][:200]
    lines_seen, at, marked = 0, 0, -1
    while at < len(text) and lines_seen < LINES_MAX:
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        if at and 6 < end - at < 200 and ORIGINAL_FOLLOWS.search(text[at:end]):
            marked = at
            break
        at = end + 1
        lines_seen += 1
    for start in marks:
        if 0 <= marked < start:
            break
        fields = _header_at(text, start)
        if fields is not None:
            return text[:start], fields, text[start:]
    if marked < 0:
        return text, Fields(), ""
    rest = text[marked:].partition("\n")[2]
    for start in [match.start() for match in _HEADER_START.finditer(rest)][:20]:
        fields = _header_at(rest, start, most=2)
        if fields is not None:
            return text[:marked], fields, rest[start:]
    return text[:marked], Fields(), rest


def _header_at(text: str, start: int, most: int = 3) -> Fields | None:
    """The header that begins here, if it is that of a mail: it holds three fields that every mail has."""
    fields, _ = read_fields(text[start : start + (64 << 10)].encode("utf-8", "replace"))
    names = {name for name, _ in fields.items}
    telling = names & {"received", "return-path", "message-id", "mime-version"}
    return fields if len(names & _KNOWN) >= most and (telling or most < 3) else None
