"""`resend plan`: freeze what will be sent, look at it, give it up. Nothing here sends.

Raises UsageError for an option that does not fit; the planner raises the rest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from resend.cli import impact, render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.control import operator
from resend.cli.opened import duration, existing, ledger_of, rates, screen_of, zone
from resend.cli.screen import Screen
from resend.errors import Exit, UsageError
from resend.model import Bucket, CauseClass, Identity, State

if TYPE_CHECKING:
    from resend.flows.plan import MadePlan
    from resend.flows.preflight import Finding
    from resend.stores.rows import PlanRecord

app = typer_app()
plan_app = typer_app("Freeze what will be sent; nothing is sent without a plan.")
app.add_typer(plan_app, name="plan")
PlanId = Annotated[str, typer.Argument(metavar="PLAN", help="a plan's id, or an unambiguous beginning of it")]


@app.callback()
def _plans() -> None:
    """Plans."""


@plan_app.callback()
def _plan() -> None:
    """Freeze what will be sent; nothing is sent without a plan."""


@plan_app.command()
def make(
    ctx: typer.Context,
    incident: Annotated[str, typer.Argument(metavar="ID", help="the incident's id or name")],
    rate: Annotated[list[str] | None, typer.Option("--rate", metavar="P=5/s", help="ceiling of a provider")] = None,
    identity: Annotated[Identity | None, typer.Option("--identity", help="keep or renew Message-ID and Date")] = None,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", metavar="WHAT", help="probable | maybe_delivered | ask:CAUSE; needs --reason"),
    ] = None,
    recipient_gap: Annotated[
        str, typer.Option("--recipient-gap", metavar="10m", help="between two mails to one mailbox")
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="send once more what was already resent; needs --reason")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="why; kept in the plan")] = "",
    compare: Annotated[bool, typer.Option("--what-if", help="compare how long it would take; writes nothing")] = False,
) -> Done:
    """Freeze what will be sent: which mails, which bytes, in which order, how fast.

    Prints the plan's id, count, batches and time, and the command that starts it.
    """
    from resend.flows.plan import Options, make_plan, what_if

    screen = screen_of(ctx)
    if (include or again) and not reason.strip():
        raise UsageError("--include and --again need a reason", next_step="add --reason 'why'; it is kept in the plan")
    ceilings = rates(rate or [])
    config, home = existing(screen)
    gap = duration(recipient_gap, "--recipient-gap") if recipient_gap else config.run.recipient_gap
    options = Options(
        rates=ceilings,
        identity=identity,
        includes=tuple(_include(word) for word in include or ()),
        recipient_gap=gap,
        domain_share=config.run.domain_share,
        again=again,
        reason=reason,
    )
    if compare:
        with ledger_of(config, home) as ledger:
            spans = what_if(home, config, ledger, incident, options=options, now=datetime.now(UTC))
        return _compared(screen, spans)
    with ledger_of(config, home) as ledger:
        made = make_plan(home, config, ledger, incident, options=options, now=datetime.now(UTC))
    _made(screen, made)
    return Done(
        summary={
            "id": made.record.id,
            "count": made.record.total,
            "batches": made.record.batches,
            "eta": round(made.record.eta_s),
            "quarantine": sum(made.troubled.values()),
        }
    )


def _compared(screen: Screen, found: Mapping[tuple[str, str], tuple[int, Mapping[str, float]]]) -> Done:
    scenarios = list(dict.fromkeys(name for _, spans in found.values() for name in spans))
    for (egress, provider), (mails, spans) in found.items():
        seconds = {name: round(span) for name, span in spans.items()}
        screen.row("what_if", provider=provider, egress=egress, mails=mails, seconds=seconds)
    by = _by(egress for egress, _ in found)
    screen.table(
        [render.Column("provider"), *by, render.number("mails"), *(render.number(name) for name in scenarios)],
        [
            (
                provider,
                *([egress] if by else []),
                mails,
                *(render.span(spans[name]) if name in spans else "-" for name in scenarios),
            )
            for (egress, provider), (mails, spans) in found.items()
        ],
    )
    screen.prose("nothing was written; the slowest one decides. 'as your log': what it took while it throttled you")
    whole = {name: round(max(spans.get(name, 0.0) for _, spans in found.values())) for name in scenarios}
    return Done(summary={"mails": sum(mails for mails, _ in found.values()), "eta": whole})


def _by(egresses: Iterable[str]) -> list[render.Column]:
    """The column of the egress, where there is more than one."""
    return [render.Column("by")] if len(set(egresses)) > 1 else []


def _include(word: str) -> str:
    kind, _, cause = word.partition(":")
    if word in ("probable", "maybe_delivered") or (kind == "ask" and cause in list(CauseClass)):
        return word
    raise UsageError(
        f"--include: {word!r} is no choice",
        next_step="one of probable, maybe_delivered, ask:CAUSE (like ask:sender_blocked)",
    )


def _made(screen: Screen, made: MadePlan) -> None:
    record = made.record
    _row(screen, record)
    if made.again:
        screen.line("this very plan was made before")
    if made.mended:
        screen.line(f"its file was written anew: {made.mended}")
    screen.line(f"plan {record.id}")
    screen.line(_size(record))
    lanes = sorted(made.lanes, key=lambda lane: (-lane.mails, lane.provider, lane.egress))
    for lane in lanes:
        screen.row("provider", provider=lane.provider, egress=lane.egress, mails=lane.mails, eta=lane.eta_s)
    by = _by(lane.egress for lane in lanes)
    screen.table(
        [render.Column("provider"), *by, render.number("mails"), render.number("time")],
        [(lane.provider, *([lane.egress] if by else []), lane.mails, render.span(lane.eta_s)) for lane in lanes],
    )
    for provider, rate in made.accepted.items():
        screen.line(
            f"{provider} took {render.count(round(rate * 3600))} an hour while it throttled: the time counts on no more"
        )
    kinds = Counter(made.identities.values())
    screen.line("identity: " + ", ".join(f"{kind} of {render.count(n)} releases" for kind, n in sorted(kinds.items())))
    left = sum(count for bucket, count in made.buckets.items() if bucket is not Bucket.RESEND)
    screen.line(f"not in this plan: {render.count(left)} affected mails, see 'resend preview {record.incident_id}'")
    impact.ended(screen, made.ended)
    for what, count in made.troubled.items():
        screen.row("trouble", what=what, count=count)
        screen.line(f"will be quarantined: {render.count(count)} mails, {what}")
    for text in made.warnings:
        screen.row("warning", text=text)
        screen.line(f"warning: {text}")
    for item in made.preflight:
        show_finding(screen, item)
    screen.line()
    screen.line(f"next: resend run {record.id[:12]} --confirm {record.total}")


def show_finding(screen: Screen, item: Finding, *, note: bool = False) -> None:
    """One check of an address that mail leaves from; one that is in order is a row only. `note`: beside the data."""
    screen.row("preflight", egress=item.egress, check=item.check, standing=item.standing, text=item.text)
    words = {"ok": "", "warns": "warning", "fails": "run refuses this", "unknown": "could not be told"}[item.standing]
    if words:
        (screen.note if note else screen.line)(f"{words}: {item.egress}: {item.text}")


@plan_app.command("list")
def list_(ctx: typer.Context) -> Done:
    """List all plans: id, incident, state, mails, time, when made."""
    screen = screen_of(ctx)
    config, home = existing(screen)
    where = zone(config)
    with ledger_of(config, home) as ledger:
        found = ledger.plans()
    for plan in found:
        _row(screen, plan)
    if found:
        screen.table(
            [
                render.fixed("plan"),
                render.Column("incident"),
                render.fixed("state"),
                render.number("mails"),
                render.number("time"),
                render.fixed("made"),
            ],
            [
                (p.id[:12], p.incident_id, p.state, p.total, render.span(p.eta_s), render.minute(p.made_at, where))
                for p in found
            ],
        )
    else:
        screen.line("no plan yet; next: resend plan make INCIDENT")
    return Done(summary={"plans": len(found)})


@plan_app.command()
def show(ctx: typer.Context, plan: PlanId) -> Done:
    """Show one plan: parameters, mails by provider, customer and release, and where they stand."""
    from resend.flows.plan import find_plan
    from resend.stores.export import export_rows
    from resend.stores.plans import PlanFile
    from resend.stores.status import look

    screen = screen_of(ctx)
    config, home = existing(screen)
    where = zone(config)
    with ledger_of(config, home) as ledger:
        record = find_plan(ledger, plan)
        with ledger.snapshot() as conn:
            found = look(conn, plan_id=record.id)
            if screen.json:
                for mail in export_rows(conn, plan_id=record.id):
                    screen.row("delivery", **{name: _masked(screen, name, value) for name, value in mail.items()})
    states: Counter[State] = Counter()
    for provider in found.providers:
        states.update(provider.states)
    _row(screen, record)
    screen.line(f"plan {record.id}")
    screen.line(f"{record.state}, made {render.at(record.made_at, where)} for incident {record.incident_id}")
    screen.line(_size(record))
    for name, value in json.loads(record.params).items():
        if value not in ("", [], {}, False):
            screen.line(f"  {name:15}  {value if not isinstance(value, dict | list) else json.dumps(value)}")
    with PlanFile(home, record.id) as frozen:
        mails = Counter((row.provider, row.egress) for row in frozen.rows())
    for (name, egress), count in mails.most_common():
        screen.row("provider", provider=name, egress=egress, mails=count)
    screen.table(
        [render.Column("provider"), render.Column("by"), render.number("mails")],
        [(name, egress, count) for (name, egress), count in mails.most_common()],
    )
    for state, count in states.items():
        screen.row("state", state=state, count=count)
        screen.line(f"  {state:12}  {render.count(count):>11}")
    return Done(
        summary={
            "id": record.id,
            "count": record.total,
            "states": {state.value: count for state, count in states.items()},
        }
    )


@plan_app.command()
def diff(ctx: typer.Context, plan: PlanId) -> Done:
    """Show what a plan made now would have otherwise: removed, changed and added mails.

    A changed mail makes a plan stale (exit 4). Removed ones are skipped when it runs; added ones are not in it.
    """
    from resend.flows.plan import DiffKind, differences, find_plan

    screen = screen_of(ctx)
    config, home = existing(screen)
    counts: Counter[tuple[DiffKind, str, str]] = Counter()
    with ledger_of(config, home) as ledger:
        record = find_plan(ledger, plan)
        for found in differences(home, config, ledger, record, now=datetime.now(UTC)):
            counts[found.kind, found.what, found.egress] += 1
            screen.row(
                "difference",
                kind=found.kind,
                release=found.release,
                recipient=screen.address(found.rcpt_key),
                what=found.what,
                egress=found.egress,
            )
    total = {kind: sum(n for (k, _, _), n in counts.items() if k is kind) for kind in DiffKind}
    if counts:
        by = _by(egress for _, _, egress in counts if egress)
        screen.table(
            [render.fixed("kind"), render.Column("what"), *by, render.number("mails")],
            [(kind, what, *([egress] if by else []), n) for (kind, what, egress), n in counts.most_common()],
        )
    else:
        screen.line("nothing: a plan made now would be the same")
    stale = total[DiffKind.CHANGED] > 0 and record.started_at is None
    if stale:
        screen.line(f"the plan is stale; next: resend plan make {record.incident_id}")
    return Done(Exit.STALE if stale else Exit.DONE, {kind.value: n for kind, n in total.items()} | {"id": record.id})


@plan_app.command()
def close(
    ctx: typer.Context,
    plan: PlanId,
    reason: Annotated[str, typer.Option("--reason", help="why; kept in the audit")],
) -> Done:
    """Give up what is unsent and free it for another plan. What was sent stays sent."""
    from resend.flows.plan import find_plan
    from resend.stores.lifecycle import close_plan

    screen = screen_of(ctx)
    config, home = existing(screen)
    with ledger_of(config, home) as ledger:
        record = find_plan(ledger, plan)
        with ledger.write() as conn:
            freed = close_plan(conn, record.id, reason=reason, who=operator(), now=datetime.now(UTC))
    screen.line(f"plan {record.id[:12]} is closed; {render.count(freed)} unsent mails are free for another plan")
    return Done(summary={"id": record.id, "freed": freed})


def _masked(screen: Screen, name: str, value: object) -> object:
    if name in ("recipient", "rcpt_key", "folded"):
        return screen.address(str(value))
    return screen.masked(str(value)) if name in ("reply", "fate_reply", "reason") else value


def _size(plan: PlanRecord) -> str:
    span = render.span(plan.eta_s)
    return f"{render.count(plan.total)} mails in {render.count(plan.batches)} batches, about {span}"


def _row(screen: Screen, plan: PlanRecord) -> None:
    screen.row(
        "plan",
        id=plan.id,
        incident=plan.incident_id,
        count=plan.total,
        batches=plan.batches,
        eta=round(plan.eta_s),
        state=plan.state,
        made_at=plan.made_at,
        started_at=plan.started_at,
        finished_at=plan.finished_at,
    )
