"""`resend worker`: one of several hosts that send what is started, from one ledger in PostgreSQL.

Raises UsageError for a ledger in SQLite; the flow raises the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.control import operator
from resend.cli.opened import existing, ledger_of, screen_of, zone
from resend.cli.progress import Progress
from resend.cli.sending import Shown, ended, show_ages
from resend.errors import UsageError

app = typer_app()


@app.callback()
def _worker() -> None:
    """Sending with several hosts."""


@app.command()
def worker(
    ctx: typer.Context,
    connections: Annotated[
        int | None, typer.Option("--connections", metavar="N", min=1, max=1000, help="at most so many on this host")
    ] = None,
    follow: Annotated[
        Path | None, typer.Option("--follow", metavar="LOG", help="the relay's log, read while it is written")
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="send through a relay whose log is not known")] = False,
) -> Done:
    """Send batches of every started plan until told to stop: 'resend stop', or SIGTERM. Needs PostgreSQL.

    Connections, pace, vetoes and commands are those of the ledger, whichever host sends. This host's home must hold
    the plan's file (derived/plan-*.parquet) and content/, shared or copied from where the plan was made.
    """
    from resend.flows.run import RunOptions
    from resend.flows.worker import worker as send

    screen = screen_of(ctx)
    if follow is not None and not follow.is_file():
        raise UsageError("no such log", where=f"--follow {follow}", next_step="name the relay's log, or say --blind")
    config, home = existing(screen)
    where = zone(config)
    options = RunOptions(confirm=0, connections=connections, follow=follow, blind=blind, who=operator())
    with ledger_of(config, home) as ledger:
        with Progress(screen, "worker", "mails") as progress:
            shown = Shown(progress, 0, lambda: show_ages(screen, home, where))
            summary = send(home, config, ledger, options, progress=shown)
        return ended(screen, ledger, summary, where, plan="", again="resend worker", blind=blind)
