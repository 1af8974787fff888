"""Bounces that Amazon SES tells by mail through Amazon SNS: JSON in the text.

Shapes: docs.aws.amazon.com/ses/latest/dg/notification-contents.html. Pure. Raises nothing for any text.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from resend.collect.bounces.addresses import address_of, host_of
from resend.collect.bounces.reply import read_reply
from resend.collect.bounces.report import Failed, FailedAction, Report, ReportKind
from resend.collect.bounces.words import one_line

_TEXT_MAX = 512 << 10
_EVENT = re.compile(r'"(?:notification|event)Type\\?"')
_BOUNCE, _COMPLAINT, _DELIVERY, _DELAY = "bounce", "complaint", "delivery", "deliverydelay"
_ABOUT = {  # where an event tells of its recipients, and how
    _BOUNCE: ("bounce", "bouncedRecipients", ReportKind.FAILURE, FailedAction.FAILED),
    _COMPLAINT: ("complaint", "complainedRecipients", ReportKind.COMPLAINT, FailedAction.DELIVERED),
    _DELIVERY: ("delivery", "recipients", ReportKind.NOT_A_REPORT, FailedAction.DELIVERED),
    _DELAY: ("deliveryDelay", "delayedRecipients", ReportKind.DELAY, FailedAction.DELAYED),
}


def read(text: str, base: Report) -> Report | None:
    """The report in a notification; None where the text is none."""
    start = text.find("{")
    if start < 0 or start > 200 or not _EVENT.search(text[:_TEXT_MAX]):
        return None
    outer = _object(text[start:_TEXT_MAX].replace("\n ", "").replace("!\n", ""))
    message = outer.get("Message", outer)
    event = _object(message) if isinstance(message, str) else _mapping(message)
    kind = str(event.get("notificationType", event.get("eventType", ""))).lower()
    if kind not in _ABOUT:
        return None
    name, people, report_kind, action = _ABOUT[kind]
    about, mail = _mapping(event.get(name)), _mapping(event.get("mail"))
    failed = [_failed(person, action) for person in _list(about.get(people))]
    if not any(one.recipient for one in failed):
        return None
    headers = {
        str(h.get("name", "")).lower(): str(h.get("value", ""))
        for h in _list(mail.get("headers"))
        if isinstance(h, dict)
    }
    return replace(
        base,
        kind=report_kind,
        reason=f"an Amazon SES notification of a {kind}",
        feedback=one_line(str(about.get("complaintFeedbackType", ""))) if kind == _COMPLAINT else "",
        reporting_mta=host_of(str(about.get("reportingMTA", ""))),
        message_id=one_line(headers.get("message-id", "") or str(mail.get("messageId", ""))),
        subject=one_line(headers.get("subject", "")),
        sender=address_of(str(mail.get("source", ""))),
        headers=tuple((name, one_line(value)[:998]) for name, value in headers.items() if name.startswith("x-"))[:64],
        recipients=tuple(one for one in failed if one.recipient)[:1_000],
    )


def _failed(person: Any, action: FailedAction) -> Failed:
    if not isinstance(person, dict):  # of a delivery
        return Failed(recipient=address_of(str(person)), action=action)
    said = str(person.get("diagnosticCode", "")).partition(";")
    reply = read_reply(said[2].strip() or said[0])
    return Failed(
        recipient=address_of(str(person.get("emailAddress", ""))),
        action=action,
        status=reply.status or one_line(str(person.get("status", "")))[:12],
        code=reply.code,
        reply=reply.text,
    )


def _object(text: str) -> dict[str, Any]:
    """The JSON object that a text begins with; empty where it is none."""
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
