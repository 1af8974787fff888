"""What the ledger knows of before: past deliveries, our own tries and their replies, standing vetoes.

Reads only, by streams of plain rows. Raises what the ledger raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, and_, case, or_, select

from resend.clock import from_text, to_micros, to_text
from resend.model import Fate, Identity, State, TryOutcome, VetoKind, VetoReason
from resend.stores.rows import Veto
from resend.stores.tables import audit, delivery, try_, veto

_CHUNK = 10_000  # rows fetched at once


@dataclass(frozen=True, slots=True)
class PastDelivery:
    """One mail that was planned or sent before, under whichever incident."""

    release: str
    rcpt_key: str
    generation: int
    state: str
    fate: str  # of an accepted one: model.Fate, or "" where it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTry:
    """What tells a resend of ours in a log. `message_id` only where we made it: a kept one is the original's too."""

    remote_qid: str
    message_id: str
    rcpt_key: str
    at_us: int
    release: str
    recipient_id: str


def past_deliveries(connection: Connection) -> Iterator[PastDelivery]:
    """Every Delivery of the ledger. One that was closed though its receiver may have it counts as accepted."""
    taken = maybe_taken()
    query = select(
        delivery.c.release,
        delivery.c.rcpt_key,
        delivery.c.generation,
        case((taken, State.ACCEPTED.value), else_=delivery.c.state).label("state"),
        delivery.c.fate,
    )
    for row in connection.execute(query, execution_options={"yield_per": _CHUNK}):
        yield PastDelivery(row.release, row.rcpt_key, row.generation, row.state, row.fate)


def maybe_taken(of: FromClause = delivery) -> ColumnElement[bool]:
    """Closed mails that a receiver may have: their doubt was closed, or an acceptance came after its release."""
    told = select(audit.c.subject).where(audit.c.what.in_(("doubt_closed", "late_accepted", "known_duplicate")))
    return and_(of.c.state == State.CLOSED, of.c.key.in_(told))


def own_tries(connection: Connection) -> Iterator[OwnTry]:
    """Every try that a log may show: one with a remote queue id, or with a Message-ID that we made."""
    query = (
        select(
            try_.c.remote_qid,
            try_.c.mail_at,
            delivery.c.message_id,
            delivery.c.identity,
            delivery.c.rcpt_key,
            delivery.c.release,
            delivery.c.recipient_id,
        )
        .join(delivery, delivery.c.key == try_.c.delivery_key)
        .where((try_.c.remote_qid != "") | (delivery.c.identity == Identity.NEW))
    )
    for row in connection.execute(query, execution_options={"yield_per": _CHUNK}):
        yield OwnTry(
            remote_qid=row.remote_qid,
            message_id=row.message_id if row.identity == Identity.NEW else "",
            rcpt_key=row.rcpt_key,
            at_us=to_micros(from_text(row.mail_at)),
            release=row.release,
            recipient_id=row.recipient_id,
        )


