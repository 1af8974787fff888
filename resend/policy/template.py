"""Renders a release's template (`<release>.eml.j2`) to the bytes of one mail.

A template is one whole mail as a person reads it, in UTF-8, with Jinja2 in it: header fields, an empty line, the body.

    From: Example Inc. <pr@example.jp>
    To: {{ name }} <{{ rcpt }}>
    Subject: {{ title }}
    Content-Type: text/plain; charset=ISO-2022-JP

    {{ name }} 様 ({{ attr.outlet }})

- Content-Type names the charset of the body and of encoded words; without it text/plain in UTF-8. It must not hold
  variables. A text that the charset cannot hold is sent in UTF-8. Content-Transfer-Encoding is kept where it can be.
- multipart/*: parts stand between lines `--boundary` as in any mail, each with its own fields; the boundary is replaced.
  The text of a text/* part is written plainly; a part of another type holds its base64 text as it is.
- Date and Message-ID are always those of the plan. From, To and Subject are the catalog's where the template has none.
  Bcc, Return-Path and signatures are dropped.
- Variables: recipient (its id; also .id .name .address), name, locale, tz, attr.KEY (also plain KEY), release, customer,
  rcpt, title, sender, envelope_from, date, message_id. One that does not exist is an error. In text/html they are escaped.
  In a header a line break or another control character is an error; commas and quotes of a name stay a name.
- A block of Jinja2 begins and ends in the same part; the fields of the mail are one part, each body is one.

The same inputs give the same bytes. Pure. Raises ContentError.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.sandbox import SandboxedEnvironment

from resend.clock import from_text
from resend.policy import headers
from resend.policy.message import ContentError

_LINE_MAX = 998
_DEPTH_MAX = 5
_BODY_BAD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_PLAIN = "text/plain; charset=UTF-8"
_OURS = frozenset({"mime-version", "content-type", "content-transfer-encoding", "bcc", "return-path", "dkim-signature"})
_CODECS = {"iso-2022-jp": "iso2022_jp", "iso2022-jp": "iso2022_jp"}
_STATIC_MIN = 64  # characters from which a constant piece of a template is worth remembering encoded


def _checked(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, (Mapping, list, tuple)):
        raise ContentError(f"a variable that is no text: {type(value).__name__}")
    return str(value)  # StrictUndefined says here that it does not exist


def _in_header(value: object) -> str:
    return headers.hide(_checked(value))


def _in_body(value: object) -> Any:
    text = _checked(value)
    bad = _BODY_BAD.search(text)
    if bad:
        raise ContentError(f"a control character in a text: U+{ord(bad.group()):04X} in {text[:60]!r}")
    return value if hasattr(value, "__html__") else text


def _environment(finalize: Callable[[Any], Any], *, html: bool = False) -> SandboxedEnvironment:
    return SandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=html,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


_HEADER = _environment(_in_header)
_TEXT = _environment(_in_body)
_HTML = _environment(_in_body, html=True)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One Jinja2 text, and the same without its constant text: enough to see whether variables fit."""

    full: Template
    check: Template


@dataclass(frozen=True, slots=True)
class _Part:
    """A body, or parts within one boundary. `fields`: the part's own static ones, without Content-Type and -Encoding."""

    fields: tuple[tuple[str, str], ...]
    kind: str  # main/sub
    params: tuple[tuple[str, str], ...]  # of Content-Type, without charset and boundary
    charset: str
    encoding: str
    body: _Compiled | None
    parts: tuple[_Part, ...] = ()


@dataclass(frozen=True, slots=True)
class _Mail:
    head: _Compiled
    part: _Part


class _Recipient(str):
    """The recipient's id, which also has a name and an address."""

    id: str
    name: str
    address: str


