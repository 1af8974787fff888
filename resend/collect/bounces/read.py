"""One mail to one report: what kind of report it is, and what its parts say of each recipient together.

Reads no clock, file or socket. Raises nothing for any bytes; its cost is linear in them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from resend.collect.bounces import feedback, notification
from resend.collect.bounces.addresses import address_of, addresses_of, host_of, typed
from resend.collect.bounces.mime import Fields, Mail, Part, parse, read_fields
from resend.collect.bounces.original import Original, message_id, quoted_original, read_original
from resend.collect.bounces.phrases import DELAYS, FAILS, GAVE_UP, REPORT_SUBJECT, SUCCEEDS
from resend.collect.bounces.prose import Record, read_records
from resend.collect.bounces.reply import Reply, expanded_from, read_reply, reporter_in
from resend.collect.bounces.report import Failed, FailedAction, Report, ReportKind
from resend.collect.bounces.returned import cut_original, without_footer
from resend.collect.bounces.senders import Belief, automatic, belief, believable, by_system
from resend.collect.bounces.status import Status, failed_of, read_status, status_text
from resend.collect.bounces.words import field_date, field_text, part_text

RECIPIENTS_MAX = 10_000
_REPORT_MAX = 64 << 10  # bytes of a part without a type that may be a report
_MAILS_MAX = 10  # within one mail; deeper ones are nobody's report
_STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status"})
_RECEIPTS = frozenset({"message/disposition-notification", "message/global-disposition-notification"})
_MAILS = frozenset({"message/rfc822", "message/global"})
_HEADERS = frozenset({"text/rfc822-headers", "text/rfc822-header", "message/rfc822-headers", "message/global-headers"})
_GENERIC = (".0.0", ".4.7", "")


def read_report(data: bytes) -> Report:
    """What this mail says about mail of ours."""
    return _read(parse(data), [_MAILS_MAX])


def _read(mail: Mail, budget: list[int]) -> Report:
    """`budget` is how many mails within mails are still read."""
    parts = _Parts(mail)
    base = Report(
        kind=ReportKind.NOT_A_REPORT,
        reason="",
        reported_at=field_date(mail.fields, "date"),
        envelope_to=_envelope_to(mail.fields),
    )
    found = feedback.read(mail, parts.feedback, parts.original, base) or notification.read(parts.text, base)
    if found is None:
        found = _delivery_report(mail, parts, base, budget)
    if found.kind is ReportKind.NOT_A_REPORT and not found.recipients:
        for inside in parts.mails():
            budget[0] -= 1
            if budget[0] > 0 and (belief(inside.fields) is not Belief.NO or inside.parameters.get("report-type")):
                forwarded = _read(inside, budget)
                if forwarded.kind not in (ReportKind.NOT_A_REPORT, ReportKind.AUTO_REPLY):
                    return replace(forwarded, reason=f"{forwarded.reason}; passed on inside another mail")
    return _with_original(found, parts.original)


class _Parts:
    """The leaves of a mail by what they are for."""

    def __init__(self, mail: Mail) -> None:
        self.status = ""
        self.in_words = False  # the status stands in the text, not in a part of its own
        self.receipt = ""  # of a reader (RFC 8098)
        self.feedback: Part | None = None
        self._returned: list[Part] = []
        plain: list[str] = []
        marked_up: list[Part] = []
        untyped: list[Part] = []
        headers: Fields | None = None
        for part in mail.leaves():
            if part.type in _STATUS_TYPES:
                self.status += part_text(part) + "\n\n"
            elif part.type in _RECEIPTS:
                self.receipt = part_text(part)
            elif part.type == "message/feedback-report":
                self.feedback = self.feedback or part
            elif part.type in _MAILS:
                self._returned.append(part)
            elif part.type in _HEADERS:
                headers = headers or read_fields(part_text(part).lstrip("\n").encode("utf-8", "replace"))[0]
            elif part.type == "text/html":
                marked_up.append(part)
            elif part.type == "application/octet-stream" and len(part.body) < _REPORT_MAX and len(untyped) < 3:
                untyped.append(part)
            elif part.type.startswith("text/") and len(plain) < 20 and not self._returned:
                plain.append(part_text(part))
        if not self.status:  # some programs that keep mails lose the type of a report
            self.status = "\n\n".join(status_text(part_text(part)) for part in untyped).strip()
        text = "\n\n".join(plain)
        if not text.strip():
            text = "\n\n".join(part_text(part) for part in marked_up[:5])
        text = without_footer(text.replace("\r\n", "\n").replace("\r", "\n"))
        self.text, inline, self.inline = cut_original(text)
        if not self.status and status_text(self.text):
            self.status, self.in_words = status_text(self.text), True
            self.text = self.text[: len(self.text) - len(self.status)]
        if headers is None and self._returned:
            headers = parse(self._returned[0].body).fields
        self.original = read_original(headers if headers is not None and headers.items else inline)
        self.returned = headers is not None or inline.first("received", "message-id", "return-path") != b""
        if not (self.original.message_id or self.original.subject):
            quoted = quoted_original(self.text)
            self.original = replace(
                self.original,
                message_id=quoted.message_id,
                subject=quoted.subject,
                date=self.original.date or quoted.date,
                recipients=self.original.recipients or quoted.recipients,
            )

    def holds_report(self) -> bool:
        """Whether the mail within is a report itself, so that whom it was sent to is no recipient that failed."""
        return any(inside.parameters.get("report-type") for inside in self.mails())

    def mails(self) -> Iterable[Mail]:
        """Mails within, which may be reports themselves."""
        for part in self._returned[:20]:
            yield parse(part.body)
        if self.inline:
            yield parse(self.inline.encode("utf-8", "surrogateescape"))


def _delivery_report(mail: Mail, parts: _Parts, base: Report, budget: list[int]) -> Report:
    status = read_status(parts.status) if parts.status else Status()
    trust = belief(mail.fields)
    suspicious = trust is not Belief.NO
    recipients = [failed for fields in status.recipients if (failed := failed_of(fields, status.mail)) is not None]
    if parts.in_words and not suspicious:
        recipients = []  # somebody quotes a report
    by_report = bool(recipients)
    if parts.receipt and not recipients:
        return _refused(parts, base) or _no_failure(mail.fields, base, "", parts.receipt)
    if not recipients and (parts.in_words or not parts.status) and (automatic(mail.fields) or not suspicious):
        return _no_failure(mail.fields, base, "it does not come from a mail system")
    records = read_records(parts.text, _aside(mail.fields, parts.original))
    _complete(records, mail.fields, parts.original)
    if recipients:
        by_address = {record.address.lower(): record for record in records}
        only = records[0] if len(records) == len(recipients) == 1 else None
        text = parts.text if len(recipients) == 1 else ""
        recipients = [_told(failed, by_address, only, text) for failed in recipients]
        reason = "a delivery report (RFC 3464)"
    else:
        inner = _inside(parts, records, budget)
        if inner is not None:
            return inner
        recipients, reason = _from_text(mail.fields, parts, records)
        coded = any(failed.code for failed in recipients)
        if recipients and not believable(mail.fields, trust, parts.text, coded=coded, returned=parts.returned):
            return _no_failure(mail.fields, base, "it does not come from a mail system, or speaks of no mail")
        if not recipients:
            return _no_failure(mail.fields, base, "it names nobody whose mail failed")
    kind = _kind(recipients, mail.fields, parts.text, by_report=by_report)
    if kind is ReportKind.DELAY and not by_report:
        recipients = [replace(failed, action=FailedAction.DELAYED) for failed in recipients]
    return replace(
        base,
        kind=kind,
        reason=reason,
        reporting_mta=host_of(status.mail.get("reporting-mta", "")) or reporter_in(parts.text),
        sender=address_of(status.mail.get("x-postfix-sender", "") or status.mail.get("x-sendgrid-sender", "")),
        message_id=_original_id(mail.fields, status, parts),
        recipients=tuple(_unique(recipients)[:RECIPIENTS_MAX]),
    )


def _complete(records: list[Record], fields: Fields, original: Original) -> None:
    """Local parts alone become addresses: one that the returned mail was sent to, else one of the reporting daemon."""
    host = address_of(field_text(fields.first("from"))).rpartition("@")[2] if by_system(fields) else ""
    for record in records:
        if "@" in record.address:
            continue
        local = f"{record.address.lower()}@"
        to = [address for address in original.recipients if address.lower().startswith(local)]
        if to or host:
            record.address = to[0] if to else f"{record.address}@{host}"


def _refused(parts: _Parts, base: Report) -> Report | None:
    """A receipt that says that the mail was thrown away unread, and why: how some servers refuse what they took."""
    receipt = read_fields(parts.receipt.lstrip("\n").encode("utf-8", "replace"))[0]
    disposition = receipt.first("disposition").lower()
    who = typed(field_text(receipt.first("final-recipient", "original-recipient")))
    text = parts.text[:20_000]
    if not who or b"automatic" not in disposition or b"deleted" not in disposition or not FAILS.search(text):
        return None
    return replace(
        base,
        kind=ReportKind.FAILURE,
        reason="a receipt (RFC 8098) of a mail that was refused",
        message_id=message_id(receipt.first("original-message-id")),
        recipients=(_failed(who, read_reply(text)),),
    )


def _no_failure(fields: Fields, base: Report, reason: str, receipt: str = "") -> Report:
    """An automatic reply, with who sent it, or a mail that is no report."""
    why = "a read receipt (RFC 8098)" if receipt else automatic(fields)
    if not why:
        return replace(base, reason=reason)
    who = address_of(field_text(fields.first("from", "reply-to")))
    there = (Failed(recipient=who, action=FailedAction.DELIVERED),) if who else ()
    return replace(base, kind=ReportKind.AUTO_REPLY, reason=why, recipients=there)


def _inside(parts: _Parts, records: list[Record], budget: list[int]) -> Report | None:
    """The report that another one holds in its text, with an address for questions before it."""
    budget[0] -= 1
    if budget[0] <= 0 or not status_text(parts.inline) or any(read_reply(record.text).code for record in records):
        return None
    found = _read(parse(parts.inline.encode("utf-8", "replace")), budget)
    return found if found.recipients else None


def _told(failed: Failed, by_address: dict[str, Record], only: Record | None, text: str) -> Failed:
    """A recipient of a report with what the report's text adds: about its address, else all of it."""
    own = read_reply(failed.reply)
    record = by_address.get(failed.recipient.lower()) or by_address.get(failed.original_recipient.lower()) or only
    told = read_reply(record.text) if record else (Reply() if own.code else read_reply(text))
    if not (record or told.code):
        told = Reply()
    cut = own.text.rstrip().endswith("...") or (own.text and told.text.startswith(own.text.split(" (in reply")[0]))
    better = told if told.weight > own.weight or (cut and told.weight == own.weight) else own
    return replace(
        failed,
        original_recipient=failed.original_recipient or (expanded_from(record.text) if record else ""),
        reply=better.text or failed.reply,
        code=better.code or own.code,
        status=_status(failed.status, better.status, own.status),
        remote_mta=failed.remote_mta or told.host or own.host,
        remote_ip=failed.remote_ip or told.ip or own.ip,
        truncated=better.truncated or (better is own and own.text.endswith("...")),
    )


