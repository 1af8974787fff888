"""What a cause means and what to do about it, in words for people (advice.toml). Decides nothing.

Pure but for reading the file. `of` always answers; reading raises ValueError for words that are missing or fit no rule.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from resend.model import Cause, CauseClass

Language = Literal["en", "ja"]
_FIELDS = {"en": ("meaning", "advice"), "ja": ("meaning_ja", "advice_ja")}


@dataclass(frozen=True, slots=True)
class Words:
    """One language's words."""

    meaning: str
    advice: str


@dataclass(frozen=True, slots=True)
class _Special:
    rules: frozenset[str]
    codes: frozenset[str]  # empty: any
    words: Mapping[str, Words]


class Advice:
    """All words of one document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        try:
            self._classes = {cls: _words(document["class"][cls.value]) for cls in CauseClass}
            self._special = [
                _Special(frozenset(row["rules"]), frozenset(row.get("codes", ())), _words(row))
                for row in document.get("special", ())
            ]
        except KeyError as error:
            raise ValueError(f"advice.toml: no {error}") from None

    @classmethod
    def load(cls) -> Advice:
        """The words that ship with the package; read once."""
        return _shipped()

    def of(self, cause: Cause, lang: Language, *, enhanced: str = "") -> Words:
        """Words for a cause; `enhanced`: the reply's code, which some words depend on."""
        for special in self._special:
            if cause.rule in special.rules and (not special.codes or enhanced in special.codes):
                return special.words[lang]
        return self._classes[cause.cls][lang]

    def rules(self) -> frozenset[str]:
        """The rules that words are written for."""
        return frozenset().union(*(special.rules for special in self._special))


def _words(row: Mapping[str, str]) -> dict[str, Words]:
    return {lang: Words(row[meaning], row[advice]) for lang, (meaning, advice) in _FIELDS.items()}


@cache
def _shipped() -> Advice:
    return Advice(tomllib.loads(files("resend.policy").joinpath("advice.toml").read_text(encoding="utf-8")))
