"""The variables of many mails as canonical JSON, put together from texts instead of encoded anew for each mail.

The same text as `policy.content.canonical` gives for the whole object, which hundreds of thousands of times takes five
times as long. A recipient's attributes stand under `attr` and under their own names, where nothing of ours has that
name. Beside the text: which names can be put into a mail unseen. Pure. Raises ValueError for attributes that are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from operator import itemgetter
from typing import Any, NamedTuple

from resend.policy.content import canonical
from resend.policy.dressing import FROZEN

GIVEN = ("customer", "customer_name", "locale", "name", "rcpt", "recipient", "release", "title")
_DELAYED, _ATTR = "delayed", "attr"
_REMEMBERED = 16_384  # attributes of recipients, whose mails do not come one after the other
_NONE: frozenset[str] = frozenset()
# What a mail's text or header refuses, and the backslash by which JSON writes the rest of it.
_RISKY = re.compile("[\\\\\x7f-\x9f\u2028\u2029\ufdd0-\ufdef\ud800-\udfff]")


class _Shape(NamedTuple):
    """How the texts of one set of attributes come together."""

    form: str  # with a %s for each name in order
    pick: Callable[[Sequence[str]], tuple[str, ...]]  # what stands there, out of GIVEN, delayed, frozen, and `own`
    own: tuple[str, ...]
    plain: frozenset[str]


class Texts:
    """Makes the variables of one plan's mails. `sorry`: the config has a line for late mail; no attribute hides it."""

    def __init__(self, *, sorry: bool) -> None:
        self._sorry = sorry
        self._shape = lru_cache(maxsize=_REMEMBERED)(self._shaped)
        self._layout = lru_cache(maxsize=_REMEMBERED)(self._laid_out)

    def of(
        self,
        values: Sequence[Sequence[str]],
        *,
        attrs: Sequence[str],
        delayed: Sequence[str],
        frozen: Sequence[Mapping[str, str]],
    ) -> tuple[list[str], list[frozenset[str]]]:
        """Canonical JSON, and the names of what is text without anything that a mail might refuse, for many mails.

        Given as columns: those of GIVEN in its order, then for each mail a JSON object or "", the line of a late mail,
        and what is frozen beside the variables.

        >>> given = [["c1"], [""], ["ja"], ["山田"], ["a@example.jp"], ["7"], ["r1"], ["News"]]
        >>> (made,), _ = Texts(sorry=False).of(given, attrs=['{"outlet":"A"}'], delayed=[""], frozen=[{}])
        >>> made[:61]
        '{"attr":{"outlet":"A"},"customer":"c1","customer_name":"","de'
        """
        encoded = [list(map(quoted, column)) for column in (*values, delayed)]
        made: list[str] = []
        plain: list[frozenset[str]] = []
        for own, beside, *ours in zip(attrs, frozen, *encoded, strict=True):
            shape = self._shape(own, bool(beside))
            text = shape.form % shape.pick((*ours, canonical(beside) if beside else "", *shape.own))
            sound = "\\" not in text and text.isprintable()  # quick, and true of most
            made.append(text)
            plain.append(shape.plain if sound or not _RISKY.search(text) else _NONE)
        return made, plain

    def _shaped(self, attrs: str, frozen: bool) -> _Shape:
        found: dict[str, Any] = json.loads(attrs) if attrs else {}
        names = tuple(sorted(found))
        form, pick, free = self._layout(names, frozen)
        own = tuple(_value(found[name]) for name in free)
        text = all(isinstance(value, str) for value in found.values())
        ways = [f"{_ATTR}.{name}" for name in names]
        plain = frozenset({*GIVEN, _DELAYED, *names, *ways} - {_ATTR, FROZEN}) if text else _NONE
        return _Shape(form, pick, (canonical(found), *own), plain)

    def _laid_out(
        self, names: tuple[str, ...], frozen: bool
    ) -> tuple[str, Callable[[Sequence[str]], tuple[str, ...]], tuple[str, ...]]:
        """Form, pick, and the attributes that stand under their own names."""
        hidden = {*GIVEN, _ATTR, FROZEN, *([_DELAYED] if self._sorry else [])}
        free = tuple(name for name in names if name not in hidden)
        places = {name: number for number, name in enumerate((*GIVEN, _DELAYED, FROZEN, _ATTR))}
        if not frozen:
            del places[FROZEN]
        places |= {name: len(GIVEN) + 3 + number for number, name in enumerate(free)}
        written = sorted(places)
        form = ",".join(f"{quoted(name).replace('%', '%%')}:%s" for name in written)
        return "{" + form + "}", itemgetter(*(places[name] for name in written)), free


def _value(value: object) -> str:
    """Canonical JSON of an attribute's value, whatever it is."""
    return quoted(value) if isinstance(value, str) else canonical({"": value})[len('{"":') : -1]