def standing_vetoes(connection: Connection, *, without: str = "catalog") -> Iterator[Veto]:
    """Vetoes of every source but `without`, whose newest word is read from the source itself."""
    query = select(veto.c.kind, veto.c.subject, veto.c.reason, veto.c.scope, veto.c.evidence)
    for row in connection.execute(query.where(veto.c.source != without), execution_options={"yield_per": _CHUNK}):
        yield Veto(
            kind=VetoKind(row.kind),
            subject=row.subject,
            reason=VetoReason(row.reason),
            scope=row.scope,
            evidence=row.evidence,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PastReply:
    """How a try of ours ended. `cause`: a CauseClass, "" for an acceptance. `reply`: code and text."""

    at: datetime
    outcome: TryOutcome
    cause: str
    reply: str


def replies_since(
    connection: Connection, *, egress: str, provider: str, since: datetime, accepted_since: datetime
) -> list[PastReply]:
    """Replies of an (egress, provider) to tries since then, oldest first: refusals, and the later acceptances."""
    rows = connection.execute(
        select(try_.c.ended_at, try_.c.outcome, try_.c.cause, try_.c.code, try_.c.reply)
        .where(
            try_.c.egress == egress,
            try_.c.provider == provider,
            try_.c.mail_at >= to_text(since),
            try_.c.ended_at.is_not(None),
            or_(
                try_.c.outcome.in_((TryOutcome.DEFERRED, TryOutcome.REJECTED)),
                and_(try_.c.outcome == TryOutcome.ACCEPTED, try_.c.mail_at >= to_text(accepted_since)),
            ),
        )
        .order_by(try_.c.ended_at.desc(), try_.c.id)
        .limit(_CHUNK)
    ).all()
    return [
        PastReply(
            at=from_text(row.ended_at),
            outcome=TryOutcome(row.outcome),
            cause=row.cause,
            reply=f"{row.code} {row.reply}" if row.code else row.reply,
        )
        for row in reversed(rows)
    ]


_OUTCOMES = {
    Fate.DELIVERED: TryOutcome.ACCEPTED,
    Fate.RETURNED: TryOutcome.REJECTED,
    Fate.QUEUED_AT_RELAY: TryOutcome.DEFERRED,
}


def fates_since(connection: Connection, *, egress: str, provider: str, since: datetime) -> list[PastReply]:
    """What a relay's log told since then of mails that it took, oldest first. The causes of replies are not known."""
    rows = connection.execute(
        select(delivery.c.fate, delivery.c.fate_at, delivery.c.fate_reply)
        .where(
            delivery.c.egress == egress,
            delivery.c.provider == provider,
            delivery.c.fate_at >= to_text(since),
            or_(
                delivery.c.fate == Fate.DELIVERED,
                and_(delivery.c.fate.in_((Fate.RETURNED, Fate.QUEUED_AT_RELAY)), delivery.c.fate_reply != ""),
            ),
        )
        .order_by(delivery.c.fate_at.desc(), delivery.c.key)
        .limit(_CHUNK)
    ).all()
    return [
        PastReply(at=from_text(row.fate_at), outcome=_OUTCOMES[Fate(row.fate)], cause="", reply=row.fate_reply)
        for row in reversed(rows)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TryHistory:
    """One try of ours. `at`: when MAIL was sent."""

    id: str
    at: datetime
    egress: str
    outcome: str
    stage: str
    code: int
    enhanced: str
    reply: str
    remote_qid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryHistory:
    """One mail that was planned for an address, with its tries in order."""

    key: str
    release: str
    generation: int
    incident_id: str
    plan_id: str
    state: str
    fate: str
    fate_reply: str
    reason: str
    due_at: datetime | None
    accepted_at: datetime | None
    tries: tuple[TryHistory, ...]


def deliveries_to(connection: Connection, folded: str) -> list[DeliveryHistory]:
    """Every Delivery to an address (policy.address.fold), oldest generation first."""
    rows = connection.execute(
        select(delivery).where(delivery.c.folded == folded).order_by(delivery.c.release, delivery.c.generation)
    ).all()
    tries: dict[str, list[Any]] = {row.key: [] for row in rows}
    mine = select(try_).where(try_.c.delivery_key.in_(list(tries))).order_by(try_.c.mail_at, try_.c.id)
    for item in connection.execute(mine) if tries else ():  # one pass: no index finds the tries of a mail
        tries[item.delivery_key].append(item)
    return [
        DeliveryHistory(
            key=row.key,
            release=row.release,
            generation=row.generation,
            incident_id=row.incident_id,
            plan_id=row.plan_id,
            state=row.state,
            fate=row.fate,
            fate_reply=row.fate_reply,
            reason=row.reason,
            due_at=from_text(row.due_at) if row.due_at else None,
            accepted_at=from_text(row.accepted_at) if row.accepted_at else None,
            tries=tuple(
                TryHistory(
                    id=item.id,
                    at=from_text(item.mail_at),
                    egress=item.egress,
                    outcome=item.outcome,
                    stage=item.stage,
                    code=item.code,
                    enhanced=item.enhanced,
                    reply=item.reply,
                    remote_qid=item.remote_qid,
                )
                for item in tries[row.key]
            ),
        )
        for row in rows
    ]
