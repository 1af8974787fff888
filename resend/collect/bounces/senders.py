"""Whom a mail is from, by its header: a mail system, an automaton that answers, or a person; and whether a text that
tells of a failure is to be believed.

People write about mails that failed, quote reports and forward them; shops write of parcels, thieves of mails that
wait. Their subjects are those of reports. Pure. Raises nothing for any fields.
"""

from __future__ import annotations

from enum import Enum

from resend.collect.bounces.mime import Fields
from resend.collect.bounces.phrases import (
    ANSWERS,
    AUTO_REPLY_SUBJECT,
    DAEMONS,
    DELAYS,
    LURES,
    MACHINES,
    MAIL_MACHINES,
    OF_MAIL,
    REPORT_SUBJECT,
)
from resend.collect.bounces.words import field_text

_TEXT_MAX = 8_000  # characters


class Belief(Enum):
    """Whether a mail may be a mail system's report."""

    SURE = "its sender or its type say so"
    ANSWER = "it answers by itself and wants no answer, as automatic replies of people do, too (RFC 3834)"
    LIKELY = "its subject says so, which people and shops write, too"
    NO = "nothing says so"


def belief(fields: Fields) -> Belief:
    """By whom it is from, to where it answers, what it calls itself."""
    sender, subject = field_text(fields.first("from")), field_text(fields.first("subject"))
    if fields.first("list-unsubscribe", "list-post") and not fields.first("x-failed-recipients"):
        # Mail to many, unless a list passed a report on: a mail system itself writes to one.
        called = REPORT_SUBJECT.search(subject) or DELAYS.search(subject)
        passed_on = "mailer-daemon" in sender.lower() or (called and by_system(fields))
        return Belief.SURE if passed_on else Belief.NO
    if (
        DAEMONS.search(sender)
        or fields.first(
            "x-failed-recipients", "x-ms-embedded-report", "x-ms-exchange-message-is-ndr", "x-bounced-address"
        )
        or b"report" in fields.first("content-type")[:40].lower()
    ):
        return Belief.SURE
    if _returns_to_a_system(fields) or fields.first("auto-submitted").lower().startswith(
        (b"auto-replied", b"auto-generated (fail")
    ):
        return Belief.ANSWER
    return Belief.LIKELY if REPORT_SUBJECT.search(subject) and not ANSWERS.match(subject) else Belief.NO


def believable(fields: Fields, trust: Belief, text: str, *, coded: bool, returned: bool) -> bool:
    """Whether a text that names who failed is a mail system's. `coded`: it has a reply; `returned`: a mail is in it."""
    text = text[:_TEXT_MAX]
    if not (coded or returned) and LURES.search(text):
        return False
    sender, subject = field_text(fields.first("from")), field_text(fields.first("subject"))
    if trust is Belief.SURE or returned or MAIL_MACHINES.search(sender):
        return True
    if trust is Belief.ANSWER and (coded or (REPORT_SUBJECT.search(subject) and not ANSWERS.match(subject))):
        return True
    return MACHINES.search(sender) is not None and _of_mail(text)


def _of_mail(text: str) -> bool:
    """Whether a text speaks of a mail of the reader's, not of parcels, payments or accounts."""
    flat = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return any(OF_MAIL.search(paragraph) for paragraph in flat)


def by_system(fields: Fields) -> bool:
    """Whether a mail system sent it, and not a person who writes about a mail that failed."""
    sender = field_text(fields.first("from"))
    return bool(DAEMONS.search(sender) or "postmaster@" in sender.lower()) or _returns_to_a_system(fields)


def _returns_to_a_system(fields: Fields) -> bool:
    """Whether the envelope sender is nobody (RFC 5321 4.5.5), or the name that some put there instead."""
    path = fields.first("return-path").lower()
    return path in (b"<>", b"<mailer-daemon>") or path.startswith(b"<mailer-daemon@")


def automatic(fields: Fields) -> str:
    """Why a mail is an automatic reply (RFC 3834); "" where it is none."""
    subject = field_text(fields.first("subject"))
    sender = field_text(fields.first("from"))
    if (DAEMONS.search(sender) or "postmaster@" in sender.lower()) and not AUTO_REPLY_SUBJECT.search(subject):
        return ""
    if fields.first("x-failed-recipients"):
        return ""
    if AUTO_REPLY_SUBJECT.search(subject):
        return "its subject is that of an automatic reply"
    for name in ("x-autoreply", "x-autorespond", "x-autoresponder", "x-auto-reply-from", "x-mail-autoreply"):
        if fields.first(name):
            return f"{name} is set"
    if fields.first("precedence").lower().replace(b"-", b"_") == b"auto_reply":
        return "Precedence: auto_reply"
    if fields.first("auto-submitted").lower().startswith((b"auto-replied", b"auto-notified")):
        return "Auto-Submitted: auto-replied"
    return ""
