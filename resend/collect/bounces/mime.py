"""Takes a mail apart: header fields and the leaves of its MIME tree, as they are, before anything is decoded.

Not the standard library's parser: bounces have broken boundaries, headers without a blank line after them and thousands
of parts, and its cost grows with the square of some of these. Every pass here is linear, and the tree is cut at the
caps below. Pure. Raises nothing for any bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAIL_MAX = 10 << 20  # bytes looked at; a returned original of more is cut
PARTS_MAX = 1_000
DEPTH_MAX = 20
HEADERS_MAX = 2_000
FIELD_MAX = 64 << 10  # bytes of one field with its continuation lines

_FIELD = re.compile(rb"([!-9;-~]{1,100})[ \t]*:")
_PARAMETER = re.compile(r';\s*([\w-]{1,40})\*?(?:0\*?)?\s*=\s*(?:"((?:[^"\\]|\\.){0,500})"|([^\s;"]{1,500}))')
_TYPE = re.compile(r"\s*([\w.+-]{1,60}/[\w.+-]{1,60})")
_LEAF_MULTIPART = "text/plain"  # what a multipart without any boundary is
_UNTYPED_MULTIPART = "multipart/mixed"  # what a mail is that begins with a part, but has lost its type


@dataclass(frozen=True, slots=True)
class Fields:
    """The header fields of a mail or part, in their order; names in lower case, values unfolded, not decoded."""

    items: tuple[tuple[str, bytes], ...] = ()

    def first(self, *names: str) -> bytes:
        """The first value of the first of these fields that is there; b"" where none is."""
        for name in names:
            for have, value in self.items:
                if have == name:
                    return value
        return b""

    def all(self, name: str) -> list[bytes]:
        return [value for have, value in self.items if have == name]


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf. Of message/* the body is the message's bytes; the tree does not go into it."""

    type: str  # lower case, without parameters
    parameters: dict[str, str]
    fields: Fields
    body: bytes


@dataclass(frozen=True, slots=True)
class Mail:
    fields: Fields
    type: str
    parameters: dict[str, str]
    body: bytes  # everything after the header

    def leaves(self) -> Iterator[Part]:
        """The leaves in their order, at most PARTS_MAX."""
        budget = [PARTS_MAX]
        yield from _leaves(Part(self.type, self.parameters, self.fields, self.body), 0, budget)


def parse(data: bytes) -> Mail:
    """A mail. Line ends become LF, also where the mail has CRLF or CR alone; an mbox line before the header goes."""
    data = data[:MAIL_MAX]
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
        if b"\n" not in data:
            data = data.replace(b"\r", b"\n")
    data = data.lstrip(b"\n \t\xef\xbb\xbf")
    while data.startswith((b"From ", b">From ")):
        data = data.partition(b"\n")[2]
    fields, start = read_fields(data)
    kind, parameters = _content_type(fields)
    body = data[start:]
    if not fields.first("content-type") and _begins_with_a_part(body):
        kind = _UNTYPED_MULTIPART
    return Mail(fields, kind, parameters, body)


def read_fields(data: bytes, at: int = 0) -> tuple[Fields, int]:
    """The header that begins at `at`, and where the body begins: after a blank line, or at a line that is no field."""
    items: list[tuple[str, bytes]] = []
    size = len(data)
    while at < size:
        end = data.find(b"\n", at)
        end = size if end < 0 else end
        if end == at or (data[at : at + 1] in b" \t" and not data[at:end].strip()):
            return Fields(tuple(items)), min(end + 1, size)
        field = _FIELD.match(data, at, end)
        if field is None:
            return Fields(tuple(items)), at
        lines_end = end
        while data[lines_end + 1 : lines_end + 2] in (b" ", b"\t"):
            following = data.find(b"\n", lines_end + 1)
            following = size if following < 0 else following
            if not data[lines_end + 1 : following].strip():
                break
            lines_end = following
        if len(items) < HEADERS_MAX:
            value = data[field.end() : min(lines_end, field.end() + FIELD_MAX)]
            items.append((field.group(1).decode("ascii").lower(), value.replace(b"\n", b"").strip()))
        at = lines_end + 1
    return Fields(tuple(items)), size


def _content_type(fields: Fields) -> tuple[str, dict[str, str]]:
    text = fields.first("content-type")[:4_000].decode("latin-1")
    match = _TYPE.match(text)
    kind = match.group(1).lower() if match else "text/plain"
    found: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(text):
        found.setdefault(name.lower(), quoted.replace("\\", "") if quoted else bare)
    return kind, found


def _leaves(part: Part, depth: int, budget: list[int]) -> Iterator[Part]:
    if budget[0] <= 0:
        return
    if not part.type.startswith("multipart/") or depth >= DEPTH_MAX:
        budget[0] -= 1
        yield part
        return
    boundary = part.parameters.get("boundary", "").rstrip().encode("latin-1", "replace")
    pieces = list(_pieces(part.body, boundary, budget[0])) if boundary else []
    if not pieces:
        guessed = _guess_boundary(part.body)
        pieces = list(_pieces(part.body, guessed, budget[0])) if guessed else []
    if not pieces:
        budget[0] -= 1
        yield Part(_LEAF_MULTIPART, {}, part.fields, part.body)
        return
    for start, end in pieces:
        if budget[0] <= 0:
            return
        piece = part.body[start:end]
        fields, body_at = read_fields(piece)
        kind, parameters = _content_type(fields)
        yield from _leaves(Part(kind, parameters, fields, piece[body_at:]), depth + 1, budget)


def _pieces(body: bytes, boundary: bytes, most: int) -> Iterator[tuple[int, int]]:
    """Where the parts between boundary lines lie."""
    mark = b"--" + boundary
    at = 0 if body.startswith(mark) else body.find(b"\n" + mark) + 1
    if at == 0 and not body.startswith(mark):
        return
    count = 0
    while count < most:
        line_end = body.find(b"\n", at)
        if body.startswith(b"--", at + len(mark)) or line_end < 0:
            return
        start = line_end + 1
        following = body.find(b"\n" + mark, line_end)
        if following < 0:
            yield start, len(body)
            return
        yield start, max(start, following)
        at = following + 1
        count += 1


def _begins_with_a_part(body: bytes) -> bool:
    """Whether a body begins with a boundary and a part's header, or with the words for readers that know no MIME."""
    begin = body[:600].lstrip(b"\n")
    if not begin.startswith(b"--"):
        words, _, begin = begin.partition(b"\n\n")
        begin = begin.lstrip(b"\n") if b"mime" in words.lower() else b""
    return (
        begin.startswith(b"--")
        and _guess_boundary(begin) != b""
        and begin.partition(b"\n")[2][:8].lower() == b"content-"
    )


_BOUNDARY_LINE = re.compile(rb"^--([!-~][ -~]{3,78})$", re.MULTILINE)


def _guess_boundary(body: bytes) -> bytes:
    """The boundary of a multipart that names none or another: a line of that shape with a part header after it."""
    for match in _BOUNDARY_LINE.finditer(body, 0, 64 << 10):
        if body[match.end() + 1 : match.end() + 9].lower() == b"content-":
            return match.group(1).rstrip()
    return b""
