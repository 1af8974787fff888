"""`resend suppressions`: addresses that an incident made look dead, beside those that are. Changes nothing.

Raises what the flow raises.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.incidents import IncidentId
from resend.cli.opened import existing, ledger_of, screen_of

app = typer_app()
_SHOWN = 20  # addresses on screen; --csv and --json give all


@app.callback()
def _suppressions() -> None:
    """Suppressions."""


@app.command()
def suppressions(
    ctx: typer.Context,
    incident: IncidentId,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="write all rows as CSV (whole addresses: --unmask)")
    ] = None,
) -> Done:
    """List addresses that the incident made look dead, against those that are: keep or lift, why, evidence.

    For repairing suppression lists: 'lift' rows bounced or expired because of the incident, 'keep' rows are gone or are
    on the list for another reason. Addresses are masked unless --unmask. Changes nothing.
    """
    from resend.flows.suppressions import suppressions as look
    from resend.flows.suppressions import write_csv

    screen = screen_of(ctx)
    config, home = existing(screen)
    with ledger_of(config, home) as ledger:
        record, found = look(home, config, ledger, incident, now=datetime.now(UTC))
    for one in found:
        fields = asdict(one) | {"address": screen.address(one.address), "reply": screen.masked(one.reply)}
        screen.row("suppression", **fields)
    counts = Counter((one.recommendation.value, one.why) for one in found)
    listed = sum(1 for one in found if one.listed and one.recommendation == "lift")
    screen.heading(f"Incident {record.name} ({record.id}): {render.count(len(found))} addresses bounced or expired")
    screen.table(
        [render.fixed("advice"), render.Column("why"), render.number("addresses")],
        [
            (advice, why, number)
            for (advice, why), number in sorted(counts.items(), key=lambda item: (item[0][0] != "lift", -item[1]))
        ],
    )
    if listed:
        screen.line(f"{render.count(listed)} to lift are on the suppression list that is loaded")
    if found:
        screen.heading("Addresses")
        screen.table(
            [
                render.fixed("advice"),
                render.Column("address"),
                render.number("code"),
                render.Column("why"),
                render.Column("evidence"),
            ],
            [
                (one.recommendation.value, screen.address(one.address), str(one.code or "-"), one.why, one.evidence)
                for one in found[:_SHOWN]
            ],
            more=f"... and {render.count(len(found) - _SHOWN)} more; --csv FILE writes all" if found[_SHOWN:] else "",
        )
    if csv is not None:
        write_csv(found, csv, shown=screen.address)
        masked = "" if screen.options.unmask else ", addresses masked: --unmask writes them whole"
        screen.note(f"wrote {csv}{masked}")
    by_advice = Counter(one.recommendation.value for one in found)
    return Done(
        summary={
            "id": record.id,
            "addresses": len(found),
            "lift": by_advice["lift"],
            "keep": by_advice["keep"],
            "listed_to_lift": listed,
        }
    )
