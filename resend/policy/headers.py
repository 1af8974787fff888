"""Header fields on the wire: encoded words (RFC 2047), quoted names, folded lines.

What a variable put into a field is marked by the caller (`hide`), so that a name with a comma, an angle bracket or a
quote stays a name: structure comes from the template alone. Pure. Raises ContentError.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.charset import Charset
from email.errors import MessageError
from email.header import Header
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache

from resend.clock import from_text
from resend.policy.address import validate_rcpt
from resend.policy.message import ContentError

_ONCE = frozenset(  # RFC 5322 3.6
    ["date", "from", "sender", "reply-to", "to", "cc", "bcc", "message-id", "in-reply-to", "references", "subject"]
)
ADDRESSES = frozenset({"from", "to", "cc", "reply-to", "sender", "resent-from", "resent-to", "resent-sender"})
_LINE = 76  # characters (RFC 2047 2)
_LINE_MAX = 998
_NAME = re.compile(r"[!-9;-~]{1,70}")
_BAD = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufdd0-\ufdef\ud800-\udfff]")
_SPECIAL = ("=?", "<", ">", '"', ",", "\\", ":", ";", "(", ")")
_MARKS = tuple(chr(0xFDD0 + number) for number in range(len(_SPECIAL)))  # noncharacters: never in a text
_HIDE = dict(zip(_SPECIAL, _MARKS, strict=True))
_HAS_SPECIAL = re.compile(r'=\?|[<>",\\:;()]')
_HAS_MARK = re.compile("[\ufdd0-\ufdef]")
_SHOW = {ord(mark): special for mark, special in zip(_MARKS, _SPECIAL, strict=True)}
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")  # a phrase of atoms (RFC 5322 3.2.3)


def hide(value: str) -> str:
    """A variable's value for a header. Raises ContentError for line breaks and other control characters."""
    bad = _BAD.search(value)
    if bad:
        raise ContentError(f"a control character in a header: U+{ord(bad.group()):04X} in {value[:60]!r}")
    return _HAS_SPECIAL.sub(lambda match: _HIDE[match.group()], value) if _HAS_SPECIAL.search(value) else value


def refuse_misplaced(names: Iterable[str]) -> None:
    """Raise ContentError where one mail has these fields, of names in lower case, but must not (RFC 5322 3.6).

    Receivers refuse a second To or From, or show one of the two. A Bcc would tell every recipient of another one.
    """
    seen = set()
    for name in names:
        if name == "bcc":
            raise ContentError("Bcc stands in the header: it tells each recipient of another")
        if name in seen and name in _ONCE:
            raise ContentError(f"{name.title().replace('-Id', '-ID')} stands twice in the header")
        seen.add(name)


def show(text: str) -> str:
    """The text with what was hidden."""
    return text.translate(_SHOW) if _HAS_MARK.search(text) else text


@lru_cache(maxsize=8_192)
def field(name: str, value: str, charset: str) -> bytes:
    """One field, folded, with its CRLF. `value` may hold hidden characters; `charset` is that of encoded words."""
    if not _NAME.fullmatch(name):
        raise ContentError(f"not a header name: {name[:60]!r}")
    if name.lower() in ADDRESSES:
        body = _addresses(name, value, charset)
    else:
        encoded_by_template = "=?" in value
        shown = show(value)
        body = _text(name, shown, charset, force="=?" in shown and not encoded_by_template)
    wire = f"{name}: {body}\r\n"
    if not wire.isascii() or max(map(len, wire.split("\r\n"))) > _LINE_MAX:
        raise ContentError(f"{name} cannot be written in ASCII lines of {_LINE_MAX} characters")
    return wire.encode("ascii")


@lru_cache(maxsize=1_024)  # mails of a release have few dates
def rfc5322(date: str) -> str:
    """A Date field's value from RFC 3339 text; RFC 5322 text stays as it is."""
    try:
        return format_datetime(from_text(date))
    except ValueError:
        pass
    try:
        parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        raise ContentError(f"not a date: {date[:60]!r}") from None
    return printable(date)


