"""Made-up lines of webhooks, exports and accounting files for `scripts/bench formats`, and patterns for them.

Bulk mail of a press-release service: each mail accepted, 3 % deferred, 1 % bounced.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_START = 1_768_435_200  # 15 January 2026
_BUSY = "451 4.7.500 Server busy. Please try again later from [203.0.113.10]. (S77719) [TY1.apcprd01.prod.outlook.com]"
_GONE = "550 5.1.1 <{to}>: Recipient address rejected: User unknown in virtual mailbox table"


def _mails(rng: random.Random) -> Iterator[tuple[str, int, int, str, str, str]]:
    """What happened (accepted, delivered, deferred, bounced), seconds since 1970, number, recipient, domain, reply."""
    number, now = 0, float(_START)
    while True:
        number += 1
        now += rng.expovariate(100.0)
        domain = f"corp{rng.randrange(4_000)}.example.jp"
        to = f"user{rng.randrange(2_000_000)}@{domain}"
        yield "accepted", int(now), number, to, domain, ""
        if rng.random() < 0.03:
            yield "deferred", int(now) + 2, number, to, domain, _BUSY
        if rng.random() < 0.01:
            yield "bounced", int(now) + 3, number, to, domain, _GONE.format(to=to)
        else:
            yield "delivered", int(now) + 3, number, to, domain, "250 2.0.0 OK queued as 4BX1234567"


def _iso(seconds: int) -> str:
    days, rest = divmod(seconds - _START, 86_400)
    return f"2026-01-{15 + days:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.000Z"


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _ses(rng: random.Random) -> Iterator[str]:
    for what, at, number, to, _, reply in _mails(rng):
        mail = {
            "timestamp": _iso(at),
            "source": f"bounce+{number % 2000}@mail.example.jp",
            "messageId": f"0106019bbf{number:08x}-000000",
            "destination": [to],
            "headersTruncated": False,
            "headers": [{"name": "From", "value": "news@example.jp"}, {"name": "To", "value": to}],
            "commonHeaders": {
                "from": ["news@example.jp"],
                "to": [to],
                "messageId": f"<release.{number}@mail.example.jp>",
                "subject": "news",
            },
            "tags": {"ses:configuration-set": ["main"], "ses:from-domain": ["mail.example.jp"]},
        }
        if what == "accepted":
            yield _json({"eventType": "Send", "mail": mail, "send": {}})
        elif what == "delivered":
            told = {
                "timestamp": _iso(at),
                "processingTimeMillis": 1200,
                "recipients": [to],
                "smtpResponse": reply,
                "remoteMtaIp": "198.51.100.7",
                "reportingMTA": "a1-2.smtp-out.amazonses.com",
            }
            yield _json({"eventType": "Delivery", "mail": mail, "delivery": told})
        else:
            delayed = what == "deferred"
            people = [{"emailAddress": to, "status": reply.split(" ")[1], "diagnosticCode": f"smtp; {reply}"}]
            told = {("delayedRecipients" if delayed else "bouncedRecipients"): people, "timestamp": _iso(at)}
            told |= {"delayType": "General"} if delayed else {"bounceType": "Permanent", "bounceSubType": "General"}
            key, kind = ("deliveryDelay", "DeliveryDelay") if delayed else ("bounce", "Bounce")
            yield _json({"eventType": kind, "mail": mail, key: told})


def _sendgrid(rng: random.Random) -> Iterator[str]:
    words = {"accepted": "processed", "delivered": "delivered", "deferred": "deferred", "bounced": "bounce"}
    for what, at, number, to, _, reply in _mails(rng):
        event: dict[str, Any] = {
            "email": to,
            "timestamp": at,
            "smtp-id": f"<release.{number}@mail.example.jp>",
            "event": words[what],
            "category": ["press"],
            "sg_event_id": f"c2dldmVudGlk{number:010d}",
            "sg_message_id": f"14c5d75ce93{number:08x}.filterdrecv-5f-1-0.0",
        }
        if reply:
            event["reason" if what == "bounced" else "response"] = reply
        yield _json(event)


def _mailgun(rng: random.Random) -> Iterator[str]:
    words = {"accepted": "accepted", "delivered": "delivered", "deferred": "failed", "bounced": "failed"}
    for what, at, number, to, domain, reply in _mails(rng):
        event: dict[str, Any] = {
            "event": words[what],
            "id": f"czsjqFATSlC3QtAK-C80{number:08x}",
            "timestamp": at + 0.25,
            "log-level": "info",
            "recipient": to,
            "recipient-domain": domain,
            "envelope": {
                "transport": "smtp",
                "sender": f"bounce+{number % 2000}@mail.example.jp",
                "sending-ip": "203.0.113.1",
                "targets": to,
            },
            "message": {
                "headers": {
                    "to": to,
                    "message-id": f"release.{number}@mail.example.jp",
                    "from": "news@example.jp",
                    "subject": "news",
                },
                "attachments": [],
                "size": 20_000,
            },
            "flags": {"is-routed": False, "is-authenticated": True, "is-system-test": False, "is-test-mode": False},
        }
        if reply:
            event["severity"] = "temporary" if what == "deferred" else "permanent"
            event["delivery-status"] = {
                "tls": True,
                "mx-host": f"mx.{domain}",
                "code": int(reply[:3]),
                "message": reply[4:],
                "description": "",
                "attempt-no": 1,
            }
        yield _json(
            {"signature": {"token": "t" * 50, "timestamp": str(at), "signature": "s" * 64}, "event-data": event}
        )


def _postmark(rng: random.Random) -> Iterator[str]:
    for what, at, number, to, _, reply in _mails(rng):
        more = {
            "MessageID": f"883953f4-6105-42a2-a16a-77a8{number:08x}",
            "ServerID": 23,
            "MessageStream": "outbound",
            "Tag": "press",
        }
        if what == "delivered":
            yield _json(
                {
                    "RecordType": "Delivery",
                    "Recipient": to,
                    "DeliveredAt": _iso(at),
                    "Details": f"smtp;{reply}",
                    **more,
                    "Metadata": {},
                }
            )
        elif what != "accepted":
            kind = "Transient" if what == "deferred" else "HardBounce"
            yield _json(
                {
                    "RecordType": "Bounce",
                    "ID": number,
                    "Type": kind,
                    "TypeCode": 1,
                    "Name": "bounce",
                    "Details": f"smtp;{reply}",
                    "Email": to,
                    "From": "news@example.jp",
                    "BouncedAt": _iso(at),
                    **more,
                    "Subject": "news",
                }
            )


def _sparkpost(rng: random.Random) -> Iterator[str]:
    words = {"accepted": "injection", "delivered": "delivery", "deferred": "delay", "bounced": "bounce"}
    for what, at, number, to, domain, reply in _mails(rng):
        event = {
            "type": words[what],
            "campaign_id": "press",
            "customer_id": "1",
            "event_id": f"{number:017d}",
            "friendly_from": "news@example.jp",
            "ip_address": "198.51.100.7",
            "message_id": f"000443ee{number:010x}",
            "msg_from": f"bounce+{number % 2000}@mail.example.jp",
            "msg_size": "20000",
            "queue_time": "1200",
            "rcpt_meta": {},
            "rcpt_tags": [],
            "rcpt_to": to,
            "raw_rcpt_to": to,
            "routing_domain": domain,
            "sending_ip": "203.0.113.1",
            "subject": "news",
            "timestamp": str(at),
            "transmission_id": f"{number:017d}",
        }
        if reply:
            event |= {"raw_reason": reply, "error_code": reply[:3], "bounce_class": "10"}
        yield _json([{"msys": {"message_event": event}}])


def _kumomta(rng: random.Random) -> Iterator[str]:
    words = {"accepted": "Reception", "delivered": "Delivery", "deferred": "TransientFailure", "bounced": "Bounce"}
    for what, at, number, to, domain, reply in _mails(rng):
        code, enhanced, content = (reply or "250 2.0.0 OK").split(" ", 2)
        yield _json(
            {
                "type": words[what],
                "id": f"1d98076abbbc11ed94025{number:011x}",
                "sender": f"bounce+{number % 2000}@mail.example.jp",
                "recipient": to,
                "queue": f"press:t@{domain}",
                "site": f"s->mx.{domain}",
                "size": 20_000,
                "response": {
                    "code": int(code),
                    "enhanced_code": dict(
                        zip(("class", "subject", "detail"), map(int, enhanced.split(".")), strict=True)
                    ),
                    "content": content,
                    "command": ".",
                },
                "peer_address": {"name": f"mx.{domain}.", "addr": "198.51.100.7"},
                "timestamp": at,
                "created": at - 1,
                "num_attempts": 0,
                "bounce_classification": "Uncategorized",
                "egress_pool": "pool0",
                "egress_source": "source2",
                "feedback_report": None,
                "meta": {},
                "headers": {"Message-ID": f"<release.{number}@mail.example.jp>"},
                "delivery_protocol": "ESMTP",
                "reception_protocol": "ESMTP",
                "nodeid": "557f3ad4-2c8c-11ee-976e-782d7e12e173",
            }
        )


_PMTA = (
    "type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,srcMta,dlvType,"
    "dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,vmta,jobId,envId,queue,vmtaPool"
)


def _powermta(rng: random.Random) -> Iterator[str]:
    letters = {"delivered": "d", "deferred": "t", "bounced": "b"}
    for what, at, number, to, domain, reply in _mails(rng):
        if what != "accepted":
            queued = _iso(at - 1)[:19].replace("T", " ") + "+0000"
            logged = _iso(at)[:19].replace("T", " ") + "+0000"
            yield (
                f"{letters[what]},{logged},{queued},bounce+{number % 2000}@mail.example.jp,{to},,relayed,"
                f"{reply[4:].split(' ')[0]} (x),smtp;{reply},mx.{domain} (198.51.100.7),,smtp,app (10.0.0.5),smtp,"
                f"203.0.113.1,198.51.100.7,,20000,v1,,env{number},{domain}/v1,"
            )


_TRACE = (
    "origin_timestamp_utc,sender_address,recipient_status,message_subject,total_bytes,message_id,network_message_id,"
    "original_client_ip,directionality,connector_id,delivery_priority"
)


def _exchange(rng: random.Random) -> Iterator[str]:
    words = {"delivered": "Send", "deferred": "Defer", "bounced": "Fail"}
    for what, at, number, to, _, _ in _mails(rng):
        if what != "accepted":
            yield (
                f'{_iso(at)},news@example.jp,"{to}##Receive, {words[what]}",news,20000,'
                f"<release.{number}@mail.example.jp>,"
                f"1341ac7b-13fb-42ab-4d44-{number:012x},203.0.113.1,Originating,,Normal"
            )


def _table(rng: random.Random) -> Iterator[str]:
    words = {"delivered": "delivered", "deferred": "soft_bounce", "bounced": "hard_bounce"}
    for what, at, number, to, domain, reply in _mails(rng):
        if what != "accepted":
            yield _json(
                {
                    "at": _iso(at),
                    "sender": "news@example.jp",
                    "recipient": to,
                    "message_id": f"<release.{number}@mail.example.jp>",
                    "status": words[what],
                    "code": int(reply[:3]),
                    "reply": reply,
                    "host": "mta1",
                    "queue_id": f"Q{number}",
                    "relay": f"mx.{domain}",
                    "relay_ip": "198.51.100.7",
                }
            )


_TEXT, _NUMBER = r'"((?:[^"\\]|\\.)*)"', r'"?([\d.]+)"?'
_ISO_Z = "%Y-%m-%dT%H:%M:%S.%fZ"


def _keys(texts: Sequence[str], numbers: Sequence[str] = (), maybe: Sequence[str] = ()) -> str:
    """A pattern that finds these keys wherever they stand, as JSON has no order. `key=group` names the group."""
    found = "^"
    for keys, value in ((texts, _TEXT), (numbers, _NUMBER), (maybe, _TEXT)):
        for key in keys:
            name, _, group = key.partition("=")
            wanted = f'.*?"{name}":' + value.replace("(", f"(?P<{group or name}>", 1)
            found += f"(?:(?={wanted})|)" if keys is maybe else f"(?={wanted})"
    return found


# Format, lines, patterns, how `at` is written, heading.
EXPORTS: Sequence[tuple[str, Callable[[random.Random], Iterator[str]], Sequence[str], str, str]] = (
    (
        "ses",
        _ses,
        (
            _keys(
                ["eventType", "timestamp=at", "source", "messageId"],
                maybe=["emailAddress", "diagnosticCode", "smtpResponse", "remoteMtaIp"],
            )
            + r'(?=.*?"destination":\["(?P<to>[^"]*)")(?=.*?"commonHeaders":.*?"messageId":"(?P<message_id>[^"]*)")',
        ),
        _ISO_Z,
        "",
    ),
    (
        "sendgrid",
        _sendgrid,
        (
            _keys(
                ["event", "email", "smtp-id=message_id", "sg_message_id"],
                ["timestamp=at"],
                ["reason", "response", "status"],
            ),
        ),
        "",
        "",
    ),
    (
        "mailgun",
        _mailgun,
        (
            _keys(
                ["event", "recipient", "sender", "message-id=message_id"],
                ["timestamp=at", "size"],
                ["severity", "mx-host=relay", "message", "description"],
            ).replace('"timestamp":"?', '"timestamp":')
            + r'(?:(?=.*?"code":(?P<code>\d+))|)',
        ),
        "",
        "",
    ),
    (
        "postmark",
        _postmark,
        (
            _keys(
                ["RecordType", "MessageID", "(?:Email|Recipient)=to", "(?:BouncedAt|DeliveredAt)=at", "Details"],
                maybe=["Type", "From"],
            ),
        ),
        _ISO_Z,
        "",
    ),
    (
        "sparkpost",
        _sparkpost,
        (
            _keys(
                ["type", "ip_address", "message_id", "msg_from", "raw_rcpt_to", "transmission_id"],
                ["msg_size", "queue_time", "timestamp=at"],
                ["raw_reason", "error_code", "bounce_class"],
            ),
        ),
        "",
        "",
    ),
    (
        "kumomta",
        _kumomta,
        (
            _keys(
                [
                    "type",
                    "id",
                    "sender",
                    "recipient",
                    "content",
                    "command",
                    "name",
                    "addr",
                    "Message-ID=message_id",
                    "nodeid",
                ],
                ["size", "code", "class", "subject", "detail", "timestamp=at", "created"],
            ),
        ),
        "",
        "",
    ),
    (
        "powermta",
        _powermta,
        (
            r"^(?P<what>\w+),(?P<at>[^,]*),(?P<queued>[^,]*),(?P<sender>[^,]*),(?P<to>[^,]*),[^,]*,(?P<action>[^,]*),"
            r"(?P<enhanced>[\d.]*)[^,]*,(?:smtp;)?(?P<reply>(?P<code>\d*)[^,]*),(?P<relay>[^ ,]*)"
            r" ?(?:\((?P<ip>[^)]*)\))?,(?P<category>[^,]*),(?:[^,]*,){6}(?P<size>[^,]*),[^,]*,"
            r"(?P<job>[^,]*),(?P<env>[^,]*),",
        ),
        "%Y-%m-%d %H:%M:%S%z",
        _PMTA,
    ),
    (
        "exchange",
        _exchange,
        (
            r'^(?P<at>[^,]*),(?P<sender>[^,]*),"?(?P<to>[^#]*)##(?:.*?, )?(?P<what>\w+)"?,'
            r"(?P<subject>[^,]*),(?P<size>[^,]*),(?P<message_id>[^,]*),(?P<id>[^,]*),",
        ),
        _ISO_Z,
        _TRACE,
    ),
    (
        "table",
        _table,
        (
            _keys(
                ["at", "sender", "recipient", "message_id", "status", "reply", "host", "queue_id", "relay", "relay_ip"],
                ["code"],
                ["enhanced"],
            ),
        ),
        _ISO_Z,
        "",
    ),
)
