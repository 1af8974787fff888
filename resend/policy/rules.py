"""One rule of rules.toml or services.toml as a value: read, checked, linted. Matches nothing itself.

Pure. Raises ValueError for a row that is no rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resend.model import CauseClass, Scope
from resend.policy.replies import folded

# In the order of evidence. service: a mail service's own category, which stands where no receiver's reply is known;
# service_kind: its word for permanent or not.
SECTIONS = (
    *("bracket", "provider_text", "provider_code", "service"),
    *("text", "enhanced", "service_kind", "reply", "stage"),
)
_WORDED = frozenset({"bracket", "provider_text", "service", "text", "service_kind"})  # these must name a literal
SUPPRESSED = "suppressed-"  # ids of rules: never sent, for an older bounce that may be of the same incident
UNWANTED = "unwanted-"  # ids of rules: never sent, for the recipient unsubscribed or complained
_CONDITIONS = ("provider", "codes", "contains", "also", "unless", "pattern", "stage")
_GIVES = ("class", "class4", "scope", "retry_after", "maybe_delivered")
_KEYS = frozenset(("id", *_CONDITIONS, *_GIVES, "sample", "source"))
_CODE = re.compile(r"[245]|[245]\d\d|[245x]\.\d{1,3}(?:\.\d{1,3})?|[245x]\.\d{1,3}\.\d{1,3}-\d{1,3}")
FINAL_CLAIMS = frozenset({CauseClass.MAILBOX_GONE, CauseClass.BAD_DOMAIN})  # what may become `never`
_SCOPES = {
    CauseClass.THROTTLED: Scope.PROVIDER,
    CauseClass.GREYLISTED: Scope.RECIPIENT,
    CauseClass.SENDER_BLOCKED: Scope.PROVIDER,
    CauseClass.AUTH_FAILED: Scope.PROVIDER,
    CauseClass.MAILBOX_GONE: Scope.RECIPIENT,
    CauseClass.BAD_DOMAIN: Scope.RECIPIENT,
    CauseClass.MAILBOX_TEMPORARY: Scope.RECIPIENT,
    CauseClass.CONTENT_REJECTED: Scope.MESSAGE,
    CauseClass.POLICY_REJECTED: Scope.RECIPIENT,
    CauseClass.TRANSIENT_INFRA: Scope.PROVIDER,
    CauseClass.LOCAL_CONFIG: Scope.RELAY,
    CauseClass.UNKNOWN: Scope.RECIPIENT,
}


@dataclass(frozen=True, slots=True)
class CodeSpec:
    """Which codes a rule is about: `5`, `421`, `5.1` (x.1.any), `4.7.500-699`, `x.7.28` (either class)."""

    reply: int
    severity: str
    prefix: str  # of the enhanced code behind its first digit: ".7."
    low: int
    high: int

    @classmethod
    def read(cls, text: str) -> CodeSpec:
        if not _CODE.fullmatch(text):
            raise ValueError(f"not a code, a class or a range: {text!r}")
        if "." not in text:
            return cls(int(text), "", "", 0, 0) if len(text) == 3 else cls(0, text, "", 0, 0)
        severity, subject, *rest = text.split(".")
        low, _, high = rest[0].partition("-") if rest else ("0", "", "999")
        return cls(0, "" if severity == "x" else severity, f".{subject}.", int(low), int(high or low))

    def fits(self, code: int, enhanced: str, severity: str) -> bool:
        if self.reply:
            return code == self.reply
        if self.severity and self.severity != severity:
            return False
        if not self.prefix:
            return True
        if not enhanced.startswith(self.prefix, 1):
            return False
        return self.low <= int(enhanced[1 + len(self.prefix) :]) <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule: all its conditions must hold. Literals are folded (replies.folded) and match from a word's start on."""

    id: str
    section: str
    cls: CauseClass
    cls_temporary: CauseClass  # where the reply is 4yz
    scope: Scope | None
    providers: tuple[str, ...]  # "": a provider that is not known; none: any
    codes: tuple[CodeSpec, ...]
    contains: tuple[str, ...]  # at least one
    also: tuple[str, ...]  # and at least one of these
    unless: tuple[str, ...]  # and none of these
    pattern: re.Pattern[str] | None
    stage: str
    retry_after: int | None
    maybe_delivered: bool
    samples: tuple[str, ...]
    source: str

    def scope_of(self, cls: CauseClass) -> Scope:
        return self.scope or _SCOPES[cls]


