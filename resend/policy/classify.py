"""The cause of a failed delivery, found by rules of data (rules.toml, services.toml) in the text and codes of a reply.

Evidence is weighed in this order: a provider's bracket code, its own wording, its own code ranges, the category of a
mail service, general wording, the enhanced code, a service's "permanent" or "transient", the reply code, the stage.
Within one kind the rule that stands first wins. Decides nothing about a mail.
Pure but for reading the rules. `classify` raises nothing for any text; `load` raises ValueError for broken rules.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

from resend.model import Cause, CauseClass, Scope
from resend.policy.replies import (
    codes,
    flat,
    normalise,
    plain_enhanced,
    reply_in,
    retry_after,
    stage_of,
    without_original,
)
from resend.policy.rules import FINAL_CLAIMS, SECTIONS, Rule, lint_rule, needles, read_rule
from resend.policy.vocabulary import Vocabulary

__all__ = ["Rules", "normalise"]

_CACHE_MAX = 16_384  # wordings; more of them are slower to reach than to judge again
_KEY_LENGTH = 4  # letters of a lone word that it is looked up by: rules match from the start of a word on
_SECOND_LENGTH = 2  # letters of the second word
_NO_RULE = "none"
_WORDLESS = frozenset({"enhanced", "reply", "stage"})  # sections of rules that look at no words
_BOUNCE_FROM = 200  # characters: replies are shorter than the letter around one
_OTHER_SUBJECTS = (".1.7", ".1.8", ".5.4", ".5.5", ".6.")  # of enhanced codes: the sender, the protocol, the content
_Known = tuple[str, int, str, str, str]  # wording or words, code, enhanced, provider, stage
_Answer = tuple[Cause, bool]  # whether the text of each reply says how long to wait
_DEFERRED = "Deferred: "  # Sendmail's own word before any reply
_ABOUT_LOGIN = frozenset({530, 534, 535, 538})  # our own account, RFC 4954
_ABOUT_SENDER = frozenset({"connect", "ehlo", "mail"})
_BEFORE_RECIPIENT = frozenset({"ehlo", "mail"})  # a greeting may say that the host takes no mail at all, RFC 7504
_BEFORE_CONTENT = frozenset({"connect", "ehlo"})  # nothing of the mail was seen: MAIL may already name its size
_WAITING = frozenset(
    {CauseClass.THROTTLED, CauseClass.GREYLISTED, CauseClass.MAILBOX_TEMPORARY, CauseClass.TRANSIENT_INFRA}
)


class Rules:
    """All rules of one table, indexed. Answers are cached by wording. Not for use by several threads at once."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._aliases: dict[str, str] = dict(document.get("alias", {}))
        self.all: list[Rule] = []
        for section in SECTIONS:
            self.all += [read_rule(row, section) for row in document.get(section, ())]
        self._by_word: dict[str, list[tuple[int, str, Rule]]] = {}
        self._doubt = needles(document["doubt"]["contains"])
        self._doubt_of_mailbox = needles(document["doubt"]["mailbox"])
        self._phrases = [f" {phrase.strip()} " for phrase in needles(document["bounce"]["phrases"])]
        self._anywhere: list[tuple[int, str, Rule]] = []  # wordings of languages that put no space between words
        self._by_code: list[tuple[int, Rule]] = []
        for rank, rule in enumerate(self.all):
            if not rule.contains:
                self._by_code.append((rank, rule))
            for needle in rule.contains:
                entry = (rank, needle, rule)
                if needle.startswith(" "):
                    self._by_word.setdefault(_key(*needle.split()[:2]), []).append(entry)
                else:
                    self._anywhere.append(entry)
        self._about_codes: dict[tuple[int, str, str], list[tuple[int, Rule]]] = {}  # as many as there are codes
        self._vocabulary = Vocabulary(self.all, (*self._doubt, *self._doubt_of_mailbox, *self._phrases))
        self._cache: dict[_Known, _Answer] = {}  # by wording
        self._causes: dict[tuple[str, str, str], Cause] = {}  # as many as rules and stages
        self._by_words: dict[_Known, Rule | None] = {}  # by the words of a wording that any rule knows

    @classmethod
    def load(cls) -> Rules:
        """The rules that ship with the package; read once."""
        return _shipped()

    def fresh(self) -> Rules:
        """The same rules without what they remember of replies."""
        return Rules(self._document)

    @staticmethod
    def codes(text: str) -> tuple[int, str]:
        """Reply code (0 none) and enhanced code ("" none) that a text begins with or wraps."""
        return codes(text)

    def classify(self, text: str, *, code: int = 0, enhanced: str = "", provider: str = "", stage: str = "") -> Cause:
        """The cause of a reply or of a Postfix reason.

        `code`, `enhanced` and `stage` are what is known beside the text (0 and "" nothing); `provider` is a name of the
        provider table, "" where it is not known: then rules of single providers count where their text is unmistakable.
        """
        key = (normalise(text), code, enhanced, provider, stage)
        found = self._cache.get(key)
        if found is None:
            if len(self._cache) >= _CACHE_MAX:
                self._cache.clear()
            found = self._cache[key] = self._judge(*key, text)
        cause, waits = found
        if not waits:
            return cause
        said = retry_after(text)  # differs within one wording
        return cause if said is None else replace(cause, retry_after=said)

    def lint(self) -> list[str]:
        """What is wrong with the rules: one line each; nothing wrong, no line."""
        problems: list[str] = []
        seen: set[str] = set()
        for rule in self.all:
            problems += lint_rule(rule)
            if rule.id in seen:
                problems.append(f"{rule.id}: the id stands twice")
            seen.add(rule.id)
            for sample in rule.samples:
                provider = rule.providers[0] if rule.providers else ""
                stage = rule.stage if not stage_of(sample) else ""
                winner = self.classify(sample, provider=provider, stage=stage).rule
                if winner != rule.id:
                    problems.append(f"{rule.id}: its sample is judged by {winner}: {sample}")
        return problems

    def _judge(self, wording: str, code: int, enhanced: str, provider: str, stage: str, text: str) -> _Answer:
        start, said_code, said_enhanced = reply_in(wording)
        code, enhanced = code or said_code, plain_enhanced(enhanced)
        if not enhanced or enhanced[1:] == ".0.0" or enhanced[1:] == ".4.7":  # 4.4.7 says only that it expired
            enhanced = said_enhanced or enhanced
        stage = stage or stage_of(text)
        provider = provider.lower()
        known = (code, enhanced, self._aliases.get(provider, provider), stage)
        rule = self._rule_of(self._words(wording[start:], said_code), *known)
        if start and (rule is None or rule.section in _WORDLESS):
            around = self._rule_of(self._words(wording.removeprefix(_DEFERRED), said_code), *known)
            if around is not None and around.section not in _WORDLESS and around.cls not in FINAL_CLAIMS:
                rule = around  # the reply says nothing that is known, what stands before it does
        severity = _severity(code, enhanced)
        kind = (rule.id if rule else _NO_RULE, severity, stage)
        cause = self._causes.get(kind)
        if cause is None:
            cause = self._causes[kind] = _cause(rule, severity, stage)
        return cause, cause.cls in _WAITING and retry_after(text) is not None

    def _words(self, wording: str, code: int) -> str:
        """What rules look into, of a reply or of the text of a bounce."""
        if code and f" {code}-" in f" {wording}":  # several lines: the code stands before each
            wording = flat(wording)
        words = self._vocabulary.reduced(without_original(wording))
        if len(wording) < _BOUNCE_FROM and wording.isascii():  # letters of Japan are short
            return words
        for phrase in self._phrases:
            words = words.replace(phrase, " _ ")
        return words

    def _rule_of(self, words: str, code: int, enhanced: str, provider: str, stage: str) -> Rule | None:
        known = (words, code, enhanced, provider, stage)
        if known in self._by_words:
            return self._by_words[known]
        if len(self._by_words) >= _CACHE_MAX:
            self._by_words.clear()
        rule = self._by_words[known] = self._first(self._asked(*known))
        return rule

    def _asked(self, words: str, code: int, enhanced: str, provider: str, stage: str) -> _Question:
        return _Question(
            words=words,
            code=code,
            enhanced=enhanced,
            severity=_severity(code, enhanced),
            provider=provider,
            stage=stage,
            doubts=(self._doubt, self._doubt_of_mailbox),
        )

    def _first(self, asked: _Question) -> Rule | None:
        best, found = len(self.all), None
        words = asked.words.split()
        keys = {word[:_KEY_LENGTH] for word in words}
        keys.update([f"{first} {second[:_SECOND_LENGTH]}" for first, second in pairwise(words)])
        anywhere = () if asked.words.isascii() else self._anywhere
        for entries in (*[self._by_word[key] for key in keys & self._by_word.keys()], anywhere):
            for rank, needle, rule in entries:
                if rank < best and needle in asked.words and asked.fits(rule):
                    best, found = rank, rule
        codes_said = (asked.code, asked.enhanced, asked.severity)
        about_codes = self._about_codes.get(codes_said)
        if about_codes is None:
            fitting = [(r, rule) for r, rule in self._by_code if any(spec.fits(*codes_said) for spec in rule.codes)]
            about_codes = self._about_codes[codes_said] = [*fitting, *((r, s) for r, s in self._by_code if not s.codes)]
        for rank, rule in about_codes:
            if rank >= best:
                break
            if asked.fits(rule):
                return rule
        return found