def render(
    template: str,
    variables: Mapping[str, Any],
    *,
    key: str,
    message_id: str,
    date: str,
    sender: str,
    envelope_from: str,
    rcpt: str,
    title: str,
) -> bytes:
    """The wire-ready bytes of one mail: CRLF at every line's end, no bare CR or LF, no NUL, no line over 998 octets.

    `key`: the delivery's, from which boundaries come; `message_id` with or without brackets; `date`: RFC 3339 or 5322.
    """
    mail = _compile(template)
    message_id = _printable(f"<{message_id.strip().strip('<>')}>")
    date = _rfc5322(date)
    fixed = {"message_id": message_id, "date": date, "sender": sender, "envelope_from": envelope_from}
    context = _context(variables, {**fixed, "rcpt": rcpt, "title": title})
    text = "".join(_pieces(mail.head.full, context))
    charset = mail.part.charset
    given = {"date": date, "message-id": message_id}
    wire: list[bytes] = []
    seen = set()
    for name, value in _fields(text):
        lowered = name.lower()
        seen.add(lowered)
        if lowered not in _OURS and lowered not in given:
            wire.append(headers.field(name, value, charset))
    for name, value in (("From", sender), ("To", rcpt), ("Subject", title)):
        if name.lower() not in seen:
            wire.append(headers.field(name, headers.hide(value) if name == "Subject" else value, charset))
    wire.append(f"Date: {date}\r\nMessage-ID: {message_id}\r\nMIME-Version: 1.0\r\n".encode("ascii"))
    wire += _written(mail.part, context, key)
    data = b"".join(wire)
    if b"\0" in data or not data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r"):
        raise ContentError("a bare CR, a bare LF or NUL in the mail")  # a defect of ours, but it must not leave
    return data


def validate(template: str, variables: Mapping[str, Any], *, rcpt: str = "", title: str = "", sender: str = "") -> None:
    """Raise ContentError where `variables` do not fit the template: as `render` does, without making the mail."""
    mail = _compile(template)
    fixed = {"message_id": "", "date": "", "sender": sender, "envelope_from": "", "rcpt": rcpt, "title": title}
    context = _context(variables, fixed)
    for _ in _pieces(mail.head.check, context):
        pass
    for part in _leaves(mail.part):
        if part.body is not None:
            for _ in _pieces(part.body.check, context):
                pass


def _context(variables: Mapping[str, Any], fixed: Mapping[str, str]) -> dict[str, Any]:
    attrs = variables.get("attr", {})
    attrs = attrs if isinstance(attrs, Mapping) else {}
    given = variables.get("recipient", "")
    person = _Recipient(given.get("id", "") if isinstance(given, Mapping) else given)
    person.id = str(person)
    person.name = variables.get("name", given.get("name", "") if isinstance(given, Mapping) else "")
    person.address = fixed["rcpt"]
    extra = {"name": person.name} if person.name else {}
    flat = {name: value for name, value in variables.items() if name != "attr"}
    return {**attrs, **extra, **flat, **fixed, "attr": attrs or flat, "recipient": person}


def _pieces(template: Template, context: dict[str, Any]) -> Iterator[str]:
    """Pieces of the rendered text. Whatever a template does wrong is a ContentError."""
    try:
        yield from template.root_render_func(template.new_context(context))
    except ContentError:
        raise
    except Exception as error:  # a template is foreign code
        said = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise ContentError(said) from None


def _fields(text: str) -> Iterator[tuple[str, str]]:
    name, value = "", ""
    for line in text.split("\n"):
        if not line.strip():
            continue
        if line[0] in " \t" and name:
            value += f" {line.strip()}"
            continue
        if name:
            yield name, value
        name, colon, value = line.partition(":")
        if not colon:
            raise ContentError(f"no header field: {headers.show(line)[:60]!r}")
        name, value = name.strip(), value.strip()
    if name:
        yield name, value


def _leaves(part: _Part) -> Iterator[_Part]:
    if part.parts:
        for inner in part.parts:
            yield from _leaves(inner)
    else:
        yield part


# Compiling


