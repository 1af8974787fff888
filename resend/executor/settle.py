"""Makes the end of a transaction durable and lets the guard judge it: one place for what each ending means.

Acts on the lane that it is given; sends nothing. Raises StoreError where the ledger cannot be written.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from resend.executor.guard import due_at
from resend.executor.replies import remote_queue_id
from resend.executor.transaction import End, Ended
from resend.model import Cause, CauseClass, Fate, Reply, Scope, Stage, State, TryOutcome
from resend.policy.classify import normalise
from resend.stores.rows import Batch, Delivery
from resend.stores.transitions import Applied, Finish, Quarantine, Refuse, Replan, Result

if TYPE_CHECKING:
    from resend.executor.lane import Lane


async def settle(lane: Lane, row: Delivery, batch: Batch, trial: str, at: datetime, end: End) -> None:
    """Make the end of a transaction durable, and let the guard judge it."""
    now = lane.run.clock.now()
    common = {"key": row.key, "try_id": trial, "epoch": batch.epoch, "ended_at": now}
    before = {
        **common, "batch_id": batch.id, "worker": lane.run.worker, "egress": lane.egress, "provider": lane.provider,
        "mail_at": at,
    }  # fmt: skip
    if end.how is Ended.ACCEPTED:
        assert end.reply is not None
        said = _said(end.reply)
        await lane.run.writer.submit(
            Finish(
                **common, outcome=TryOutcome.ACCEPTED, stage=end.stage, **said,  # type: ignore[arg-type]
                remote_qid=remote_queue_id(end.reply.text), fate=Fate.UNSEEN if lane.relay else Fate.DELIVERED,
            )
        )  # fmt: skip
        lane.run.count("accepted")
        lane.run.relay_watch(lane.egress).other()
        if lane.relay and not lane.run.options.blind:
            lane.pending_fates += 1
        await lane.decide(lane.guard.accepted(now))
    elif end.how is Ended.REFUSED:
        assert end.reply is not None
        await _refused(lane, row, end, common, before, now)
    elif end.how is Ended.IN_DOUBT:
        await lane.run.writer.submit(
            Finish(**common, outcome=TryOutcome.IN_DOUBT, stage=end.stage, reply=end.why)  # type: ignore[arg-type]
        )
        lane.run.count("in_doubt")
    elif end.how is Ended.LOST:
        await _lost(lane, row, batch, end, common, before, now)
    elif end.how is Ended.UNFIT:
        await lane.run.writer.submit(Quarantine(key=row.key, epoch=batch.epoch, reason=end.why))
        lane.run.count("quarantined")
    elif end.how is Ended.NOT_ARMED:
        lane.run.count("suppressed" if end.why.startswith("vetoed") else "not_armed")


async def _refused(
    lane: Lane, row: Delivery, end: End, common: dict[str, object], before: dict[str, object], now: datetime
) -> None:
    assert end.reply is not None
    cause = lane.run.rules.classify(
        f"{end.reply.code} {end.reply.text}",
        code=end.reply.code,
        enhanced=end.reply.enhanced,
        provider=lane.provider,
        stage=end.stage.value,
    )
    rejected = end.reply.code >= 500 and end.stage is not Stage.CONNECT  # a greeting is not about this mail
    parks = lane.guard.failed(now, "rejected" if rejected else "deferred", cause)
    if rejected and parks is not None and parks.what == "parked" and cause.scope in (Scope.PROVIDER, Scope.SENDER):
        rejected = False  # it parks the provider, not the row
    extra: dict[str, object] = {"cause": cause.cls.value, "stage": end.stage, **_said(end.reply)}
    extra["outcome"] = TryOutcome.REJECTED if rejected else TryOutcome.DEFERRED
    if not rejected:
        extra["due_at"] = _due(lane, row, cause, now)
    if end.armed:
        result = await lane.run.writer.submit(Finish(**common, **extra))  # type: ignore[arg-type]
    else:
        result = await lane.run.writer.submit(Refuse(**before, **extra))  # type: ignore[arg-type]
    lane.run.count(_name(result, "rejected" if rejected else "deferred"))
    if cause.cls is CauseClass.THROTTLED:
        lane.run.count("throttled")
    await lane.decide(parks)
    watch = lane.run.relay_watch(lane.egress)
    keys = watch.refused(row.rcpt, row.key, end.reply.code, normalise(end.reply.text), cause)
    if watch.stopped:
        if keys:
            await lane.run.writer.submit(Replan(keys=tuple(keys), plan_id=row.plan_id, reason=watch.stopped, at=now))
        lane.run.park(lane.egress, watch.stopped)


async def _lost(
    lane: Lane,
    row: Delivery,
    batch: Batch,
    end: End,
    common: dict[str, object],
    before: dict[str, object],
    now: datetime,
) -> None:
    """The session ended before the dot: certainly not sent, and a deferral like any network trouble."""
    cause = lane.run.rules.classify(
        "lost connection while sending", code=0, enhanced="", provider=lane.provider, stage=end.stage.value
    )
    extra: dict[str, object] = {
        "outcome": TryOutcome.DEFERRED, "stage": end.stage, "code": 0, "reply": end.why,
        "cause": CauseClass.TRANSIENT_INFRA.value, "due_at": _due(lane, row, cause, now),
    }  # fmt: skip
    if end.armed:
        await lane.run.writer.submit(Finish(**common, **extra))  # type: ignore[arg-type]
    else:
        await lane.run.writer.submit(Refuse(**before, **extra))  # type: ignore[arg-type]
    lane.run.count("deferred")


def _due(lane: Lane, row: Delivery, cause: Cause, now: datetime) -> datetime:
    options = lane.run.options
    return due_at(
        now, tries=row.tries + 1, cause=cause, first=options.retry_after, most=options.retry_at_most,
        jitter=lane.run.jitter(),
    )  # fmt: skip


def _said(reply: Reply) -> dict[str, object]:
    return {"code": reply.code, "enhanced": reply.enhanced, "reply": reply.text[:2000]}


def _name(result: Result, name: str) -> str:
    gave_up = isinstance(result, Applied) and result.state is State.GAVE_UP
    return "gave_up" if gave_up else name