def _status(field: str, *said: str) -> str:
    """The enhanced code: the receiver's own words before the field, which the reporting system may have made up."""
    for code in (*said, field):
        if code and code[1:] not in _GENERIC:
            return code
    return field or next((code for code in said if code), "")


def _from_text(fields: Fields, parts: _Parts, records: list[Record]) -> tuple[list[Failed], str]:
    """Recipients of a report that is written for people only, and why they were taken for that."""
    replies = [(record, read_reply(record.text)) for record in records]
    if len(replies) == 1 and not replies[0][1].code:  # some say the reply first, and then whom it is about
        whole = read_reply(parts.text)
        replies = [(records[0], whole if whole.code >= 400 else replies[0][1])]
    named = [address for value in fields.all("x-failed-recipients") for address in addresses_of(field_text(value))]
    text = parts.text[:20_000]
    called = REPORT_SUBJECT.search(field_text(fields.first("subject")))
    if SUCCEEDS.search(text) and not any(reply.code >= 400 for _, reply in replies):
        return [], ""
    fails = bool(called or named or FAILS.search(text) or DELAYS.search(text))
    if replies and (fails or any(reply.code >= 400 for _, reply in replies)):
        found = [replace(_failed(r.address, reply), original_recipient=expanded_from(r.text)) for r, reply in replies]
        told = {record.address for record in records}
        if told < set(named):  # the text leaves some out
            found += [_failed(address, replies[0][1]) for address in named if address not in told]
        return found, "the text names who failed"
    if not fails:
        return [], ""
    reply = read_reply(parts.text)
    bounced = [address_of(field_text(fields.first("x-bounced-address", "x-actual-recipient")))]
    aside = _aside(fields, parts.original)
    titled = [address for address in addresses_of(field_text(fields.first("subject"))) if address not in aside]
    for who, why in (
        (named, "X-Failed-Recipients"),
        (bounced, "X-Bounced-Address"),
        (titled if called and by_system(fields) else [], "the subject"),
        ([] if parts.holds_report() else parts.original.recipients, "the returned mail's To"),
    ):
        who = [address for address in who if address]
        if who and (len(who) == 1 or why == "X-Failed-Recipients"):
            return [_failed(address, reply) for address in who], f"a failure whose recipient stands in {why}"
    return [], ""