class _Question:
    """One reply, taken apart. What speaks against a final claim is looked for when a rule makes one: few replies do."""

    __slots__ = ("_doubtful", "_no_mailbox", "code", "doubts", "enhanced", "provider", "severity", "stage", "words")

    def __init__(
        self,
        *,
        words: str,
        code: int,
        enhanced: str,
        severity: str,
        provider: str,
        stage: str,
        doubts: tuple[tuple[str, ...], tuple[str, ...]],
    ) -> None:
        self.words = words
        self.code = code
        self.enhanced = enhanced
        self.severity = severity
        self.provider = provider
        self.stage = stage
        self.doubts = doubts
        self._doubtful: bool | None = None
        self._no_mailbox: bool | None = None

    def doubtful(self) -> bool:
        """No domain is gone for good: at MAIL and HELO the recipient's has not been named."""
        if self._doubtful is None:
            self._doubtful = (
                self.enhanced[1:].startswith(_OTHER_SUBJECTS)
                or self.stage in _BEFORE_RECIPIENT
                or any(needle in self.words for needle in self.doubts[0])
            )
        return self._doubtful

    def no_mailbox(self) -> bool:
        """Nor a mailbox."""
        if self._no_mailbox is None:
            self._no_mailbox = (
                self.doubtful()
                or self.stage in _ABOUT_SENDER  # before RCPT nobody knows the recipient
                or self.code in _ABOUT_LOGIN
                or (self.code >= 500 and self.enhanced[:1] == "4")
                or any(needle in self.words for needle in self.doubts[1])
            )
        return self._no_mailbox

    def fits(self, rule: Rule) -> bool:
        """Whether everything but the wording fits a rule."""
        if rule.providers and self.provider not in rule.providers:
            return False
        if rule.stage and self.stage != rule.stage:
            return False
        if rule.cls is CauseClass.CONTENT_REJECTED and self.stage in _BEFORE_CONTENT and rule.section == "text":
            return False
        if rule.codes and not any(spec.fits(self.code, self.enhanced, self.severity) for spec in rule.codes):
            return False
        if rule.also and not any(needle in self.words for needle in rule.also):
            return False
        if any(needle in self.words for needle in rule.unless):
            return False
        if rule.pattern is not None and rule.pattern.search(self.words) is None:
            return False
        if rule.cls not in FINAL_CLAIMS or rule.section == "bracket":
            return True
        return not (self.no_mailbox() if rule.cls is CauseClass.MAILBOX_GONE else self.doubtful())


