"""What a mail that came back says: the records that `read_report` gives. Decides nothing, reads nothing.

Absent text is "", an absent time None; all texts are one line without control characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ReportKind(StrEnum):
    """What a mail in a bounce mailbox is. Only `failure` says that somebody did not get a mail."""

    FAILURE = "failure"  # given up for good; each recipient's action says for whom
    DELAY = "delay"  # still tried: proves nothing about the end
    COMPLAINT = "complaint"  # ARF (RFC 5965): the mail arrived, and somebody called it spam
    AUTO_REPLY = "auto_reply"  # RFC 3834: out of office; proves that the mail arrived
    NOT_A_REPORT = "not_a_report"  # also a report of success: its recipients are there, delivered or relayed


class FailedAction(StrEnum):
    """The Action field of a delivery report (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What a report says of one recipient."""

    recipient: str  # as the reporting system knows it: after forwarding and aliases
    original_recipient: str = ""  # as we wrote it, where the report says so
    action: FailedAction = FailedAction.FAILED
    status: str = ""  # enhanced status code x.y.z
    code: int = 0  # SMTP reply code
    reply: str = ""  # what the receiver said, or what the report says in its stead
    remote_mta: str = ""  # host name of the server that refused, lower case
    remote_ip: str = ""
    last_attempt_at: datetime | None = None  # aware UTC
    truncated: bool = False  # `reply` was cut here


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One mail, read."""

    kind: ReportKind
    reason: str  # why it was read as this kind, for people
    feedback: str = ""  # of a complaint: its Feedback-Type ("abuse", "opt-out", "auth-failure", ...)
    reported_at: datetime | None = None  # Date of the report, aware UTC
    reporting_mta: str = ""  # host name, lower case
    message_id: str = ""  # of the original mail, as written, with its brackets
    subject: str = ""  # of the original, decoded
    sender: str = ""  # envelope sender of the original, else its From
    original_date: datetime | None = None  # aware UTC
    headers: tuple[
        tuple[str, str], ...
    ] = ()  # returned fields of the original that no standard names (X-...): name in lower case, value decoded
    envelope_to: str = ""  # where the report was sent to, which carries the VERP tag
    recipients: tuple[Failed, ...] = ()