def _failed(address: str, reply: Reply) -> Failed:
    return Failed(
        recipient=address,
        status=reply.status,
        code=reply.code,
        reply=reply.text,
        remote_mta=reply.host,
        remote_ip=reply.ip,
        truncated=reply.truncated,
    )


def _kind(recipients: list[Failed], fields: Fields, text: str, *, by_report: bool) -> ReportKind:
    actions = {failed.action for failed in recipients}
    if by_report:
        if FailedAction.FAILED in actions:
            return ReportKind.FAILURE
        return ReportKind.DELAY if FailedAction.DELAYED in actions else ReportKind.NOT_A_REPORT
    subject = field_text(fields.first("subject"))
    delayed = DELAYS.search(subject) or (DELAYS.search(text[:8_000]) and not GAVE_UP.search(text[:8_000]))
    return ReportKind.DELAY if delayed else ReportKind.FAILURE


def _envelope_to(fields: Fields) -> str:
    for name in ("x-original-to", "delivered-to", "envelope-to", "x-envelope-to", "x-delivered-to", "to"):
        for value in fields.all(name):
            found = address_of(field_text(value))
            if found:
                return found
    return ""


def _aside(fields: Fields, original: Original) -> frozenset[str]:
    """Addresses in a report that did not fail: who sent it, whom it was sent to, who sent the mail."""
    own = {address_of(field_text(fields.first(name))) for name in ("from", "sender", "reply-to", "errors-to")}
    to = {address_of(field_text(fields.first(name))) for name in ("to", "delivered-to", "x-original-to")} | {
        original.sender
    }
    return frozenset(own | (to - set(original.recipients))) - {""}


def _original_id(fields: Fields, status: Status, parts: _Parts) -> str:
    said = status.mail.get("original-message-id", "") or status.mail.get("x-original-message-id", "")
    if said:
        return message_id(said.encode("utf-8", "replace"))
    return parts.original.message_id or message_id(fields.first("in-reply-to", "references"))


def _with_original(report: Report, original: Original) -> Report:
    """The report with what is known of the mail that it is about."""
    if report.kind is ReportKind.NOT_A_REPORT and not report.recipients:
        return report
    return replace(
        report,
        message_id=report.message_id or original.message_id,
        subject=report.subject or original.subject,
        sender=report.sender or original.sender,
        original_date=report.original_date or original.date,
        headers=report.headers or original.headers,
        envelope_to=report.envelope_to or original.return_path,
    )


def _unique(recipients: list[Failed]) -> list[Failed]:
    """Each recipient once: reports repeat them."""
    return list(
        {
            (failed.recipient.lower(), failed.original_recipient.lower(), failed.action): failed
            for failed in reversed(recipients)
        }.values()
    )[::-1]
