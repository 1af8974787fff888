"""Bytes of a mail to text: transfer encodings, charsets and wrong charsets, encoded words, HTML, dates, one line.

Japanese bounces name one charset and use another; what decodes without error and reads as text wins. Pure, linear.
Raises nothing for any bytes.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import quopri
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

from resend.collect.bounces.mime import Fields, Part

TEXT_MAX = 256 << 10  # characters of one part
LINE_MAX = 4_096  # characters of a text that is kept as one line

_ALIASES = {"shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932", "windows-31j": "cp932"}
_ALIASES |= {
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso-8859-1": "cp1252",
}
_NO_CHARSETS = frozenset(
    {"unicode-escape", "raw-unicode-escape", "idna", "punycode", "undefined", "charmap", "mbcs", "oem"}
)
_JIS = re.compile(rb"\x1b(?:\$[@B]|\$\([DOPQ]|\([BJI])")
_ENCODED_WORD = re.compile(r"=\?([\w.:-]{1,40})(?:\*[\w-]{1,20})?\?([bBqQ])\?([^?\s]{0,4000})\?=")
_BETWEEN_WORDS = re.compile(r"(?<=\?=)\s+(?==\?)")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200b\ufeff]")
_SKIPPED_TAGS = frozenset({"style", "script", "head", "title"})
_BREAKING_TAGS = frozenset(("br", "p", "div", "tr", "li", "h1", "h2", "h3", "h4", "table", "blockquote", "pre"))
_BREAKS = re.compile(r"<(?:br|p|div|tr|li)\b", re.IGNORECASE)
_KEEPS = re.compile(r"<(?:pre|plaintext|xmp)\b|white-space: ?pre", re.IGNORECASE)
_LINE_START = re.compile(r"\n[ \t]+")
_TAG_NAME = re.compile(r"(/?)([A-Za-z][A-Za-z0-9]{0,11})")
_YEAR_MIN, _YEAR_MAX = 1980, 2200


def part_text(part: Part) -> str:
    """The text of a part, decoded; HTML without its tags."""
    data = unwrapped(part)
    text = decoded(data, part.parameters.get("charset", ""))[:TEXT_MAX]
    return html_text(text) if part.type == "text/html" else text


def unwrapped(part: Part) -> bytes:
    """The body without its transfer encoding. A base64 that is none stays as it is."""
    encoding = part.fields.first("content-transfer-encoding").strip().lower()
    if encoding == b"quoted-printable":
        return quopri.decodestring(part.body)
    if encoding == b"base64":
        return _base64(part.body) or part.body
    return part.body


def _base64(data: bytes) -> bytes:
    """What is base64 in here, up to the first blank line after it."""
    letters = data.strip().partition(b"\n\n")[0].translate(None, b"\r\n \t")
    try:
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except (ValueError, binascii.Error):
        return b""


def decoded(data: bytes, charset: str) -> str:
    """Text in the charset that is named, or in the one that it is really in."""
    if data.isascii():
        if b"\x1b" in data and _JIS.search(data):
            return data.decode("iso2022_jp_ext", "replace")
        if b"\x00" not in data:
            return data.decode("ascii")
    named = _codec(charset)
    first = named if named.startswith(("utf_16", "utf-16", "utf_32", "utf-32")) else "utf-8"
    for codec in dict.fromkeys((first, named, "euc_jp", "cp932")):
        if codec and not (codec == "euc_jp" and named == "cp932"):
            try:
                return data.decode(codec)
            except (UnicodeError, LookupError, ValueError):
                continue
    return data.decode(named or "utf-8", "replace")


@lru_cache(maxsize=256)
def _codec(charset: str) -> str:
    """The codec of a charset's name; "" where it is unknown, or one that no text is in."""
    name = charset.strip().strip("\"'").lower()
    if name in ("", "us-ascii", "ascii", "unknown", "unknown-8bit", "x-unknown", "default"):
        return ""
    name = _ALIASES.get(name, name)
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return ""
    if not getattr(info, "_is_text_encoding", True) or info.name.replace("_", "-") in _NO_CHARSETS:
        return ""
    return info.name


def field_text(value: bytes) -> str:
    """A header field's value on one line, encoded words decoded."""
    text = decoded(value[: 16 << 10], "")
    if "=?" in text:
        text = _ENCODED_WORD.sub(_word, _BETWEEN_WORDS.sub("", text))
    return one_line(text)


def _word(match: re.Match[str]) -> str:
    charset, kind, body = match.groups()
    raw = body.encode("utf-8", "replace")
    data = _base64(raw) if kind in "bB" else quopri.decodestring(raw.replace(b"_", b" "), header=True)
    return decoded(data, charset) if data else body


def one_line(text: str) -> str:
    """A text without control characters, runs of white space as one space, at most LINE_MAX characters."""
    text = _CONTROL.sub(" ", text[: 8 * LINE_MAX])
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())[:LINE_MAX]


def html_text(text: str) -> str:
    """The words of an HTML text, lines where it breaks them."""
    text = text.replace("\r", " ")
    folds = _BREAKS.search(text) is not None and not _KEEPS.search(text)
    if folds:  # its own line ends are white space
        text = text.replace("\n", " ")
    first, *pieces = text.split("<")
    found = [first]
    skipped = ""  # the tag, or "!--", until whose end nothing counts
    for piece in pieces:
        if skipped == "!--":
            _, ended, after = piece.partition("-->")
            if ended:
                skipped = ""
                found.append(after)
            continue
        if piece.startswith("!--"):
            _, ended, after = piece[3:].partition("-->")
            skipped = "" if ended else "!--"
            found.append(after)
            continue
        match = _TAG_NAME.match(piece)
        tag = match.group(2).lower() if match else ""
        if skipped:
            if match and match.group(1) and tag == skipped:
                skipped = ""
                found.append(piece.partition(">")[2])
            continue
        if match and not match.group(1) and tag in _SKIPPED_TAGS:
            skipped = tag
            continue
        _, ended, after = piece.partition(">")
        if tag in _BREAKING_TAGS:
            found.append("\n")
        found.append(after if ended and (match or piece[:1] in ("!", "?")) else f"<{piece}")
    text = "".join(found)
    if folds:
        text = _LINE_START.sub("\n", text)
    return html.unescape(text).replace("\xa0", " ")


@lru_cache(maxsize=4_096)
def date(value: bytes) -> datetime | None:
    """A date of mail (RFC 5322 3.3) in UTC; a zone that it does not name is UTC. None for anything else."""
    text = value[:200].decode("latin-1").strip()
    try:
        found = parsedate_to_datetime(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        found = found.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if _YEAR_MIN <= found.year <= _YEAR_MAX else None


def field_date(fields: Fields, *names: str) -> datetime | None:
    value = fields.first(*names)
    return date(value) if value else None
