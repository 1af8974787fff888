"""What a former holder of a mail still has to say, after the mail was taken from it.

Kept on its try; on the mail only where that still waits in doubt for this very try, which the answer then settles.
Otherwise nothing is overwritten: an acceptance that comes after a release is counted in the audit (`known_duplicate`
where another try was accepted or is under way), and a mail not sent again yet gets a veto. In the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, case, exists, insert, literal, null, select, update

from resend.clock import to_text
from resend.model import Fate, PlanState, Stage, State, TryOutcome, VetoKind, VetoReason
from resend.stores import vetoes
from resend.stores.batches import reopen, settle_batch
from resend.stores.endings import DIRECT
from resend.stores.rows import Veto
from resend.stores.setwise import clean
from resend.stores.tables import audit, delivery, plan, try_
from resend.stores.transitions import Applied, Finish, Refuse

_OPEN_TRIES = (TryOutcome.ARMED, TryOutcome.IN_DOUBT)


def finish(conn: Connection, item: Finish) -> Applied:
    """A Finish whose mail is not in `sending` under its try and epoch."""
    row = conn.execute(
        select(delivery.c.state, delivery.c.try_id, delivery.c.batch_id, delivery.c.egress, try_.c.outcome)
        .join(try_, try_.c.delivery_key == delivery.c.key)
        .where(try_.c.id == item.try_id, delivery.c.key == item.key)
    ).one_or_none()
    if row is None:
        return Applied(False, "no such try")
    state = State(row.state)
    if row.outcome not in _OPEN_TRIES:
        return Applied(row.outcome == item.outcome, f"the try ended as {row.outcome} before", state)
    if item.outcome == TryOutcome.IN_DOUBT:
        return Applied(state == State.IN_DOUBT, f"late: {state}", state)
    _record(conn, item)
    if state == State.IN_DOUBT and row.try_id == item.try_id:
        settled = settle(
            conn,
            item.key,
            accepted=item.outcome == TryOutcome.ACCEPTED,
            at=to_text(item.ended_at),
            who="worker",
            evidence=f"late reply: {item.code} {item.reply}".strip(),
            remote_qid=item.remote_qid,
            fate=item.fate or (Fate.DELIVERED if row.egress == DIRECT else Fate.UNSEEN),
        )
        settle_batch(conn, row.batch_id)
        return Applied(True, "late: settles the doubt", settled)
    if item.outcome == TryOutcome.ACCEPTED:
        again = state in (State.ACCEPTED, State.SENDING, State.IN_DOUBT)
        _note(conn, item, "known_duplicate" if again else "late_accepted", f"accepted late; the mail is {state}")
        if state not in (State.ACCEPTED, State.CLOSED):
            told = Veto(
                kind=VetoKind.DELIVERY,
                subject=item.key,
                reason=VetoReason.DELIVERED,
                evidence=clean(f"late reply of try {item.try_id}: {item.code} {item.reply}"),
            )
            vetoes.put(conn, [told], source="worker", now=item.ended_at)
    return Applied(False, f"late: {state}", state)


def refuse(conn: Connection, item: Refuse) -> Applied:
    """A Refuse whose mail is not leased under its epoch: the try is kept, for the pace, and not counted."""
    state = conn.execute(select(delivery.c.state).where(delivery.c.key == item.key)).scalar()
    if state is None:
        return Applied(False, "no such mail")
    known = conn.execute(select(exists().where(try_.c.id == item.try_id))).scalar_one()
    if known:
        return Applied(True, "already recorded", State(state))
    conn.execute(
        insert(try_).values(
            id=item.try_id,
            delivery_key=item.key,
            epoch=item.epoch,
            worker=item.worker,
            egress=item.egress,
            provider=item.provider,
            mail_at=to_text(item.mail_at),
            ended_at=to_text(item.ended_at),
            outcome=TryOutcome.DISARMED,
            stage=item.stage,
            code=item.code,
            enhanced=clean(item.enhanced),
            reply=clean(item.reply),
            cause=item.cause,
        )
    )
    return Applied(False, f"late: {state}", State(state))


def settle(
    conn: Connection,
    key: str,
    *,
    accepted: bool,
    at: str,
    who: str,
    evidence: str,
    remote_qid: str = "",
    fate: Fate = Fate.UNSEEN,
) -> State:
    """in_doubt -> accepted, or `released_to` (counted) where it is proven that the receiver does not have it."""
    doubtful = (delivery.c.key == key, delivery.c.state == State.IN_DOUBT)
    if accepted:
        conn.execute(
            update(delivery)
            .where(*doubtful)
            .values(
                state=State.ACCEPTED,
                reason="",
                accepted_at=at,
                remote_qid=clean(remote_qid),
                fate=fate,
                fate_at=null() if fate in (Fate.UNSEEN, Fate.QUEUED_AT_RELAY) else literal(at),
            )
        )
    else:
        conn.execute(
            update(delivery)
            .where(*doubtful)
            .values(state=released_to(), reason="", due_at=null(), released=delivery.c.released + 1)
        )
        reopen(conn, [key])
    what = "settled_accepted" if accepted else "settled_released"
    conn.execute(insert(audit).values(at=at, who=who, what=what, subject=key, reason=clean(evidence)))
    return State(conn.execute(select(delivery.c.state).where(delivery.c.key == key)).scalar_one())


def released_to() -> ColumnElement[str]:
    """The state of a mail that is released from doubt: planned; closed, and free for another plan, where its own is."""
    shut = exists().where(plan.c.id == delivery.c.plan_id, plan.c.state == PlanState.CLOSED)
    return case((shut, State.CLOSED.value), else_=State.PLANNED.value)


def record_try(
    conn: Connection,
    try_id: str,
    outcome: TryOutcome,
    *,
    stage: Stage,
    reply: str,
    remote_qid: str = "",
    only: Sequence[TryOutcome] = (TryOutcome.IN_DOUBT,),
) -> None:
    """Write on a try of unknown end what became known of it."""
    conn.execute(
        update(try_)
        .where(try_.c.id == try_id, try_.c.outcome.in_(only))
        .values(outcome=outcome, stage=stage, reply=clean(reply), remote_qid=clean(remote_qid))
    )


def _record(conn: Connection, item: Finish) -> None:
    """Its own word on its own try. A late disarm counts as a try: it was counted when it fell in doubt."""
    outcome = TryOutcome.DEFERRED if item.outcome == TryOutcome.DISARMED else item.outcome
    conn.execute(
        update(try_)
        .where(try_.c.id == item.try_id, try_.c.outcome.in_(_OPEN_TRIES))
        .values(
            outcome=outcome,
            ended_at=to_text(item.ended_at),
            stage=item.stage,
            code=item.code,
            enhanced=clean(item.enhanced),
            reply=clean(item.reply),
            cause=item.cause,
            remote_qid=clean(item.remote_qid),
        )
    )


def _note(conn: Connection, item: Finish, what: str, reason: str) -> None:
    conn.execute(
        insert(audit).values(at=to_text(item.ended_at), who="worker", what=what, subject=item.key, reason=reason)
    )
