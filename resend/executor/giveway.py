"""A host that has more than its part of a provider's connections gives some to hosts that wait for one.

First its connections end, with their mail; then the ledger hears that they are free: a provider never sees more than
its limit. Acts on the lane that it is given. Raises what the ledger's writer raises.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from resend.stores import sharing

if TYPE_CHECKING:
    from resend.executor.lane import Lane


async def give_way(lane: Lane) -> None:
    """Look whether somebody waits, and give what is closed by now. Called again and again."""
    run, leases = lane.run, lane.leases
    egress, provider = lane.egress, lane.provider
    if len(leases.slots) > 1 and not leases.giving:
        asked = partial(sharing.share, egress=egress, provider=provider, connections=lane.profile.connections)
        keep = await run.writer.call(asked)
        if keep < len(leases.slots):  # they may be others by now
            leases.giving, leases.slots = leases.slots[keep:], leases.slots[:keep]
            lane.sessions.granted = len(leases.slots)
    if not leases.giving:
        return
    while lane.sessions.opened > len(leases.slots) and lane.sessions.idle:
        await lane.sessions.close_idle()
    if lane.sessions.opened <= len(leases.slots):
        given, leases.giving = leases.giving, ()
        free = partial(sharing.give, egress=egress, provider=provider, owner=run.worker, numbers=given)
        await run.writer.call(free)
        lane.record("gave_way", f"{len(given)} connections to hosts that wait; {len(leases.slots)} stay here")
