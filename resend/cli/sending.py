"""`resend run`: sends a plan, and nothing without the plan's exact total. Also how every sending command ends.

Raises UsageError without a count; the flows raise the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resend.cli import freshness, render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.caughtup import OUTCOMES
from resend.cli.control import operator
from resend.cli.opened import duration, existing, ledger_of, screen_of, zone
from resend.cli.plans import PlanId, show_finding
from resend.cli.progress import Progress
from resend.cli.screen import Screen
from resend.cli.status import relayed, show_providers, to_resume
from resend.errors import Exit, UsageError, WrongCount, worst
from resend.model import State

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from resend.executor.ending import RunSummary
    from resend.executor.run import Run
    from resend.stores.home import Home
    from resend.stores.ledger import Ledger
    from resend.stores.rows import PlanRecord, ProviderStatus

app = typer_app()
_SHOWN_S = 0.1  # counts are shown this often: a run tells of every mail
_SETTLED = (State.ACCEPTED, State.SUPPRESSED, State.CLOSED)  # of these nothing is left and nothing failed


class InDoubt(StrEnum):
    """What to do with mail whose last reply was never seen."""

    HOLD = "hold"
    RESEND = "resend"


@app.callback()
def _sending() -> None:
    """Sending."""


@app.command()
def run(
    ctx: typer.Context,
    plan: PlanId,
    confirm: Annotated[
        int | None, typer.Option("--confirm", metavar="N", help="the plan's total; on resume too")
    ] = None,
    connections: Annotated[
        int | None, typer.Option("--connections", metavar="N", min=1, max=1000, help="at most so many at once")
    ] = None,
    follow: Annotated[
        Path | None, typer.Option("--follow", metavar="LOG", help="the relay's log, read while it is written")
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="send through a relay whose log is not known")] = False,
    in_doubt: Annotated[InDoubt | None, typer.Option("--in-doubt", help="hold (default) or resend")] = None,
    evidence_age: Annotated[
        str, typer.Option("--evidence-age", metavar="T", help="go on with knowledge as old as this; audited")
    ] = "",
    provider_not_recovered: Annotated[
        str, typer.Option("--provider-not-recovered", metavar="REASON", help="send though it still refuses; audited")
    ] = "",
    egress_not_ready: Annotated[
        str,
        typer.Option("--egress-not-ready", metavar="REASON", help="send though PTR or SPF speak against it; audited"),
    ] = "",
    to_sink: Annotated[
        str, typer.Option("--to-sink", metavar="HOST:PORT", help="rehearse: all mail goes there, on a copied ledger")
    ] = "",
) -> Done:
    """Send a plan, paced. Stopped or killed, the same command resumes it; nothing is sent twice.

    Without --confirm nothing is sent; at a terminal it asks for the number. SIGINT and SIGTERM finish the mails
    under way first. With a ledger in PostgreSQL a second run of the same plan joins the first.
    """
    from resend.flows.plan import find_plan
    from resend.flows.rehearsal import rehearse
    from resend.flows.run import RunOptions
    from resend.flows.run import run as send

    screen = screen_of(ctx)
    if follow is not None and not follow.is_file():
        raise UsageError("no such log", where=f"--follow {follow}", next_step="name the relay's log, or say --blind")
    config, home = existing(screen)
    where = zone(config)
    with ledger_of(config, home) as ledger:
        record = find_plan(ledger, plan)
        count = confirm if confirm is not None else _confirmed(screen, record)
        options = RunOptions(
            confirm=count,
            connections=connections,
            follow=follow,
            blind=blind,
            in_doubt=in_doubt or "",
            evidence_age=duration(evidence_age, "--evidence-age") if evidence_age else None,
            not_recovered=provider_not_recovered.strip(),
            not_ready=egress_not_ready.strip(),
            tell=partial(show_finding, screen, note=True),
            who=operator(),
        )
        again = f"resend run {record.id[:12]} --confirm {count}"
        if to_sink:
            screen.note(f"REHEARSAL: all mail goes to {to_sink}, from a copy of the ledger")
            with ExitStack() as until_shown:
                with Progress(screen, "REHEARSAL", "mails") as progress:
                    shown = Shown(progress, record.total, lambda: show_ages(screen, home, where))
                    done = until_shown.enter_context(
                        rehearse(home, config, ledger, record.id, options, to_sink, progress=shown)
                    )
                again += f" --to-sink {to_sink}"
                return ended(screen, done.ledger, done.summary, where, plan=record.id, again=again, rehearsal=to_sink)
        with Progress(screen, "run", "mails") as progress:
            shown = Shown(progress, record.total, lambda: show_ages(screen, home, where))
            summary = send(home, config, ledger, record.id, options, progress=shown)
        return ended(screen, ledger, summary, where, plan=record.id, again=again, blind=blind)


class Shown:
    """A run's counts as progress. `first` is called when something happens for the first time."""

    def __init__(self, progress: Progress, total: int, first: Callable[[], object]) -> None:
        self._progress = progress
        self._total = total
        self._first: Callable[[], object] | None = first
        self._due = 0.0

    def __call__(self, running: Run) -> None:
        if self._first is not None:
            self._first()
            self._first = None
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _SHOWN_S
        counts = running.counts
        detail = ", ".join(f"{name} {render.count(counts[name])}" for name in OUTCOMES[1:] if counts[name])
        self._progress(counts["accepted"], self._total, detail)


