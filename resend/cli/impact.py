"""Shows an incident's numbers: totals, tables by dimension, buckets that add up, time. Decides and reads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from resend.cli import render
from resend.cli.screen import Screen
from resend.clock import from_text
from resend.model import Bucket
from resend.report.unlinked import grouped

if TYPE_CHECKING:
    from resend.report.ended import Ended
    from resend.report.impact import BucketRow, Impact, ImpactRow

_TOP = 8  # rows of a table on screen; --json and --csv give all
_REASONS = 4
_HEADS = {
    "provider": "By receiving system",
    "domain": "By domain",
    "release": "By release",
    "customer": "By customer",
    "cause": "By cause",
    "hour": "By hour of arrival",
}


def show(screen: Screen, found: Impact, where: ZoneInfo, etas: Mapping[str, float]) -> None:
    """Everything of one incident. `etas`: seconds that resending takes, by provider."""
    about = found.about
    for rows in found.tables.values():
        for row in rows:
            screen.row(
                "impact",
                dimension=row.dimension,
                value=row.value,
                label=row.label,
                mails=row.mails,
                failed=row.failed,
                share=row.share,
                resend=row.resend,
            )
    screen.heading(f"Incident {about.name} ({about.id})")
    whole = f" of {render.count(found.mails)} ({render.share(found.affected, found.mails)})" if found.mails else ""
    screen.line(f"{render.some(found.affected, 'mail')}{whole} failed or came late")
    screen.line(f"evidence {_time(about.first_at, where)} to {_time(about.last_at, where)}")
    if about.catalog_loaded_at:
        screen.line(f"catalog loaded {_time(about.catalog_loaded_at, where)}")
    dates = sorted({_time(text, where)[:10] for text in (about.mx_first, about.mx_last) if text})
    known = ways(found.provider_ways, " to ".join(dates), about.mx_silent)
    if known:
        for line in render.wrap(known, screen.columns):
            screen.line(line)
    for warning in about.warnings:
        screen.line(f"warning: {warning}")
    for dimension, head in _HEADS.items():
        _dimension(screen, head, found.tables.get(dimension, ()), dimension, where)
    buckets(screen, found.buckets, found.affected)
    screen.line(
        f"beside the sum: {render.count(found.no_evidence)} without evidence,"
        f" {render.count(found.missing)} sent but never seen in a log"
    )
    ended(screen, found.ended)
    _links(screen, found)
    _eta(screen, etas)


def ended(screen: Screen, found: Ended, *, note: bool = False) -> None:
    """What of the queued mail bounced or expired since, and the command that takes it. `note`: beside the data."""
    if not found.mails:
        return
    screen.row("ended", bounced=found.bounced, expired=found.expired, taken=found.taken, next=found.next)
    say = screen.note if note else screen.prose
    say(f"{found.text()}{'. Take them with:' if found.next else ''}")
    if found.next:
        (screen.note if note else screen.line)(f"  {found.next}")


def ways(found: Mapping[str, int], asked: str, silent: int) -> str:
    """How receiving systems were found. `asked`: the date of the answers; `silent`: mails that the DNS did not name."""
    words = {
        "relay": "by the relay in the log",
        "mx": f"by MX (asked {asked})" if asked else "by MX",
        "domain": f"by the domain ({render.count(silent)} without an answer of the DNS)" if silent else "by the domain",
    }
    named = [f"{render.count(found[way])} {text}" for way, text in words.items() if found.get(way)]
    return f"the receiving system is known {', '.join(named)}" if named else ""


def buckets(screen: Screen, rows: Sequence[BucketRow], affected: int) -> None:
    """Each bucket with its reasons, and the sum."""
    for row in rows:
        screen.row("bucket", name=row.name, count=row.count, reasons=dict(row.reasons))
    screen.heading("What happens to them")
    width = max(len(bucket) for bucket in Bucket)
    for row in rows:
        if not row.count:
            continue
        reasons = list(row.reasons.items())
        words = [
            f"{reason or 'no reason given'}" + (f" ({render.count(count)})" if len(reasons) > 1 else "")
            for reason, count in reasons[:_REASONS]
        ]
        if len(reasons) > _REASONS:
            words.append(f"and {len(reasons) - _REASONS} more reasons")
        head = f"{row.name:{width}}  {render.count(row.count):>11}  "
        for text in render.wrap("; ".join(words), screen.columns - len(head)):
            screen.line(head + text)
            head = " " * len(head)
    total = sum(row.count for row in rows)
    screen.line(f"{'':{width}}  {'-' * 11}")
    mark = "=" if total == affected else "is not"
    screen.line(f"{'sum':{width}}  {render.count(total):>11}  {mark} {render.count(affected)} affected")


def _dimension(screen: Screen, head: str, rows: Sequence[ImpactRow], dimension: str, where: ZoneInfo) -> None:
    if not rows:
        return
    screen.heading(head)
    shown = _peak(rows) if dimension == "hour" else rows[:_TOP]
    titled = dimension in ("release", "customer")
    columns = [
        render.Column(dimension, give=not titled),
        *([render.Column("title" if dimension == "release" else "name")] if titled else []),
    ]
    numbers = [render.number(name) for name in ("mails", "failed", "share", "resend")]
    screen.table(
        [*columns, *numbers],
        [
            (
                _time(row.value, where)[:13] + ":00" if dimension == "hour" else row.value,
                *([row.label] if titled else []),
                row.mails,
                row.failed,
                render.share(row.failed, row.mails or 0),
                row.resend,
            )
            for row in shown
        ],
        more=f"... and {render.count(len(rows) - len(shown))} more" if len(rows) > len(shown) else "",
    )


def _peak(rows: Sequence[ImpactRow]) -> list[ImpactRow]:
    """The hours with most failed mail, in order of time."""
    worst = sorted(rows, key=lambda row: (-row.failed, row.value))[:_TOP]
    return sorted(worst, key=lambda row: row.value)


def _links(screen: Screen, found: Impact) -> None:
    screen.heading("How they were linked")
    for rule, confidence, mails in found.links:
        screen.row("link", rule=rule, confidence=confidence, mails=mails)
    screen.table(
        [render.Column("rule"), render.fixed("confidence"), render.number("mails")],
        [(rule or "none fits", confidence, mails) for rule, confidence, mails in found.links],
    )
    for mail in found.unlinked:
        screen.row(
            "unlinked",
            evidence=mail.evidence,
            recipient=screen.address(mail.recipient),
            message_id=screen.masked(mail.message_id),
            rule=mail.rule,
            nearest=screen.masked(mail.nearest),
            doubt=mail.doubt,
            needed=mail.needed,
        )
    for doubt, needed, mails, first in grouped(found.unlinked):
        text = f"{render.count(mails)} unlinked: {doubt}, as {screen.masked(first.nearest or first.evidence)}"
        for line in (*render.wrap(text, screen.columns), *render.wrap(f"would link: {needed}", screen.columns - 2)):
            screen.line(line)


def _eta(screen: Screen, etas: Mapping[str, float]) -> None:
    for provider, seconds in etas.items():
        screen.row("eta", provider=provider, seconds=round(seconds))
    if etas:
        screen.heading("How long resending takes")
        screen.table(
            [render.Column("provider"), render.number("time")],
            [(provider, render.span(seconds)) for provider, seconds in etas.items()],
        )


def _time(text: str, where: ZoneInfo) -> str:
    return render.at(from_text(text), where) if text else "-"
