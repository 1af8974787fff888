"""Renders a release's template to the bytes of one mail: same inputs, same bytes. Reads and sends nothing.

A template is the text of a whole mail for Jinja2: header lines, an empty line, the body. It says its charset in
`Content-Type` (UTF-8 or ISO-2022-JP; UTF-8 where it says none) and may say its `Content-Transfer-Encoding`. Variables:
the recipient's attributes by their names (and as attr.NAME), `name`, `locale`, `rcpt` (the address), `recipient` and
`release` (ids), `title`, `customer`, `customer_name`, `message_id` and `date`. Message-ID and Date are set from what
was frozen, whatever the template says. A multipart body goes out as written. Raises ContentError: a variable that is not
there, a line break in a header, a character that no charset of the template holds is quarantined, never sent mangled.
"""

from __future__ import annotations

import base64
import quopri
import re
from collections.abc import Mapping
from email.header import Header
from email.utils import format_datetime, formataddr, getaddresses
from functools import lru_cache

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from resend.clock import from_text
from resend.policy.message import ContentError

_LINE_MAX = 998  # octets without CRLF, RFC 5321 4.5.3.1.6
_BREAKS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")
_CHARSET = re.compile(r"charset\s*=\s*\"?([A-Za-z0-9_.:-]+)\"?", re.ASCII | re.IGNORECASE)
_ADDRESSED = frozenset({"from", "to", "cc", "reply-to", "sender"})
_OURS = frozenset({"message-id", "date", "mime-version", "content-type", "content-transfer-encoding"})
_CODECS = {"utf-8": "utf-8", "us-ascii": "ascii", "iso-2022-jp": "iso2022_jp"}


def _one_line(value: object) -> object:
    if isinstance(value, str) and _BREAKS.search(value):
        raise ContentError(f"a line break or control character in a header: {value[:40]!r}")
    return value


_HEAD = SandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False, finalize=_one_line)
_BODY = SandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)


@lru_cache(maxsize=512)
def _compiled(source: str) -> tuple[jinja2.Template, jinja2.Template]:
    head, gap, body = source.replace("\r\n", "\n").partition("\n\n")
    if not gap or ":" not in head:
        raise ContentError("a template needs header lines, an empty line and a body")
    try:
        return _HEAD.from_string(head), _BODY.from_string(body)
    except jinja2.TemplateSyntaxError as error:
        raise ContentError(f"the template, line {error.lineno}: {error.message}") from None


def render(source: str, variables: Mapping[str, object], *, message_id: str, date: str) -> bytes:
    """One mail, wire-ready. `message_id` with brackets; `date` is RFC 3339 text, written as RFC 5322 wants it."""
    stamp = format_datetime(from_text(date))
    values = {**variables, "message_id": message_id, "date": stamp}
    head_template, body_template = _compiled(source)
    try:
        head, body = head_template.render(values), body_template.render(values)
    except jinja2.TemplateError as error:
        raise ContentError(f"the template: {error.message or type(error).__name__}") from None
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        if isinstance(error, ContentError):
            raise
        raise ContentError(f"the template: {error}") from None
    fields = _fields(head)
    kind = next((value for name, value in fields if name.lower() == "content-type"), "text/plain; charset=utf-8")
    charset, wire_body, encoding = _body(fields, kind, body)
    lines = [f"Message-ID: {message_id}", f"Date: {stamp}"]
    lines += [_header(name, value, charset) for name, value in fields if name.lower() not in _OURS]
    lines += [
        "MIME-Version: 1.0",
        f"Content-Type: {_with_charset(kind, charset)}",
        f"Content-Transfer-Encoding: {encoding}",
    ]
    try:
        top = "\r\n".join(lines).encode("ascii")
    except UnicodeEncodeError:
        raise ContentError("a header that cannot be written in ASCII") from None
    return top + b"\r\n\r\n" + wire_body


def _fields(head: str) -> list[tuple[str, str]]:
    fields: list[tuple[str, str]] = []
    for line in head.split("\n"):
        if line[:1] in (" ", "\t") and fields:
            name, value = fields[-1]
            fields[-1] = (name, f"{value} {line.strip()}")
            continue
        name, colon, value = line.partition(":")
        if not colon or not name.isascii() or not name or any(c <= " " or c == "\x7f" for c in name):
            raise ContentError(f"not a header line: {line[:40]!r}")
        fields.append((name, value.strip()))
    return fields


def _body(fields: list[tuple[str, str]], kind: str, body: str) -> tuple[str, bytes, str]:
    """Charset that the body really has, its wire bytes, and its Content-Transfer-Encoding."""
    if "\0" in body:
        raise ContentError("NUL in the body")
    text = re.sub(r"\r\n|\r|\n", "\r\n", body if body.endswith("\n") else body + "\n")
    found = _CHARSET.search(kind)
    charset = found.group(1).lower() if found else "utf-8"
    if charset not in _CODECS:
        raise ContentError(f"a charset that is not known here: {charset!r}")
    try:
        data = text.encode(_CODECS[charset])
    except UnicodeEncodeError:
        charset, data = "utf-8", text.encode("utf-8", "strict")  # a mail in UTF-8 beats none, and beats a mangled name
    wanted = next((v.lower() for n, v in fields if n.lower() == "content-transfer-encoding"), "")
    if kind.lower().startswith("multipart/"):
        return charset, data, "8bit" if not data.isascii() else "7bit"
    longest = max(map(len, data.split(b"\r\n")), default=0)
    plain = data.isascii() and longest <= _LINE_MAX
    if wanted == "quoted-printable":
        return charset, quopri.encodestring(data.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n"), wanted
    if wanted in ("", "7bit") and plain:
        return charset, data, "7bit"
    if wanted == "8bit" and longest <= _LINE_MAX:
        return charset, data, wanted
    return charset, base64.encodebytes(data).replace(b"\n", b"\r\n"), "base64"


def _with_charset(kind: str, charset: str) -> str:
    if kind.lower().startswith("multipart/"):
        return kind
    bare = _CHARSET.sub("", kind).strip().rstrip(";").strip()
    return f"{bare}; charset={charset}"


@lru_cache(maxsize=2048)
def _header(name: str, value: str, charset: str) -> str:
    if _BREAKS.search(value):
        raise ContentError(f"a line break or control character in {name}")
    if value.isascii():
        if len(value) > _LINE_MAX - len(name) - 2:
            value = Header(value, "us-ascii", header_name=name).encode(linesep="\r\n")
        return f"{name}: {value}"
    if name.lower() in _ADDRESSED:
        parsed = getaddresses([value])
        if not parsed or any("@" not in address or not address.isascii() for _, address in parsed):
            raise ContentError(f"an address in {name} that cannot be written: {value[:60]!r}")
        return f"{name}: " + ", ".join(
            formataddr((_word(label, charset), address)) if label.isascii() else f"{_word(label, charset)} <{address}>"
            for label, address in parsed
        )
    return f"{name}: {_word(value, charset, name)}"


def _word(text: str, charset: str, name: str = "") -> str:
    if text.isascii():
        return text
    for candidate in (charset, "utf-8"):
        try:
            text.encode(_CODECS[candidate])
        except UnicodeEncodeError:
            continue
        return Header(text, candidate, header_name=name or None).encode(linesep="\r\n")
    raise ContentError("a header that cannot be encoded")
