"""`resend explain`: what an SMTP reply means, which rule says so, and what resend would do.

Reads stdin with `-`; looks at no store. Raises UsageError where there is nothing to explain.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import loaded, screen_of
from resend.errors import UsageError

app = typer_app()


@app.callback()
def _explain() -> None:
    """Causes."""


@app.command()
def explain(
    ctx: typer.Context,
    reply: Annotated[str, typer.Argument(metavar="REPLY|-", help="a reply like '451 4.7.500 Server busy'")],
    provider: Annotated[str, typer.Option("--provider", help="whose reply it is, for example office365")] = "",
) -> Done:
    """Tell the cause of a reply: class, rule, scope, action, when to try again, advice.

    With - it reads one reply a line from stdin.
    """
    from resend.policy.classify import Rules
    from resend.policy.verdict import decide

    screen = screen_of(ctx)
    loaded(screen)  # a wrong configuration is said here too
    rules = Rules.load()
    explained = 0
    for text in _replies(reply):
        code, _ = rules.codes(text)
        cause = rules.classify(text, provider=provider)
        verdict = decide(cause, code=code)
        advice = rules.advice(cause.cls, "en")
        screen.row(
            "explain",
            input=text,
            **{"class": cause.cls},
            rule=cause.rule,
            scope=cause.scope,
            action=verdict.action,
            retry_after=cause.retry_after,
            advice=advice,
        )
        if explained:
            screen.line()
        screen.line(text)
        screen.line(f"  cause   {cause.cls} (rule {cause.rule}), about the {cause.scope}")
        screen.line(f"  action  {verdict.action}: {verdict.reason}")
        if cause.retry_after is not None:
            screen.line(f"  again   in {render.span(cause.retry_after)}")
        screen.line(f"  advice  {advice}")
        explained += 1
    return Done(summary={"explained": explained})


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
