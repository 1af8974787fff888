"""Complaints: feedback reports (RFC 5965, 6591) and mails of a mail client that unsubscribe.

Pure, linear. Raises nothing for any mail.
"""

from __future__ import annotations

from dataclasses import replace

from resend.collect.bounces.addresses import address_of, host_of, ip_of, typed
from resend.collect.bounces.mime import Mail, Part
from resend.collect.bounces.original import Original, message_id
from resend.collect.bounces.report import Failed, FailedAction, Report, ReportKind
from resend.collect.bounces.words import date, field_text, one_line, part_text

RECIPIENTS_MAX = 1_000
_NO_COMPLAINT = frozenset({"not-spam"})  # RFC 6430: a mail was wrongly taken for spam


def read(mail: Mail, part: Part | None, original: Original, base: Report) -> Report | None:
    """The complaint; None where the mail is none. Providers that redact who complains leave the returned mail's To."""
    if part is None:
        return _unsubscribed(mail, base) or _by_hotmail(original, base)
    fields: dict[str, list[str]] = {}
    name = ""
    for line in part_text(part).split("\n")[:2_000]:
        if line[:1] in " \t" and name and line.strip():
            fields[name][-1] = one_line(f"{fields[name][-1]} {line}")
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower() if colon else ""
        if name:
            fields.setdefault(name, []).append(one_line(value))

    def first(*names: str) -> str:
        return next((value for name in names for value in fields.get(name, ()) if value), "")

    kind = first("feedback-type").lower().split(" ")[0]
    people = [typed(value) for name in ("original-rcpt-to", "removal-recipient") for value in fields.get(name, ())]
    seen = dict.fromkeys([address for address in people if "@" in address] or original.recipients)
    said = one_line(f"{kind or 'feedback'} report from {first('user-agent') or 'a feedback loop'}")
    arrived = date(first("arrival-date", "received-date").encode("utf-8", "replace"))
    return replace(
        base,
        kind=ReportKind.NOT_A_REPORT if kind in _NO_COMPLAINT else ReportKind.COMPLAINT,
        reason=f"a feedback report (RFC 5965) of type {kind or 'unknown'}",
        feedback=kind,
        reporting_mta=host_of(first("reporting-mta")),
        message_id=message_id(first("original-message-id", "message-id").encode("utf-8", "replace")),
        sender=address_of(first("original-mail-from")),
        recipients=tuple(
            Failed(
                recipient=address,
                action=FailedAction.DELIVERED,
                reply=said,
                remote_ip=ip_of(first("source-ip")),
                last_attempt_at=arrived,
            )
            for address in list(seen)[:RECIPIENTS_MAX]
        ),
    )


def _by_hotmail(original: Original, base: Report) -> Report | None:
    """The junk mail reports of Outlook.com: the mail itself, with a field that says who complained."""
    who = next((address_of(value) for name, value in original.headers if name == "x-hmxmroriginalrecipient"), "")
    if not who:
        return None
    there = Failed(recipient=who, action=FailedAction.DELIVERED, reply="abuse report from Outlook.com")
    return replace(
        base,
        kind=ReportKind.COMPLAINT,
        reason="X-HmXmrOriginalRecipient: a junk mail report of Outlook.com",
        feedback="abuse",
        recipients=(there,),
    )


def _unsubscribed(mail: Mail, base: Report) -> Report | None:
    """A mail to the address of List-Unsubscribe, as Apple's client sends it."""
    if not mail.fields.first("x-apple-unsubscribe"):
        return None
    who = address_of(field_text(mail.fields.first("from")))
    return replace(
        base,
        kind=ReportKind.COMPLAINT,
        reason="X-Apple-Unsubscribe: sent by a mail client to unsubscribe",
        feedback="opt-out",
        recipients=(Failed(recipient=who, action=FailedAction.DELIVERED, reply="unsubscribed"),) if who else (),
    )
