"""What a report returns of the mail that failed: its header, or the few fields that the text quotes.

Pure, linear. Raises nothing for any bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from resend.collect.bounces.addresses import address_of, addresses_of
from resend.collect.bounces.mime import Fields
from resend.collect.bounces.words import date, field_date, field_text, one_line

HEADERS_MAX = 64
HEADER_MAX = 998  # characters of a value
RECIPIENTS_MAX = 100
_MESSAGE_ID = re.compile(rb"<[^<>\s]{1,990}>")
_STANDARD = frozenset(
    field
    for row in (
        "received return-path from to cc bcc subject date message-id reply-to sender mime-version content-type",
        "content-transfer-encoding content-disposition content-language dkim-signature domainkey-signature",
        "authentication-results received-spf arc-seal arc-message-signature arc-authentication-results autocrypt",
        "in-reply-to references user-agent delivered-to thread-topic thread-index importance content-length status",
    )
    for field in row.split()
)
_QUOTED_ID = re.compile(r"message[ -](?:id|identifier)[^:<\n]{0,30}:\s*(<[^<>\s]{1,990}>)", re.I)
_QUOTED_SUBJECT = re.compile(
    r"^[ \t]{0,40}(?:the message )?(?:subject|件名)(?: was)?\s{0,10}[:：]\s{0,40}(\S.{0,900})$", re.I | re.M
)
_QUOTED_DATE = re.compile(
    r"^[ \t]{0,40}(?:the message )?(?:date|sent)(?: was)?\s{0,10}:\s{0,40}(\S.{0,80})$", re.I | re.M
)

_QUOTED_TO = re.compile(r"^[ \t]{0,40}(?:to|宛先|收件人|收件者)\s{0,10}[:：]\s{0,40}(\S.{0,900})$", re.I | re.M)


@dataclass(frozen=True, slots=True)
class Original:
    """The failed mail, as far as the report returned it."""

    message_id: str = ""
    subject: str = ""
    sender: str = ""
    date: datetime | None = None
    headers: tuple[tuple[str, str], ...] = ()
    recipients: tuple[str, ...] = ()
    return_path: str = ""


def message_id(value: bytes) -> str:
    """A Message-ID as written, with its brackets; what has none comes as it is."""
    match = _MESSAGE_ID.search(value)
    if match:
        return one_line(match.group().decode("utf-8", "replace"))
    return field_text(value.split(b" ")[0] if b"@" in value else value)[:HEADER_MAX]


def read_original(fields: Fields) -> Original:
    """From the returned header."""
    sender = b""
    for name in ("return-path", "x-postfix-sender", "x-envelope-from", "x-env-sender"):
        sender = sender or fields.first(name)
    return_path = address_of(field_text(sender))
    to = addresses_of(
        " ".join(field_text(v) for v in (fields.all("to") + fields.all("cc") + fields.all("x-envelope-to"))[:20])
    )
    own = [(name, field_text(value)[:HEADER_MAX]) for name, value in fields.items if name not in _STANDARD][
        :HEADERS_MAX
    ]
    return Original(
        message_id=message_id(fields.first("message-id", "x-message-id", "resent-message-id")),
        subject=field_text(fields.first("subject")),
        sender=return_path or address_of(field_text(fields.first("from", "sender"))),
        date=field_date(fields, "date"),
        headers=tuple(own),
        recipients=tuple(to[:RECIPIENTS_MAX]),
        return_path=return_path,
    )


def quoted_original(text: str) -> Original:
    """From the report's own text, where it tells the mail's fields instead of returning them."""
    text = text[:20_000]
    found, subject, sent = _QUOTED_ID.search(text), _QUOTED_SUBJECT.search(text), _QUOTED_DATE.search(text)
    to = _QUOTED_TO.search(text)
    return Original(
        recipients=tuple(addresses_of(to.group(1))[:RECIPIENTS_MAX]) if to else (),
        message_id=one_line(found.group(1)) if found else "",
        subject=one_line(subject.group(1)) if subject else "",
        date=date(sent.group(1).encode("utf-8", "replace")) if sent else None,
    )
