"""What a lane shares with the ledger: the decisions that hold for it, those of other hosts, and the batches it claims.

Acts on the lane that it is given. Raises what the ledger raises.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from resend.clock import to_micros
from resend.executor.leases import LEASE_S
from resend.stores import claims
from resend.stores.transitions import RateChange

if TYPE_CHECKING:
    from resend.executor.lane import Lane
    from resend.stores.rows import Batch, Rate

_VERDICT = timedelta(seconds=3)  # the host that sent the canary says within this time what came of it


def standing(lane: Lane, what: str, reason: str, *, who: str) -> RateChange:
    """A decision as a ledger row, with what holds for this lane from now on."""
    guard = lane.guard
    lane.decisions += 1
    return RateChange(
        egress=lane.egress,
        provider=lane.provider,
        what=what,
        reason=reason,
        at=lane.run.clock.now(),
        plan_id=lane.run.plan_id,
        who=who,
        fields={
            "rate": guard.rate,
            "ceiling": guard.ceiling,
            "capped": guard.capped,
            "capped_until": guard.capped_until,
            "cooldown_until": guard.cooldown_until,
            "clean_since": guard.clean_since,
            "canary_done": int(guard.canary_done),
            "dwell_until": lane.dwell_until,
            "paused": int(lane.paused),
            "parked": guard.parked,
            "bound": guard.bound,
        },
    )


def adopt(lane: Lane, known: Rate) -> None:
    """Other hosts decide too: what the ledger says by now holds here as well."""
    known = replace(known, tat_us=0)
    before, lane.known = lane.known, known
    if before is None or known == before:
        return
    guard = lane.guard
    pace = guard.pace
    guard.rate, guard.ceiling, guard.bound = known.rate, known.ceiling, known.bound
    if guard.pace != pace:
        lane.pacer.change(guard.pace, to_micros(lane.run.clock.now()))
    guard.capped, guard.capped_until = known.capped, known.capped_until
    guard.cooldown_until, guard.clean_since = known.cooldown_until, known.clean_since
    guard.parked, lane.paused = known.parked, known.paused
    if known.canary_done and not before.canary_done:
        guard.canary_done, lane.dwell_until = True, None
    elif known.dwell_until is not None and known.dwell_until != lane.dwell_until and not guard.canary_done:
        lane.dwell_until = known.dwell_until + _VERDICT


def claim(lane: Lane, conn: Connection) -> Batch | None:
    """The next batch of this lane: what is due again before what was never tried."""
    run, profile = lane.run, lane.profile
    closed, limit = lane.hours.limits(conn)
    if limit == 0:
        return None
    retry = partial(
        claims.retry_batch,
        conn,
        egress=lane.egress,
        provider=lane.provider,
        owner=run.worker,
        now=run.clock.now(),
        lease_s=LEASE_S,
        plan_id=run.plan_id,
        connections=profile.connections if run.options.shared_pace else None,
        want=min(profile.connections, run.options.connections),
        held=lane.leases.slots,
        closed=closed,
        limit=limit,
        shared=run.options.shared_pace,
    )
    found = retry()
    if found is not None or run.options.due_only:
        return found
    return claims.claim_batch(*retry.args, **retry.keywords)
