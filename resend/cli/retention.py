"""`resend evidence`: pack finished days into one file each, remove what is old. Events that stay are never changed.

Raises UsageError for a span that is none; the flow raises the rest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import duration, existing, from_us, screen_of, zone
from resend.cli.progress import Progress
from resend.errors import UsageError, WrongCount

app = typer_app()
evidence_app = typer_app("Evidence: pack finished days, remove what is old.")
app.add_typer(evidence_app, name="evidence")


@app.callback()
def _retention() -> None:
    """Retention."""


@evidence_app.callback()
def _evidence() -> None:
    """Evidence: pack finished days, remove what is old."""


@evidence_app.command()
def compact(ctx: typer.Context) -> Done:
    """Merge the files of each finished day into one: smaller and faster to read. Safe to run again, also from a timer.

    Nothing else changes: events, their log lines and cached outcomes stay, and sources stay known.
    """
    from resend.flows.retention import compact as pack

    screen = screen_of(ctx)
    _, home = existing(screen)
    with Progress(screen, "compact", "days") as progress:
        found = pack(home, now=datetime.now(UTC), progress=progress)
    screen.row(
        "compact",
        days=found.days,
        files_before=found.files_before,
        files_after=found.files_after,
        bytes_before=found.bytes_before,
        bytes_after=found.bytes_after,
        events=found.events,
    )
    if found.days:
        screen.line(
            f"{render.count(found.days)} days, {render.count(found.events)} events: {render.count(found.files_before)}"
            f" files of {_mib(found.bytes_before)} are {render.count(found.files_after)} of {_mib(found.bytes_after)}"
        )
        screen.line("the old files are removed by a later collect or compact, 15 minutes from now at the earliest")
    else:
        screen.line("every finished day is in one file already")
    return Done(summary={"days": found.days, "events": found.events})


@evidence_app.command()
def prune(
    ctx: typer.Context,
    older_than: Annotated[str, typer.Option("--older-than", metavar="D", help="a span like 90d")],
    confirm: Annotated[
        int | None, typer.Option("--confirm", metavar="N", help="how many lines; refused if the count differs")
    ] = None,
) -> Done:
    """Remove evidence older than a span; without --confirm it only says what, and at a terminal it asks.

    Refused where an open incident or a mail that is not settled needs it. What is removed stays known: it is not read
    again when its file is collected again.
    """
    from resend.flows.retention import prunable, remove

    screen = screen_of(ctx)
    config, home = existing(screen)
    span = duration(older_than, "--older-than")
    if not span:
        raise UsageError("--older-than 0 would remove everything", next_step="name a span like 90d")
    now, where = datetime.now(UTC), zone(config)
    found = prunable(home, config, older_than=span, now=now)
    screen.line(
        f"{render.count(found.lines)} lines in {render.count(len(found.parts))} parts, from"
        f" {render.minute(from_us(found.events_from), where)} to {render.minute(from_us(found.events_to), where)};"
        f" {render.count(len(found.snapshots))} queue snapshots"
    )
    fields: dict[str, object] = {
        "lines": found.lines,
        "parts": len(found.parts),
        "snapshots": len(found.snapshots),
        "from": from_us(found.events_from),
        "to": from_us(found.events_to),
    }
    if not found.parts and not found.snapshots:
        screen.line("nothing is that old")
        return Done(summary={**fields, "removed": 0})
    command = f"resend evidence prune --older-than {older_than} --confirm {found.lines}"
    if confirm is None and screen.asks:
        answer = screen.ask("type the number of lines to remove them:").replace(",", "")
        if not answer.isdigit() or int(answer) != found.lines:
            raise WrongCount(f"{answer!r} is not {found.lines}; nothing was removed", next_step=command)
        confirm = int(answer)
    if confirm is None:
        screen.row("prune", **fields, removed=False)
        screen.line(f"nothing was removed; to remove them: {command}")
        return Done(summary={**fields, "removed": 0})
    gone = remove(home, config, older_than=span, confirm=confirm, now=now)
    screen.row("prune", **fields, removed=True)
    screen.line(f"removed {render.count(gone.lines)} lines")
    return Done(summary={**fields, "removed": gone.lines})


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
