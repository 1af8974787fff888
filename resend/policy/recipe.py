"""How the mails of a template are made that only puts variables into places: what is the same for all, and the places.

Header fields that everybody gets are folded once, constant texts encoded once. The pieces come from the trees that
policy/compiled.py parsed, so they are its texts, and Jinja2 compiles nothing for them; a template with a block, a
filter or a call has no recipe. Pure. Raises nothing: policy/template.py says what is wrong with a template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from resend.policy import headers
from resend.policy.compiled import Compiled, Mail, Part, Place, codec_of, compile_mail, fields_of
from resend.policy.message import ContentError

_ENCODINGS = ("7bit", "8bit", "quoted-printable", "base64")
_OURS = frozenset({"mime-version", "content-type", "content-transfer-encoding", "bcc", "return-path", "dkim-signature"})
_GIVEN = frozenset({"date", "message-id"})
_NO_BOUNDARY = "=_" + "0" * 40  # as long as a boundary


class _NoRecipe(Exception):
    """The template is not that plain."""


class Piece(NamedTuple):
    """Encoded text, and how long its lines are, in octets without their LF."""

    data: bytes
    is_ascii: bool
    lines: int  # line ends in it
    first: int  # before the first line end, or all
    last: int  # after the last line end, or all
    longest: int  # between two line ends


@dataclass(frozen=True, slots=True)
class Body:
    """One text/* body: what is encoded already, and places."""

    charset: str
    encoding: str  # that the template asks for
    text: Compiled
    items: tuple[Piece | Place, ...]
    html: bool
    typed: Mapping[str, bytes]  # by transfer encoding: from Content-Type to the empty line


@dataclass(frozen=True, slots=True)
class Block:
    """A part: `start`, the fields that are the same for all; then its body, its parts, or `data` that is no text."""

    start: bytes
    body: Body | None = None
    parts: tuple[Block, ...] = ()
    end: bytes = b""  # of parts: from the boundary's value to the empty line
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A template taken apart. `head`: fields that are the same for all, or the text of one with places in it."""

    head: tuple[bytes | tuple[str | Place, ...], ...]
    missing: tuple[str, ...]  # of From, To and Subject
    in_head: frozenset[Place]
    places: frozenset[Place]
    charset: str
    block: Block


@lru_cache(maxsize=256)
def recipe_of(source: str) -> Recipe | None:
    """How the mails of a template are made; None where it does more than put variables into places."""
    try:
        return _recipe(compile_mail(source))
    except (_NoRecipe, ContentError, UnicodeError):
        return None


def _recipe(mail: Mail) -> Recipe:
    charset = mail.part.charset
    items = _items(mail.head)
    head: list[bytes | tuple[str | Place, ...]] = []
    seen = set()
    for name, text in _fields(items):
        seen.add(name)
        if name in _OURS or name in _GIVEN:
            continue
        if all(isinstance(piece, str) for piece in text):
            whole = "".join([str(piece) for piece in text])
            head.append(b"".join([headers.field(label, value, charset) for label, value in fields_of(whole)]))
        else:
            head.append(tuple(text))
    in_head = frozenset(item for item in items if isinstance(item, tuple))
    return Recipe(
        head=tuple(head),
        missing=tuple(name for name in ("From", "To", "Subject") if name.lower() not in seen),
        in_head=in_head,
        places=in_head.union(_places(mail.part)),
        charset=charset,
        block=_block(mail.part),
    )


def _items(text: Compiled) -> tuple[str | Place, ...]:
    """Constant texts and places, in their order."""
    if text.places is None:
        raise _NoRecipe
    return text.places


def _places(part: Part) -> Iterator[Place]:
    for inner in part.parts:
        yield from _places(inner)
    if part.body is not None:
        yield from (item for item in _items(part.body) if isinstance(item, tuple))


def _fields(items: Sequence[str | Place]) -> Iterator[tuple[str, list[str | Place]]]:
    """Lower-case name and whole text of each header field, where its first line says its name to everybody."""
    lines: list[list[str | Place]] = [[]]
    for item in items:
        if not isinstance(item, str):
            lines[-1].append(item)
            continue
        first, *others = item.split("\n")
        lines[-1].append(first)
        lines += [[other] for other in others]
    found: list[tuple[str, list[str | Place]]] = []
    for line in lines:
        line = [piece for piece in line if piece]
        if not line:
            continue
        if not isinstance(line[0], str):
            raise _NoRecipe
        if line[0][0] in " \t" and found:
            found[-1][1].extend(["\n", *line])
            continue
        name, colon, _ = line[0].partition(":")
        if not colon or not name.strip() or name[0] in " \t":
            raise _NoRecipe
        found.append((name.strip().lower(), line))
    yield from found


def _block(part: Part) -> Block:
    own = b"".join([headers.field(name, value, part.charset) for name, value in part.fields])
    if part.parts:
        typed = _content_type(part, f'; boundary="{_NO_BOUNDARY}"')
        start, found, end = typed.partition(_NO_BOUNDARY.encode("ascii"))
        if not found:
            raise _NoRecipe
        return Block(own + start, parts=tuple(_block(inner) for inner in part.parts), end=end + b"\r\n")
    assert part.body is not None
    items = _items(part.body)
    if not part.kind.startswith("text/"):
        if not all(isinstance(item, str) for item in items):
            raise _NoRecipe
        data = _crlf("".join([str(item) for item in items])).encode("ascii", "replace")
        encoding = "base64" if part.encoding == "base64" else "7bit"
        return Block(own + _content_type(part, "") + _transfer(encoding), data=data)
    try:
        charset, encoded = part.charset, _pieces(items, part.charset)
    except UnicodeError:
        charset, encoded = "utf-8", _pieces(items, "utf-8")
    start = _content_type(part, f'; charset="{charset.upper()}"')
    typed_by = {encoding: start + _transfer(encoding) for encoding in _ENCODINGS}
    return Block(own, Body(charset, part.encoding, part.body, encoded, part.kind == "text/html", typed_by))


def _pieces(items: Sequence[str | Place], charset: str) -> tuple[Piece | Place, ...]:
    return tuple(encoded_piece(item, charset) if isinstance(item, str) else item for item in items)


def _content_type(part: Part, more: str) -> bytes:
    params = "".join([f'; {name}="{value}"' for name, value in part.params])
    return headers.field("Content-Type", f"{part.kind}{params}{more}", "utf-8")


def _transfer(encoding: str) -> bytes:
    return f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode("ascii")


def encoded_piece(text: str, charset: str) -> Piece:
    """Text in a charset, with CRLF. Raises UnicodeError."""
    data = _crlf(text).encode(codec_of(charset))
    if b"\n" not in data:
        return Piece(data, data.isascii(), 0, len(data), len(data), 0)
    lengths = [len(line) for line in data.split(b"\n")]
    return Piece(data, data.isascii(), len(lengths) - 1, lengths[0], lengths[-1], max(lengths[1:-1], default=0))


def _crlf(text: str) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n", "\r\n")