def _key(first: str, second: str = "") -> str:
    """Where a wording is looked up: by its first word and the start of the second, else by the start of its word."""
    return f"{first} {second[:_SECOND_LENGTH]}" if len(second) >= _SECOND_LENGTH else first[:_KEY_LENGTH]


def _cause(rule: Rule | None, severity: str, stage: str) -> Cause:
    if rule is None:
        return Cause(cls=CauseClass.UNKNOWN, rule=_NO_RULE, scope=Scope.RECIPIENT, stage=stage)
    cls = rule.cls_temporary if severity == "4" else rule.cls
    return Cause(
        cls=cls,
        rule=rule.id,
        scope=rule.scope_of(cls),
        retry_after=rule.retry_after if cls in _WAITING else None,
        maybe_delivered=rule.maybe_delivered,
        stage=stage,
    )


def _severity(code: int, enhanced: str) -> str:
    """'4' or '5' of the reply that counts; '' where none is known."""
    first = str(code)[0] if code else enhanced[:1]
    return first if first in ("4", "5") else ""


@cache
def _shipped() -> Rules:
    return Rules(_joined(_document("rules.toml"), _document("services.toml")))


def _document(name: str) -> dict[str, Any]:
    return tomllib.loads(files("resend.policy").joinpath(name).read_text(encoding="utf-8"))


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two files of rules as one: rows of a section stand one after the other."""
    return first | {section: [*first.get(section, ()), *rows] for section, rows in second.items()}
