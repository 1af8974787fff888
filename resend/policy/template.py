"""Renders a release's template (`<release>.eml.j2`) to the bytes of one mail.

A template is one whole mail as a person reads it, in UTF-8, with Jinja2 in it: header fields, an empty line, the body.

    From: Example Inc. <pr@example.jp>
    To: {{ name }} <{{ rcpt }}>
    Subject: {{ title }}
    Content-Type: text/plain; charset=ISO-2022-JP

    {{ name }} 様 ({{ attr.outlet }})

- Content-Type names the charset of the body and of encoded words; without it text/plain in UTF-8. It must not hold
  variables. A text that the charset cannot hold is sent in UTF-8. Content-Transfer-Encoding is kept where it can be.
- multipart/*: parts stand between lines `--boundary` as in any mail, each with its own fields; boundaries are replaced.
  The text of a text/* part is written plainly; a part of another type holds its base64 text as it is.
- Date and Message-ID are always those of the plan. From, To and Subject are the catalog's where there are none.
  Return-Path and signatures are dropped. Bcc is an error, and so is a field twice that a mail has once (RFC 5322 3.6).
- Variables: recipient (its id; also .id .name .address), attr.KEY (also plain KEY), rcpt, title, sender, envelope_from,
  date, message_id, and what the plan gives besides (name, locale, tz, release, customer). One that does not exist is an
  error, and so is one that is no text or number; `attr.items` is an attribute of that name, never a method. In
  text/html they are escaped.
  In a header a line break or another control character is an error; commas and quotes of a name stay a name.
- A block of Jinja2 begins and ends in the same part; the fields of the mail are one part, each body is one.

The same inputs give the same bytes. Pure. Raises ContentError.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.runtime import Context

from resend.policy import headers
from resend.policy.compiled import GLOBALS, Compiled, Part, codec_of, compile_mail, fields_of
from resend.policy.message import ContentError

_LINE_MAX = 998
_OF_RECIPIENT = {"id": "recipient", "name": "name", "address": "rcpt"}
_OURS = frozenset({"mime-version", "content-type", "content-transfer-encoding", "bcc", "return-path", "dkim-signature"})
_STATIC_MIN = 64  # characters from which a constant piece of a template is worth remembering encoded


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
    mail = compile_mail(template)
    message_id = headers.printable(f"<{message_id.strip().strip('<>')}>")
    date = headers.rfc5322(date)
    fixed = {"message_id": message_id, "date": date, "sender": sender, "envelope_from": envelope_from}
    context = _context(variables, {**fixed, "rcpt": rcpt, "title": title})
    text = "".join(_pieces(mail.head.full, context))
    charset = mail.part.charset
    given = {"date": date, "message-id": message_id}
    wire: list[bytes] = []
    found = [(name, name.lower(), value) for name, value in fields_of(text)]
    seen = {lowered for _, lowered, _ in found}
    if not mail.settled:
        headers.refuse_misplaced(lowered for _, lowered, _ in found)
    for name, lowered, value in found:
        if lowered not in _OURS and lowered not in given:
            wire.append(headers.field(name, value, charset))
    for name, value in (("From", sender), ("To", rcpt), ("Subject", title)):
        if name.lower() not in seen:
            wire.append(headers.field(name, headers.hide(value) if name == "Subject" else value, charset))
    wire.append(f"Date: {date}\r\nMessage-ID: {message_id}\r\nMIME-Version: 1.0\r\n".encode("ascii"))
    wire += _written(mail.part, context, key)
    return b"".join(wire)


def validate(template: str, variables: Mapping[str, Any], *, rcpt: str = "", title: str = "", sender: str = "") -> None:
    """Raise ContentError where `variables` do not fit the template: as `render` does, without making the mail."""
    mail = compile_mail(template)
    fixed = {"message_id": "", "date": "", "sender": sender, "envelope_from": "", "rcpt": rcpt, "title": title}
    context = _context(variables, fixed)
    if mail.settled:
        _fits(mail.head, context)
    else:
        text = "".join(_pieces(mail.head.full, context))
        headers.refuse_misplaced(name.lower() for name, _ in fields_of(text))
    for part in _leaves(mail.part):
        if part.body is not None:
            _fits(part.body, context)


def placed(template: str) -> frozenset[str] | None:
    """The variables of a template that only puts variables in places; None where it does more with one.

    An attribute by its way, `attr.outlet`; what is of the recipient under the variable that has it too.
    """
    mail = compile_mail(template)
    found: set[str] = set()
    for text in (mail.head, *(part.body for part in _leaves(mail.part) if part.body is not None)):
        if text.places is None:
            return None
        places = {item for item in text.places if isinstance(item, tuple)}
        found |= {
            _OF_RECIPIENT[place[1]] if place[0] == "recipient" and place[1:] else ".".join(place) for place in places
        }
    return frozenset(found)


def _fits(text: Compiled, context: dict[str, Any]) -> None:
    """What renders the text raises, with little of its work where it only puts variables in places."""
    if text.names is not None and text.names <= context.keys():
        try:
            for name in text.names:
                text.finalize(context[name])
            return
        except ContentError:
            raise
        except Exception:  # the long way says what is wrong
            pass
    for _ in _pieces(text.check, context):
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
    return {**GLOBALS, **attrs, **extra, **flat, **fixed, "attr": attrs or flat, "recipient": person}


def _pieces(template: Template, context: dict[str, Any]) -> Iterator[str]:
    """Pieces of the rendered text. Whatever a template does wrong is a ContentError."""
    try:
        # Not `new_context`: it goes through all globals, which the context has already, for every text of every mail.
        yield from template.root_render_func(Context(template.environment, context, template.name, template.blocks))
    except ContentError:
        raise
    except Exception as error:  # a template is foreign code
        said = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise ContentError(said) from None


def _leaves(part: Part) -> Iterator[Part]:
    if part.parts:
        for inner in part.parts:
            yield from _leaves(inner)
    else:
        yield part


def _written(part: Part, context: dict[str, Any], key: str, path: str = "") -> list[bytes]:
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


def _content_type(part: Part, more: Mapping[str, str]) -> bytes:
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


def _encoded(part: Part, context: dict[str, Any]) -> tuple[str, str, bytes]:
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
    ascii_only = data.isascii()
    if (ascii_only or part.encoding == "8bit") and part.encoding in ("", "7bit", "8bit") and _lines_fit(data):
        return charset.upper(), "7bit" if ascii_only else "8bit", data
    if part.encoding == "quoted-printable":
        return charset.upper(), "quoted-printable", _quoted(data)
    return charset.upper(), "base64", base64.encodebytes(data).replace(b"\n", b"\r\n")


def _lines_fit(data: bytes) -> bool:
    """Whether no line of a text that ends in CRLF is over 998 octets (RFC 5322 2.1.1). Goes by line ends far apart.

    >>> _lines_fit(b"a" * 998 + b"\\r\\n"), _lines_fit(b"a" * 999 + b"\\r\\n")
    (True, False)
    """
    window = _LINE_MAX + 2
    at = 0
    while len(data) - at > window:
        at = data.rfind(b"\n", at, at + window) + 1
        if not at:
            return False
    return True


def _quoted(data: bytes) -> bytes:
    lines = binascii.b2a_qp(data.replace(b"\r\n", b"\n"), istext=True, quotetabs=False)
    return lines.replace(b"\n", b"\r\n")


def _bytes(piece: str, charset: str) -> bytes:
    return _static(piece, charset) if len(piece) >= _STATIC_MIN else _encode(piece, charset)


def _encode(piece: str, charset: str) -> bytes:
    return _crlf(piece).encode(codec_of(charset))


_static = lru_cache(maxsize=1_024)(_encode)  # constant pieces come again with every mail


def _crlf(text: str) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n", "\r\n")
