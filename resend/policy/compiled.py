"""Takes a release's template apart: header fields, bodies and parts, each as a compiled Jinja2 text.

What a template looks like stands in policy/template.py. Pure. Raises ContentError for a template that is none, and for
variables that must not stand where the template puts them.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from functools import cached_property, lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, Undefined, nodes
from jinja2.sandbox import SandboxedEnvironment

from resend.policy import headers
from resend.policy.message import ContentError

_DEPTH_MAX = 5
_BODY_BAD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_PLAIN = "text/plain; charset=UTF-8"
_OF_RECIPIENT = ("id", "name", "address")
_CALL = "()"  # behind the name of a method that a template calls
_PLACE = "\ufffc"  # stands for a variable where only constant text is looked at
_CODECS = {"iso-2022-jp": "iso2022_jp", "iso2022-jp": "iso2022_jp"}


def _checked(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, Undefined):
        return str(value)  # StrictUndefined says here that it does not exist
    # Not even as Python writes it: of most objects that is a place in memory, another one at the next try.
    raise ContentError(f"a variable that is no text: {getattr(value, '__name__', type(value).__name__)}")


def _in_header(value: object) -> str:
    return headers.hide(_checked(value))


def _in_body(value: object) -> Any:
    text = _checked(value)
    bad = _BODY_BAD.search(text)
    if bad:
        raise ContentError(f"a control character in a text: U+{ord(bad.group()):04X} in {text[:60]!r}")
    return value if hasattr(value, "__html__") else text


class _Environment(SandboxedEnvironment):
    """What stands behind a dot is data: a method is found where it is called, and nowhere else.

    Else `attr.items` and `recipient.title` are methods of Python's, whatever the catalog has under that name.
    """

    def getattr(self, obj: Any, attribute: str) -> Any:
        if attribute.endswith(_CALL):
            return super().getattr(obj, attribute.removesuffix(_CALL))
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return self._data(super().getattr(obj, attribute), obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return self._data(super().getitem(obj, argument), obj, argument)

    def _data(self, found: Any, obj: Any, name: Any) -> Any:
        if callable(found) and not isinstance(found, Undefined):
            return self.undefined(f"{name!r} is undefined", obj=obj, name=name)
        return found


def _environment(finalize: Callable[[Any], Any], *, html: bool = False) -> SandboxedEnvironment:
    made = _Environment(
        undefined=StrictUndefined,
        autoescape=html,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    del made.globals["lipsum"], made.filters["random"]  # a later try must have the same bytes
    return made


_HEADER = _environment(_in_header)
_TEXT = _environment(_in_body)
_HTML = _environment(_in_body, html=True)
GLOBALS: Mapping[str, Any] = dict(_TEXT.globals)  # what every template can call; the same in all three


Place = tuple[str, ...]  # of a variable: ("name",), ("attr", "outlet") or ("recipient", "name")


@dataclass(frozen=True, eq=False)
class Compiled:
    """One Jinja2 text, made into a program when it is first asked for: one of plain places does without.

    `names`: of a text that only puts variables in places, which ones; None of any other. `places`: constant text and
    places in their order, attributes too; None where there is more in it.
    """

    source: str
    environment: SandboxedEnvironment
    tree: nodes.Template
    names: frozenset[str] | None
    places: tuple[str | Place, ...] | None
    finalize: Callable[[Any], Any]  # what a value becomes where it is put

    @cached_property
    def full(self) -> Template:
        return _loaded(self.tree, self.environment)

    @cached_property
    def check(self) -> Template:
        """The same without its constant text, enough to see whether variables fit, where names are not."""
        if self.names is not None:
            return self.full
        bare = _parsed(self.source, self.environment)
        for node in bare.find_all(nodes.TemplateData):
            node.data = ""
        return _loaded(bare, self.environment)


@dataclass(frozen=True, slots=True)
class Part:
    """A body, or parts within one boundary. `fields`: the part's own, without Content-Type and -Encoding."""

    fields: tuple[tuple[str, str], ...]
    kind: str  # main/sub
    params: tuple[tuple[str, str], ...]  # of Content-Type, without charset and boundary
    charset: str
    encoding: str
    body: Compiled | None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Mail:
    """`settled`: which fields the head has is the same for all, and was looked at."""

    head: Compiled
    part: Part
    settled: bool


def codec_of(charset: str) -> str:
    """Python's name of a charset of mails."""
    return _CODECS.get(charset, charset)


