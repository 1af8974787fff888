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
from resend.policy.trend import TrendState
from resend.stores.home import Home
from resend.stores.ledger import Ledger

QUIET = timedelta(hours=2)
_HOURS = int(QUIET / timedelta(hours=1))


def unrecovered(
    home: Home, config: Config, ledger: Ledger, providers: Collection[str], *, now: datetime
) -> dict[str, str]:
    """Those of `providers` that refused more than usual in the last two hours of the evidence, and what it showed."""
    found = trends(home, config, own=own_queue_ids(ledger), now_us=to_micros(now))
    return {one.provider: _said(one) for one in found if one.provider in providers and _is_bad(one)}


def _is_bad(one: ProviderPulse) -> bool:
    match one.trend.state:
        case TrendState.NORMAL:
            return False
        case TrendState.ONGOING | TrendState.EASING:
            return True
        case TrendState.OVER | TrendState.UNCLEAR:
            return one.trend.last_bad is not None and one.trend.last_bad < _HOURS


def _said(one: ProviderPulse) -> str:
    last = "" if one.last_failed_at is None else f", the last at {from_micros(one.last_failed_at):%Y-%m-%d %H:%M} UTC"
    return (
        f"{one.hour.failed:,} of {one.hour.tries:,} attempts failed in the last hour of the evidence"
        f" ({one.trend.state}){last}; it must be quiet for {format_duration(QUIET)}"
    )
