"""Says how old the knowledge is that keeps a mail from being sent: what is newer is not known. Decides nothing.

`status` shows what the ledger was last told, preview and run what was collected and loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from resend.cli import render
from resend.cli.screen import Screen
from resend.clock import format_duration, from_micros

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from resend.stores.home import Home
    from resend.stores.rows import Watermark

_WORDS = {"evidence": "evidence up to", "catalog": "catalog loaded"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A source, and up to when it tells. `read_at`: when the ledger was last told, None where it is not asked."""

    source: str
    up_to: datetime
    read_at: datetime | None = None
    rejected: int = 0  # rows of the suppression list that were not understood


def of_home(home: Home) -> Iterator[Known]:
    """What was collected and loaded."""
    from resend.stores.catalog import Catalog
    from resend.stores.evidence import Evidence

    newest = max((part.last_at for part in Evidence(home).manifest().parts.values() if part.last_at), default=None)
    if newest is not None:
        yield Known(source="evidence", up_to=from_micros(newest))
    catalog = Catalog(home)
    loaded_at = catalog.loaded_at()
    if loaded_at is not None:
        listed = catalog.snapshots().get("suppressions")
        yield Known(source="catalog", up_to=loaded_at, rejected=listed.rejected if listed else 0)


def of_ledger(watermarks: Sequence[Watermark]) -> Iterator[Known]:
    """What the ledger was told: its vetoes stop a mail."""
    from resend.flows.vetoes import EVIDENCE

    for mark in sorted(watermarks, key=lambda mark: mark.source != EVIDENCE):
        source = "evidence" if mark.source == EVIDENCE else mark.source
        yield Known(source=source, up_to=mark.seen_to, read_at=mark.refreshed_at)


def show(screen: Screen, known: Sequence[Known], where: ZoneInfo) -> str:
    """A JSON row for each source; the same in words, "" where nothing is known."""
    now = datetime.now(UTC)
    words = []
    for item in known:
        age = max(now - item.up_to, timedelta())
        read = {"read_at": item.read_at} if item.read_at else {}
        more = {"rejected": item.rejected} if item.rejected else {}
        screen.row("known", source=item.source, up_to=item.up_to, age=round(age.total_seconds()), **read, **more)
        head = _WORDS.get(item.source, f"{item.source} up to")
        words.append(f"{head} {render.at(item.up_to, where)} ({format_duration(age)} ago)")
        if item.rejected:
            rows = render.some(item.rejected, "row")
            words.append(f"{rows} of the suppression list rejected: they keep no mail back; mend and load it again")
    return "\n".join(words)