@lru_cache(maxsize=256)
def _compile(source: str) -> _Mail:
    head, body = _halves(source.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff"))
    static = {name.lower(): value for name, value in _fields(_without_blocks(head))}
    return _Mail(_compiled(head, _HEADER), _part(static, (), body, 0))


def _halves(text: str) -> tuple[str, str]:
    head, found, body = text.partition("\n\n")
    if not found:
        raise ContentError("no empty line between the header fields and the text")
    return head + "\n", body


def _without_blocks(head: str) -> str:
    """Header fields with lines of pure Jinja2 left out, to find the static ones."""
    return re.sub(r"(?m)^[ \t]*\{[%#].*[%#]\}[ \t]*$", "", head)


def _part(static: Mapping[str, str], fields: tuple[tuple[str, str], ...], body: str, depth: int) -> _Part:
    content_type = static.get("content-type", _PLAIN)
    encoding = static.get("content-transfer-encoding", "").lower()
    if "{{" in content_type + encoding or "{%" in content_type + encoding:
        raise ContentError("Content-Type and Content-Transfer-Encoding must not hold variables")
    if depth > _DEPTH_MAX:
        raise ContentError(f"parts within parts more than {_DEPTH_MAX} deep")
    parsed = Message()
    parsed["Content-Type"] = content_type
    kind, charset = parsed.get_content_type(), (parsed.get_content_charset() or "utf-8").lower()
    params = tuple((str(name), str(value)) for name, value in (parsed.get_params() or [])[1:])
    params = tuple((name, value) for name, value in params if name.lower() not in ("charset", "boundary"))
    if parsed.get_content_maintype() == "multipart":
        boundary = parsed.get_boundary()
        if not boundary:
            raise ContentError("a multipart without its boundary")
        parts = tuple(_inner(text, depth) for text in _between(body, boundary))
        return _Part(fields, kind, params, charset, "", None, parts)
    try:
        codecs.lookup(_CODECS.get(charset, charset))
    except LookupError:
        raise ContentError(f"an unknown charset: {charset}") from None
    if parsed.get_content_maintype() != "text" and encoding not in ("base64", "7bit", ""):
        raise ContentError(f"{kind} needs base64 text in the template, not {encoding}")
    return _Part(fields, kind, params, charset, encoding, _compiled(body, _HTML if kind == "text/html" else _TEXT))


def _between(body: str, boundary: str) -> list[str]:
    """The texts between boundary lines."""
    found: list[list[str]] = []
    for line in body.split("\n"):
        if line.rstrip() == f"--{boundary}--":
            break
        if line.rstrip() == f"--{boundary}":
            found.append([])
        elif found:
            found[-1].append(line)
    else:
        raise ContentError(f"no closing line --{boundary}--")
    if not found:
        raise ContentError(f"no part after a line --{boundary}")
    return ["\n".join(lines) + "\n" for lines in found]


def _inner(text: str, depth: int) -> _Part:
    head, body = _halves(text if not text.startswith("\n") else "Content-Type: text/plain; charset=UTF-8\n" + text)
    fields = list(_fields(head))
    if any("{{" in value or "{%" in value for _, value in fields):
        raise ContentError("the fields of a part must not hold variables")
    kept = tuple((n, v) for n, v in fields if n.lower() not in ("content-type", "content-transfer-encoding"))
    return _part({name.lower(): value for name, value in fields}, kept, body, depth + 1)


def _compiled(source: str, environment: SandboxedEnvironment) -> _Compiled:
    try:
        tree, bare = environment.parse(source), environment.parse(source)
        for node in bare.find_all(nodes.TemplateData):
            node.data = ""
        return _Compiled(_loaded(tree, environment), _loaded(bare, environment))
    except TemplateSyntaxError as error:
        raise ContentError(f"line {error.lineno} of its part: {error.message}") from None


def _loaded(tree: nodes.Template, environment: SandboxedEnvironment) -> Template:
    return Template.from_code(environment, environment.compile(tree), environment.make_globals(None))


# Writing


def _written(part: _Part, context: dict[str, Any], key: str, path: str = "") -> list[bytes]:
    """The part's own MIME fields, the empty line, its body."""
    own = [headers.field(name, value, part.charset) for name, value in part.fields]
    if part.parts:
        inner = [_written(child, context, key, f"{path}.{number}") for number, child in enumerate(part.parts)]
        boundary = _boundary(key, path, inner)
        mark = boundary.encode("ascii")
        lines = [*own, _content_type(part, {"boundary": boundary}), b"\r\n"]
        for child in inner:
            lines += [b"--", mark, b"\r\n", *child, b"\r\n" if not child[-1].endswith(b"\r\n") else b""]
        return [*lines, b"--", mark, b"--\r\n"]
    charset, encoding, data = _encoded(part, context)
    named = {"charset": charset} if part.kind.startswith("text/") else {}
    transfer = f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode("ascii")
    return [*own, _content_type(part, named), transfer, data]


def _content_type(part: _Part, more: Mapping[str, str]) -> bytes:
    params = "".join(f'; {name}="{value}"' for name, value in (*part.params, *more.items()))
    return headers.field("Content-Type", part.kind + params, "utf-8")


def _boundary(key: str, path: str, inner: list[list[bytes]]) -> str:
    """A boundary from the delivery's key that occurs in no part."""
    number = 0
    while True:
        boundary = f"=_{hashlib.sha256(f'{key}{path}/{number}'.encode()).hexdigest()[:40]}"
        mark = boundary.encode("ascii")
        if not any(mark in data for child in inner for data in child):
            return boundary
        number += 1


def _encoded(part: _Part, context: dict[str, Any]) -> tuple[str, str, bytes]:
    """Charset, transfer encoding and bytes of a body."""
    assert part.body is not None
    pieces = list(_pieces(part.body.full, context))
    if not part.kind.startswith("text/"):
        data = _crlf("".join(pieces)).encode("ascii", "replace")
        return "", "base64" if part.encoding == "base64" else "7bit", data
    charset = part.charset
    try:
        data = b"".join([_bytes(piece, charset) for piece in pieces])
    except UnicodeError:
        charset = "utf-8"
        data = b"".join([_bytes(piece, charset) for piece in pieces])
    if data and not data.endswith(b"\r\n"):
        data += b"\r\n"
    fits = max(map(len, data.split(b"\n"))) <= _LINE_MAX + 1
    ascii_only = data.isascii()
    if fits and (ascii_only or part.encoding == "8bit") and part.encoding in ("", "7bit", "8bit"):
        return charset.upper(), "7bit" if ascii_only else "8bit", data
    if part.encoding == "quoted-printable":
        return charset.upper(), "quoted-printable", _quoted(data)
    return charset.upper(), "base64", base64.encodebytes(data).replace(b"\n", b"\r\n")


def _quoted(data: bytes) -> bytes:
    lines = binascii.b2a_qp(data.replace(b"\r\n", b"\n"), istext=True, quotetabs=False)
    return lines.replace(b"\n", b"\r\n")


def _bytes(piece: str, charset: str) -> bytes:
    return _static(piece, charset) if len(piece) >= _STATIC_MIN else _encode(piece, charset)


def _encode(piece: str, charset: str) -> bytes:
    return _crlf(piece).encode(_CODECS.get(charset, charset))


_static = lru_cache(maxsize=1_024)(_encode)  # constant pieces come again with every mail


def _crlf(text: str) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n", "\r\n")


def _rfc5322(date: str) -> str:
    """A Date field's value from RFC 3339 text; RFC 5322 text stays as it is."""
    try:
        return format_datetime(from_text(date))
    except ValueError:
        pass
    try:
        parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        raise ContentError(f"not a date: {date[:60]!r}") from None
    return _printable(date)


def _printable(value: str) -> str:
    if not (value.isascii() and value.isprintable() and len(value) <= _LINE_MAX - 20):
        raise ContentError(f"not printable ASCII, or too long for a header: {value[:60]!r}")
    return value
