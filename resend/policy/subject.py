"""Subjects as they are compared: decoded (RFC 2047), one space for each run of white space, case folded. Pure.

A subject comes from a log line (encoded, perhaps cut, with `Subject: ` before it), from a bounce or from the catalog.
Raises nothing: what cannot be decoded stays as it is.
"""

from __future__ import annotations

import re
import unicodedata
from email.errors import HeaderParseError
from email.header import decode_header

_NAME = re.compile(r"^\s*subject\s*:\s*", re.IGNORECASE)
_MARK = re.compile(r"^(?:(?:re|fwd?)\s*:\s*)+", re.IGNORECASE)
_LENGTH_MAX = 4_000  # characters; a title has at most 2,000


def folded_subject(text: str) -> str:
    """What two writings of one subject have in common."""
    bare = _NAME.sub("", text[:_LENGTH_MAX])
    words = unicodedata.normalize("NFKC", _decoded(bare)).split()
    return _MARK.sub("", " ".join(words)).casefold()


def _decoded(text: str) -> str:
    if "=?" not in text:
        return text
    try:
        return "".join(
            piece if isinstance(piece, str) else _text(piece, charset) for piece, charset in decode_header(text)
        )
    except (HeaderParseError, ValueError):
        return text


def _text(piece: bytes, charset: str | None) -> str:
    try:
        return piece.decode(charset or "utf-8", "replace")
    except LookupError:
        return piece.decode("utf-8", "replace")
