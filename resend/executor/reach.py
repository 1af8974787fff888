"""A session for a mail, or what it means that there is none: of the receiver's word, of the network, of a stop.

Acts on the lane that it is given; a mail that was not tried goes back to the head of its rows. What one egress cannot
do ends its lanes and no others: a refused login parks it; a receiver that is gone is waited for as long as the run is
patient, if it was there before. Raises ConnectError where a worker begins with a setting that cannot work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resend.clock import format_duration
from resend.errors import ConnectError, StalePlan
from resend.executor.connect import Hosts, LoginRefused, Refused
from resend.executor.dialogue import new_try
from resend.executor.transaction import End, Ended
from resend.model import Stage

if TYPE_CHECKING:
    from resend.executor.lane import Lane
    from resend.executor.run import Run
    from resend.executor.session import Session
    from resend.stores.rows import Batch, Delivery

_PAUSE_S = 0.2
_UNREACHABLE_MAX = 3  # connecting fails this often in a row (after its own retries): the receiver is gone
_KNOCK_S, _KNOCK_MAX_S = 1.0, 30.0  # then it is tried so often: after half of the time that it has been gone


async def session_for(lane: Lane, row: Delivery) -> tuple[Hosts, Session] | None:
    """A session to the row's receiver. None: the row was settled, or put back."""
    route = lane.run.route(row)
    try:
        taken = await lane.sessions.take(route, row.domain)
    except Refused as error:
        others = lane.sessions.opened
        if error.reply.code < 500 and others and others < lane.sessions.limit:
            lane.sessions.limit = others  # not about the mail: the receiver takes no more connections
            lane.leases.rows.appendleft(row)
            lane.record("fewer_connections", f"{error.reply.code} {error.reply.text[:200]}")
            return None
        await _ended_early(lane, row, End(how=Ended.REFUSED, stage=Stage.CONNECT, reply=error.reply))
        return None
    except OSError as error:
        await _unreached(lane, row, error)
        return None
    except LoginRefused as error:
        lane.leases.rows.appendleft(row)
        lane.run.park(lane.egress, error.line())
        return None
    except ConnectError as error:
        lane.leases.rows.appendleft(row)
        if lane.run.options.stays and lane.egress not in lane.run.reached:
            raise
        _gone(lane, error, error.line())
        return None
    if taken is None:
        lane.leases.rows.appendleft(row)
        return None
    if lane.away_since is not None:
        lane.record("reached_again", "")
    lane.failures, lane.away_since, lane.reached = 0, None, True
    lane.run.reached.add(lane.egress)
    return taken


def astray(run: Run, batch: Batch) -> StalePlan | None:
    """Why a batch cannot be sent by this config: a mail of it would leave by another egress than it was planned for."""
    for row in batch.rows:
        really = run.routes.leaves_by(row.provider, row.domain, row.egress)
        if really != row.egress:
            return StalePlan(
                f"mail to {row.domain} would leave by {really}, and was planned to leave by {row.egress}: other limits"
                " hold there, and an acceptance means another thing; it was not sent",
                where=f"plan {batch.plan_id[:12]}",
                next_step=f"put [relay] and [mx_map] back, or close the plan and make a new one: resend plan close"
                f" {batch.plan_id[:12]}",
            )
    return None


async def _unreached(lane: Lane, row: Delivery, error: OSError) -> None:
    """No connection. Where this egress reached others it is this receiver's failure, and the mail is deferred."""
    run, mono = lane.run, lane.run.clock.monotonic()
    lane.failures += 1
    lost = lane.failures >= _UNREACHABLE_MAX and lane.unreachable is None
    if lane.egress in run.reached and not lane.relay:  # the next mail may be for another host
        await _ended_early(lane, row, End(how=Ended.LOST, stage=Stage.CONNECT, why=str(error)))
    else:
        lane.leases.rows.appendleft(row)
    knock = _PAUSE_S
    if lost:
        came = lane.reached and not run.options.due_only
        if lane.away_since is None and came:
            lane.away_since = mono
            patience = format_duration(run.options.wait)
            lane.record("unreachable", f"{error}; it was there before, and is tried for {patience}")
        if lane.away_since is None or mono - lane.away_since >= run.options.wait.total_seconds():
            route = run.route(row)
            gone = ConnectError(
                f"cannot reach the receiver: {error}",
                where=(f"{route.host}:{route.port}" if route else f"MX of {row.domain}") + _by(lane.egress),
                next_step="check the host and the network, then run the same command again; nothing is lost",
            )
            _gone(lane, gone, str(error))
        else:
            knock = min(_KNOCK_MAX_S, max(_KNOCK_S, (mono - lane.away_since) / 2))
    until = mono + knock
    while lane.run.clock.monotonic() < until and not lane.over:
        await run.nap(_PAUSE_S)


def _gone(lane: Lane, error: ConnectError, said: str) -> None:
    """This lane ends; the run raises the error when all others are through."""
    if lane.unreachable is None:
        lane.unreachable = error
        lane.record("unreachable", said)


async def _ended_early(lane: Lane, row: Delivery, end: End) -> None:
    """Settle a mail whose session did not open. It takes a slot, or a closed door would be knocked at unpaced."""
    at = await lane.slots.take(None)
    if at is None:
        lane.leases.rows.appendleft(row)
    else:
        lane.settled(row, new_try(lane.run.clock.now()), at, end)


def _by(egress: str) -> str:
    """Which of several ways out it was."""
    return f" by {egress}" if egress.startswith("direct:") else ""
