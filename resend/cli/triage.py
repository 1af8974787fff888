"""`resend triage`: the first hour of an incident on one screen. Reads logs into the evidence, changes nothing else.

Raises what collect and the flow raise.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resend.cli import impact, render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import from_us, screen_of, workplace, zone
from resend.cli.progress import Progress
from resend.cli.screen import Screen
from resend.errors import Exit

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from resend.flows.triage import Triage
    from resend.policy.trend import Span

app = typer_app()
_SHOWN = 8  # receiving systems on screen; --json gives all
_STEPS = 6  # rows of the expiry table
_FINDINGS = 8
_WORDS = {
    "ongoing": "ONGOING",
    "easing": "EASING: better in the last 15 minutes",
    "over": "OVER, as far as the log goes",
    "unclear": "UNCLEAR: too little mail since to tell",
    "normal": "NOTHING OUT OF THE USUAL",
}


@app.callback()
def _triage() -> None:
    """Triage."""


@app.command()
def triage(
    ctx: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", readable=False, help="log files or directories, collected first"),
    ] = None,
    queue: Annotated[
        Path | None, typer.Option("--queue", metavar="FILE", readable=False, help="output of postqueue -j")
    ] = None,
    tz: Annotated[str, typer.Option("--tz", metavar="Z", help="zone of times without one")] = "",
    host: Annotated[
        str, typer.Option("--host", metavar="H", help="the mail host, where the log does not name it")
    ] = "",
) -> Done:
    """The first hour of an incident: is it ongoing or over, what is queued, what will be lost by when, what to do now.

    PATHs are collected first. Exits with 3 when lines were rejected or a path was left out.
    Changes nothing but the evidence.
    """
    from resend.flows.triage import triage as look

    screen = screen_of(ctx)
    config, home = workplace(screen)
    rejected = unread = 0
    if paths or queue is not None:
        from resend.collect.collect import collect
        from resend.flows.vetoes import refresh_evidence_vetoes

        with Progress(screen, "collect", "bytes") as progress:
            read = collect(home, config, paths or [], tz=tz, host=host, queue=queue, progress=progress)
        for warning in read.warnings:
            screen.note(f"warning: {screen.masked(warning)}")
        for line in read.unread:
            screen.note(f"error: {render.clean(screen.masked(line))}")
        rejected, unread = read.rejected, len(read.unread)
        refresh_evidence_vetoes(home, config)
    now = datetime.now(UTC)
    with Progress(screen, "asking the DNS", "domains") as progress:
        found = look(home, config, paths or [], now=now, progress=progress)
    where = zone(config)
    _rows(screen, found)
    _state(screen, found, now, where)
    _providers(screen, found, where)
    _queue(screen, found, now, where)
    _evidence(screen, found, now, where)
    _commands(screen, found)
    summary: dict[str, object] = {
        "state": found.state,
        "until": found.until,
        "providers": {one.provider: one.trend.state for one in found.pulse.providers if one.trend.state != "normal"},
        "queued": found.queued,
        "expiring_24h": found.expiring_soon,
        "findings": len(found.findings),
        "rejected": rejected,
        "unread": unread,
    }
    return Done(Exit.LEFT if rejected or unread else Exit.DONE, summary)


def _rows(screen: Screen, found: Triage) -> None:
    """Every row of every kind; `kind` says which fields it has."""
    if not screen.json:
        return
    for one in found.pulse.providers:
        trend, hour = one.trend, 3_600_000_000
        screen.row(
            "triage",
            kind="provider",
            provider=one.provider,
            state=trend.state,
            reason=trend.reason,
            usual_share=round(trend.usual, 4),
            last_15m=_span(one.quarter),
            last_1h=_span(one.hour),
            before_24h=_span(one.before),
            bad_from=None if trend.first_bad is None else from_us(found.pulse.until_us - (trend.first_bad + 1) * hour),
            bad_to=None if trend.last_bad is None else from_us(found.pulse.until_us - trend.last_bad * hour),
            last_failure=from_us(one.last_failed_at),
            last_success=from_us(one.last_sent_at),
            failing=one.failing,
        )
    for row in found.pulse.queued:
        screen.row(
            "triage",
            kind="queue",
            provider=row.provider,
            mails=row.mails,
            held=row.held,
            untried=row.untried,
            by_age={"1h": row.to_1h, "6h": row.to_6h, "24h": row.to_24h, "older": row.older},
            oldest=from_us(row.oldest_at),
            first_expires=from_us(row.expires_at),
        )
    total = 0
    for before, provider, mails in found.pulse.expiry:
        total += mails
        screen.row("triage", kind="expiry", before=from_us(before), provider=provider, mails=mails, total=total)
    for way, mails in found.pulse.ways.items():
        asked = from_us(found.pulse.mx_last) if way == "mx" else None
        screen.row("triage", kind="way", way=way, mails=mails, asked=asked)
    for item in found.findings:
        screen.row(
            "triage",
            kind="evidence",
            what=item.what,
            where=item.where,
            at=item.at,
            text=item.text,
            next=item.next_step,
        )
    for one_ in found.rotations:
        screen.row(
            "triage",
            kind="rotation",
            base=str(one_.base),
            files=len(one_.files),
            oldest=str(one_.oldest),
            keep=one_.keep,
            period_s=None if one_.period is None else round(one_.period.total_seconds()),
            leaves_at=one_.leaves_at,
            rule=one_.rule,
        )
    for step in found.advice:
        screen.row("triage", kind="command", command=step.command, why=step.why)


def _span(span: Span) -> dict[str, object]:
    return {"tries": span.tries, "failed": span.failed, "share": round(span.share, 4)}


def _state(screen: Screen, found: Triage, now: datetime, where: ZoneInfo) -> None:
    screen.heading(_WORDS[found.state])
    newest = from_us(max((host.last_at for host in found.pulse.hosts), default=found.pulse.until_us)) or found.until
    if newest > now:
        ahead = render.span((newest - now).total_seconds())
        screen.line(f"as of now, {render.at(found.until, where)}")
        screen.prose(
            f"the newest line collected is {ahead} in the future: the zone of its times or a clock may be wrong"
        )
    else:
        age = (now - found.until).total_seconds()
        screen.line(f"as of {render.at(found.until, where)}, the newest line collected ({render.span(age)} ago)")
    # what follows is one line for each receiving system that matters
    from resend.flows.triage import unusual

    for one in unusual(found.pulse)[:_SHOWN]:
        began = (
            None if one.trend.first_bad is None else found.pulse.until_us - (one.trend.first_bad + 1) * 3_600_000_000
        )
        ended = None if one.trend.last_bad is None else found.pulse.until_us - one.trend.last_bad * 3_600_000_000
        bad = f"bad since {render.minute(from_us(began), where)}"
        if one.trend.state == "over":
            bad = f"bad from {render.minute(from_us(began), where)} to {render.minute(from_us(ended), where)}"
        text = f"{one.provider}: {one.trend.state}, {bad}; {one.trend.reason}"
        for number, line in enumerate(render.wrap(text, screen.columns - 4)):
            screen.line(f"{'    ' if number else '  '}{line}")


def _providers(screen: Screen, found: Triage, where: ZoneInfo) -> None:
    from resend.flows.triage import unusual

    everything = found.pulse.providers
    shown = everything[: max(_SHOWN, len(unusual(found.pulse)))]
    screen.heading("Attempts that failed, of all attempts")
    screen.table(
        [
            render.Column("provider"),
            render.fixed("state"),
            render.number("15 min"),
            render.number("1 h"),
            render.number("24 h before"),
            render.fixed("last failure"),
            render.fixed("last success"),
        ],
        [
            (
                one.provider,
                one.trend.state,
                *(_share(span) for span in (one.quarter, one.hour, one.before)),
                render.minute(from_us(one.last_failed_at), where),
                render.minute(from_us(one.last_sent_at), where),
            )
            for one in shown
        ],
        more=f"... and {render.count(len(everything) - len(shown))} more, all as usual"
        if len(everything) > len(shown)
        else "",
    )
    asked = from_us(found.pulse.mx_last)
    ways = impact.ways(found.pulse.ways, render.at(asked, where)[:10] if asked else "", 0)
    if ways:
        for line in render.wrap(f"of failed and queued mail, {ways}", screen.columns):
            screen.line(line)


def _share(span: Span) -> str:
    return "-" if not span.tries else render.share(span.failed, span.tries)


def _queue(screen: Screen, found: Triage, now: datetime, where: ZoneInfo) -> None:
    screen.heading("Still queued on the mail hosts, by age")
    if not found.pulse.queued:
        screen.line("nothing, as far as the evidence tells")
        return
    shown = found.pulse.queued[:_SHOWN]
    screen.table(
        [
            render.Column("provider"),
            *(render.number(name) for name in ("mails", "< 1 h", "< 6 h", "< 24 h", "older", "on hold")),
            render.fixed("first expires"),
        ],
        [
            (
                row.provider,
                *(row.mails, row.to_1h, row.to_6h, row.to_24h, row.older, row.held),
                render.minute(from_us(row.expires_at), where),
            )
            for row in shown
        ],
        more=f"... and {render.count(len(found.pulse.queued) - len(shown))} more"
        if len(found.pulse.queued) > len(shown)
        else "",
    )
    steps = _expiry(found)
    if steps:
        screen.heading("Lost if nothing is done: what expires, and by when")
        overdue = sum(mails for before, _, mails in found.pulse.expiry if (at := from_us(before)) and at <= now)
        screen.table(
            [render.fixed("by"), render.number("mails"), render.number("in all")],
            [(render.minute(from_us(before), where), mails, total) for before, mails, total in steps],
        )
        if overdue:
            screen.line(f"{render.count(overdue)} of them are overdue: the log does not show their end")


def _expiry(found: Triage) -> list[tuple[int, int, int]]:
    """(end of the hour, mails since the row before, mails in all): at most _STEPS rows, the last with everything."""
    hours: dict[int, int] = {}
    for before, _, mails in found.pulse.expiry:
        hours[before] = hours.get(before, 0) + mails
    order = sorted(hours)
    keep = order if len(order) <= _STEPS else [order[round(n * (len(order) - 1) / (_STEPS - 1))] for n in range(_STEPS)]
    rows: list[tuple[int, int, int]] = []
    total = since = 0
    for hour in order:
        total += hours[hour]
        since += hours[hour]
        if hour in keep:
            rows.append((hour, since, total))
            since = 0
    return rows


def _evidence(screen: Screen, found: Triage, now: datetime, where: ZoneInfo) -> None:
    from resend.flows.triage import days_left

    screen.heading("Evidence that is missing, or soon will be")
    if not found.findings:
        screen.line("none found")
    for item in found.findings[:_FINDINGS]:
        at = f", from {render.minute(item.at, where)}" if item.what == "loss" else ""
        for line in render.wrap(f"{item.where}: {item.text}{at}", screen.columns - 2):
            screen.line(f"  {line}")
        for line in render.wrap(item.next_step, screen.columns - 6):
            screen.line(f"      {line}")
    if len(found.findings) > _FINDINGS:
        screen.line(f"  ... and {len(found.findings) - _FINDINGS} more; --json shows all")
    for one in found.rotations[:_FINDINGS]:
        left = "" if one.leaves_at is None else f", deleted in about {days_left(one, now)} days"
        guess = "" if one.rule else " (estimated)"
        for line in render.wrap(f"{one.base}: {len(one.files)} files, oldest {one.oldest.name}{left}{guess}", 76):
            screen.line(f"  {line}")


def _commands(screen: Screen, found: Triage) -> None:
    if not found.advice:
        return
    screen.heading("What to do now")
    for step in found.advice:
        for line in render.wrap(step.why, screen.columns - 4):
            screen.line(f"  # {line}")
        screen.line(f"  {step.command}")
