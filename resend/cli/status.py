"""`resend status`: where the mails of each provider stand, what keeps them, how fresh vetoes are, what was decided.

One consistent look at the ledger; changes nothing.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from resend.cli import freshness, render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.caughtup import show_last
from resend.cli.opened import existing, ledger_of, screen_of, zone
from resend.cli.screen import Screen
from resend.clock import format_rate
from resend.model import FINAL_STATES, Fate, PlanState, State

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from resend.stores.rows import Decision, Holder, ProviderStatus, Status

app = typer_app()
_EVERY_S = 2.0
_DECISIONS = 8
_UNSENT = (State.PLANNED, State.LEASED, State.SENDING, State.DEFERRED, State.HELD, State.QUARANTINED)
_FIGURE = re.compile(r"\d+\.\d+")  # shown as 193.6, not as 193.60000000000002
_CLEAR = "\x1b[H\x1b[2J"


@app.callback()
def _status() -> None:
    """Status."""


@app.command()
def status(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="repeat every 2 seconds until interrupted")] = False,
) -> Done:
    """Show plans, providers, rates, what is parked and why, mails in doubt, the age of what stops a mail, decisions."""
    from resend.policy.hours import Hours
    from resend.stores.status import look

    screen = screen_of(ctx)
    config, home = existing(screen)
    where, hours = zone(config), Hours.load(config)
    with ledger_of(config, home) as ledger:
        found = None
        try:
            while watch or found is None:
                if found is not None:
                    time.sleep(_EVERY_S)
                with ledger.snapshot() as conn:
                    found = look(conn, hours=hours, now=datetime.now(UTC))
                if watch and not screen.json and screen.terminal:
                    screen.raw(_CLEAR)
                _show(screen, found, where)
        except KeyboardInterrupt:  # the usual end of --watch, wherever it meets it
            if found is None or not watch:
                raise
    left = sum(count for provider in found.providers for state, count in provider.states.items() if _left(state))
    doubt = sum(provider.states.get(State.IN_DOUBT, 0) for provider in found.providers)
    return Done(summary={"left": left, "in_doubt": doubt, **relayed(found.providers)})


def relayed(providers: Sequence[ProviderStatus]) -> dict[str, int]:
    """Accepted mails that are not at their receiver: `pending` at a relay, or not in its log yet, and `returned`."""
    pending = sum(provider.fates.get(fate, 0) for provider in providers for fate in (Fate.UNSEEN, Fate.QUEUED_AT_RELAY))
    return {"pending": pending, "returned": sum(provider.fates.get(Fate.RETURNED, 0) for provider in providers)}


def _left(state: State) -> bool:
    return state not in FINAL_STATES


def _show(screen: Screen, found: Status, where: ZoneInfo) -> None:
    for plan in found.plans:
        screen.row(
            "plan",
            id=plan.id,
            incident=plan.incident_id,
            count=plan.total,
            batches=plan.batches,
            eta=plan.eta_s,
            state=plan.state,
            made_at=plan.made_at,
            started_at=plan.started_at,
            finished_at=plan.finished_at,
        )
    active = [plan for plan in found.plans if plan.state in (PlanState.READY, PlanState.STARTED)]
    if not found.plans:
        screen.line("no plan yet; next: resend plan make INCIDENT")
    for plan in active:
        screen.line(f"plan {plan.id[:12]}  {plan.state}  {render.count(plan.total)} mails  incident {plan.incident_id}")
    show_providers(screen, found.providers, where)
    show_last(screen, found.catch_up, where)
    _holders(screen, found.holders, where)
    for line in freshness.show(screen, list(freshness.of_ledger(found.watermarks)), where).splitlines():
        screen.line(line)
    if found.unseen_controls:
        screen.line(f"{found.unseen_controls} commands wait for a run to read them")
    _decisions(screen, found, where)


def _holders(screen: Screen, holders: Sequence[Holder], where: ZoneInfo) -> None:
    """Who is sending: a host and process for each batch in hand."""
    for held in holders:
        host, _, rest = held.owner.partition(":")
        pid = rest.partition(":")[0]
        screen.row(
            "worker",
            owner=held.owner,
            host=host,
            pid=int(pid) if pid.isdigit() else None,
            egress=held.egress,
            provider=held.provider,
            batch=held.batch_id,
            lease_until=held.lease_until,
            lost=held.over,
            leased=held.leased,
            under_way=held.under_way,
            connections=held.connections,
        )
    if holders:
        screen.heading("Workers")
        numbers = ("waiting", "under way", "connections")
        columns = [render.Column("worker"), render.Column("provider"), *(render.number(title) for title in numbers)]
        screen.table(
            [*columns, render.fixed("lease until")],
            [
                (
                    held.owner,
                    held.provider,
                    render.count(held.leased),
                    render.count(held.under_way),
                    render.count(held.connections) if held.connections else "",
                    "lost" if held.over else render.at(held.lease_until, where),
                )
                for held in holders
            ],
        )


def show_providers(screen: Screen, providers: Sequence[ProviderStatus], where: ZoneInfo) -> None:
    """Where the mails of each provider stand, and what keeps it from sending."""
    for provider in providers:
        _row(screen, provider)
    if providers:
        screen.heading("Providers")
        screen.table(
            [
                render.Column("provider"),
                render.Column("by"),
                *(render.number(title) for title in ("to send", "accepted", "refused", "doubt")),
                render.fixed("rate"),
                render.fixed("next due"),
            ],
            [_cells(provider, where) for provider in providers],
        )
    several = _several(providers)
    again = to_resume(providers)
    for provider in providers:
        name = f"{provider.provider} by {provider.egress}" if provider.provider in several else provider.provider
        for words in _trouble(provider, where, again.get((provider.egress, provider.provider), "")):
            for number, line in enumerate(render.wrap(f"{name}: {words}", screen.columns - 2)):
                screen.line(f"{'  ' if number else ''}{line}")


def to_resume(providers: Sequence[ProviderStatus]) -> dict[tuple[str, str], str]:
    """Of each (egress, provider) that is parked until a person resumes it: the command that does."""
    several = _several(providers)
    return {
        (one.egress, one.provider): "resend resume "
        + (f"{one.egress}/{one.provider}" if one.provider in several else one.provider)
        + " --reason TEXT"
        for one in providers
        if one.rate is not None and one.rate.parked and one.rate.cooldown_until is None
    }


def _several(providers: Sequence[ProviderStatus]) -> set[str]:
    """Providers that are fed by more than one egress."""
    return {name for name, count in Counter(provider.provider for provider in providers).items() if count > 1}


def _row(screen: Screen, provider: ProviderStatus) -> None:
    rate = provider.rate
    screen.row(
        "provider",
        egress=provider.egress,
        provider=provider.provider,
        states=dict(provider.states),
        fates=dict(provider.fates),
        rate=rate.rate if rate else None,
        ceiling=rate.ceiling if rate else None,
        paused=rate.paused if rate else False,
        parked=rate.parked if rate else "",
        cooldown_until=rate.cooldown_until if rate else None,
        next_due=provider.next_due,
        bound=rate.bound if rate else 0.0,
        shut=provider.shut,
        shut_until=provider.shut_until,
    )


def _cells(provider: ProviderStatus, where: ZoneInfo) -> tuple[object, ...]:
    states = provider.states
    return (
        provider.provider,
        provider.egress,
        sum(states.get(state, 0) for state in _UNSENT),
        states.get(State.ACCEPTED, 0),
        states.get(State.REJECTED, 0) + states.get(State.GAVE_UP, 0),
        states.get(State.IN_DOUBT, 0),
        format_rate(provider.rate.rate) if provider.rate else "-",
        render.at(provider.next_due, where)[5:] if provider.next_due else "-",
    )


def _trouble(provider: ProviderStatus, where: ZoneInfo, again: str) -> list[str]:
    """What keeps a provider from sending, in words. `again`: what unparks it, "" where it goes on by itself."""
    words: list[str] = []
    rate = provider.rate
    now = datetime.now(UTC)
    if provider.shut and provider.shut_until is not None:
        words.append(f"{provider.shut}; goes on {render.at(provider.shut_until, where)}")
    if rate is not None:
        if rate.bound:
            words.append(f"the timetable allows {format_rate(rate.bound)} at this hour")
        if rate.parked:
            words.append(f"parked: {rate.parked}" + (f"; when that is mended: {again}" if again else ""))
        if rate.paused:
            words.append("paused; 'resend resume' goes on")
        if rate.cooldown_until and rate.cooldown_until > now:
            words.append(f"cooling down until {render.at(rate.cooldown_until, where)}")
        if rate.dwell_until and rate.dwell_until > now:
            words.append(f"canary sent, waiting for its outcomes until {render.at(rate.dwell_until, where)}")
    words += [
        f"{render.count(provider.states[state])} {state}"
        for state in (State.HELD, State.QUARANTINED)
        if provider.states.get(state)
    ]
    if count := provider.states.get(State.REJECTED, 0) + provider.states.get(State.GAVE_UP, 0):
        words.append(
            f"{render.count(count)} refused; 'resend plan show PLAN --json' lists them, 'resend why' has replies"
        )
    if count := provider.states.get(State.IN_DOUBT, 0):
        words.append(f"{render.count(count)} in doubt; 'resend reconcile' settles, 'resend doubt list' shows them")
    words += [f"{render.count(count)} {said}" for fate, count in provider.fates.items() if (said := _fate(Fate(fate)))]
    return words


def _fate(fate: Fate) -> str:
    """What a fate means for the operator, "" where nothing is left to say."""
    match fate:
        case Fate.UNSEEN:
            return "handed to the relay, not seen in its log yet; 'resend reconcile' looks again"
        case Fate.QUEUED_AT_RELAY:
            return "still in the relay's queue: the relay tries again, we never do; 'resend reconcile' follows them"
        case Fate.DELIVERED:
            return ""
        case Fate.RETURNED:
            return "accepted by the relay, then returned; not sent again by themselves, 'resend why ADDRESS' tells why"


def _decisions(screen: Screen, found: Status, where: ZoneInfo) -> None:
    for decision in found.decisions:
        screen.row(
            "decision",
            at=decision.at,
            who=decision.who,
            what=decision.what,
            plan=decision.plan_id,
            egress=decision.egress,
            provider=decision.provider,
            subject=screen.masked(decision.subject),
            value=decision.value,
            reason=screen.masked(decision.reason),
        )
    if found.decisions:
        screen.heading("Last decisions")
    several = _several(found.providers)
    for decision in found.decisions[:_DECISIONS]:
        by = f" by {decision.egress}" if decision.egress and decision.provider in several else ""
        head = f"{render.at(decision.at, where)[5:]}  {decision.what:14}  {_about(screen, decision, by)}"
        screen.line(render.shorten(head.rstrip(), screen.columns))
        why = f"{decision.who}: {screen.masked(decision.reason)}" if decision.reason else decision.who
        for line in render.wrap(why, screen.columns - 16)[:2]:
            screen.line(f"{'':16}{line}")


def _about(screen: Screen, decision: Decision, by: str) -> str:
    subject = "" if decision.what.startswith("control_") else screen.masked(decision.subject)[:24]
    value = _FIGURE.sub(lambda figure: f"{float(figure.group()):g}", decision.value)
    return " ".join(filter(None, (decision.provider + by, subject, value)))
