"""`resend report`: the report for customers, or for a receiver's postmaster, as one HTML file.

Cause, apology and request stay blanks for a person to fill. Raises UsageError for a last report while more is to come;
the report raises the rest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.incidents import IncidentId
from resend.cli.opened import existing, ledger_of, screen_of, zone
from resend.errors import UsageError

app = typer_app()


class Language(StrEnum):
    """Languages of the report."""

    JA = "ja"
    EN = "en"


@app.callback()
def _report() -> None:
    """Report."""


@app.command()
def report(
    ctx: typer.Context,
    incident: IncidentId,
    lang: Annotated[Language, typer.Option("--lang", help="ja or en")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="where the file goes")] = Path(),
    for_provider: Annotated[
        str, typer.Option("--for-provider", metavar="P", help="for the postmaster of this receiver instead")
    ] = "",
    final: Annotated[bool, typer.Option("--final", help="the last one; refused while more is to come")] = False,
) -> Done:
    """Write the report for customers: when, how many, which, what was resent, what is left.

    Its sums equal the preview's. Cause and apology are marked blanks. For a receiver's postmaster: its replies and
    hours, and nothing of customers, releases or recipients.
    """
    from resend.flows.incident import for_provider as look_at
    from resend.flows.incident import preview as look
    from resend.report import postmaster
    from resend.report.incident import unfinished, write
    from resend.report.results import results

    screen = screen_of(ctx)
    if final and for_provider:
        raise UsageError("--final is for the customers' report", next_step="leave --final or --for-provider out")
    config, home = existing(screen)
    now, where = datetime.now(UTC), zone(config)
    if for_provider:
        with ledger_of(config, home) as ledger:
            told = look_at(home, ledger, incident, for_provider, now=now)
        path = postmaster.write(told, lang=lang, zone=where, now=now, shown=screen.masked, directory=out)
        screen.line(f"wrote {path}")
        screen.line("before it goes out: fill in what you ask for, marked in the page")
        return Done(summary={"path": str(path), "affected": told.affected, "provider": for_provider})
    with ledger_of(config, home) as ledger:
        found = look(home, ledger, incident, config=config, now=now)
        with ledger.snapshot() as conn:
            done = results(conn, found.about.id)
    if final and (more := unfinished(found, done)):
        raise UsageError(
            f"this is not the last report: {', '.join(more)}",
            where=f"incident {found.about.name}",
            next_step="leave --final out until then",
        )
    path = write(found, done, lang=lang, zone=where, now=now, directory=out, final=final)
    screen.line(f"wrote {path}")
    screen.line("before it goes out: fill in the cause and the apology, marked in the page")
    return Done(summary={"path": str(path), "affected": found.affected})
