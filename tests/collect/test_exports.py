"""Webhooks, exports and accounting files to events: the case folders, and payloads that another project collected."""

from __future__ import annotations

import json
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from resend.collect import parse
from resend.collect.detect import detect
from resend.collect.formats import formats
from tests.collect.reading import CORPORA, REPOSITORY

FORMATS = (
    "ses",
    "sendgrid",
    "sendgrid_csv",
    "mailgun",
    "postmark",
    "sparkpost",
    "kumomta",
    "powermta",
    "exchange",
    "table",
)
CASES = [case for name in FORMATS for case in sorted((REPOSITORY / "tests/cases" / name).iterdir())]
SERVICES = {
    "Amazon SES": "ses",
    "SendGrid": "sendgrid",
    "Mailgun": "mailgun",
    "Postmark": "postmark",
    "SparkPost": "sparkpost",
}


def events(
    name: str, log: str | bytes, *, heading: str = "", zone: str = "UTC", last_day: date = date(2026, 12, 7)
) -> list[dict[str, Any]]:
    """Events of a log of this format in memory."""
    data = log.encode() if isinstance(log, str) else log
    return parse.parse_lines(data, parse.Reading(name, zone, last_day, "", heading=heading))


def _place(event: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(event.get(name, "") for name in ("line", "kind", "qid", "recipient", "text"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_case(case: Path) -> None:
    (log,) = case.glob("log.*")
    expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
    data = log.read_bytes()
    seen = detect(data, where=case.name)
    assert seen.format == case.parent.name, "the file is known for what it is"
    found = events(
        seen.format,
        data,
        heading=seen.heading,
        zone=expected["zone"],
        last_day=date.fromisoformat(expected["last_day"]),
    )
    told = [{k: v for k, v in event.items() if v not in ("", None) and (k, v) != ("code", 0)} for event in found]
    assert sorted(told, key=_place) == expected["events"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_each_line_is_accounted_once(case: Path, tmp_path: Path) -> None:
    (log,) = case.glob("log.*")
    expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
    data = log.read_bytes()
    seen = detect(data, where=case.name)
    how = parse.Reading(seen.format, "UTC", date(2026, 12, 7), "", heading=seen.heading)
    counted = parse.parse_block(data, how, tmp_path / "part.parquet")
    assert (counted.lines, counted.parsed, counted.rejected) == tuple(
        expected[name] for name in ("lines", "parsed", "rejected")
    )


def _anymail(name: str) -> list[dict[str, Any]]:
    """Payloads of this service in the corpus, each with the events that another project makes of it."""
    path = CORPORA / "anymail/webhooks.jsonl"
    items = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return [item for item in items if SERVICES.get(item["esp"]) == name]


# What another project calls an event: what it must be here. Anything else is no failure.
_STATUS = {
    "bounced": {"bounced", "returned", "expired"},
    "rejected": {"bounced", "expired"},
    "failed": {"bounced"},
    "deferred": {"deferred"},
    "delivered": {"sent"},
}


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not beside this repository")
@pytest.mark.parametrize(
    ("name", "failures"), [("ses", 5), ("sendgrid", 5), ("mailgun", 9), ("postmark", 2), ("sparkpost", 4)]
)
def test_payloads_of_anymail(name: str, failures: int) -> None:
    """Each failure becomes the right event, everything else none."""
    items = _anymail(name)
    found = events(name, "".join(json.dumps(item["payload"], ensure_ascii=False) + "\n" for item in items))
    looked_at = 0
    for line, item in enumerate(items, 1):
        told = [event for event in found if event["line"] == line]
        attempts = {event["recipient"]: event for event in told if event["kind"] == "attempt"}
        wanted = {
            event["recipient"]: event
            for event in item["expected_events"]
            if event["event_type"] in _STATUS and event["recipient"]
        }
        assert set(attempts) == set(wanted), item["test"]
        for recipient, event in wanted.items():
            _same(name, attempts[recipient], event)
            looked_at += event["event_type"] != "delivered"
        complaints = {event["recipient"] for event in told if event["kind"] == "complaint"}
        assert complaints == {
            event["recipient"]
            for event in item["expected_events"]
            if event["event_type"] in ("complained", "unsubscribed") and event["recipient"]
        }, item["test"]
    assert looked_at == failures


def _same(name: str, attempt: dict[str, Any], event: dict[str, Any]) -> None:
    assert attempt["status"] in _STATUS[event["event_type"]]
    custom = name == "sendgrid" and "@" not in (event["message_id"] or "")  # an id of anymail's own
    if event["message_id"] and not custom:
        ids = {attempt["qid"], attempt["message_id"], attempt["message_id"].strip("<>")}
        assert event["message_id"].strip("<>") in ids
    if event["mta_response"] and attempt["status"] != "sent":
        said = " ".join(event["mta_response"].split()).removeprefix("smtp; ").removeprefix("smtp;")
        assert said in " ".join(attempt["reply"].split())
        if said[:3].isdigit():
            assert attempt["code"] == int(said[:3])
            assert attempt["enhanced"] in said and attempt["enhanced"]


@pytest.mark.parametrize(
    "heading",
    [
        '"Received","Sender Address","Recipient Address","Subject","Status","To IP","Message ID","Message Trace ID"',
        "received,sender_address,recipient_address,subject,status,to_ip,message_id,message_trace_id",
        "RECEIVED,SENDERADDRESS,RECIPIENTADDRESS,SUBJECT,STATUS,TOIP,MESSAGEID,MESSAGETRACEID",
        "Received,Sender Address,Recipient Address,Subject,Delivery Status,To IP,Message ID,Message Trace ID",
        'Date Time (UTC),Sender Address,"Recipient Address",Message Subject,Status,To IP,Message ID,Network Message ID',
    ],
)
def test_names_of_a_message_trace_in_any_spelling(heading: str) -> None:
    record = '"2026-11-20 01:00:00",news@x.example,a@y.example,Hello,Failed,192.0.2.7,<m1@x.example>,trace-1\n'
    log = f"{heading}\n{record}"
    seen = detect(log.encode(), where="trace.csv")
    assert seen.format == "exchange"
    (attempt,) = [event for event in events("exchange", log, heading=seen.heading) if event["kind"] == "attempt"]
    told = {name: attempt[name] for name in ("recipient", "sender", "status", "message_id", "qid", "relay_ip")}
    assert told == {
        "recipient": "a@y.example",
        "sender": "news@x.example",
        "status": "bounced",
        "message_id": "<m1@x.example>",
        "qid": "trace-1",
        "relay_ip": "192.0.2.7",
    }


@pytest.mark.parametrize("before", ["#type", "# a comment\n# type", "# a comment\ntype"])
def test_a_heading_of_accounting_behind_a_hash(before: str) -> None:
    record = "d,a@y.example,1795136401,news@x.example,smtp;250 OK,relayed\n"
    log = f"{before},rcpt,timeLogged,orig,dsnDiag,dsnAction\n{record}"
    seen = detect(log.encode(), where="acct.csv")
    (attempt,) = [event for event in events(seen.format, log, heading=seen.heading) if event["kind"] == "attempt"]
    assert (attempt["recipient"], attempt["sender"], attempt["status"]) == ("a@y.example", "news@x.example", "sent")


@pytest.mark.parametrize("filler", ["date time", " ", '"', ",", "recipient address,", "_", "recipient address status "])
def test_a_long_first_line_is_looked_at_in_no_time(filler: str) -> None:
    """Patterns that say what a heading is must not try each place for each other place."""
    line = ("date time" + filler * 16_384)[:16_384]
    start = time.process_time()
    for pattern in formats()["exchange"].detect:
        pattern.search(line)
    assert time.process_time() - start < 0.5  # seconds; some thousandths
