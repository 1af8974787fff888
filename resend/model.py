"""The nouns: closed sets as enums, records as frozen dataclasses, and the table of allowed state changes.

Imports nothing of ours and does nothing. Absent text is "", absent time is None, datetimes are aware UTC.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventKind(StrEnum):
    """What one log line says. Written to `kind` in evidence parts."""

    BEGIN = "begin"  # smtpd client=, pickup uid=: a queue id starts a new epoch
    MESSAGE = "message"  # cleanup message-id=
    QUEUED = "queued"  # qmgr from=, size=, nrcpt= (queue active)
    ATTEMPT = "attempt"  # to=, relay=, status=
    EXPIRED = "expired"  # qmgr from=, status=expired: every recipient still deferred
    REMOVED = "removed"  # qmgr removed: the epoch ends
    REQUEUE = "requeue"  # pickup orig_id=: postsuper -r
    HOP = "hop"  # one queue id continues as another (notification, forward, orig_queue_id=)
    HEADER = "header"  # cleanup info: header X-Release-Id: ...
    LOSS = "loss"  # the log says that it lost lines
    COMPLAINT = "complaint"  # the recipient called the mail spam (ARF): it arrived, and no more is wanted
    REJECTED = "rejected"  # a line that should be understood and was not


class OutcomeStatus(StrEnum):
    """The last word on one (message, recipient) over all hops."""

    DELIVERED = "delivered"
    DELIVERED_LATE = "delivered_late"
    STILL_QUEUED = "still_queued"
    BOUNCED = "bounced"
    EXPIRED = "expired"
    NO_EVIDENCE = "no_evidence"


class CauseClass(StrEnum):
    THROTTLED = "throttled"
    GREYLISTED = "greylisted"
    SENDER_BLOCKED = "sender_blocked"
    AUTH_FAILED = "auth_failed"
    MAILBOX_GONE = "mailbox_gone"
    BAD_DOMAIN = "bad_domain"
    MAILBOX_TEMPORARY = "mailbox_temporary"
    CONTENT_REJECTED = "content_rejected"
    POLICY_REJECTED = "policy_rejected"
    TRANSIENT_INFRA = "transient_infra"
    LOCAL_CONFIG = "local_config"
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """What a failure is about, so what the reaction must cover."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    SENDER = "sender"
    PROVIDER = "provider"
    RELAY = "relay"


class Action(StrEnum):
    RESEND = "resend"
    WAIT = "wait"
    NEVER = "never"
    ASK = "ask"


class Confidence(StrEnum):
    CERTAIN = "certain"
    PROBABLE = "probable"
    AMBIGUOUS = "ambiguous"
    NONE = "none"


class Bucket(StrEnum):
    """Each affected outcome is in exactly one; the order is the order of decision, first match wins."""

    FOLDED = "folded"
    ALREADY_RESENT = "already_resent"
    DELIVERED_LATE = "delivered_late"
    STILL_QUEUED = "still_queued"
    MAYBE_DELIVERED = "maybe_delivered"
    UNLINKED = "unlinked"
    AMBIGUOUS = "ambiguous"
    PROBABLE = "probable"
    NEVER = "never"
    WAIT = "wait"
    CONTENT_GONE = "content_gone"
    ASK = "ask"
    RESEND = "resend"


class State(StrEnum):
    """State of a Delivery. Allowed changes: TRANSITIONS, explained in docs/states.md."""

    PLANNED = "planned"
    LEASED = "leased"
    SENDING = "sending"
    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    SUPPRESSED = "suppressed"
    QUARANTINED = "quarantined"
    HELD = "held"
    CLOSED = "closed"
    GAVE_UP = "gave_up"


class Fate(StrEnum):
    """What became of an accepted mail; behind a relay its 250 is not the end."""

    UNSEEN = "unseen"
    QUEUED_AT_RELAY = "queued_at_relay"
    DELIVERED = "delivered"
    RETURNED = "returned"