def _confirmed(screen: Screen, plan: PlanRecord) -> int:
    """The number, typed at a terminal; else the refusal that names the command."""
    command = f"resend run {plan.id[:12]} --confirm {plan.total}"
    if not screen.asks:
        raise UsageError("nothing is sent without --confirm", next_step=f"to send the plan: {command}")
    screen.note(f"plan {plan.id[:12]} of incident {plan.incident_id}: {render.count(plan.total)} mails")
    answer = screen.ask("type the number of mails to send them:").replace(",", "")
    if not answer.isdigit() or int(answer) != plan.total:
        raise WrongCount(f"{answer!r} is not {plan.total}; nothing was sent", next_step="look at 'resend plan show'")
    return int(answer)


def show_ages(screen: Screen, home: Home, where: ZoneInfo) -> None:
    """How old the knowledge is that was loaded from files: what is newer cannot keep a mail from being sent."""
    if words := freshness.show(screen, list(freshness.of_home(home)), where):
        screen.note(words)


def ended(
    screen: Screen,
    ledger: Ledger,
    summary: RunSummary,
    where: ZoneInfo,
    *,
    plan: str,
    again: str,
    blind: bool = False,
    rehearsal: str = "",
    remains: Mapping[str, int] | None = None,
) -> Done:
    """Say how it ended. `blind`: the operator does not ask what a relay did with what it took.

    `rehearsal`: the sink that all went to; `ledger` is a copy then. `remains`: what is left of all open plans.
    """
    from resend.stores.status import look

    with ledger.snapshot() as conn:
        found = look(conn, plan_id=plan)
    show_providers(screen, found.providers, where)
    ends = relayed(found.providers)
    open_ends = ends["returned"] or (ends["pending"] and not blind)
    left = Exit.LEFT if plan and (open_ends or any(_left(provider) for provider in found.providers)) else Exit.DONE
    code = worst(summary.exit, left)
    counts = {name: summary.counts[name] for name in (*OUTCOMES, *sorted(summary.counts)) if summary.counts[name]}
    screen.line()
    screen.line(
        "in this run: " + (", ".join(f"{name} {render.count(n)}" for name, n in counts.items()) or "nothing sent")
    )
    if remains:
        screen.line(
            "left in all: " + ", ".join(f"{name.replace('_', ' ')} {render.count(n)}" for name, n in remains.items())
        )
    for name, reason in summary.parked.items():
        screen.row("parked", provider=name, reason=reason)
        screen.line(f"parked: {name}: {reason}")
    for name, (until, reason) in summary.shut.items():
        screen.row("shut", provider=name, reason=reason, until=until)
        screen.line(f"{name}: {reason}; goes on {render.at(until, where)}")
    if rehearsal:
        screen.line(f"REHEARSAL: it all went to {rehearsal}; the ledger is as it was before, nothing was resent")
        screen.line(f"to rehearse again, from the beginning: {again}")
    elif summary.next_due is not None:
        screen.line(f"next due {render.at(summary.next_due, where)}: then 'resend catch-up', or the same command again")
    if rehearsal:
        pass
    elif summary.exit is Exit.INTERRUPTED:
        screen.note(f"interrupted; run the same command again: {again}")
    elif summary.stopped:
        screen.line(f"ended early: {summary.stopped}; to go on: {again}")
    elif summary.exit is Exit.PARKED:
        commands = to_resume(found.providers).values()
        for command in commands:
            screen.line(f"when the cause is mended: {command}")
        screen.line(f"{'then' if commands else 'to go on'}: {again}")
    elif code is Exit.DONE:
        screen.line("done; next: resend check, then resend report")
    return Done(
        code,
        {
            "plan": plan,
            "counts": counts,
            "parked": dict(summary.parked),
            "next_due": summary.next_due,
            "shut": {name: until for name, (until, _) in summary.shut.items()},
            "stopped": summary.stopped,
            "rehearsal": bool(rehearsal),
            **ends,
            **({} if remains is None else {"left": dict(remains)}),
        },
    )


def _left(provider: ProviderStatus) -> bool:
    """Is a mail of this plan still to be sent, in doubt, or failed?"""
    return any(count for state, count in provider.states.items() if state not in _SETTLED)
