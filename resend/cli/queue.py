"""`resend queue`: prints the guarded script for the mail host, and takes in what it did. Touches no queue itself.

Raises UsageError unless exactly one thing is asked for; the flow raises the rest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resend.cli import impact, render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.control import operator
from resend.cli.incidents import IncidentId
from resend.cli.opened import existing, ledger_of, screen_of
from resend.cli.screen import Screen
from resend.errors import Exit, UsageError
from resend.model import Bucket

if TYPE_CHECKING:
    from resend.flows.queue import Printed

app = typer_app()


@app.callback()
def _queue() -> None:
    """Queue."""


@app.command()
def queue(
    ctx: typer.Context,
    incident: IncidentId,
    hold: Annotated[bool, typer.Option("--hold", help="put them on hold: no tries, no expiry")] = False,
    release: Annotated[bool, typer.Option("--release", help="let them go on; none that was resent")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="take them out for good, to be resent from here")] = False,
    confirm: Annotated[
        Path | None, typer.Option("--confirm", metavar="RESULT", help="take in the result file of such a script")
    ] = None,
) -> Done:
    """Print a script for the mail host that holds, releases or deletes the incident's queued mails.

    The script shows what it would do; with --yes it does it and writes a result. It rechecks each mail there (queue
    id, arrival, sender, all remaining recipients) and refuses one with a recipient outside of the incident. Mails
    leave 'still_queued' only once '--confirm RESULT' has read that they were held or deleted.
    Exits with 3 when something is left: mails the script cannot name, or that it refused.
    """
    from resend.stores.queueacts import QueueAct

    asked = [act for act, on in zip(QueueAct, (hold, release, delete), strict=True) if on]
    if len(asked) + (confirm is not None) != 1:
        raise UsageError(
            "say one of --hold, --release, --delete, --confirm RESULT", next_step="run 'resend queue --help'"
        )
    screen = screen_of(ctx)
    config, home = existing(screen)
    with ledger_of(config, home) as ledger:
        if confirm is not None:
            from resend.flows.queue import confirm as take_in

            found = take_in(home, ledger, incident, confirm, who=operator(), now=datetime.now(UTC))
            states = {state.value: count for state, count in found.states.items()}
            screen.row("queue", incident=found.incident.id, action=found.result.act, host=found.result.host, **states)
            screen.line(f"incident {found.incident.name}, host {found.result.host}: {found.result.act}")
            for state, count in sorted(states.items()):
                screen.line(f"  {state:10}  {render.count(count):>11}")
            still = found.buckets.get(Bucket.STILL_QUEUED, 0)
            screen.line(f"still queued now: {render.count(still)}; next: resend preview {found.incident.id}")
            left = states.get("refused", 0) + states.get("left", 0)
            return Done(
                Exit.LEFT if left else Exit.DONE,
                {"id": found.incident.id, "states": states, "buckets": {b.value: n for b, n in found.buckets.items()}},
            )
        from resend.flows.queue import print_script

        made = print_script(home, config, ledger, incident, asked[0], who=operator(), now=datetime.now(UTC))
    return _printed(screen, made, asked[0].value)


def _printed(screen: Screen, made: Printed, action: str) -> Done:
    script = made.script
    screen.row(
        "queue",
        incident=made.incident.id,
        action=action,
        hosts=script.hosts,
        mails=script.mails,
        recipients=len(script.rows),
        left_out=script.left_out + made.unplaced,
        resent=made.resent,
        script=script.text,
    )
    if not screen.json:
        screen.raw(script.text)
    screen.note(
        f"{render.count(script.mails)} mails to {render.count(len(script.rows))} recipients"
        f" on {', '.join(script.hosts)}"
    )
    if script.left_out + made.unplaced:
        screen.note(
            f"left out: {render.count(script.left_out + made.unplaced)} that the evidence does not place safely"
        )
    if made.resent:
        screen.note(f"left out: {render.count(made.resent)} that were resent or are in a started plan: delete them")
    impact.ended(screen, made.ended, note=True)
    if made.unlinked and action == "delete":
        screen.note(f"warning: {render.count(made.unlinked)} are linked to no recipient: deleted, they are lost")
    screen.note(f"save it, copy it there, then: sh {action}.sh, and sh {action}.sh --yes as root")
    screen.note(f"then bring its result back: resend queue {made.incident.id} --confirm RESULT")
    left = script.left_out + made.unplaced + made.resent
    return Done(
        Exit.LEFT if left else Exit.DONE,
        {
            "id": made.incident.id,
            "action": action,
            "mails": script.mails,
            "recipients": len(script.rows),
            "left_out": script.left_out + made.unplaced,
            "resent": made.resent,
            "ended": made.ended.mails,
        },
    )
