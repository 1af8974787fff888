"""`catch-up`: sends the rows of started plans that have become due, and what the standing policy takes.

Safe from a timer: a second one ends with LockHeld, and a run that is going on is left alone. Knowledge of what must not
be sent is refreshed first. Raises what the run and the standing policy raise.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain

from resend.config import Config
from resend.errors import worst
from resend.executor.run import RunSummary
from resend.flows import run as sending
from resend.flows.standing import WHO, Taken, is_standing, standing_plans
from resend.flows.vetoes import project_catalog, project_evidence
from resend.model import PlanState
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.lifecycle import close_plan


def catch_up(
    home: Home,
    config: Config,
    ledger: Ledger,
    *,
    max_duration: timedelta | None,
    progress: sending.Progress | None = None,
) -> tuple[RunSummary, Sequence[Taken]]:
    """Project late arrivals and the catalog into the ledger, then send what is due, for at most `max_duration`.

    Due rows go first; then the plans of the standing policy, begun ones before new ones, each like a plan that a person
    confirmed.
    """
    started = time.monotonic()
    now = datetime.now(UTC)
    project_catalog(home, ledger, now)
    project_evidence(home, config, ledger, now)
    whole = sending.catch_up(home, config, ledger, max_duration=max_duration, progress=progress)
    found: list[Taken] = []
    coming = chain(_begun(config, ledger, now), standing_plans(home, config, ledger, now=now))
    while not whole.stopped:
        left = None if max_duration is None else max_duration - timedelta(seconds=time.monotonic() - started)
        if left is not None and left <= timedelta(0):
            break  # before the next plan is made
        item = next(coming, None)
        if item is None:
            break
        found.append(item)
        if item.plan is not None:
            options = sending.RunOptions(confirm=item.plan.total, who=WHO)
            done = sending.run(home, config, ledger, item.plan.id, options, progress=progress, max_duration=left)
            whole = _both(whole, done)
    return whole, found


def _begun(config: Config, ledger: Ledger, now: datetime) -> Iterator[Taken]:
    """Plans of the policy that an earlier catch-up did not send to the end; nothing where the policy is off by now.

    One that was never started is closed: what it took is taken anew, as things stand now.
    """
    if not config.catchup.providers:
        return
    for plan in ledger.plans():
        if not is_standing(plan) or plan.state not in (PlanState.READY, PlanState.STARTED):
            continue
        if plan.state is PlanState.STARTED:
            yield Taken(provider="", plan=plan)
        else:
            with ledger.write() as conn:
                close_plan(conn, plan.id, reason="never started; taken anew", who=WHO, now=now)


def _both(one: RunSummary, other: RunSummary) -> RunSummary:
    due = [at for at in (one.next_due, other.next_due) if at is not None]
    return RunSummary(
        exit=worst(one.exit, other.exit),
        counts=Counter(one.counts) + Counter(other.counts),
        parked={**one.parked, **other.parked},
        next_due=min(due, default=None),
        shut={**one.shut, **other.shut},
        stopped=one.stopped or other.stopped,
    )
