"""Keeping evidence for as long as it is needed: packing finished days, and removing what is old and not needed.

Composes evidence and ledger. Raises UsageError where an open incident or an unsettled mail needs what would go.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from resend.clock import from_micros, to_micros, to_text
from resend.config import Config
from resend.errors import UsageError
from resend.flows.vetoes import has_ledger
from resend.stores import compact as packing
from resend.stores import incidents, prune, sql, unsettled
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from resend.stores.ledger import open_ledger

CompactSummary = packing.CompactSummary
Prunable = prune.Prunable


def compact(home: Home, *, now: datetime, progress: packing.Progress | None = None) -> CompactSummary:
    """One file for each day that is over. `now` is aware UTC."""
    return packing.compact(Evidence(home), now=now, progress=progress)


def prunable(home: Home, config: Config, *, older_than: timedelta, now: datetime) -> Prunable:
    """What `remove` would remove at `now` (aware UTC); refused where it is needed."""
    found = prune.prunable(Evidence(home).manifest(), before_us=to_micros(now - older_than))
    if found.parts:
        _refuse_what_is_needed(home, config, found)
    return found


def remove(home: Home, config: Config, *, older_than: timedelta, confirm: int, now: datetime) -> Prunable:
    """Remove evidence older than that, if it is exactly `confirm` lines."""
    prunable(home, config, older_than=older_than, now=now)
    return prune.prune(Evidence(home), before_us=to_micros(now - older_than), confirm=confirm)


def _refuse_what_is_needed(home: Home, config: Config, found: Prunable) -> None:
    """An open incident needs all from the arrival of its first mail; a mail without an end, all from its try."""
    if found.events_to is None or not has_ledger(home, config):
        return
    with open_ledger(config.ledger.url, home, create=False) as ledger:
        open_ones = [record for record in ledger.incidents() if record.open]
        with ledger.read() as connection:
            tried = min((item.armed_us for item in unsettled.unsettled(connection)), default=None)
    for record in open_ones:
        with sql.connect(memory_limit="1GiB") as con:
            incidents.attach(con, home, record.id)
            row = con.execute("SELECT min(least(arrived_at, first_failed_at)) FROM frozen").fetchone()
        first = row[0] if row else None
        if first is not None and first <= found.events_to:
            raise UsageError(
                f"it is needed: the open incident has mail from {to_text(from_micros(first))[:16]}Z",
                where=f"incident {record.name}",
                next_step=f"close it with 'resend incident close {record.id}', or keep more with --older-than",
            )
    if tried is not None and tried <= found.events_to:
        raise UsageError(
            f"it is needed: a mail sent at {to_text(from_micros(tried))[:16]}Z is not settled yet",
            next_step="run 'resend reconcile', settle the rest with 'resend doubt', or keep more with --older-than",
        )
