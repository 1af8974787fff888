"""Postfix lines to events: the case folders, real lines of other projects, and what must hold for any bytes."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resend.collect import parse
from resend.collect.formats import formats
from resend.stores import sql
from tests.collect.reading import CORPORA, REPOSITORY, read

CASES = sorted((REPOSITORY / "tests/cases/postfix").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path) -> None:
    log = (case / "mail.log").read_bytes()
    expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
    found = read(log, zone=expected["zone"], last_day=date.fromisoformat(expected["last_day"]))
    told = [{k: v for k, v in event.items() if v not in ("", None) and (k, v) != ("code", 0)} for event in found]
    assert told == expected["events"]
    rejected = sum(event["kind"] == "rejected" for event in found)
    assert (log.count(b"\n"), len(found) - rejected, rejected) == (
        expected["lines"],
        expected["parsed"],
        expected["rejected"],
    )


def test_no_line_gives_two_events_so_that_events_are_counted_for_lines(tmp_path: Path) -> None:
    """All case logs in one, also damaged: both ways of counting a part say the same."""
    whole = b"".join((case / "mail.log").read_bytes() for case in CASES)
    damaged = b"\n".join(line[: 20 + 7 * number % 200] for number, line in enumerate(whole.split(b"\n"))) + b"\n"
    assert formats()["postfix"].single
    for number, data in enumerate((whole, damaged, whole.replace(b" ", b"  "), b"")):
        part = tmp_path / f"{number}.parquet"
        told = parse.parse_block(data, parse.Reading("postfix", "UTC", date(2026, 12, 7), ""), part)
        with sql.connect(threads=1) as con:
            line_by_line = con.execute(sql.load("collect/accounting"), [str(part)]).fetchone()
            assert line_by_line == con.execute(sql.load("collect/accounting_single"), [str(part)]).fetchone()
        assert line_by_line is not None and line_by_line[:2] == (told.parsed, told.rejected)


def _postfix_parser() -> list[Any]:
    path = CORPORA / "postfix-parser/expected.jsonl"
    if not path.is_file():
        return []
    found = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        item = json.loads(text)
        line, expected = item["line"], item["expected"]
        if not expected or not {"to", "from", "message-id", "resent-message-id"} & set(expected):
            continue  # not about a delivery
        if item.get("group") != "syslogLines":
            line = line if "qid" in expected else f"4A10000001: {line}"
            program = "pickup" if "uid" in expected else "smtp"
            line = f"Jul  5 06:52:11 prd-mx1 postfix/{program}[22030]: {line}"
        found.append(pytest.param(line, expected, id=f"postfix-parser:{number}"))
    return found


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not beside this repository")
@pytest.mark.parametrize(("line", "expected"), _postfix_parser())
def test_lines_of_postfix_parser(line: str, expected: dict[str, str]) -> None:
    (event,) = read(line)
    if "qid" in expected:
        assert event["qid"] == expected["qid"]
    if "to" in expected:
        assert event["kind"] == "attempt"
        assert event["recipient"] == expected["to"]
        assert event["orig_to"] == expected.get("orig_to", "")
        assert event["enhanced"] == expected.get("dsn", "")
        assert event["delay"] == round(float(expected["delay"]) * 1_000_000)
        assert expected["relay"].lower().startswith(event["relay"])
        if expected["status"] == "forwarded":  # their word for a local hop; Postfix says sent
            assert (event["status"], event["next_qid"]) == ("sent", line.rpartition("forwarded as ")[2].rstrip(")"))
        else:
            assert expected["status"].startswith(event["status"])
            assert event["reply"] in expected["status"]
    elif "size" in expected:
        assert (event["kind"], event["sender"]) == ("queued", expected["from"])
        assert (event["size"], event["nrcpt"]) == (int(expected["size"]), int(expected["nrcpt"]))
    elif "uid" in expected:
        assert (event["kind"], event["sender"]) == ("begin", expected["from"])
    elif "from" in expected:
        assert (event["kind"], event["sender"], event["status"]) == ("expired", expected["from"], "expired")
    else:
        word = "message-id" if "message-id" in expected else "resent-message-id"
        assert (event["kind"], event["message_id"].strip("<>")) == ("message", expected[word])
        assert event["status"] == ("" if word == "message-id" else "resent")


def _postfix_grok() -> list[Any]:
    path = CORPORA / "postfix-grok/expected.jsonl"
    if not path.is_file():
        return []
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        item = json.loads(text)
        if ", status=" in item["message"] or "postfix_queueid" in item["expected"]:
            line = f"Jul  5 06:52:11 mx1 postfix/{item['kind']}[7]: {item['message']}"
            found.append(pytest.param(line, item["expected"], id=item["source"].removeprefix("test/")))
    return found


# Lines with a queue id that say nothing of a delivery which its own line does not say: docs/formats/postfix.md.
_OTHERS = (
    "NOQUEUE", "host ", "lost connection with ", "conversation with ", "SASL authentication failed",
    "milter-", "prepend: ",
    "requeued", "placed on hold", "released from hold", "skipped, still being delivered", "warning: ",
)  # fmt: skip


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not beside this repository")
@pytest.mark.parametrize(("line", "expected"), _postfix_grok())
def test_lines_of_postfix_grok(line: str, expected: dict[str, str]) -> None:
    found = read(line)
    if not found:
        body = line.split(": ", 1)[1]
        body = body if body.startswith("NOQUEUE") else body.removeprefix(f"{expected['postfix_queueid']}: ")
        assert body.startswith(_OTHERS), line
        return
    (event,) = found
    assert event["qid"] == expected["postfix_queueid"]
    status = re.search("status=([a-zA-Z-]+)", line)
    assert event["status"] == (status[1].lower() if status else "deleted" if "/postsuper" in line else "")
    pairs = expected.get("postfix_keyvalue_data", line)
    match event["kind"]:
        case "attempt":
            assert f"to=<{event['recipient']}>" in pairs or f"to={event['recipient']}," in pairs
            assert f"dsn={event['enhanced']}" in pairs
            assert f"delay={event['delay'] / 1e6:g}" in pairs or f"delay={event['delay'] / 1e6:.1f}" in pairs
            if event["relay_port"]:
                assert f"[{event['relay_ip']}]:{event['relay_port']}" in pairs
        case "queued":
            assert pairs == f"from=<{event['sender']}>, size={event['size']}, nrcpt={event['nrcpt']}"
        case "message":
            assert event["message_id"].strip("<>") == expected.get("postfix_message-id", "").strip("<>")
        case "hop":
            assert event["next_qid"] == expected["postfix_bounce_queueid"]
        case kind:
            assert kind in ("begin", "removed", "expired", "header")


WORDS = st.sampled_from(
    [
        "Dec  7 13:28:01 mta1 ", "2026-12-07T13:28:01.5+09:00 mta1 ", "Apr 06 15:16:46 2016 ", "postfix/smtp[1]: ",
        "x/y: ", "postfix/qmgr[9]: ", "postfix/cleanup[2]: ", "4A10000001: ", "NOQUEUE: ", "to=<a@b.example>",
        'to=<"x y"@b>', "to=", "from=<a@b>", ", relay=", "mx.b[192.0.2.1]:25", "[", "]:99999999999", ", delay=", "1.5",
        "9e999", ", delays=0/0/0/1", ", dsn=", "4.7.500", ", status=", "sent", "deferred ", "(", ")",
        "host x said: 451 4.7.1 no", "queued as ", ": ", ", ", "removed", "message-id=<",
        "message repeated 3 times: [ ",
        "client=", "uid=0 orig_id=", ", size=99999999999999999999", ", nrcpt=1 (queue active)",
        "lost 5 messages",
        "rsyslogd: ", "info: header X: y",
        "花", "\t", " ", "<", ">", '"', "\\",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(WORDS, max_size=20).map("".join), max_size=30))
def test_any_mixture_is_accounted(lines: list[str]) -> None:
    found = read("\n".join(lines) + "\n" if lines else "")
    places = [event["line"] for event in found]
    assert len(places) == len(set(places))  # at most one event for a line
    assert all(1 <= place <= len(lines) for place in places)
    for event in found:
        assert event["kind"] != "attempt" or event["status"]
        assert event["kind"] != "rejected" or (event["reply"] and event["text"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=400), st.binary(max_size=40))
def test_any_bytes_are_accounted(tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes) -> None:
    good = b"Dec  7 13:28:01 mta1 postfix/qmgr[9]: 4A10000001: removed"
    data = before.replace(b"\n", b"") + b"\n" + good + b"\n" + after
    out = tmp_path_factory.getbasetemp() / "any.parquet"
    parsed = parse.parse_block(data, parse.Reading("postfix", "UTC", date(2026, 12, 7), ""), out)
    assert parsed.lines == data.count(b"\n") + (not data.endswith(b"\n"))
    assert parsed.parsed >= 1  # whatever stands around it, a good line is read
    assert parsed.parsed + parsed.rejected <= parsed.lines


def test_hostile_lines_keep_their_numbers() -> None:
    good = b"Dec  7 13:28:01 mta1 postfix/qmgr[9]: 4A10000001: removed"
    hostile = [
        b"\x00" * 50,
        b"\xff\xfe\xfd",
        b"x" * 10_000_000,
        b'"unbalanced, quote',
        b"\x01\x02\x03",
        b"",
        b"Dec  7 13:28:01 mta1 postfix/smtp[1]: 4A10000002: to=<"
        + b"a" * 3_000_000
        + b">, relay=none, status=sent (ok)",
    ]
    found = read(b"\n".join([good, *hostile, good]) + b"\r\n" + good)
    assert [event["line"] for event in found if event["kind"] == "removed"] == [1, 9, 10]
    assert max(len(event["text"]) for event in found) <= 2000


def test_a_carriage_return_ends_no_line() -> None:
    lines = (
        b"Dec  7 13:28:01 mta1 postfix/smtp[1]: 4A10000002: to=<a@b>, relay=none, delay=1, delays=0/0/0/1, dsn=4.0.0, "
    )
    (event,) = read(lines + b"status=deferred (a\rb)\r\n")
    assert event["reply"] == "a?b"


@pytest.mark.parametrize(
    ("last_day", "expected"),
    [(date(2026, 1, 3), 2025), (date(2026, 12, 31), 2026), (date(2026, 12, 30), 2026), (date(2026, 12, 29), 2025)],
)
def test_the_year_of_the_last_december(last_day: date, expected: int) -> None:
    (event,) = read("Dec 31 12:00:00 m postfix/qmgr[9]: 4A10000001: removed\n", last_day=last_day)
    assert event["at_us"] // 31_556_952_000_000 + 1970 == expected


def test_the_hour_that_summer_time_skips_is_a_time() -> None:
    (event,) = read("Mar 29 02:30:00 m postfix/qmgr[9]: 4A10000001: removed\n", zone="Europe/Berlin")
    assert event["kind"] == "removed"


def test_a_given_host_replaces_the_logged_one() -> None:
    (event,) = read("Dec  7 13:28:01 localhost postfix/qmgr[9]: 4A10000001: removed\n", host="mta9")
    assert event["host"] == "mta9"