def read_rule(row: Mapping[str, Any], section: str) -> Rule:
    """A row of rules.toml. Raises ValueError naming the rule."""
    name = row.get("id", "?")
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise ValueError(f"{name}: unknown keys {', '.join(unknown)}")
    try:
        cls = CauseClass(row["class"])
        return Rule(
            id=row["id"],
            section=section,
            cls=cls,
            cls_temporary=CauseClass(row.get("class4", cls)),
            scope=Scope(row["scope"]) if "scope" in row else None,
            providers=_several(row.get("provider", ())),
            codes=tuple(CodeSpec.read(text) for text in _several(row.get("codes", ()))),
            contains=needles(row.get("contains", ())),
            also=needles(row.get("also", ())),
            unless=needles(row.get("unless", ())),
            pattern=re.compile(row["pattern"]) if "pattern" in row else None,
            stage=row.get("stage", ""),
            retry_after=row.get("retry_after"),
            maybe_delivered=row.get("maybe_delivered", False),
            samples=_several(row.get("sample", ())),
            source=row.get("source", ""),
        )
    except (KeyError, ValueError, re.error) as error:
        raise ValueError(f"{name}: {error}") from None


def lint_rule(rule: Rule) -> list[str]:
    """What is wrong with a rule by itself."""
    problems = []
    if rule.section in _WORDED and not rule.contains:
        problems.append(f"{rule.id}: a rule of section {rule.section} needs a literal")
    if rule.section not in _WORDED and rule.contains:
        problems.append(f"{rule.id}: a rule with a literal belongs into a section of texts")
    if rule.section == "provider_code" and not rule.providers:
        problems.append(f"{rule.id}: names no provider")
    if not rule.samples:
        problems.append(f"{rule.id}: no sample")
    if not rule.source:
        problems.append(f"{rule.id}: no source")
    if any(not needle.strip() for needle in (*rule.contains, *rule.also, *rule.unless)):
        problems.append(f"{rule.id}: an empty literal")
    if CauseClass.MAILBOX_GONE in (rule.cls_temporary,):
        problems.append(f"{rule.id}: a temporary reply is no proof that a mailbox is gone; give class4")
    if rule.pattern is not None:
        problems += [f"{rule.id}: {problem}" for problem in _not_linear(rule.pattern.pattern)]
    return problems


def _not_linear(pattern: str) -> list[str]:
    """Why a pattern may take more than linear time: a repeat of a repeat, two open repeats, a reference back."""
    found = []
    if re.search(r"\\[1-9]|\(\?P=", pattern):
        found.append("a reference back")
    if re.search(r"[*+}]\??\)[^)]*?[*+{]", pattern) or re.search(r"\)[*+{]", pattern):
        found.append("a repeated group")
    if len(re.findall(r"(?:\.|\\[wWsSdD]|\])[*+]", pattern)) > 1:
        found.append("more than one open repeat")
    return found


def _several(value: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def needles(value: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Literals as they are looked for: folded, from a word's start on; a space at the end asks for the word's end.

    A lone word of up to five letters, and a last word of up to two, stand for themselves.
    """
    return tuple(_needle(text) for text in _several(value))


def _needle(text: str) -> str:
    words = folded(text)
    if any(ord(letter) >= 0x3000 for letter in words):
        return words.strip()
    last = words.split()[-1] if words.split() else ""
    whole = text.endswith(" ") or len(last) < 3 or (" " not in words.strip() and len(words) < 6)
    return words if whole else words.rstrip()
