"""Delivery reports as RFC 3464 and 6533 write them: fields of the mail, then fields of each recipient.

Reads them as they come: without blank lines between recipients, with blank lines inside of one, with fields missing,
unfolded, in text instead of their own part. Pure, linear. Raises nothing for any text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from resend.collect.bounces.addresses import host_of, ip_of, typed
from resend.collect.bounces.report import Failed, FailedAction
from resend.collect.bounces.words import date, one_line

RECIPIENTS_MAX = 10_000
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,40}(?: [A-Za-z]{2,20})?)[ \t]{0,8}:(?!//)[ \t]*(.*)")
_STARTS = re.compile(
    r"^(?:Reporting-MTA|Final-Recipient|Original-Recipient|X-Actual-Recipient|Original-Envelope-Id)[ \t]*:", re.I | re.M
)
_OF_RECIPIENT = frozenset(
    {"final-recipient", "original-recipient", "action", "status", "remote-mta", "diagnostic-code", "last-attempt-date"}
    | {"will-retry-until", "final-log-id", "x-actual-recipient"}
)
_ONCE = frozenset({"final-recipient", "original-recipient", "action", "status"})
_NAMES_SOMEBODY = ("final-recipient", "original-recipient", "x-actual-recipient")
_ENHANCED = re.compile(r"(?<![\w.])([245])\.(\d{1,3})\.(\d{1,3})(?![\w]|\.\d)", re.ASCII)
_ACTIONS = {action.value: action for action in FailedAction} | {
    "failure": FailedAction.FAILED,
    "undeliverable": FailedAction.FAILED,
    "delay": FailedAction.DELAYED,
    "relay": FailedAction.RELAYED,
}
_REPLY_AS_STATUS = re.compile(r"[45][0-5]\d[ -]\S")
_DIAGNOSTIC_TYPE = re.compile(r"\s*(?:smtp|x-[\w-]{1,40}|unknown|unix|dns|local)\s*;\s*", re.I)


@dataclass(slots=True)
class Status:
    """A delivery report: fields by name in lower case, values on one line."""

    mail: dict[str, str] = field(default_factory=dict)
    recipients: list[dict[str, str]] = field(default_factory=list)


def status_text(text: str) -> str:
    """From the first field of a delivery report in a text on; "" where it holds none."""
    match = _STARTS.search(text)
    return text[match.start() :] if match else ""


def read_status(text: str) -> Status:
    """The fields. A recipient begins after a blank line, or where a field comes that the recipient has already."""
    found = Status()
    current: dict[str, str] = {}
    name, blank = "", True
    for line in text.split("\n"):
        if not line.strip():
            blank, name = True, ""
            continue
        match = None if line[0] in " \t" and name else _FIELD.match(line.strip())
        if match is None:
            if name and len(current[name]) < 8_192:  # folded, or unfolded by whoever passed it on
                current[name] += " " + line.strip()
            continue
        name = match.group(1).lower().replace(" ", "-")
        of_recipient = name in _OF_RECIPIENT
        if of_recipient and (current is found.mail or name in _ONCE):
            current = _recipient(found, current, name, blank)
        elif not current and not found.recipients:
            current = found.mail
        if len(found.recipients) > RECIPIENTS_MAX:
            found.recipients.pop()
            break
        current.setdefault(name, "")
        current[name] = (
            f"{current[name]} {match.group(2).strip()}".strip() if name == "diagnostic-code" else match.group(2).strip()
        )
        blank = False
    found.recipients = [fields for fields in found.recipients if any(fields.get(name) for name in _NAMES_SOMEBODY)]
    return found


def _recipient(found: Status, current: dict[str, str], name: str, blank: bool) -> dict[str, str]:
    """The recipient that a field belongs to: the current one, or a new one."""
    if current is found.mail or not found.recipients:
        found.recipients.append({})
        return found.recipients[-1]
    somebody = any(name in current for name in _NAMES_SOMEBODY)
    if name in current or (
        blank and somebody and (name in _NAMES_SOMEBODY[:1] or (name == "original-recipient" and "status" in current))
    ):
        found.recipients.append({})
        return found.recipients[-1]
    return current


def failed_of(fields: dict[str, str], mail: dict[str, str]) -> Failed | None:
    """What a report says of one recipient; None where it names nobody."""
    final, original = typed(fields.get("final-recipient", "")), typed(fields.get("original-recipient", ""))
    actual = typed(fields.get("x-actual-recipient", ""))
    if "@" in actual and final:  # sendmail's Final-Recipient is an alias as it came, once for each member
        original = original or final
        final = actual
    if original and "@" not in final and original.partition("@")[0].lower() == final.lower():
        final = original  # CommuniGate names the account alone
    recipient = final or actual or original
    if not recipient:
        return None
    diagnostic = one_line(_DIAGNOSTIC_TYPE.sub("", fields.get("diagnostic-code", ""), count=1))
    status = _ENHANCED.search(fields.get("status", ""))
    if not diagnostic and _REPLY_AS_STATUS.match(fields.get("status", "")):
        diagnostic = one_line(fields["status"])
    remote = fields.get("remote-mta", "")
    return Failed(
        recipient=recipient,
        original_recipient=original,
        action=_action(fields, status.group() if status else ""),
        status=status.group() if status else "",
        reply=diagnostic,
        remote_mta=host_of(remote),
        remote_ip=ip_of(remote),
        last_attempt_at=date(
            fields.get("last-attempt-date", mail.get("last-attempt-date", "")).encode("utf-8", "replace")
        ),
    )


def _action(fields: dict[str, str], status: str) -> FailedAction:
    word = fields.get("action", "").split("(")[0].strip().lower().rstrip(".;")
    if word in _ACTIONS:
        return _ACTIONS[word]
    if "will-retry-until" in fields:
        return FailedAction.DELAYED
    return FailedAction.DELIVERED if status.startswith("2") else FailedAction.FAILED
