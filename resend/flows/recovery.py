"""Whether a receiving system takes mail again: what a resend to it waits for. Reads the evidence and changes nothing.

A resend into a system that still throttles turns throttling into blocking. Only the last two hours of the evidence
count; a system that they say nothing about is left to the canary. Raises StoreError.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from resend.clock import format_duration, from_micros, to_micros
from resend.config import Config
from resend.linker.incident import own_queue_ids
from resend.linker.pulse import ProviderPulse, trends
from resend.stores.home import Home
from resend.stores.ledger import Ledger

QUIET = timedelta(hours=2)
_FEWEST, _SHARE = 5, 0.10  # failures in that time, and of all attempts, that are more than a few dead mailboxes


def unrecovered(
    home: Home, config: Config, ledger: Ledger, providers: Collection[str], *, now: datetime
) -> dict[str, str]:
    """Those of `providers` that still refused in the last two hours of the evidence, and what it showed."""
    found = trends(home, config, own=own_queue_ids(ledger), now_us=to_micros(now))
    return {one.provider: _said(one) for one in found if one.provider in providers and _refuses(one)}


def _refuses(one: ProviderPulse) -> bool:
    span = one.two_hours
    return span.failed >= _FEWEST and span.share >= _SHARE


def _said(one: ProviderPulse) -> str:
    last = "" if one.last_failed_at is None else f", the last at {from_micros(one.last_failed_at):%Y-%m-%d %H:%M} UTC"
    span = one.two_hours
    return (
        f"{span.failed:,} of {span.tries:,} attempts failed in the last {format_duration(QUIET)} of the evidence{last}"
    )