TRANSITIONS: frozenset[tuple[State, State]] = frozenset(
    {
        (State.PLANNED, State.LEASED),
        (State.LEASED, State.SENDING),
        (State.LEASED, State.PLANNED),
        (State.LEASED, State.DEFERRED),
        (State.LEASED, State.REJECTED),
        (State.SENDING, State.ACCEPTED),
        (State.SENDING, State.DEFERRED),
        (State.SENDING, State.REJECTED),
        (State.SENDING, State.IN_DOUBT),
        (State.SENDING, State.PLANNED),  # disarmed without a reply: no try counted
        (State.DEFERRED, State.LEASED),  # due; joins a retry batch
        (State.DEFERRED, State.GAVE_UP),
        (State.DEFERRED, State.CLOSED),
        (State.REJECTED, State.PLANNED),  # relay scope, found in this run
        (State.PLANNED, State.SUPPRESSED),
        (State.LEASED, State.SUPPRESSED),
        (State.DEFERRED, State.SUPPRESSED),
        (State.PLANNED, State.QUARANTINED),
        (State.LEASED, State.QUARANTINED),
        (State.DEFERRED, State.QUARANTINED),
        (State.PLANNED, State.HELD),
        (State.LEASED, State.HELD),
        (State.DEFERRED, State.HELD),
        (State.HELD, State.PLANNED),
        (State.IN_DOUBT, State.ACCEPTED),
        (State.IN_DOUBT, State.PLANNED),  # released by the operator or by --in-doubt resend, counted
        (State.IN_DOUBT, State.CLOSED),
        (State.PLANNED, State.CLOSED),
        (State.HELD, State.CLOSED),
        (State.QUARANTINED, State.CLOSED),
    }
)

FINAL_STATES = frozenset(
    {State.ACCEPTED, State.REJECTED, State.SUPPRESSED, State.CLOSED, State.GAVE_UP}
)  # nothing more is due for these

REGENERABLE_STATES = frozenset(
    {State.REJECTED, State.SUPPRESSED, State.CLOSED, State.GAVE_UP}
)  # only after these may the same (release, recipient) be planned again, with generation + 1


class TryOutcome(StrEnum):
    """How one attempt of ours ended. `armed` is a try that has not ended."""

    ARMED = "armed"
    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    DISARMED = "disarmed"


class Stage(StrEnum):
    """Where in the SMTP dialogue a reply or a loss happened."""

    CONNECT = "connect"
    EHLO = "ehlo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    DOT = "dot"


class PlanState(StrEnum):
    READY = "ready"
    STARTED = "started"
    FINISHED = "finished"
    CLOSED = "closed"


class CatchUpEnd(StrEnum):
    """Why a catch-up came to its end."""

    DONE = "done"  # nothing left that is due
    TIME = "time"  # --max-duration
    PARKED = "parked"  # a rule keeps a provider from being sent to
    HOURS = "hours"  # a send window or a daily quota
    TOLD = "told"  # a person, or a signal
    TROUBLE = "trouble"  # it could not go on


class Identity(StrEnum):
    SAME = "same"  # untouched bytes, Message-ID and Date
    NEW = "new"  # Message-ID derived from the key, Date frozen at first arm


class VetoKind(StrEnum):
    ADDRESS = "address"  # subject: case-folded address
    DELIVERY = "delivery"  # subject: delivery key
    RELEASE = "release"
    CUSTOMER = "customer"
    DOMAIN = "domain"
    PROVIDER = "provider"


class VetoReason(StrEnum):
    DELIVERED = "delivered"  # evidence shows the original arrived after all
    SUPPRESSED = "suppressed"  # unsubscribed, complained, suppression list
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"  # the release is out of date
    HELD = "held"  # by the operator: `hold`


class ControlKind(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    RATE = "rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A well-formed SMTP reply: `code` 200..599, `enhanced` like 4.7.500 or "", `text` lines joined by newline."""

    code: int
    enhanced: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a mail failed. `retry_after` in seconds, None where the reply names no time; `stage` of Stage, "" unknown."""

    cls: CauseClass
    rule: str
    scope: Scope
    retry_after: int | None = None
    maybe_delivered: bool = False
    stage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do with one affected mail, and why."""

    action: Action
    rule: str
    reason: str
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which affected outcomes an incident is about; "" or None selects all. The window bounds the arrival time."""

    provider: str = ""
    cause: str = ""
    release: str = ""
    customer: str = ""
    from_at: datetime | None = None
    to_at: datetime | None = None


def delivery_key(release: str, rcpt_key: str, generation: int) -> str:
    """The identity of one mail to resend, UNIQUE over all incidents: sha256 hex of release, rcpt_key, generation."""
    return hashlib.sha256(f"{release}\n{rcpt_key}\n{generation}".encode()).hexdigest()
