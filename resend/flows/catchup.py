"""`catch-up`: sends the rows of started plans that have become due, and what the standing policy takes.

Safe from a timer: a second one ends with LockHeld, and a run that is going on is left alone. Knowledge of what must not
be sent is refreshed first. Raises what the run and the standing policy raise.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain

from resend.config import Config
from resend.errors import Exit, LockHeld, ResendError, worst
from resend.executor.beat import TIME_IS_OVER
from resend.executor.ending import RunSummary
from resend.flows import run as sending
from resend.flows.standing import WHO, Taken, is_standing, standing_plans
from resend.flows.vetoes import project_catalog, project_evidence
from resend.model import CatchUpEnd, PlanState
from resend.stores import catchups, lifecycle
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.lifecycle import close_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """What a catch-up did. `remains`: what is left of all open plans (stores/catchups)."""

    summary: RunSummary
    taken: Sequence[Taken]
    remains: Mapping[str, int]


def catch_up(
    home: Home,
    config: Config,
    ledger: Ledger,
    *,
    max_duration: timedelta | None,
    progress: sending.Progress | None = None,
) -> CaughtUp:
    """Project late arrivals and the catalog into the ledger, then send what is due, for at most `max_duration`.

    Due rows go first; then the plans of the standing policy, begun ones before new ones, each like a plan that a person
    confirmed. A row of the ledger tells of it, also where it is killed.
    """
    now = datetime.now(UTC)
    project_catalog(home, ledger, now)
    project_evidence(home, config, ledger, now)
    worker = f"{socket.gethostname()}:{os.getpid()}"
    with ledger.write() as conn:
        number = catchups.begin(conn, worker=worker, now=now)
    found: list[Taken] = []
    whole: RunSummary | None = None
    try:
        for whole in _sent(home, config, ledger, found, now, max_duration, progress):  # noqa: B007
            pass
        assert whole is not None
    except ResendError as error:
        if isinstance(error, LockHeld) and whole is None:  # a run is going on: this one never began
            with ledger.write() as conn:
                catchups.forget(conn, number)
            raise
        _told(ledger, number, found, whole, CatchUpEnd.TROUBLE, error.line(), error.exit)
        raise
    refused = Exit.USAGE if any(item.refused for item in found) else Exit.DONE  # no success, whatever else was sent
    left, code = _told(ledger, number, found, whole, *_ending(whole), worst(whole.exit, refused))
    return CaughtUp(summary=replace(whole, exit=code), taken=found, remains=left)


def _sent(
    home: Home,
    config: Config,
    ledger: Ledger,
    found: list[Taken],
    now: datetime,
    max_duration: timedelta | None,
    progress: sending.Progress | None,
) -> Iterator[RunSummary]:
    """What was done so far, after each part of the work."""
    started = time.monotonic()
    whole = sending.catch_up(home, config, ledger, max_duration=max_duration, progress=progress)
    yield whole
    coming = chain(_begun(config, ledger, now), standing_plans(home, config, ledger, now=now))
    while not whole.stopped:
        left = None if max_duration is None else max_duration - timedelta(seconds=time.monotonic() - started)
        if left is not None and left <= timedelta(0):
            yield replace(whole, stopped=TIME_IS_OVER)  # before the next plan is made
            return
        item = next(coming, None)
        if item is None:
            return
        found.append(item)
        if item.plan is not None:
            options = sending.RunOptions(confirm=item.plan.total, who=WHO)
            done = sending.run(home, config, ledger, item.plan.id, options, progress=progress, max_duration=left)
            whole = _both(whole, done)
            yield whole


def _ending(whole: RunSummary) -> tuple[CatchUpEnd, str]:
    if whole.exit is Exit.INTERRUPTED or whole.stopped.startswith("stopped by"):
        return CatchUpEnd.TOLD, whole.stopped
    if whole.stopped == TIME_IS_OVER:
        return CatchUpEnd.TIME, whole.stopped
    if whole.stopped:
        return CatchUpEnd.TROUBLE, whole.stopped
    if whole.parked:
        return CatchUpEnd.PARKED, "; ".join(f"{name}: {why}" for name, why in sorted(whole.parked.items()))
    if whole.shut:
        return CatchUpEnd.HOURS, "; ".join(f"{name}: {why}" for name, (_, why) in sorted(whole.shut.items()))
    return CatchUpEnd.DONE, "nothing left that is due"


def _told(
    ledger: Ledger,
    number: int,
    found: Sequence[Taken],
    whole: RunSummary | None,
    ending: CatchUpEnd,
    reason: str,
    exit_: Exit,
) -> tuple[Mapping[str, int], Exit]:
    """Write down how it ended; what is left of all open plans, and the exit code that this makes."""
    taken = [
        {
            "provider": item.provider,
            "plan": "" if item.plan is None else item.plan.id,
            "mails": 0 if item.plan is None else item.plan.total,
            "passed_over": item.passed_over,
        }
        for item in found
    ]
    now = datetime.now(UTC)
    with ledger.write() as conn:
        lifecycle.finish_plans(conn, now=now)
        left = catchups.remains(conn)
        code = worst(exit_, Exit.LEFT if left else Exit.DONE)
        catchups.end(
            conn,
            number,
            taken=taken,
            counts={} if whole is None else whole.counts,
            ending=ending,
            reason=reason,
            remains=left,
            exit_=code,
            next_due=None if whole is None else whole.next_due,
            now=now,
        )
    return left, code


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
