"""A worker's lanes: one for each (egress, provider) with work, begun again when there is more, until told to stop.

Raises what the ledger raises.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from resend.stores import lifecycle

if TYPE_CHECKING:
    from resend.executor.run import Run

LOOK_S = 1.0  # what is left in the ledger is asked for this often
_AGAIN_S = 60.0  # a receiver that cannot be reached is tried this often


async def stay(run: Run) -> None:
    """Send what is there and what comes; returns when the run stops and all lanes are through."""
    began = {place: run.clock.monotonic() for place in run.lanes}
    tasks = {place: asyncio.create_task(lane.work()) for place, lane in run.lanes.items()}
    ended = 0
    while not run.stopping:
        await run.nap(LOOK_S)
        before, ended = ended, sum(task.done() for task in tasks.values())
        if ended > before:
            await run.writer.call(partial(lifecycle.finish_plans, now=run.clock.now()))
        for place, item in (await run.look(run.clock.monotonic() - LOOK_S)).items():
            lane = run.lanes.get(place)
            rests = lane is not None and (
                not tasks[place].done()
                or bool(lane.guard.parked)
                or (lane.unreachable is not None and run.clock.monotonic() - began[place] < _AGAIN_S)
            )
            if rests or run.stopping or not (item.due or item.ready or item.leased):
                continue
            if lane is not None:
                run.seats.lanes.remove(lane.sessions)
            await run.prepare_lanes([item])
            began[place] = run.clock.monotonic()
            tasks[place] = asyncio.create_task(run.lanes[place].work())
    await asyncio.gather(*tasks.values())