def printable(value: str) -> str:
    """A value of ours that stands in a field as it is. Raises ContentError where it cannot."""
    if not (value.isascii() and value.isprintable() and len(value) <= _LINE_MAX - 20):
        raise ContentError(f"not printable ASCII, or too long for a header: {value[:60]!r}")
    return value


def _text(name: str, value: str, charset: str, *, force: bool = False) -> str:
    if value.isascii() and not force:
        return _fold(value, len(name) + 2)
    return _words(value, charset, len(name) + 2)


def _words(value: str, charset: str, used: int) -> str:
    """Encoded words in the charset, in UTF-8 where the charset lacks a character (髙, emoji)."""
    for candidate in (charset, "utf-8"):
        try:
            value.encode(Charset(candidate).output_codec or "ascii")
            return Header(value, candidate, header_name="x" * max(1, used - 2), maxlinelen=_LINE).encode(linesep="\r\n")
        except (UnicodeError, LookupError, MessageError):
            continue
    raise ContentError(f"a header that no charset can hold: {value[:60]!r}")


def _fold(value: str, used: int) -> str:
    """Break at spaces so that lines stay within 76 characters; what has no space stays whole."""
    if used + len(value) <= _LINE:
        return value
    lines, line = [], ""
    for word in value.split(" "):
        if line and used + len(line) + 1 + len(word) > _LINE:
            lines.append(line)
            line, used = word, 1
        else:
            line = f"{line} {word}" if line else word
    return "\r\n ".join([*lines, line])


def _addresses(name: str, value: str, charset: str) -> str:
    if value.rstrip().endswith(":;"):
        return _fold(show(value), len(name) + 2)  # an empty group: undisclosed-recipients:;
    written = [_mailbox(item, charset, name) for item in _items(value)]
    if not written:
        raise ContentError(f"no address in {name}")
    return ",\r\n ".join(written)


def _items(value: str) -> list[str]:
    """Mailboxes of a list. A comma in quotes or brackets does not part them, nor in a name ("Example Co., Ltd.")."""
    items, start, quoted, angle = [""], 0, False, False
    for at, letter in enumerate(value if "," in value else ""):  # of most mails one mailbox, and each is looked at
        if letter == '"':
            quoted = not quoted
        elif not quoted and letter in "<>":
            angle = letter == "<"
        elif letter == "," and not quoted and not angle:
            items.append(value[start:at])
            start = at + 1
    items.append(value[start:])
    found, waiting = [], ""
    for item in items:
        whole = f"{waiting},{item}" if waiting else item
        if "@" in item:
            found.append(whole.strip())
            waiting = ""
        else:
            waiting = whole if item.strip() else waiting
    if waiting.strip():
        raise ContentError(f"no address: {show(waiting).strip()[:60]!r}")
    return found


def _mailbox(item: str, charset: str, name: str) -> str:
    phrase, address = "", item
    if item.endswith(">") and "<" in item:
        phrase, _, address = item[:-1].rpartition("<")
    try:
        wire = validate_rcpt(show(address).strip())
    except ValueError as error:
        raise ContentError(f"{name}: {error}") from None
    phrase = phrase.strip()
    if phrase.startswith("=?") and phrase.endswith("?=") and phrase.isascii():
        return f"{phrase} <{wire}>"  # the template wrote encoded words
    if len(phrase) > 1 and phrase[0] == phrase[-1] == '"':
        phrase = re.sub(r"\\(.)", r"\1", phrase[1:-1])
    phrase = show(phrase)
    if not phrase:
        return f"<{wire}>" if item.endswith(">") else wire
    if phrase.isascii() and "=?" not in phrase:
        if not _ATOMS.fullmatch(phrase):
            escaped = phrase.replace("\\", "\\\\").replace('"', '\\"')
            phrase = f'"{escaped}"'
        return f"{phrase} <{wire}>"
    encoded = _words(phrase, charset, len(name) + 2)
    last = len(encoded) - encoded.rfind("\n") - 1
    gap = " " if last + len(wire) + 3 <= _LINE else "\r\n "
    return f"{encoded}{gap}<{wire}>"
