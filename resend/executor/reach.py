"""A session for a mail, or what it means that there is none: of the receiver's word, of the network, of a stop.

Acts on the lane that it is given; a mail that was not tried goes back to the head of its rows. Raises ConnectError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resend.errors import ConnectError
from resend.executor.connect import Hosts, Refused
from resend.executor.dialogue import new_try
from resend.executor.transaction import End, Ended
from resend.model import Stage

if TYPE_CHECKING:
    from resend.executor.lane import Lane
    from resend.executor.session import Session
    from resend.stores.rows import Delivery

_PAUSE_S = 0.2
_UNREACHABLE_MAX = 3  # connecting fails this often in a row (after its own retries): the lane ends


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
    if taken is None:
        lane.leases.rows.appendleft(row)
    else:
        lane.failures = 0
        lane.run.reached.add(lane.egress)
    return taken


async def _unreached(lane: Lane, row: Delivery, error: OSError) -> None:
    """No connection. Where this egress reached others it is this receiver's failure, and the mail is deferred."""
    lane.failures += 1
    if lane.egress in lane.run.reached and not lane.relay:
        await _ended_early(lane, row, End(how=Ended.LOST, stage=Stage.CONNECT, why=str(error)))
    else:
        lane.leases.rows.appendleft(row)
    if lane.failures >= _UNREACHABLE_MAX and lane.unreachable is None:
        route = lane.run.route(row)
        lane.unreachable = ConnectError(
            f"cannot reach the receiver: {error}",
            where=(f"{route.host}:{route.port}" if route else f"MX of {row.domain}") + _by(lane.egress),
            next_step="check the host and the network, then run the same command again; nothing is lost",
        )
        lane.record("unreachable", str(error))
    await lane.run.nap(_PAUSE_S)


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
