"""What became of accepted mail: unseen -> queued_at_relay -> delivered | returned, the last two for good.

Written from a relay's log, counted per provider. In the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from resend.clock import to_text
from resend.model import Fate, State
from resend.stores.setwise import clean, dump, json_rows
from resend.stores.tables import delivery, try_
from resend.stores.transitions import Applied, FateChange

_BEFORE = {
    Fate.UNSEEN: (),
    Fate.QUEUED_AT_RELAY: (Fate.UNSEEN,),
    Fate.DELIVERED: (Fate.UNSEEN, Fate.QUEUED_AT_RELAY),
    Fate.RETURNED: (Fate.UNSEEN, Fate.QUEUED_AT_RELAY),
}
_PENDING = (Fate.UNSEEN, Fate.QUEUED_AT_RELAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A mail that a log may name: by the queue id that its receiver gave, or by its Message-ID and recipient."""

    key: str
    plan_id: str
    egress: str
    provider: str
    rcpt: str
    message_id: str
    remote_qid: str
    state: State
    fate: str
    try_id: str


def change(conn: Connection, item: FateChange) -> Applied:
    """Move one mail's fate on; not ok where it is not accepted (yet), or its fate is final."""
    done = conn.execute(
        update(delivery)
        .where(
            delivery.c.key == item.key,
            delivery.c.state == State.ACCEPTED,
            delivery.c.fate.in_(_BEFORE[item.fate]),
        )
        .values(fate=item.fate, fate_at=to_text(item.at), fate_reply=clean(item.reply))
    ).rowcount
    return Applied(True, "", State.ACCEPTED, 1) if done else Applied(False, f"not before {item.fate}")


def change_all(conn: Connection, items: Iterable[FateChange]) -> int:
    """Move fates on; how many moved."""
    return sum(change(conn, item).count for item in items)


def by_remote_qid(conn: Connection, qids: Sequence[str]) -> list[Sent]:
    """Mails whose last try was given one of these queue ids."""
    chosen = json_rows(conn.dialect.name, "chosen", qid=str)
    named = select(try_.c.id).where(try_.c.remote_qid.in_(select(chosen.c.qid)))
    last = select(try_.c.delivery_key).where(try_.c.remote_qid.in_(select(chosen.c.qid)))
    wanted = delivery.c.key.in_(last) & delivery.c.try_id.in_(named)
    return _sent(conn, wanted, {"chosen": dump([qid] for qid in qids if qid)})


def by_message_id(conn: Connection, message_ids: Sequence[str]) -> list[Sent]:
    """Mails with one of these Message-IDs (with brackets)."""
    chosen = json_rows(conn.dialect.name, "chosen", message_id=str)
    wanted = delivery.c.message_id.in_(select(chosen.c.message_id))
    return _sent(conn, wanted, {"chosen": dump([message_id] for message_id in message_ids if message_id)})


def pending(conn: Connection, *, plan_id: str = "") -> dict[tuple[str, str], int]:
    """Accepted mails of which the end is not known yet, by (egress, provider)."""
    query = select(delivery.c.egress, delivery.c.provider, func.count()).where(delivery.c.fate.in_(_PENDING))
    if plan_id:
        query = query.where(delivery.c.plan_id == plan_id)
    rows = conn.execute(query.group_by(delivery.c.egress, delivery.c.provider)).all()
    return {(egress, provider): count for egress, provider, count in rows}


def counts(conn: Connection, *, plan_id: str = "") -> dict[tuple[str, str], dict[Fate, int]]:
    """How accepted mails ended so far, by (egress, provider)."""
    query = select(delivery.c.egress, delivery.c.provider, delivery.c.fate, func.count()).where(
        delivery.c.state == State.ACCEPTED
    )
    if plan_id:
        query = query.where(delivery.c.plan_id == plan_id)
    found: dict[tuple[str, str], dict[Fate, int]] = {}
    for egress, provider, fate, count in conn.execute(
        query.group_by(delivery.c.egress, delivery.c.provider, delivery.c.fate)
    ):
        found.setdefault((egress, provider), {})[Fate(fate)] = count
    return found


def _sent(conn: Connection, wanted: object, parameter: dict[str, str]) -> list[Sent]:
    names = ("key", "plan_id", "egress", "provider", "rcpt", "message_id", "remote_qid", "state", "fate", "try_id")
    rows = conn.execute(
        select(*(delivery.c[name] for name in names)).where(wanted).order_by(delivery.c.key),  # type: ignore[arg-type]
        parameter,
    ).mappings()
    return [Sent(**{**row, "state": State(row["state"])}) for row in rows]
