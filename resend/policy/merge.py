"""Mail merge: fills templates that only put variables into places, without Jinja2. The same bytes as template.py's.

Most templates of bulk mail say `{{ name }}` or `{{ attr.outlet }}` and nothing else; with a recipe (policy/recipe.py) a
mail costs its variables and two copies. Where a template has none, and where a variable is no plain text, does not fit
or does not exist, policy/template.py makes the mail, or says what is wrong with it. Pure. Raises ContentError.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import escape

from resend.policy import headers, template
from resend.policy.compiled import Place, fields_of
from resend.policy.message import ContentError
from resend.policy.recipe import Block, Body, Piece, Recipe, encoded_piece, recipe_of

_LINE_MAX = 998  # octets of a line without CRLF (RFC 5321 4.5.3.1.6)
_LINE_B64 = 76  # characters of a line of base64 (RFC 2045 6.8)

Values = Mapping[Place, str]


class _Unusual(Exception):
    """This is not for here: policy/template.py knows."""


def render(
    source: str,
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
    """The wire-ready bytes of one mail, as `template.render` makes them."""
    recipe = recipe_of(source)
    if recipe is not None:
        try:
            fixed = {
                "message_id": headers.printable(f"<{message_id.strip().strip('<>')}>"),
                "date": headers.rfc5322(date),
                "sender": sender,
                "envelope_from": envelope_from,
                "rcpt": rcpt,
                "title": title,
            }
            return _filled(recipe, {place: _value(place, variables, fixed) for place in recipe.places}, fixed, key)
        except (_Unusual, ContentError, UnicodeError):
            pass
    return template.render(
        source,
        variables,
        key=key,
        message_id=message_id,
        date=date,
        sender=sender,
        envelope_from=envelope_from,
        rcpt=rcpt,
        title=title,
    )


def _value(place: Place, variables: Mapping[str, Any], fixed: Mapping[str, str]) -> str:
    """What stands at a place, found as policy/template.py finds it."""
    name = place[0]
    value: Any
    if name in fixed:
        value = fixed[name]
    elif name == "recipient":
        value = given = variables.get("recipient", "")
        if type(given) is not str:
            raise _Unusual
        if place[1:] == ("name",):
            value = variables.get("name", "")
        elif place[1:] == ("address",):
            value = fixed["rcpt"]
    elif name in variables and name != "attr":
        value = variables[name]
    else:
        attrs = variables.get("attr")
        if not isinstance(attrs, Mapping) or place[-1] not in attrs or place == ("name",):
            raise _Unusual
        value = attrs[place[-1]]
    if type(value) is str:
        return value
    if value is None:
        return ""
    if type(value) not in (int, float):
        raise _Unusual
    return str(value)


def _filled(recipe: Recipe, values: Values, fixed: Mapping[str, str], key: str) -> bytes:
    hidden = {place: headers.hide(values[place]) for place in recipe.in_head}
    wire: list[bytes] = []
    for item in recipe.head:
        if isinstance(item, bytes):
            wire.append(item)
            continue
        text = "".join([piece if isinstance(piece, str) else hidden[piece] for piece in item])
        wire += [headers.field(name, value, recipe.charset) for name, value in fields_of(text)]
    for name in recipe.missing:
        value = {"From": fixed["sender"], "To": fixed["rcpt"], "Subject": headers.hide(fixed["title"])}[name]
        wire.append(headers.field(name, value, recipe.charset))
    wire.append(f"Date: {fixed['date']}\r\nMessage-ID: {fixed['message_id']}\r\nMIME-Version: 1.0\r\n".encode("ascii"))
    wire += _written(recipe.block, values, key)
    return b"".join(wire)


def _written(block: Block, values: Values, key: str, path: str = "") -> list[bytes]:
    """The part's own MIME fields, the empty line, its body."""
    if block.parts:
        inner = [_written(child, values, key, f"{path}.{number}") for number, child in enumerate(block.parts)]
        mark = _boundary(key, path, inner)
        lines = [block.start, mark, block.end]
        for child in inner:
            lines += [b"--", mark, b"\r\n", *child, b"\r\n" if not child[-1].endswith(b"\r\n") else b""]
        return [*lines, b"--", mark, b"--\r\n"]
    if block.body is None:
        return [block.start, block.data]
    encoding, data = _encoded(block.body, values)
    return [block.start, block.body.typed[encoding], data]


def _boundary(key: str, path: str, inner: Sequence[Sequence[bytes]]) -> bytes:
    """A boundary from the delivery's key that occurs in no part."""
    number = 0
    while True:
        mark = f"=_{hashlib.sha256(f'{key}{path}/{number}'.encode()).hexdigest()[:40]}".encode("ascii")
        if not any(mark in data for child in inner for data in child):
            return mark
        number += 1


def _encoded(body: Body, values: Values) -> tuple[str, bytes]:
    """Transfer encoding and bytes of a body. UnicodeError: the charset does not hold a variable."""
    pieces: list[Piece] = []
    for item in body.items:
        if isinstance(item, Piece):
            pieces.append(item)
        else:
            text = str(body.text.finalize(values[item]))
            pieces.append(encoded_piece(str(escape(text)) if body.html else text, body.charset))
    data = b"".join([piece.data for piece in pieces])
    if data and not data.endswith(b"\r\n"):
        data += b"\r\n"
    ascii_only = all(piece.is_ascii for piece in pieces)
    if (ascii_only or body.encoding == "8bit") and body.encoding in ("", "7bit", "8bit") and _lines_fit(pieces):
        return "7bit" if ascii_only else "8bit", data
    if body.encoding == "quoted-printable":
        lines = binascii.b2a_qp(data.replace(b"\r\n", b"\n"), istext=True, quotetabs=False)
        return "quoted-printable", lines.replace(b"\n", b"\r\n")
    return "base64", _base64(data)


def _lines_fit(pieces: Sequence[Piece]) -> bool:
    """Whether no line of all of them together, and a CRLF at their end, is over 998 octets."""
    line = 0
    for piece in pieces:
        line += piece.first
        if piece.lines:
            if line > _LINE_MAX + 1 or piece.longest > _LINE_MAX + 1:
                return False
            line = piece.last
    return line <= _LINE_MAX


def _base64(data: bytes) -> bytes:
    whole = binascii.b2a_base64(data, newline=False)
    lines = [whole[at : at + _LINE_B64] for at in range(0, len(whole), _LINE_B64)]
    return b"\r\n".join([*lines, b""])
