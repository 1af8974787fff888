"""Mails of which nobody knows whether the receiver has them: listed, settled by evidence, decided by the operator.

Time alone never settles one. A release is counted on the mail (`released`), so that two accepted tries of it are a
known duplicate and not a defect. In the caller's transaction. Raises WrongCount, UsageError.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, insert, null, select, update

from resend.clock import from_text, to_text
from resend.errors import UsageError, WrongCount
from resend.model import Fate, Stage, State, TryOutcome
from resend.stores import late
from resend.stores.batches import reopen
from resend.stores.rows import Doubt
from resend.stores.setwise import clean, dump, json_rows
from resend.stores.tables import audit, delivery, try_


def listed(conn: Connection, *, keys: Sequence[str] = (), provider: str = "", plan_id: str = "") -> list[Doubt]:
    """Mails in doubt (all, or those named), oldest arm first."""
    query = (
        select(
            delivery.c.key,
            delivery.c.plan_id,
            delivery.c.provider,
            delivery.c.egress,
            delivery.c.release,
            delivery.c.rcpt,
            delivery.c.message_id,
            delivery.c.try_id,
            try_.c.armed_at,
            try_.c.stage,
            try_.c.reply,
        )
        .join(try_, try_.c.id == delivery.c.try_id)
        .where(_in_doubt(conn, keys, provider, plan_id))
        .order_by(try_.c.armed_at, delivery.c.key)
    )
    rows = conn.execute(query, _parameter(keys)).mappings()
    return [Doubt(**{**row, "armed_at": from_text(row["armed_at"]) if row["armed_at"] else None}) for row in rows]


def settle_accepted(
    conn: Connection,
    key: str,
    *,
    evidence: str,
    now: datetime,
    remote_qid: str = "",
    fate: Fate = Fate.UNSEEN,
    who: str = "reconcile",
) -> bool:
    """in_doubt -> accepted: a log shows that the receiver has it. False where the mail is not in doubt."""
    try_id = _try_in_doubt(conn, key)
    if try_id is None:
        return False
    late.record_try(
        conn, try_id, TryOutcome.ACCEPTED, stage=Stage.DOT, reply=f"settled: {evidence}", remote_qid=remote_qid
    )
    late.settle(
        conn,
        key,
        accepted=True,
        at=to_text(now),
        who=who,
        evidence=evidence,
        remote_qid=remote_qid,
        fate=fate,
    )
    return True


def settle_not_accepted(conn: Connection, key: str, *, evidence: str, now: datetime, who: str = "reconcile") -> bool:
    """in_doubt -> planned, counted: a complete log shows that the receiver never got it. False: not in doubt.

    Closed where its plan is: another plan may have it.
    """
    try_id = _try_in_doubt(conn, key)
    if try_id is None:
        return False
    late.record_try(conn, try_id, TryOutcome.DEFERRED, stage=Stage.DOT, reply=f"not accepted: {evidence}")
    late.settle(conn, key, accepted=False, at=to_text(now), who=who, evidence=evidence)
    return True


def release(
    conn: Connection,
    *,
    keys: Sequence[str] = (),
    provider: str = "",
    plan_id: str = "",
    confirm: int | None,
    reason: str,
    who: str,
    now: datetime,
) -> int:
    """in_doubt -> planned by decision: sent again, perhaps twice in all. `confirm`: the count expected (None: any).

    Those whose plan is closed become closed: another plan may have them.
    """
    found = _chosen(conn, keys, provider, plan_id, confirm)
    _decide(
        conn,
        found,
        {"state": late.released_to(), "reason": "", "due_at": null(), "released": delivery.c.released + 1},
    )
    reopen(conn, [item.key for item in found])
    _note(conn, found, "doubt_released", reason, who, now)
    return len(found)


def close(
    conn: Connection,
    *,
    keys: Sequence[str] = (),
    provider: str = "",
    plan_id: str = "",
    confirm: int | None,
    reason: str,
    who: str,
    now: datetime,
) -> int:
    """in_doubt -> closed by decision: not sent again. `confirm` is the count expected (None: any)."""
    found = _chosen(conn, keys, provider, plan_id, confirm)
    _decide(conn, found, {"state": State.CLOSED, "reason": clean(reason)})
    _note(conn, found, "doubt_closed", reason, who, now)
    return len(found)


def _chosen(conn: Connection, keys: Sequence[str], provider: str, plan_id: str, confirm: int | None) -> list[Doubt]:
    found = listed(conn, keys=keys, provider=provider, plan_id=plan_id)
    missing = sorted(set(keys) - {item.key for item in found})
    if missing:
        raise UsageError(
            f"{len(missing)} of these mails are not in doubt, first {missing[0][:16]}",
            next_step="see 'resend doubt list'",
        )
    if confirm is not None and confirm != len(found):
        raise WrongCount(
            f"{len(found)} mails are in doubt here, not {confirm}",
            next_step="look at 'resend doubt list' and give that count",
        )
    return found


def _decide(conn: Connection, found: Sequence[Doubt], values: dict[str, object]) -> None:
    named = json_rows(conn.dialect.name, "named", key=str, try_id=str)
    conn.execute(
        update(delivery)
        .where(
            delivery.c.key == named.c.key,
            delivery.c.try_id == named.c.try_id,
            delivery.c.state == State.IN_DOUBT,
        )
        .values(values),
        {"named": dump((item.key, item.try_id) for item in found)},
    )


def _note(conn: Connection, found: Sequence[Doubt], what: str, reason: str, who: str, now: datetime) -> None:
    if not found:
        return
    conn.execute(
        insert(audit),
        [
            {
                "at": to_text(now),
                "who": clean(who),
                "what": what,
                "plan_id": item.plan_id,
                "egress": item.egress,
                "provider": item.provider,
                "subject": item.key,
                "reason": clean(reason),
            }
            for item in found
        ],
    )


def _in_doubt(conn: Connection, keys: Sequence[str], provider: str, plan_id: str) -> ColumnElement[bool]:
    wanted = delivery.c.state == State.IN_DOUBT
    if keys:
        chosen = json_rows(conn.dialect.name, "chosen", key=str)
        wanted &= delivery.c.key.in_(select(chosen.c.key))
    if provider:
        wanted &= delivery.c.provider == provider
    if plan_id:
        wanted &= delivery.c.plan_id == plan_id
    return wanted


def _parameter(keys: Sequence[str]) -> dict[str, str]:
    return {"chosen": dump([key] for key in keys)} if keys else {}


def _try_in_doubt(conn: Connection, key: str) -> str | None:
    query = select(delivery.c.try_id).where(delivery.c.key == key, delivery.c.state == State.IN_DOUBT)
    return conn.execute(query.with_for_update()).scalar()
