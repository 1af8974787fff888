"""`resend reconcile` and `resend check`: settle what logs tell of, prove that the ledger holds. Neither sends.

Raises what the flows raise.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import existing, ledger_of, screen_of
from resend.cli.progress import Progress
from resend.errors import Exit

if TYPE_CHECKING:
    from resend.cli.screen import Screen
    from resend.flows.reconcile import Reconciled

app = typer_app()


@app.callback()
def _proof() -> None:
    """Proof."""


@app.command()
def reconcile(
    ctx: typer.Context,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", readable=False, help="logs to read first; none: [relay] log")
    ] = None,
) -> Done:
    """Settle doubt and fate from logs, and note originals that arrived after all. Sends nothing.

    Exits with 3 while a mail is in doubt, its end at the relay is not known, or one came back from there.
    """
    from resend.flows.reconcile import reconcile as settle

    screen = screen_of(ctx)
    config, home = existing(screen)
    with ledger_of(config, home) as ledger, Progress(screen, "reconcile", "bytes") as progress:
        found = settle(home, config, ledger, paths or [], now=datetime.now(UTC), progress=progress)
    _settled(screen, found)
    rejected = found.collected.rejected if found.collected else 0
    unread = len(found.collected.unread) if found.collected else 0
    left = found.left
    return Done(
        Exit.LEFT if left.in_doubt or left.pending or left.returned or rejected or unread else Exit.DONE,
        {
            "accepted": found.accepted,
            "released": found.released,
            "fates": {fate.value: count for fate, count in found.fates.items()},
            "vetoed": found.vetoed,
            "in_doubt": left.in_doubt,
            "pending": left.pending,
            "returned": left.returned,
            "rejected": rejected,
            "unread": unread,
        },
    )


def _settled(screen: Screen, found: Reconciled) -> None:
    if found.collected is None:
        screen.note("no log was named and [relay] log is not set: judged by the evidence at hand")
    else:
        for warning in found.collected.warnings:
            screen.note(f"warning: {warning}")
        read = found.collected
        for line in read.unread:
            screen.note(f"error: {render.clean(screen.masked(line))}")
        words = f"{render.some(read.files, 'file')}, {render.some(read.lines, 'line')}"
        screen.line(f"{words}, {render.count(read.rejected)} rejected")
    rows = [
        ("were in doubt, the relay has them", found.accepted),
        ("were in doubt, the relay never had them: planned again", found.released),
        *((f"are now {fate.value.replace('_', ' ')}", count) for fate, count in found.fates.items()),
        ("arrived after all and will not be sent", found.vetoed),
    ]
    for words, count in rows:
        if count:
            screen.line(f"{render.count(count):>11}  {words}")
    if not any(count for _, count in rows):
        screen.line("nothing new")
    left = found.left
    if left.in_doubt:
        screen.line(f"{render.count(left.in_doubt):>11}  still in doubt; 'resend doubt list' shows them")
    if left.pending:
        screen.line(f"{render.count(left.pending):>11}  at the relay, their end not known yet; reconcile again later")
    if left.returned:
        words = "came back from the relay, not sent again by itself; see 'resend why'"
        screen.line(f"{render.count(left.returned):>11}  {words}")


@app.command()
def check(ctx: typer.Context) -> Done:
    """Prove the invariants of the ledger and of the files beside it, one line each.

    Exits with 1 when one does not hold.
    """
    from resend.stores.filechecks import check_files
    from resend.stores.invariants import check as prove

    screen = screen_of(ctx)
    config, home = existing(screen)
    with ledger_of(config, home) as ledger, ledger.snapshot() as conn:
        found = [*prove(conn), *check_files(conn, home)]
    for result in found:
        screen.row("check", invariant=result.invariant, ok=result.ok, detail=result.detail)
        head = "ok    " if result.ok else "FAIL  "
        for text in filter(None, (result.invariant, result.detail)):
            for line in render.wrap(text, screen.columns - 6):
                screen.line(head + line)
                head = " " * 6
    broken = sum(not result.ok for result in found)
    screen.line(f"{len(found) - broken} of {len(found)} invariants hold")
    return Done(Exit.ERROR if broken else Exit.DONE, {"checks": len(found), "broken": broken})
