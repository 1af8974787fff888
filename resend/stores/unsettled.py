"""Mails that a relay of ours took, or may have taken, and whose end is not known: what its log may still tell of.

Reads only, in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, exists, func, literal_column, select

from resend.clock import from_text, to_micros
from resend.model import Fate, State
from resend.stores.setwise import dump, json_rows
from resend.stores.tables import delivery, try_

_RELAYED = "relay:%"  # egress names of relays, policy/routes
_PENDING = (Fate.UNSEEN, Fate.QUEUED_AT_RELAY)
_CHUNK = 10_000  # rows fetched at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """The last try of such a mail. `remote_qid` is "" for one in doubt. Times in microseconds UTC."""

    try_id: str
    key: str
    remote_qid: str
    message_id: str
    recipient: str
    armed_us: int
    ended_us: int | None
    egress: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """How many mails wait for evidence: in doubt (anywhere), unseen or queued at a relay; and how many came back.

    A mail that came back and was knowingly planned again since is not left: its later generation is.
    """

    in_doubt: int
    pending: int
    returned: int


def unsettled(conn: Connection, *, qids: Sequence[str] | None = None) -> Iterator[Unsettled]:
    """Each mail that went through a relay and is in doubt, or accepted and neither delivered nor returned.

    `qids`: only those whose last try was given one of these queue ids.
    """
    doubtful = delivery.c.state == State.IN_DOUBT
    pending = (delivery.c.state == State.ACCEPTED) & delivery.c.fate.in_(_PENDING)
    query = (
        select(
            delivery.c.key,
            delivery.c.state,
            delivery.c.message_id,
            delivery.c.rcpt,
            delivery.c.remote_qid,
            delivery.c.egress,
            try_.c.id,
            try_.c.armed_at,
            try_.c.ended_at,
        )
        .join(try_, try_.c.id == delivery.c.try_id)
        .where(delivery.c.egress.like(_RELAYED), doubtful | pending, try_.c.armed_at.is_not(None))
        .order_by(try_.c.armed_at, delivery.c.key)
    )
    parameters: dict[str, str] = {}
    if qids is not None:
        chosen = json_rows(conn.dialect.name, "chosen", qid=str)
        known = try_.c.remote_qid != literal_column("''")  # as the index has it: a parameter would not find it
        query = query.where(try_.c.remote_qid.in_(select(chosen.c.qid)), known)
        parameters["chosen"] = dump([qid] for qid in qids if qid)
    for row in conn.execute(query, parameters, execution_options={"yield_per": _CHUNK}):
        yield Unsettled(
            try_id=row.id,
            key=row.key,
            remote_qid="" if row.state == State.IN_DOUBT else row.remote_qid,
            message_id=row.message_id,
            recipient=row.rcpt,
            armed_us=to_micros(from_text(row.armed_at)),
            ended_us=to_micros(from_text(row.ended_at)) if row.ended_at else None,
            egress=row.egress,
        )


def left(conn: Connection) -> Left:
    """What evidence has not settled yet."""
    counts = {
        (state, fate): count
        for state, fate, count in conn.execute(
            select(delivery.c.state, delivery.c.fate, func.count())
            .where(delivery.c.state.in_((State.IN_DOUBT, State.ACCEPTED)))
            .group_by(delivery.c.state, delivery.c.fate)
        )
    }
    later = delivery.alias("later")
    again = exists().where(
        later.c.release == delivery.c.release,
        later.c.rcpt_key == delivery.c.rcpt_key,
        later.c.generation > delivery.c.generation,
    )
    came_back = select(func.count()).where(delivery.c.state == State.ACCEPTED, delivery.c.fate == Fate.RETURNED, ~again)
    return Left(
        in_doubt=sum(count for (state, _), count in counts.items() if state == State.IN_DOUBT),
        pending=sum(counts.get((State.ACCEPTED, fate), 0) for fate in _PENDING),
        returned=int(conn.execute(came_back).scalar_one()),
    )
