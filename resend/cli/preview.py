"""`resend preview`: what failed and what would be resent, how long it takes, and what to run next. Changes nothing.

Raises what linker and report raise.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from resend.cli import freshness, render
from resend.cli import impact as shown
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.incidents import IncidentId
from resend.cli.opened import existing, ledger_of, screen_of, zone
from resend.model import Bucket

app = typer_app()


@app.callback()
def _preview() -> None:
    """Preview."""


@app.command()
def preview(
    ctx: typer.Context,
    incident: IncidentId,
    html: Annotated[Path | None, typer.Option("--html", metavar="F", help="write a page for the browser")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="DIR", help="write every table as CSV into DIR")] = None,
) -> Done:
    """Show what failed and what would be resent; changes nothing.

    By receiving system, domain, release, customer, cause and hour; every bucket with its reasons, and their sum.
    """
    from resend.flows.incident import preview as look
    from resend.planner import lanes
    from resend.policy.providers import ProviderTable
    from resend.policy.routes import routes
    from resend.report.impact import write_csv

    screen = screen_of(ctx)
    config, home = existing(screen)
    with ledger_of(config, home) as ledger:
        found = look(home, ledger, incident, config=config, now=datetime.now(UTC))
    profiles, known, accepted = ProviderTable.load(config.providers), routes(config), found.about.accepted()
    leaves = {
        row.value: lanes.foreseen(row.resend, profiles.profile(row.value), known, accepted=accepted.get(row.value, 0.0))
        for row in found.tables["provider"]
        if row.resend
    }
    gap = config.run.recipient_gap.total_seconds()
    etas = {
        provider: max((found.most[provider] - 1) * gap, *(lane.eta_s for lane in group))
        for provider, group in leaves.items()
    }
    shown.show(screen, found, zone(config), etas)
    for provider, group in leaves.items():
        if len(group) > 1:
            for lane in group:
                screen.row("leaves", provider=provider, egress=lane.egress, mails=lane.mails, eta=round(lane.eta_s))
            parts = ", ".join(f"{render.count(lane.mails)} by {lane.egress}" for lane in group)
            screen.line(f"{provider}: {parts}")
    for line in freshness.show(screen, list(freshness.of_home(home)), zone(config)).splitlines():
        screen.line(line)
    if csv is not None:
        for path in write_csv(found, csv, shown=screen.masked):
            screen.note(f"wrote {path}")
    if html is not None:
        from resend.report.preview import page, write  # Jinja2 takes its time to load

        text = page(
            found,
            etas={name: render.span(seconds) for name, seconds in etas.items()},
            span=render.span(max(etas.values(), default=0)),
            zone=zone(config),
            now=datetime.now(UTC),
            shown=screen.masked,
        )
        write(html, text)
        screen.note(f"wrote {html}")
    resend = found.count(Bucket.RESEND)
    screen.line()
    if resend:
        screen.line(f"next: resend plan make {found.about.id}")
    elif found.ended.next:
        screen.line(f"next: {found.ended.next}")
    else:
        screen.prose("nothing to resend as things stand; what a person may decide: resend plan make --help, --include")
    return Done(
        summary={
            "id": found.about.id,
            "mails": found.mails,
            "affected": found.affected,
            "buckets": {row.name.value: row.count for row in found.buckets},
            "ended": found.ended.mails,
            "no_evidence": found.no_evidence,
            "missing": found.missing,
            "provider_ways": dict(found.provider_ways),
            "mx_asked": [found.about.mx_first, found.about.mx_last],
            "mx_silent": found.about.mx_silent,
            "eta": round(max(etas.values(), default=0)),
        }
    )
