"""How a run ended: what is left, what is parked, the exit code. Reads the ledger and writes one row of the audit.

Raises what the ledger's writer raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from resend.errors import ConnectError, Exit
from resend.stores import claims
from resend.stores.transitions import Audit

if TYPE_CHECKING:
    from resend.executor.run import Run

_FAILED = ("in_doubt", "rejected", "quarantined", "gave_up")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What one run did. `counts`: accepted, deferred, rejected, in_doubt, throttled, halved, raised, ..."""

    counts: Counter[str]
    parked: dict[str, str]  # provider or egress -> reason
    next_due: datetime | None
    shut: dict[str, tuple[datetime, str]]  # provider -> when its hours let it go on, and what keeps it until then
    stopped: str  # why it ended early, "" where it did not
    exit: Exit


async def summary(run: Run, away: Sequence[ConnectError]) -> RunSummary:
    """What a run did, when all its dialogues are over. `away`: receivers that could not be reached."""
    now = run.clock.now()
    left = await run.writer.call(partial(claims.work, now=now, plan_id=run.plan_id, hours=run.options.hours))
    firm = {place for place, lane in run.lanes.items() if lane.guard.firm}  # nothing of these is due by itself
    due = min(
        (item.next_at for item in left if item.next_at is not None and (item.egress, item.provider) not in firm),
        default=None,
    )
    shut = {
        _called(run, item.egress, item.provider): (item.shut_until, item.shut)
        for item in left
        if item.shut_until is not None and (item.shut_due or not run.options.due_only)
    }
    parked = {
        _called(run, egress, name): lane.guard.parked for (egress, name), lane in run.lanes.items() if lane.guard.parked
    }
    stopped = run.stopped or (away[0].line() if away else "")
    why = stopped or ("parked" if parked else "its hours are over" if shut else "nothing left that is due")
    counts = " ".join(f"{name}={count}" for name, count in sorted(run.counts.items()))
    await run.writer.submit(
        Audit(at=now, who=run.worker, what="run_ended", plan_id=run.plan_id, reason=why, value=counts)
    )
    if run.stopped.startswith("signal"):
        exit_ = Exit.INTERRUPTED
    elif parked:
        exit_ = Exit.PARKED
    elif shut and not stopped:
        exit_ = Exit.WINDOW
    elif stopped or left or any(run.counts[name] for name in _FAILED):
        exit_ = Exit.LEFT
    else:
        exit_ = Exit.DONE
    return RunSummary(counts=run.counts, parked=parked, next_due=due, shut=shut, stopped=stopped, exit=exit_)


def _called(run: Run, egress: str, provider: str) -> str:
    """A provider by its name, with the egress where it is fed by several."""
    return f"{provider} by {egress}" if sum(name == provider for _, name in run.lanes) > 1 else provider
