"""Reactions: what one wording of a provider, or one cause, makes us do beside slowing down. Data, with a check of it.

Built-in rows lie in providers.toml; `[providers.NAME] reactions` adds rows that come before them. Pure but for reading
the cause rules. Raises ValueError for a row that is none, or that would never fire.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from resend.clock import format_duration, parse_duration
from resend.model import Cause, CauseClass, Scope

_PARKING = frozenset({CauseClass.SENDER_BLOCKED, CauseClass.AUTH_FAILED, CauseClass.POLICY_REJECTED})
_WIDE = frozenset({Scope.PROVIDER, Scope.SENDER})
_REFUSAL = re.compile(r"[45][0-9][0-9][ -]")


def about_provider(cause: Cause) -> bool:
    """Whether a refusal is about us at this provider, and so parks it instead of failing the mail."""
    return cause.cls in _PARKING and cause.scope in _WIDE


class Act(StrEnum):
    """What a reaction does."""

    COOLDOWN = "cooldown"  # nothing leaves for so long, then single mails try whether it is over
    CONNECTIONS = "connections"
    MAILS = "mails_per_connection"
    PARK = "park"  # until a person resumes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What one provider's reply makes us do. `on`: a part of the reply (any case), or a cause class."""

    on: str
    sample: str  # a reply that fires it; a test holds that it does
    act: Act
    most: int = 0  # of CONNECTIONS and MAILS
    span: timedelta = timedelta(0)
    times: int = 1  # matching replies within an hour that fire it

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Reaction:
        """
        >>> Reaction.parse({"on": "[TSS04]", "sample": "421 [TSS04]", "do": {"cooldown": "15m"}}).text
        "'[TSS04]': cooldown 15m"
        """
        texts = row.get("on"), row.get("sample")
        if set(row) - {"on", "sample", "do", "times"} or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"a reaction has on, sample, do, and perhaps times: {dict(row)!r}")
        if (
            not isinstance(row.get("do"), Mapping)
            or not isinstance(row.get("times", 1), int)
            or row.get("times", 1) < 1
        ):
            raise ValueError(f"a reaction has do = {{...}}, and times from 1 on: {dict(row)!r}")
        do = dict(row["do"])
        span = parse_duration(str(do.pop("for"))) if "for" in do else timedelta(0)
        name, value = next(iter(do.items())) if len(do) == 1 else ("", "")
        if name not in set(Act):
            raise ValueError(f"a reaction does one of {', '.join(Act)}: {row['do']!r}")
        act, most = Act(name), 0
        match act:
            case Act.COOLDOWN:
                span = parse_duration(str(value))
            case Act.CONNECTIONS | Act.MAILS:
                most = int(value)
            case Act.PARK:
                pass
        if (act in (Act.CONNECTIONS, Act.MAILS) and most < 1) or (act is not Act.PARK and span <= timedelta(0)):
            raise ValueError(f"a reaction needs a span of time, and at least 1: {row['do']!r}")
        return cls(on=row["on"], sample=row["sample"], act=act, most=most, span=span, times=int(row.get("times", 1)))

    def fits(self, cls: CauseClass, reply: str) -> bool:
        return self.on == cls.value or (self.on not in set(CauseClass) and self.on.casefold() in reply.casefold())

    @property
    def text(self) -> str:
        """For people."""
        often = f" {self.times} times in 1h" if self.times > 1 else ""
        match self.act:
            case Act.COOLDOWN:
                does = f"cooldown {format_duration(self.span)}"
            case Act.CONNECTIONS | Act.MAILS:
                does = f"{self.act.value.replace('_', ' ')} {self.most} for {format_duration(self.span)}"
            case Act.PARK:
                does = "park"
        return f"{self.on!r}{often}: {does}"


def lint(provider: str, reactions: Sequence[Reaction], *, own: int) -> None:
    """Raise ValueError where one of the first `own` reactions would never fire: its sample must fire it, and nothing
    before it."""
    if not own:
        return
    from resend.policy.classify import Rules  # only where the config has such rows

    rules = Rules.load()
    for reaction in reactions[:own]:
        if _REFUSAL.match(reaction.sample) is None:
            raise ValueError(f"the sample of a reaction is a reply like '451 4.7.1 ...', not {reaction.sample!r}")
        cause = rules.classify(reaction.sample, provider=provider)
        first = next((item for item in reactions if item.fits(cause.cls, reaction.sample)), None)
        if first is None or not reaction.fits(cause.cls, reaction.sample):
            raise ValueError(f"{reaction.on!r} is not in its sample, nor its cause: {cause.cls} ({cause.rule})")
        if first is not reaction:
            raise ValueError(f"{reaction.on!r} never fires: {first.text} comes first")
        if about_provider(cause):
            raise ValueError(
                f"{reaction.on!r} never fires: such a reply parks the provider, {cause.cls} ({cause.rule})"
            )
