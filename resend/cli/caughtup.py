"""How the last catch-up went, in words, for `resend status`. Changes nothing; raises nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from resend.cli import render
from resend.cli.screen import Screen
from resend.model import CatchUpEnd

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from resend.stores.rows import CatchUp

# What a run counts of its mails, in the order in which it is told.
OUTCOMES = ("accepted", "deferred", "rejected", "in_doubt", "disarmed", "quarantined", "suppressed", "held", "gave_up")


def show_last(screen: Screen, found: CatchUp | None, where: ZoneInfo) -> None:
    """When the last one ran, what it took, sent and left, why it stopped, what is next due. Nothing where none ran."""
    if found is None:
        return
    screen.row(
        "catch_up",
        began_at=found.began_at,
        ended_at=found.ended_at,
        due=found.due,
        by_policy=found.by_policy,
        taken=[dict(item) for item in found.taken],
        counts=dict(found.counts),
        left=dict(found.remains),
        ending=found.ending,
        reason=found.reason,
        exit=found.exit,
        next_due=found.next_due,
    )
    screen.heading("Last catch-up")
    for name, words in _cells(screen, found, where):
        for line in render.wrap(words, screen.columns - 10):
            screen.line(f"{name:8}  {line}")
            name = ""
    screen.line()


def _cells(screen: Screen, found: CatchUp, where: ZoneInfo) -> list[tuple[str, str]]:
    began = render.at(found.began_at, where)
    if found.ended_at is None:
        return [
            ("ran", f"{began}, has not come to its end: it is under way, or was killed"),
            ("took", f"{render.count(found.due)} due"),
        ]
    took = [f"{render.count(found.due)} due", f"{render.count(found.by_policy)} by policy"]
    passed = [f"{item['provider']}: {item['passed_over']}" for item in found.taken if item["passed_over"]]
    return [
        ("ran", f"{began} to {render.at(found.ended_at, where)}"),
        ("took", ", ".join(took) + (f" ({'; '.join(passed)})" if passed else "")),
        ("sent", _numbers({name: found.counts[name] for name in OUTCOMES if found.counts.get(name)}) or "nothing"),
        ("left", _numbers(found.remains) or "nothing"),
        ("ended", _why(screen, found)),
        ("next due", render.at(found.next_due, where) if found.next_due else "nothing"),
    ]


def _numbers(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{render.count(number)} {name.replace('_', ' ')}" for name, number in counts.items())


def _why(screen: Screen, found: CatchUp) -> str:
    said = screen.masked(found.reason)
    match found.ending:
        case CatchUpEnd.DONE | CatchUpEnd.TIME | CatchUpEnd.TOLD | None:
            return said
        case CatchUpEnd.PARKED:
            return f"parked: {said}"
        case CatchUpEnd.HOURS:
            return f"closed: {said}"
        case CatchUpEnd.TROUBLE:
            return f"could not go on: {said}"