@lru_cache(maxsize=256)
def compile_mail(source: str) -> Mail:
    """A template taken apart; remembered. Raises ContentError."""
    head, body = _halves(source.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff"))
    static = {name.lower(): value for name, value in fields_of(_without_blocks(head))}
    compiled, part = _compiled(head, _HEADER), _part(static, (), body, 0)
    names = _field_names(compiled.tree)
    if names is not None:
        headers.refuse_misplaced(names)
    return Mail(compiled, part, names is not None)


def _field_names(head: nodes.Template) -> list[str] | None:
    """Names of the header fields in lower case, None where they depend on variables: no variable has a line break."""
    text = ""
    for statement in head.body:
        if not isinstance(statement, nodes.Output):
            return None
        text += "".join([node.data if isinstance(node, nodes.TemplateData) else _PLACE for node in statement.nodes])
    lines = [line for line in text.split("\n") if line.strip() and line[0] not in " \t"]
    names = [line.partition(":")[0].strip().lower() for line in lines]
    return None if any(_PLACE in name for name in names) else names


def _halves(text: str) -> tuple[str, str]:
    head, found, body = text.partition("\n\n")
    if not found:
        raise ContentError("no empty line between the header fields and the text")
    return head + "\n", body


def _without_blocks(head: str) -> str:
    """Header fields with lines of pure Jinja2 left out, to find the static ones."""
    return re.sub(r"(?m)^[ \t]*\{[%#].*[%#]\}[ \t]*$", "", head)


def _part(static: Mapping[str, str], fields: tuple[tuple[str, str], ...], body: str, depth: int) -> Part:
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
        return Part(fields, kind, params, charset, "", None, parts)
    try:
        codecs.lookup(codec_of(charset))
    except LookupError:
        raise ContentError(f"an unknown charset: {charset}") from None
    if parsed.get_content_maintype() != "text" and encoding not in ("base64", "7bit", ""):
        raise ContentError(f"{kind} needs base64 text in the template, not {encoding}")
    return Part(fields, kind, params, charset, encoding, _compiled(body, _HTML if kind == "text/html" else _TEXT))


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


def _inner(text: str, depth: int) -> Part:
    head, body = _halves(text if not text.startswith("\n") else "Content-Type: text/plain; charset=UTF-8\n" + text)
    fields = list(fields_of(head))
    if any("{{" in value or "{%" in value for _, value in fields):
        raise ContentError("the fields of a part must not hold variables")
    kept = tuple((n, v) for n, v in fields if n.lower() not in ("content-type", "content-transfer-encoding"))
    return _part({name.lower(): value for name, value in fields}, kept, body, depth + 1)


def _compiled(source: str, environment: SandboxedEnvironment) -> Compiled:
    try:
        tree = _parsed(source, environment)
        made = Compiled(source, environment, tree, _names(tree), _places(tree), environment.finalize or str)
        if made.places is None:
            _ = made.full, made.check  # what is wrong with it is said now
        return made
    except TemplateSyntaxError as error:
        raise ContentError(f"line {error.lineno} of its part: {error.message}") from None


def _parsed(source: str, environment: SandboxedEnvironment) -> nodes.Template:
    """A template's tree, in which methods that are called have a mark behind their names."""
    tree = environment.parse(source)
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Getattr):
            call.node.attr += _CALL
    return tree


def _names(tree: nodes.Template) -> frozenset[str] | None:
    found = set()
    for statement in tree.body:
        if not isinstance(statement, nodes.Output):
            return None
        for node in statement.nodes:
            if isinstance(node, nodes.Name):
                found.add(node.name)
            elif not isinstance(node, nodes.TemplateData):
                return None
    return frozenset(found)


def _places(tree: nodes.Template) -> tuple[str | Place, ...] | None:
    found: list[str | Place] = []
    for statement in tree.body:
        if not isinstance(statement, nodes.Output):
            return None
        for node in statement.nodes:
            place = node.data if isinstance(node, nodes.TemplateData) else _place(node)
            if place is None:
                return None
            found.append(place)
    return tuple(found)


def _place(node: nodes.Expr) -> Place | None:
    if isinstance(node, nodes.Name) and node.name != "attr":
        return (node.name,)
    if not isinstance(node, nodes.Getattr) or not isinstance(node.node, nodes.Name):
        return None
    owner, name = node.node.name, node.attr
    known = (owner == "attr" and not name.startswith("_")) or (owner == "recipient" and name in _OF_RECIPIENT)
    return (owner, name) if known else None


def _loaded(tree: nodes.Template, environment: SandboxedEnvironment) -> Template:
    return Template.from_code(environment, environment.compile(tree), environment.make_globals(None))


def fields_of(text: str) -> Iterator[tuple[str, str]]:
    """Name and unfolded value of each header field; lines without text are left out."""
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
