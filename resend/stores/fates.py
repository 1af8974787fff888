"""What became of accepted mail: unseen -> queued_at_relay -> delivered | returned, the last two for good.

Written from a relay's log, counted per provider. In the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, func, select, update

from resend.clock import to_text
from resend.model import Fate, State
from resend.stores.setwise import clean
from resend.stores.tables import delivery
from resend.stores.transitions import Applied, FateChange

_BEFORE = {
    Fate.UNSEEN: (),
    Fate.QUEUED_AT_RELAY: (Fate.UNSEEN,),
    Fate.DELIVERED: (Fate.UNSEEN, Fate.QUEUED_AT_RELAY),
    Fate.RETURNED: (Fate.UNSEEN, Fate.QUEUED_AT_RELAY),
}
_PENDING = (Fate.UNSEEN, Fate.QUEUED_AT_RELAY)


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
