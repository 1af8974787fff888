"""`resend collect`, `sources` and `outcomes`: from logs to what happened to each mail. Decides nothing.

Raises UsageError for options that do not fit; the stores and stages raise the rest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import existing, from_us, screen_of, workplace, zone
from resend.cli.progress import Progress
from resend.cli.screen import Screen
from resend.clock import from_text
from resend.errors import Exit, UsageError
from resend.model import OutcomeStatus

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from resend.config import Config
    from resend.stores.home import Home

app = typer_app()
_SHOWN = 200  # outcomes on screen; --json gives all
_FIRST = 20  # gaps and rejected lines that are shown
_STATUSES = "only this status: " + ", ".join(OutcomeStatus)


@app.callback()
def _evidence() -> None:
    """Evidence."""


@app.command()
def collect(
    ctx: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH", readable=False, help="logs, mailboxes of bounces, exports, or folders of them; .gz too"
        ),
    ] = None,
    format_: Annotated[str, typer.Option("--format", metavar="F", help="the log format; found out where absent")] = "",
    tz: Annotated[str, typer.Option("--tz", metavar="Z", help="zone of times without one")] = "",
    year: Annotated[
        int, typer.Option("--year", metavar="Y", help="year of the last line, where lines lack it", show_default=False)
    ] = 0,
    host: Annotated[
        str, typer.Option("--host", metavar="H", help="the mail host, where the log does not name it")
    ] = "",
    queue: Annotated[
        Path | None, typer.Option("--queue", metavar="FILE", readable=False, help="output of postqueue -j")
    ] = None,
    from_config: Annotated[
        bool, typer.Option("--from-config", help="the delivery tables of [collect.tables] too")
    ] = False,
    explain: Annotated[
        str, typer.Option("--explain", metavar="FILE:LINE", help="say how one line is understood; writes nothing")
    ] = "",
) -> Done:
    """Read logs, bounces and exports into the evidence. Safe to run again: only what is new is read.

    Exits with 3 when lines were rejected, as they look like mail and were not understood, or when a file that was named
    or may not be read was left out: the rest is collected.
    """
    from resend.collect.collect import NothingCollected
    from resend.collect.collect import collect as collect_files
    from resend.collect.formats import formats
    from resend.flows.vetoes import refresh_evidence_vetoes

    screen = screen_of(ctx)
    if format_ and format_ not in formats():
        raise UsageError(f"--format: unknown format {format_!r}", next_step=f"one of {', '.join(formats())}")
    if explain:
        return _explain(screen, explain, bool(paths), asked=format_, tz=tz, year=year, host=host)
    if not paths and not from_config and queue is None:
        raise UsageError("nothing to collect", next_step="name logs or folders: resend collect /var/log/mail.log*")
    if Path("-") in (paths or []):
        raise UsageError(
            "collect reads files, whose places it can name later", next_step="write standard input to a file first"
        )
    config, home = workplace(screen)
    try:
        with Progress(screen, "collect", "bytes") as progress:
            found = collect_files(
                home,
                config,
                paths or [],
                format=format_,
                tz=tz,
                year=year,
                host=host,
                queue=queue,
                from_config=from_config,
                progress=_paced(progress),
            )
    except NothingCollected as error:
        for line in error.unread[1:]:
            screen.note(f"error: {render.clean(screen.masked(line))}")
        raise
    for line in found.unread:
        screen.note(f"error: {render.clean(screen.masked(line))}")
    for warning in found.warnings:
        screen.note(f"warning: {screen.masked(warning)}")
    for line in found.rejected_lines:
        screen.note(f"rejected: {screen.masked(line)}")
    if found.rejected > len(found.rejected_lines):
        screen.note(f"... and {render.count(found.rejected - len(found.rejected_lines))} more rejected lines")
    if found.files and tz not in ("", config.tz):
        screen.note(
            f"these files keep {tz} from now on, without --tz too; others are read in {config.tz}, or write"
            f' tz = "{tz}" into resend.toml'
        )
    vetoed = refresh_evidence_vetoes(home, config)
    screen.line(
        f"{render.some(found.files, 'file')}, {render.some(found.lines, 'line')}: {render.count(found.parsed)} parsed,"
        f" {render.count(found.ignored)} ignored, {render.count(found.rejected)} rejected"
    )
    if found.unread:
        screen.line(f"{render.some(len(found.unread), 'path')} not collected: see the errors")
    screen.line(f"{render.some(found.new_parts, 'new part')}, {render.count(found.known_parts)} known")
    if queue is not None:
        screen.line(f"{render.count(found.messages_queued)} recipients still queued")
    if vetoed:
        screen.line(f"{render.count(vetoed)} new vetoes: originals that arrived after all, or complaints")
    summary = asdict(found) | {
        "rejected_lines": [screen.masked(line) for line in found.rejected_lines],
        "warnings": [screen.masked(line) for line in found.warnings],
        "unread": [screen.masked(line) for line in found.unread],
        "vetoed": vetoed,
    }
    if screen.json:
        _sources(screen, config, home)
    else:
        screen.line(f"next: {_next(home, found.rejected, len(found.unread))}")
    return Done(Exit.LEFT if found.rejected or found.unread else Exit.DONE, summary)


def _next(home: Home, rejected: int, unread: int) -> str:
    """What leads on after a collect: mend, link, or look."""
    from resend.stores.catalog import Catalog

    if rejected:
        return "resend sources --rejected"
    if unread:
        return "mend what the errors name, then the same command again: what is known is not read twice"
    if Catalog(home).loaded_at() is None:
        return "resend triage; then resend catalog load, so that mails are linked to releases"
    return "resend triage, or resend incident open NAME"


def _paced(progress: Progress) -> Callable[[int, int], None]:
    """`progress` with the rate and the time left in its plain lines; the bar at a terminal shows them itself."""
    started = time.monotonic()
    bar = sys.stderr.isatty()

    def call(done: int, total: int) -> None:
        spent = time.monotonic() - started
        rate = done / spent if spent > 0 else 0.0
        left = f", {render.span((total - done) / rate)} left" if rate and done < total else ""
        progress(done, total, "" if bar else f"{rate / 1e6:.1f} MB/s{left}")

    return call


def _explain(screen: Screen, place: str, more: bool, *, asked: str, tz: str, year: int, host: str) -> Done:
    from resend.collect.explain import FIELDS, KINDS
    from resend.collect.explain import explain as explain_line
    from resend.stores.evidence import Evidence

    if more:
        raise UsageError("--explain takes one line and collects nothing", next_step="leave the paths out")
    config, home = workplace(screen)
    where = zone(config)
    sources_ = Evidence(home).manifest().sources
    found = explain_line(place, sources_, asked=asked, tz=tz, zone=config.tz, year=year, host=host)
    screen.row(
        "line",
        place=found.place,
        format=found.format.name,
        envelope=found.envelope.name if found.envelope else "",
        verdict=found.verdict,
        why=found.why,
        text=found.text,
        inside=found.inside,
        events=[
            {"at": from_us(event["at_us"]) if event["kind"] != "rejected" else None}
            | {name: value for name, value in event.items() if name not in ("at_us", "line")}
            for event in found.events
        ],
    )
    wrapped = f", in {found.envelope.title}" if found.envelope else ""
    screen.line(f"{found.place}  {found.format.name}: {found.format.title}{wrapped}")
    for text in filter(None, (found.text, found.inside)):
        for line in render.wrap(text, screen.columns - 2):
            screen.line(f"  {line}")
    screen.line(f"{found.verdict}: {found.why}" if found.why else found.verdict)
    for event in found.events:
        screen.line()
        screen.line(KINDS[event["kind"]])
        if event["kind"] != "rejected":
            screen.line(f"  {'time':<15} {render.at(from_us(event['at_us']), where)} {config.tz}")
        for name, words in FIELDS.items():
            if name in event:
                value = render.span(event[name] / 1e6) if name == "delay" else str(event[name])
                first, *rest = render.wrap(value, screen.columns - 18) or [""]
                screen.line(f"  {words:<15} {first}")
                for line in rest:
                    screen.line(f"  {'':<15} {line}")
    return Done(summary={"verdict": found.verdict, "events": len(found.events)})


@app.command()
def sources(
    ctx: typer.Context,
    rejected: Annotated[bool, typer.Option("--rejected", help="the first lines that were not understood")] = False,
) -> Done:
    """Show what was collected: per file its lines, how many were understood, the time range and the gaps."""
    screen = screen_of(ctx)
    config, home = existing(screen)
    count = _sources(screen, config, home)
    _gaps(screen, config, home)
    lines = _rejected(screen, home) if count and (rejected or screen.json) else []
    return Done(summary={"sources": count, "rejected_lines": lines})


def _gaps(screen: Screen, config: Config, home: Home) -> None:
    """Windows in which lines are missing: what became of mails then may be unknown."""
    from resend.stores.evidence import Evidence

    where = zone(config)
    windows = Evidence(home).manifest().loss_windows()
    for host, start, end in windows:
        screen.row("gap", host=host, **{"from": from_us(start), "to": from_us(end)})
    if windows:
        screen.heading("Gaps: lines are missing")
    for host, start, end in windows[:_FIRST]:
        screen.line(f"{host}  {render.at(from_us(start), where)} to {render.at(from_us(end), where)}")
    if len(windows) > _FIRST:
        screen.line(f"... and {render.count(len(windows) - _FIRST)} more; --json shows all")


def _rejected(screen: Screen, home: Home) -> list[str]:
    """The first lines that look like mail and were not understood, with their places."""
    from resend.collect.rejected import rejected
    from resend.stores.evidence import Evidence

    lines = [screen.masked(line) for line in rejected(Evidence(home), _FIRST)]
    if lines:
        screen.heading("Not understood")
    for line in lines:
        screen.line(line)
    screen.line("next: resend collect --explain FILE:LINE" if lines else "no line was rejected")
    return lines


def _sources(screen: Screen, config: Config, home: Home) -> int:
    from resend.stores.evidence import Evidence

    rows = Evidence(home).sources()
    where = zone(config)
    for row in rows:
        screen.row("source", **asdict(row) | {"first_at": from_us(row.first_at), "last_at": from_us(row.last_at)})
    if not rows:
        screen.line("nothing collected yet; next: resend collect /var/log/mail.log")
        return 0
    numbers = [render.number(name) for name in ("lines", "parsed", "rejected", "gaps")]
    screen.table(
        [render.Column("host"), render.fixed("file"), *numbers, render.fixed("first"), render.fixed("last")],
        [
            (
                row.host,
                Path(row.path).name,
                *(row.lines, row.parsed, row.rejected, row.gaps),
                render.minute(from_us(row.first_at), where),
                render.minute(from_us(row.last_at), where),
            )
            for row in rows
        ],
    )
    return len(rows)


@app.command()
def outcomes(
    ctx: typer.Context,
    recipient: Annotated[str, typer.Option("--recipient", metavar="A", help="only this address")] = "",
    message_id: Annotated[str, typer.Option("--message-id", metavar="M", help="only this Message-ID")] = "",
    status: Annotated[OutcomeStatus | None, typer.Option("--status", metavar="S", help=_STATUSES)] = None,
) -> Done:
    """Show the last word on single mails, with the log line it rests on. Shows whole addresses.

    Failed mail comes first; mail that was delivered at once is listed too, at a terminal up to a screenful.
    """
    from resend.flows.outcomes import outcomes as find

    screen = screen_of(ctx)
    config, home = existing(screen)
    where = zone(config)
    count = 0
    for row in find(home, config, recipient=recipient, message_id=message_id, status=status or ""):
        if count == _SHOWN and not screen.json:
            screen.line(f"... the first {render.count(_SHOWN)}; --json shows all")
            break
        count += 1
        screen.row("outcome", **row)
        if not screen.json:
            show_outcome(screen, row, where)
    if not count:
        screen.line("no such outcome in the evidence")
    return Done(summary={"outcomes": count})


def show_outcome(screen: Screen, row: Mapping[str, Any], where: ZoneInfo) -> None:
    """One outcome in two or three lines, with its whole address."""
    at = render.at(from_text(row["at"]), where) if row["at"] else "-"
    doubt = ", may have arrived" if row["maybe_delivered"] else ""
    screen.line(f"{row['recipient']}  {row['status']}{doubt}")
    tries = f"{row['attempts']} attempt{'s' if row['attempts'] != 1 else ''}"
    screen.line(f"  {at}  {row['provider']}  {tries}  {row['evidence']}")
    reply = render.reply(row["code"] or 0, row["enhanced"] or "", row["reply"] or "")
    for line in render.wrap(reply, screen.columns - 2):
        screen.line(f"  {line}")
