"""What became of accepted mail: unseen -> queued_at_relay -> delivered | returned, the last two for good.

Written from a relay's log, counted per provider. In the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, and_, func, or_, select, update

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
    """Move one mail's fate on; not ok where it is not accepted (yet), or its fate is final.

    While a relay keeps a mail, its newest reply is kept: one that then comes back without a word came back for that.
    """
    reply = clean(item.reply)
    mail = update(delivery).where(delivery.c.key == item.key, delivery.c.state == State.ACCEPTED)
    said: dict[str, str] = {"fate_reply": reply} if reply or item.fate is Fate.DELIVERED else {}
    done = conn.execute(
        mail.where(delivery.c.fate.in_(_BEFORE[item.fate])).values(fate=item.fate, fate_at=to_text(item.at), **said)
    ).rowcount
    if done:
        return Applied(True, "", State.ACCEPTED, 1)
    if item.fate is Fate.QUEUED_AT_RELAY and reply:
        conn.execute(
            mail.where(
                delivery.c.fate == item.fate, delivery.c.fate_at <= to_text(item.at), delivery.c.fate_reply != reply
            ).values(fate_at=to_text(item.at), fate_reply=reply)
        )
    return Applied(False, f"not before {item.fate}")


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


def unheard(conn: Connection, *, plan_id: str = "") -> int:
    """Accepted mails of which a relay's log has told neither an end nor why they wait."""
    silent = or_(
        delivery.c.fate == Fate.UNSEEN, and_(delivery.c.fate == Fate.QUEUED_AT_RELAY, delivery.c.fate_reply == "")
    )
    query = select(func.count()).where(silent)
    if plan_id:
        query = query.where(delivery.c.plan_id == plan_id)
    return int(conn.execute(query).scalar_one())


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
