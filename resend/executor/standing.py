"""What a lane shares with the ledger: its decisions, those of other hosts and of runs before, the batches it claims.

Acts on the lane that it is given. Raises what the ledger raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from resend.clock import to_micros
from resend.executor.guard import Guard, Heard
from resend.executor.leases import LEASE_S
from resend.model import CauseClass, TryOutcome
from resend.policy.classify import Rules
from resend.policy.providers import Profile
from resend.policy.reactions import Act
from resend.stores import claims, control, sharing
from resend.stores.history import fates_since, replies_since
from resend.stores.status import decisions
from resend.stores.transitions import RateChange

if TYPE_CHECKING:
    from resend.executor.lane import Lane
    from resend.stores.rows import Batch, Rate

_HOUR = timedelta(hours=1)
WAITS = "waits_for_connection"  # the audit's word for it
_SAID_AGAIN = timedelta(minutes=5)
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
            "live": guard.live,
            **_memory(guard),
        },
    )


def _memory(guard: Guard) -> dict[str, int | float | datetime | None]:
    """What the next run of this lane must know."""
    connections, connections_until = guard.limits.get(Act.CONNECTIONS, (0, None))
    mails, mails_until = guard.limits.get(Act.MAILS, (0, None))
    return {
        "half_open": int(guard.half_open),
        "next_cooldown_s": guard.next_cooldown.total_seconds(),
        "cap_for_s": guard.cap_for.total_seconds(),
        "connections": connections,
        "connections_until": connections_until,
        "mails_per_connection": mails,
        "mails_until": mails_until,
    }


def _limits(rate: Rate) -> dict[Act, tuple[int, datetime]]:
    found = {
        Act.CONNECTIONS: (rate.connections, rate.connections_until),
        Act.MAILS: (rate.mails_per_connection, rate.mails_until),
    }
    return {act: (most, until) for act, (most, until) in found.items() if most and until is not None}


def heard(conn: Connection, rate: Rate, profile: Profile, now: datetime, rules: Rules | None = None) -> list[Heard]:
    """Replies that still count for this lane: of the last hour, but none of before a cool-down that is over.

    `rules`: the provider speaks through a relay's log, and this judges what it quotes.
    """
    since = now - _HOUR
    if rate.cooldown_until is not None and rate.cooldown_until <= now:
        since = max(since, rate.cooldown_until)
    elif rate.parked:
        return []
    if rules is not None:
        told = fates_since(conn, egress=rate.egress, provider=rate.provider, since=since)
        return [
            Heard(
                at=item.at,
                outcome=item.outcome.value,
                cls=None
                if item.outcome is TryOutcome.ACCEPTED
                else rules.classify(item.reply, provider=rate.provider).cls,
                reply=item.reply,
            )
            for item in told
        ]
    window = max((rule.window for rule in profile.park), default=timedelta(0))
    return [
        Heard(
            at=item.at,
            outcome=item.outcome.value,
            cls=None if item.outcome is TryOutcome.ACCEPTED else CauseClass(item.cause or CauseClass.UNKNOWN),
            reply=item.reply,
        )
        for item in replies_since(
            conn, egress=rate.egress, provider=rate.provider, since=since, accepted_since=max(since, now - window)
        )
    ]


def recollected(
    conn: Connection, rate: Rate, profile: Profile, *, last: datetime | None, now: datetime, rules: Rules | None
) -> Guard:
    """The guard of a lane as the run before left it: `restored`, with what was `heard`."""
    return restored(rate, profile, heard(conn, rate, profile, now, rules), last=last, now=now)


def restored(rate: Rate, profile: Profile, before: Iterable[Heard], *, last: datetime | None, now: datetime) -> Guard:
    """The guard of a lane as the ledger remembers it; `last`: when it sent its last mail."""
    recent = last is not None and now - last < profile.cap_for
    guard = Guard(
        profile=profile,
        rate=min(rate.rate, rate.ceiling),
        ceiling=rate.ceiling,
        canary_done=rate.canary_done and recent,  # what was learned long ago is learned again
        capped=rate.capped,
        capped_until=rate.capped_until,
        cooldown_until=rate.cooldown_until,
        clean_since=rate.clean_since,
        parked=rate.parked,
        bound=rate.bound,
        next_cooldown=timedelta(seconds=rate.next_cooldown_s),
        cap_for=timedelta(seconds=rate.cap_for_s),
        limits=_limits(rate),
    )
    guard.recall(before)
    if rate.half_open:
        guard.try_again(now)
    return guard


def adopt(lane: Lane, known: Rate) -> None:
    """Other hosts decide too: what the ledger says by now holds here as well."""
    known = replace(known, tat_us=0)
    before, lane.known = lane.known, known
    if before is None or known == before:
        return
    guard = lane.guard
    pace = guard.pace
    guard.rate, guard.ceiling, guard.bound, guard.live = known.rate, known.ceiling, known.bound, known.live
    if guard.pace != pace:
        lane.pacer.change(guard.pace, to_micros(lane.run.clock.now()))
    anew = known.half_open and known.cooldown_until != guard.cooldown_until  # another host took over the probes
    guard.capped, guard.capped_until = known.capped, known.capped_until
    guard.cooldown_until, guard.clean_since = known.cooldown_until, known.clean_since
    guard.parked, lane.paused = known.parked, known.paused
    guard.next_cooldown, guard.cap_for = timedelta(seconds=known.next_cooldown_s), timedelta(seconds=known.cap_for_s)
    guard.limits = _limits(known)
    if known.half_open and (anew or not guard.half_open):
        guard.probes_elsewhere(lane.run.clock.now())
    elif not known.half_open:
        guard.half_open = False
    if known.canary_done and not before.canary_done:
        guard.canary_done, lane.dwell_until = True, None
    elif known.dwell_until is not None and known.dwell_until != lane.dwell_until and not guard.canary_done:
        lane.dwell_until = known.dwell_until + _VERDICT


async def reopen(lane: Lane) -> None:
    """Where a cool-down is over, single mails try the provider; of several hosts one sends them."""
    guard, now = lane.guard, lane.run.clock.now()
    if guard.cooldown_until is None or now < guard.cooldown_until:
        return
    if lane.run.options.shared_pace:
        first = partial(control.reopen, egress=lane.egress, provider=lane.provider)
        if not await lane.run.writer.call(first):
            return
        if guard.half_open:  # the ledger's word was heard before ours
            guard.try_again(now)
    lane.decide(guard.tick(now))


async def take_over(lane: Lane) -> None:
    """Where the host that sent the probes tells nothing any more, one of the others goes on with a single mail."""
    guard, run = lane.guard, lane.run
    if not (run.options.shared_pace and guard.silent(run.clock.now())):
        return
    before, now = guard.cooldown_until, run.clock.now()
    first = partial(control.probe_next, egress=lane.egress, provider=lane.provider, before=before, now=now)
    since = await run.writer.call(first)
    if since is None:
        guard.probes_elsewhere(run.clock.now())
    elif guard.half_open:
        guard.cooldown_until = since
        guard.try_again(run.clock.now())


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
        held=(*lane.leases.slots, *lane.leases.giving),
        closed=closed,
        limit=limit,
        shared=run.options.shared_pace,
    )
    found = retry()
    if found is None and not run.options.due_only:
        found = claims.claim_batch(*retry.args, **retry.keywords)
    if run.options.shared_pace and not lane.leases.slots:
        if found is not None:
            sharing.served(conn, egress=lane.egress, provider=lane.provider, owner=run.worker)
        elif not run.options.due_only:
            _waits(lane, conn)
    return found


def _waits(lane: Lane, conn: Connection) -> None:
    """Where other hosts have all connections, wait for a part of them; say so once in a while."""
    run, now = lane.run, lane.run.clock.now()
    place = {"egress": lane.egress, "provider": lane.provider}
    held = claims.held_elsewhere(
        conn, **place, owner=run.worker, connections=lane.profile.connections, plan_id=run.plan_id
    )
    if not held:
        return
    sharing.wait(conn, **place, owner=run.worker)
    known = decisions(conn, what=WAITS, **place, who=run.worker, limit=1)
    if known and now - known[0].at < _SAID_AGAIN:
        return
    others = ", ".join(f"{owner} has {count}" for owner, count in held.items())
    reason = f"all {sum(held.values())} connections are in use: {others}; a part of them is given to this host soon"
    control.note(conn, WAITS, plan_id=run.plan_id, **place, reason=reason, who=run.worker, now=now)
