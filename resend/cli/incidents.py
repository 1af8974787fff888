"""`resend incident`: open, list, show and close the object that goes from alarm to customer report.

Raises UsageError for options that do not fit; the linker and the ledger raise the rest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resend.cli import impact, render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import check_provider, existing, ledger_of, moment, screen_of, zone
from resend.cli.progress import Progress
from resend.cli.screen import Screen
from resend.model import Bucket, Selector

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from resend.stores.rows import IncidentRecord

app = typer_app()
incident_app = typer_app("Incidents: one object with one id from alarm to customer report.")
app.add_typer(incident_app, name="incident")
IncidentId = Annotated[str, typer.Argument(metavar="ID", help="the incident's id or name")]


@app.callback()
def _incidents() -> None:
    """Incidents."""


@incident_app.callback()
def _incident() -> None:
    """Incidents: one object with one id from alarm to customer report."""


@incident_app.command("open")
def open_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="a name of your own")],
    provider: Annotated[str, typer.Option("--provider", help="only this receiving system, for example office365")] = "",
    from_: Annotated[str, typer.Option("--from", metavar="T", help="mail that arrived at T or later")] = "",
    to: Annotated[str, typer.Option("--to", metavar="T", help="mail that arrived before T")] = "",
    cause: Annotated[str, typer.Option("--cause", help="only this cause, for example throttled")] = "",
    release: Annotated[str, typer.Option("--release", help="only this release")] = "",
    customer: Annotated[str, typer.Option("--customer", help="only this customer")] = "",
) -> Done:
    """Link the failed mails to releases, judge each, freeze the result.

    Prints the id, the count and the buckets, which add up to the count. Sends nothing.
    """
    from resend.flows.incident import open_ as open_incident

    screen = screen_of(ctx)
    config, home = existing(screen)
    selector = Selector(
        provider=provider,
        cause=_cause(cause),
        release=release,
        customer=customer,
        from_at=moment(from_, "--from", config) if from_ else None,
        to_at=moment(to, "--to", config) if to else None,
    )
    check_provider(config, provider, "--provider")
    with ledger_of(config, home, create=True) as ledger, Progress(screen, "incident", "steps") as progress:
        found = open_incident(home, config, ledger, name, selector, now=datetime.now(UTC), progress=progress)
    for warning in found.about.warnings:
        screen.note(f"warning: {warning}")
    _show(screen, found.record, zone(config))
    screen.line()
    screen.line(f"next: resend preview {name if name.isalnum() else found.record.id}")
    return Done(summary={"id": found.record.id, "name": name, "affected": found.about.affected})


@incident_app.command("list")
def list_(ctx: typer.Context) -> Done:
    """List all incidents: id, name, state, affected, when opened."""
    screen = screen_of(ctx)
    config, home = existing(screen)
    where = zone(config)
    with ledger_of(config, home) as ledger:
        found = ledger.incidents()
    for record in found:
        _row(screen, record)
    if found:
        screen.table(
            [
                render.fixed("id"),
                render.Column("name"),
                render.fixed("state"),
                render.number("affected"),
                render.number("resend"),
                render.fixed("opened"),
            ],
            [
                (
                    record.id,
                    record.name,
                    "open" if record.open else "closed",
                    record.counts.get("affected"),
                    _buckets(record).get(Bucket.RESEND, 0),
                    render.at(record.opened_at, where),
                )
                for record in found
            ],
        )
    else:
        screen.line("no incident yet; next: resend incident open NAME")
    return Done(summary={"incidents": len(found)})


@incident_app.command()
def show(ctx: typer.Context, incident: IncidentId) -> Done:
    """Show one incident as it was opened: selection, counts, buckets, and its plans."""
    from resend.flows.incident import ended_since
    from resend.linker.incident import find_incident

    screen = screen_of(ctx)
    config, home = existing(screen)
    with ledger_of(config, home) as ledger:
        record = find_incident(ledger, incident)
        plans = [plan for plan in ledger.plans() if plan.incident_id == record.id]
        over = ended_since(home, config, ledger, record, now=datetime.now(UTC))
    _show(screen, record, zone(config))
    impact.ended(screen, over)
    for plan in plans:
        screen.row("plan", id=plan.id, incident=record.id, count=plan.total, batches=plan.batches, eta=plan.eta_s)
        screen.line(f"plan {plan.id[:12]}  {plan.state}  {render.count(plan.total)} mails")
    return Done(summary={"id": record.id, "plans": len(plans)})


@incident_app.command()
def close(ctx: typer.Context, incident: IncidentId) -> Done:
    """Mark an incident as closed. Nothing is deleted."""
    from resend.linker.incident import find_incident

    screen = screen_of(ctx)
    config, home = existing(screen)
    with ledger_of(config, home) as ledger:
        record = find_incident(ledger, incident)
        ledger.close_incident(record.id, now=datetime.now(UTC))
    screen.line(f"incident {record.name} ({record.id}) is closed")
    return Done(summary={"id": record.id})


def _cause(name: str) -> str:
    from resend.errors import UsageError
    from resend.model import CauseClass

    if name and name not in list(CauseClass):
        raise UsageError(f"--cause: there is no cause {name!r}", next_step=f"one of {', '.join(CauseClass)}")
    return name


def _buckets(record: IncidentRecord) -> dict[str, int]:
    found = record.counts.get("buckets")
    known = dict(found) if isinstance(found, dict) else {}
    return {bucket.value: known[bucket.value] for bucket in Bucket if bucket.value in known}


def _row(screen: Screen, record: IncidentRecord) -> None:
    screen.row(
        "incident",
        id=record.id,
        name=record.name,
        state="open" if record.open else "closed",
        affected=record.counts.get("affected"),
        mails=record.counts.get("mails"),
        opened_at=record.opened_at,
        closed_at=record.closed_at,
    )


def _show(screen: Screen, record: IncidentRecord, where: ZoneInfo) -> None:
    _row(screen, record)
    affected, mails = _int(record.counts.get("affected")), _int(record.counts.get("mails"))
    whole = f" of {render.count(mails)} ({render.share(affected, mails)})" if mails else ""
    screen.line(f"incident {record.name} ({record.id}), opened {render.at(record.opened_at, where)}")
    selected = [
        f"{name} {value}"
        for name, value in (
            ("provider", record.selector.provider),
            ("cause", record.selector.cause),
            ("release", record.selector.release),
            ("customer", record.selector.customer),
            ("from", record.selector.from_at and render.at(record.selector.from_at, where)),
            ("to", record.selector.to_at and render.at(record.selector.to_at, where)),
        )
        if value
    ]
    screen.line(f"selected: {', '.join(selected) or 'everything that failed or came late'}")
    screen.line(f"{render.some(affected, 'mail')}{whole} failed or came late; of them")
    total = 0
    for name, count in _buckets(record).items():
        screen.row("bucket", name=name, count=count, reasons={})
        screen.line(f"  {name:15}  {render.count(count):>11}")
        total += count
    screen.line(f"  {'sum':15}  {render.count(total):>11}")


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0
