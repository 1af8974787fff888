"""`resend report`: the report for customers, as one HTML file. Cause and apology stay blanks for a person to fill.

Raises what the report raises.
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
) -> Done:
    """Write the report for customers: when, how many, which, what was resent, what is left.

    Its sums equal the preview's. Cause and apology are marked blanks.
    """
    from resend.flows.incident import preview as look
    from resend.report.incident import write
    from resend.report.results import results

    screen = screen_of(ctx)
    config, home = existing(screen)
    now = datetime.now(UTC)
    with ledger_of(config, home) as ledger:
        found = look(home, ledger, incident, config=config, now=now)
        with ledger.snapshot() as conn:
            done = results(conn, found.about.id)
    path = write(found, done, lang=lang, zone=zone(config), now=now, directory=out)
    screen.line(f"wrote {path}")
    screen.line("before it goes out: fill in the cause and the apology, marked in the page")
    return Done(summary={"path": str(path), "affected": found.affected})
