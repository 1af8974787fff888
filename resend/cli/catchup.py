"""`resend catch-up`: sends what has become due and what the policy takes. Safe from a timer.

The flows raise what goes wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import duration, existing, ledger_of, screen_of, zone
from resend.cli.progress import Progress
from resend.cli.screen import Screen
from resend.cli.sending import Shown, ended

if TYPE_CHECKING:
    from resend.flows.standing import Taken

app = typer_app()


@app.callback()
def _catchup() -> None:
    """Catching up."""


@app.command("catch-up")
def catch_up(
    ctx: typer.Context,
    max_duration: Annotated[str, typer.Option("--max-duration", metavar="30m", help="stop after so long")] = "",
) -> Done:
    """Send the rows of started plans that have become due, and what [catchup] takes by itself. Safe from a timer.

    Exits with 5 where a run is going on; with 3 where something is left: due later, failed, in doubt, waiting at a
    relay or returned by it; with 2 where a person must decide before the policy takes mail.
    """
    from resend.flows.catchup import catch_up as send

    screen = screen_of(ctx)
    longest = duration(max_duration, "--max-duration") if max_duration else None
    config, home = existing(screen)
    where = zone(config)
    with ledger_of(config, home, create=bool(config.catchup.providers)) as ledger:
        with Progress(screen, "catch-up", "mails") as progress:
            done = send(home, config, ledger, max_duration=longest, progress=Shown(progress, 0, lambda: None))
        for item in done.taken:
            _took(screen, item)
        return ended(screen, ledger, done.summary, where, plan="", again="resend catch-up", remains=done.remains)


def _took(screen: Screen, item: Taken) -> None:
    plan = "" if item.plan is None else item.plan.id
    mails = 0 if item.plan is None else item.plan.total
    screen.row("standing", provider=item.provider, plan=plan, mails=mails, passed_over=item.passed_over)
    if item.plan is None:
        screen.line(f"standing policy: {item.provider}: {item.passed_over}")
    else:
        screen.line(
            f"standing policy: {item.provider or 'begun before'}: {render.count(mails)} mails, plan {plan[:12]}"
        )
