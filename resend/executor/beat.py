"""The beat of a run, beside its lanes: commands, heartbeats, fates, clean intervals, a clock that was set back.

Ends with the task that it is. A failure ends the run; raises nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from resend.executor.giveway import give_way
from resend.executor.leases import LEASE_S
from resend.executor.standing import take_over
from resend.executor.stay import LOOK_S
from resend.stores import batches, fates
from resend.stores.transitions import Audit

if TYPE_CHECKING:
    from resend.executor.run import Run

CONTROL_S = 0.5  # commands are obeyed within 2 s; they are looked for this often
TIME_IS_OVER = "its time is over"  # why a run with a longest duration stops
_RENEW_S, _TAKE_OVER_S = LEASE_S / 3, LEASE_S / 12
_FATES_S = 10.0
_SET_BACK = timedelta(seconds=-1)  # less is the clock being steered


async def beat(run: Run) -> None:
    """Until cancelled."""
    try:
        await _beating(run)
    except Exception as error:
        run.fail(error)


async def _beating(run: Run) -> None:
    began = renewed = looked = counted = taken = before = run.clock.monotonic()
    said = run.clock.now()
    while True:
        await run.clock.sleep(CONTROL_S)
        mono, now = run.clock.monotonic(), run.clock.now()
        step = now - said - timedelta(seconds=mono - before)
        before, said = mono, now
        if step < _SET_BACK:
            _set_back(run, step)
        await run.orders.obey()
        if run.options.max_duration is not None and mono - began > run.options.max_duration.total_seconds():
            run.stop(TIME_IS_OVER)
        if mono - looked >= LOOK_S:
            looked = mono
            for lane in list(run.lanes.values()):
                await take_over(lane)
                await lane.tick()
            if run.options.shared_pace:
                await run.live_mail.exchange()
        if mono - counted >= _FATES_S and any(lane.feedback for lane in run.lanes.values()):
            counted = mono
            waiting = await run.writer.call(fates.pending)
            for place, lane in run.lanes.items():
                lane.pending_fates = waiting.get(place, 0)
        if run.options.shared_pace and mono - taken >= _TAKE_OVER_S:
            taken = mono
            await run.writer.call(lambda conn: batches.recover(conn, run.clock.now()))
            for lane in list(run.lanes.values()):
                await give_way(lane)
        if mono - renewed >= _RENEW_S:
            renewed = mono
            for lane in run.lanes.values():
                await lane.leases.renew()


def _set_back(run: Run, step: timedelta) -> None:
    """The clock was set back: what waits for a time waits no longer for it than before."""
    run.deadline += step
    for lane in run.lanes.values():
        lane.set_back(step)
    reason = f"the clock was set back by {-step.total_seconds():.1f} s; pace and cool-downs go on as before"
    run.write(Audit(at=run.clock.now(), who="rule", what="clock_set_back", reason=reason, plan_id=run.plan_id))
