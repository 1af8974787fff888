"""`resend why`: every mail to one address, from the log line over link, cause and verdict to our own tries.

Shows the whole address. Changes nothing; raises what the flow raises.
"""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.evidence import show_outcome
from resend.cli.opened import existing, ledger_of, screen_of, zone
from resend.cli.screen import Screen

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from resend.report.why import WhyMail
    from resend.stores.history import DeliveryHistory

app = typer_app()


@app.callback()
def _why() -> None:
    """Why."""


@app.command()
def why(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="the recipient's address")],
    incident: Annotated[str, typer.Option("--incident", metavar="ID", help="only this incident")] = "",
) -> Done:
    """Show every mail to one address: log line, link, cause, verdict, our own tries and their replies."""
    from resend.flows.vetoes import has_ledger
    from resend.flows.why import as_json
    from resend.flows.why import why as look

    screen = screen_of(ctx)
    config, home = existing(screen)
    where = zone(config)
    with ledger_of(config, home) if has_ledger(home, config) else nullcontext() as ledger:
        found = look(home, config, ledger, address, incident=incident, now=datetime.now(UTC))
    for mail in found:
        screen.row("why", **as_json(mail))
        _mail(screen, mail, where)
    if not found:
        screen.line(f"no mail to {address} in " + (f"incident {incident}" if incident else "the evidence"))
        screen.line("is the address whole, and are its logs collected? see 'resend sources'")
    return Done(summary={"address": address, "mails": len(found)})


def _mail(screen: Screen, mail: WhyMail, where: ZoneInfo) -> None:
    screen.heading(f"{mail.outcome['message_id'] or 'no Message-ID'}" + (" (a resend of ours)" if mail.own else ""))
    show_outcome(screen, mail.outcome, where)
    if mail.link is None:
        screen.line("  link      in no incident" if not mail.own else "  link      our own mail")
    elif mail.link.release:
        screen.line(f"  link      release {mail.link.release} to {mail.link.recipient_id}, {mail.link.confidence}")
        for text in (f"by {mail.link.rule}: {mail.link.evidence}", f"{mail.link.title} ({mail.link.customer})"):
            for line in render.wrap(text, screen.columns - 12):
                screen.line(f"            {line}")
    else:
        screen.line(f"  link      {mail.link.confidence}: {mail.link.evidence or 'no rule fits'}")
    for verdict in mail.verdicts:
        screen.line(f"  incident  {verdict.incident} ({verdict.incident_id})")
        screen.line(f"  provider  {verdict.provider}, known by {verdict.provider_way}")
        screen.line(f"  cause     {verdict.cause} (rule {verdict.cause_rule})")
        screen.line(f"  verdict   {verdict.action} (rule {verdict.verdict_rule})")
        for number, line in enumerate(render.wrap(f"{verdict.bucket}: {verdict.reason}", screen.columns - 12)):
            screen.line(f"{'            ' if number else '  bucket    '}{line}")
    for delivery in mail.deliveries:
        _delivery(screen, delivery, where)
    if mail.verdicts and not mail.deliveries:
        screen.line("  resent    not yet")


def _delivery(screen: Screen, delivery: DeliveryHistory, where: ZoneInfo) -> None:
    fate = f", {delivery.fate}" if delivery.fate else ""
    reason = f" ({delivery.reason})" if delivery.reason else ""
    screen.line(f"  resent    {delivery.state}{fate}{reason}, plan {delivery.plan_id[:12]}, key {delivery.key[:12]}")
    for try_ in delivery.tries:
        said = render.reply(try_.code, try_.enhanced, try_.reply)
        head = f"{render.at(try_.at, where)}  {try_.outcome} at {try_.stage or 'the arm'} by {try_.egress}"
        screen.line(f"    try     {head}" + (f", as {try_.remote_qid}" if try_.remote_qid else ""))
        for line in render.wrap(said, screen.columns - 12):
            screen.line(f"            {line}")
    if delivery.fate_reply:
        for line in render.wrap(f"relay: {delivery.fate_reply}", screen.columns - 12):
            screen.line(f"            {line}")
    if delivery.due_at is not None:
        screen.line(f"    due     {render.at(delivery.due_at, where)}")
