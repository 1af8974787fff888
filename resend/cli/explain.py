"""`resend explain`: what an SMTP reply means, which rule says so, and what resend would do.

Reads stdin with `-`; looks at no store. Raises UsageError where there is nothing to explain.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import check_provider, loaded, screen_of
from resend.errors import UsageError

if TYPE_CHECKING:
    from resend.cli.screen import Screen
    from resend.model import Cause, Verdict
    from resend.policy.advice import Words

app = typer_app()


class Language(StrEnum):
    """Languages of the screen."""

    JA = "ja"
    EN = "en"


_LABELS = {
    Language.EN: ("cause", "meaning", "action", "again", "advice"),
    Language.JA: ("原因", "意味", "処置", "再送", "対応"),
}
_SCOPES_JA = {
    "recipient": "宛先単位",
    "message": "メール単位",
    "sender": "送信者単位",
    "provider": "受信システム単位",
    "relay": "送信側",
}
_ACTIONS_JA = {
    "resend": "再送できます",
    "wait": "待ってから再送します",
    "never": "再送しません",
    "ask": "人の判断が必要です",
}
_PARTS = re.compile(r"(?:[!-~]+|[「『(]*.)[」』)、。・;]* *")  # what is not broken: a word of Latin letters, marks
_MAYBE = {
    Language.EN: "the mail may have arrived all the same",
    Language.JA: "メールは届いている可能性があります",
}


@app.callback()
def _explain() -> None:
    """Causes."""


@app.command()
def explain(
    ctx: typer.Context,
    reply: Annotated[str, typer.Argument(metavar="REPLY|-", help="a reply like '451 4.7.500 Server busy'")],
    provider: Annotated[str, typer.Option("--provider", help="whose reply it is, for example office365")] = "",
    lang: Annotated[Language | None, typer.Option("--lang", help="ja or en; else by LC_ALL, LANG")] = None,
) -> Done:
    """Tell the cause of a reply: class, rule, scope, action, when to try again, what it means, advice.

    With - it reads one reply a line from stdin.
    """
    from resend.policy.advice import Advice
    from resend.policy.classify import Rules
    from resend.policy.verdict import decide

    screen = screen_of(ctx)
    check_provider(loaded(screen).config, provider, "--provider")  # a wrong configuration is said here too
    rules, words = Rules.load(), Advice.load()
    shown = lang or _language(os.environ)
    explained = 0
    for text in _replies(reply):
        code, enhanced = rules.codes(text)
        cause = rules.classify(text, provider=provider)
        verdict = decide(cause, code=code)
        english, japanese = (words.of(cause, each, enhanced=enhanced) for each in ("en", "ja"))
        screen.row(
            "explain",
            input=text,
            **{"class": cause.cls},
            rule=cause.rule,
            scope=cause.scope,
            action=verdict.action,
            retry_after=cause.retry_after,
            advice=english.advice,
            meaning=english.meaning,
            advice_ja=japanese.advice,
            meaning_ja=japanese.meaning,
            reason=verdict.reason,
            code=code or None,
            enhanced=enhanced,
            stage=cause.stage,
            maybe_delivered=cause.maybe_delivered,
        )
        if not screen.json:
            if explained:
                screen.line()
            _show(screen, shown, text, cause, verdict, japanese if shown is Language.JA else english)
        explained += 1
    if not explained:
        screen.note("nothing to explain: no line came on standard input")
    return Done(summary={"explained": explained})


def _show(screen: Screen, lang: Language, text: str, cause: Cause, verdict: Verdict, words: Words) -> None:
    """One reply for people: the text as it came, then what it is about."""
    if lang is Language.JA:
        what = f"{cause.cls}({_SCOPES_JA[cause.scope]}、規則 {cause.rule})"
        action = f"{verdict.action}: {_ACTIONS_JA[verdict.action]}"
    else:
        what = f"{cause.cls} (rule {cause.rule}), about the {cause.scope}"
        action = f"{verdict.action}: {verdict.reason}"
    if cause.maybe_delivered:
        action = f"{action}; {_MAYBE[lang]}"
    again = "" if cause.retry_after is None else render.span(cause.retry_after)
    if again:
        again = _later(cause.retry_after or 0) if lang is Language.JA else f"in {again}"
    labels = _LABELS[lang]
    margin = 4 + max(map(render.width, labels))
    for line in render.wrap(text, screen.columns):
        screen.line(line)
    for label, said in zip(labels, (what, words.meaning, action, again, words.advice), strict=True):
        for place, line in enumerate(_lines(said, screen.columns - margin, lang)):
            head = f"  {label}" if place == 0 else ""
            screen.line(f"{head}{' ' * (margin - render.width(head))}{line}")


def _lines(text: str, columns: int, lang: Language) -> list[str]:
    """Text as lines. Japanese breaks between any two letters, but no line begins with a mark that closes."""
    if lang is Language.EN:
        return render.wrap(text, columns)
    lines: list[str] = []
    for part in _PARTS.findall(text):
        if lines and render.width(lines[-1] + part.rstrip()) <= columns:
            lines[-1] += part
        else:
            lines.append(part)
    return [line.rstrip() for line in lines]


def _later(seconds: int) -> str:
    hours, minutes, rest = seconds // 3_600, seconds // 60 % 60, seconds % 60
    return "".join(f"{n}{unit}" for n, unit in ((hours, "時間"), (minutes, "分"), (rest, "秒")) if n) + "後"


def _language(environment: Mapping[str, str]) -> Language:
    """The language of the screen: the first of LC_ALL, LC_MESSAGES and LANG that is set decides, as POSIX has it."""
    named = next((environment[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(name)), "")
    return Language.JA if named.lower().startswith("ja") else Language.EN


def _replies(reply: str) -> Iterator[str]:
    if reply != "-":
        if not reply.strip():
            raise UsageError("the reply is empty", next_step="resend explain '451 4.7.500 Server busy'")
        yield reply.strip()
        return
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    for line in sys.stdin:
        if line.strip():
            yield line.strip()
