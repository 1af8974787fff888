"""Writes down the end of a transaction and lets the guard judge it: one place for what each ending means.

Acts on the lane that it is given; sends nothing and waits for nothing: the ledger's writer keeps the order, and a
failure to write ends the run. Where a relay's log is followed, its 250 says nothing of the provider: fates do.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from resend.executor.guard import due_at
from resend.executor.replies import remote_queue_id
from resend.executor.transaction import End, Ended
from resend.model import Cause, CauseClass, Fate, Reply, Scope, Stage, State, TryOutcome
from resend.policy.classify import normalise
from resend.policy.reactions import about_provider
from resend.stores.rows import Delivery
from resend.stores.transitions import Applied, Finish, Quarantine, Refuse, Replan, Result

if TYPE_CHECKING:
    from resend.executor.lane import Lane

_NULL_MX = 556  # RFC 7504: a domain that takes no mail, known before any session
_AGAIN = frozenset({CauseClass.THROTTLED, CauseClass.GREYLISTED})  # passes by itself, also when worded as 5yz


def settle(lane: Lane, row: Delivery, trial: str, at: datetime, end: End) -> None:
    """Write down how a transaction ended, and let the guard judge it."""
    now = lane.run.clock.now()
    if end.how in (Ended.ACCEPTED, Ended.REFUSED) and end.stage is Stage.DOT:
        lane.guard.dots.answered()
        if lane.relay:
            lane.run.relay_watch(lane.egress).dots.answered()
    match end.how:
        case Ended.ACCEPTED:
            assert end.reply is not None
            fate = Fate.UNSEEN if lane.relay else Fate.DELIVERED
            ends: dict[str, object] = {
                "outcome": TryOutcome.ACCEPTED,
                "fate": fate,
                "remote_qid": remote_queue_id(end.reply.text),
            }
            _write(lane, row, trial, at, now, end, ends | _said(end.reply), "accepted")
            lane.run.relay_watch(lane.egress).other()
            if lane.feedback:
                lane.run.handed_over(row.key, lane)
            else:
                lane.decide(lane.guard.accepted(now))
        case Ended.REFUSED:
            assert end.reply is not None
            _refused(lane, row, trial, at, now, end, end.reply)
        case Ended.IN_DOUBT:
            ends = {"outcome": TryOutcome.IN_DOUBT, "reply": end.why}
            _write(lane, row, trial, at, now, end, ends, "in_doubt")
            _doubted(lane, at, now, cut=end.cut)
        case Ended.LOST:  # certainly not sent, and a deferral like any network trouble
            cause = Cause(cls=CauseClass.TRANSIENT_INFRA, rule="lost before the dot", scope=Scope.PROVIDER)
            ends = {"outcome": TryOutcome.DEFERRED, "cause": cause.cls.value, "reply": end.why}
            _write(lane, row, trial, at, now, end, ends | {"due_at": _due(lane, row, cause, now)}, "deferred")
            lane.decide(lane.guard.failed(now, "deferred", cause))
        case Ended.DISARMED:
            _write(lane, row, trial, at, now, end, {"outcome": TryOutcome.DISARMED, "reply": end.why}, "disarmed")
        case Ended.UNFIT:
            lane.run.write(Quarantine(key=row.key, epoch=row.epoch, reason=end.why))
            lane.run.count("quarantined")
        case Ended.NOT_ARMED:
            lane.run.count("suppressed" if end.why.startswith("vetoed") else "not_armed")


def judge_fate(lane: Lane, fate: Fate, reply: str) -> None:
    """What a relay's log says of a mail of this lane, as the provider's word."""
    now = lane.run.clock.now()
    if fate is Fate.DELIVERED:
        lane.decide(lane.guard.accepted(now))
    elif reply:  # returned, or deferred at the relay
        cause = lane.run.rules.classify(reply, provider=lane.provider)
        lane.decide(lane.guard.failed(now, "rejected" if fate is Fate.RETURNED else "deferred", cause, reply))


def _doubted(lane: Lane, at: datetime, now: datetime, *, cut: bool) -> None:
    """Too many doubts park the lane; a relay that leaves its dots unanswered, all lanes behind it."""
    lane.decide(lane.guard.doubted(now, at, cut=cut))
    if lane.relay and (why := lane.run.relay_watch(lane.egress).dots.lost(now, at, cut=cut)):
        lane.run.park(lane.egress, f"{why} at {lane.egress}")


def _refused(lane: Lane, row: Delivery, trial: str, at: datetime, now: datetime, end: End, reply: Reply) -> None:
    cause = lane.run.rules.classify(
        f"{reply.code} {reply.text}",
        code=reply.code,
        enhanced=reply.enhanced,
        provider=lane.provider,
        stage=end.stage.value,
    )
    # A greeting is not about this mail. What is about us parks the provider, not the mail.
    rejected = reply.code >= 500 and (end.stage is not Stage.CONNECT or reply.code == _NULL_MX)
    rejected = rejected and not about_provider(cause) and cause.cls not in _AGAIN
    ends: dict[str, object] = {"outcome": TryOutcome.REJECTED if rejected else TryOutcome.DEFERRED, **_said(reply)}
    ends["cause"] = cause.cls.value
    if not rejected:
        ends["due_at"] = _due(lane, row, cause, now)
    _write(lane, row, trial, at, now, end, ends, "rejected" if rejected else "deferred")
    if cause.cls is CauseClass.THROTTLED:
        lane.run.count("throttled")
    said = f"{reply.code} {reply.text}"
    lane.decide(lane.guard.failed(now, "rejected" if rejected else "deferred", cause, said))
    # What only parks or slows down a provider, or passes by itself, says nothing of the others at this egress.
    relay_says = cause.cls is CauseClass.LOCAL_CONFIG or (lane.relay and end.stage is Stage.CONNECT)
    if not (rejected or relay_says):
        return
    watch = lane.run.relay_watch(lane.egress)
    keys = watch.refused(row.rcpt, row.key, reply.code, normalise(reply.text), cause)
    if watch.stopped:
        if keys:
            lane.run.write(Replan(keys=tuple(keys), plan_id=row.plan_id, reason=watch.stopped, at=now))
        lane.run.park(lane.egress, watch.stopped)


def _write(
    lane: Lane,
    row: Delivery,
    trial: str,
    at: datetime,
    now: datetime,
    end: End,
    ends: dict[str, object],
    name: str,
) -> None:
    """Finish an armed try, or record one that ended before its arm; counted under `name` once it is durable."""
    common = {"key": row.key, "try_id": trial, "epoch": row.epoch, "ended_at": now, "stage": end.stage, **ends}
    if end.armed:
        written: Finish | Refuse = Finish(**common)  # type: ignore[arg-type]
    else:
        written = Refuse(
            **common,  # type: ignore[arg-type]
            batch_id=row.batch_id,
            worker=lane.run.worker,
            egress=lane.egress,
            provider=lane.provider,
            mail_at=at,
        )

    def durable(result: Result) -> None:
        gave_up = isinstance(result, Applied) and result.state is State.GAVE_UP
        lane.run.count("gave_up" if gave_up else name)

    lane.run.write(written, durable)


def _due(lane: Lane, row: Delivery, cause: Cause, now: datetime) -> datetime:
    options = lane.run.options
    return due_at(
        now,
        tries=row.tries + 1,
        cause=cause,
        first=options.retry_after,
        most=options.retry_at_most,
        jitter=lane.run.jitter(),
    )


def _said(reply: Reply) -> dict[str, object]:
    return {"code": reply.code, "enhanced": reply.enhanced, "reply": reply.text[:2000]}
