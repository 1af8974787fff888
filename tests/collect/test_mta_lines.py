"""Lines of Exim, Sendmail and OpenSMTPD to events and to outcomes: the case folders, another project's lines, any text.

A case may say the outcomes of its log as well: [recipient, status, maybe delivered, attempts, enhanced code].
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resend.collect import parse
from resend.collect.collect import CollectSummary
from resend.collect.detect import detect
from resend.config import Config
from resend.linker.outcomes import find
from resend.stores.home import Home
from tests.collect.reading import CORPORA, REPOSITORY

FORMATS = ("exim", "sendmail", "opensmtpd")
CASES = [case for name in FORMATS for case in sorted((REPOSITORY / "tests/cases" / name).iterdir())]
TELLING = ("recipient", "status", "maybe_delivered", "attempts", "enhanced")
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")


def events(name: str, log: str | bytes, *, zone: str = "UTC", day: date = date(2026, 12, 7)) -> list[dict[str, Any]]:
    data = log.encode() if isinstance(log, str) else log
    return parse.parse_lines(data, parse.Reading(name, zone, day, ""))


def _place(event: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(event.get(name, "") for name in ("line", "kind", "qid", "recipient", "text"))


def _told(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if value not in ("", None) and (name, value) != ("code", 0)}


@by_name
def test_case(case: Path, tmp_path: Path) -> None:
    log = (case / "mail.log").read_bytes()
    expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
    assert detect(log, where=case.name).format == case.parent.name
    day = date.fromisoformat(expected["last_day"])
    found = events(case.parent.name, log, zone=expected["zone"], day=day)
    assert sorted((_told(event) for event in found), key=_place) == expected["events"]
    reading = parse.Reading(case.parent.name, expected["zone"], day, "")
    parsed = parse.parse_block(log, reading, tmp_path / "part.parquet")
    assert (parsed.lines, parsed.parsed, parsed.rejected) == (
        expected["lines"],
        expected["parsed"],
        expected["rejected"],
    )


@pytest.mark.parametrize(
    "case", [case for case in CASES if '"outcomes"' in (case / "expected.json").read_text(encoding="utf-8")], ids=str
)
def test_outcomes_of_a_case(case: Path, home: Home, gather: Callable[..., CollectSummary]) -> None:
    expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
    gather(case / "mail.log", year=2026)
    found = find(home, Config(tz="Asia/Tokyo"))
    assert sorted([row[name] for name in TELLING] for row in found) == expected["outcomes"]


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not beside this repository")
def test_lines_of_fluent_plugin_sendmail() -> None:
    folder = CORPORA / "sendmail-fluent/test/data"
    found = events("sendmail", (folder / "data").read_bytes(), day=date(2016, 4, 3), zone="Asia/Tokyo")
    tried = [event for event in found if event["kind"] == "attempt"]
    (came,) = [event for event in found if event["kind"] == "queued"]
    wanted = [json.loads(line) for line in (folder / "result").read_text(encoding="utf-8").splitlines()]
    assert len(tried) == sum(len(record["to"]) for record in wanted)
    for record in wanted:
        for to in record["to"]:
            (event,) = [
                event
                for event in tried
                if event["recipient"] == to.strip("<>") and event["at_us"] == record["time"] * 1_000_000
            ]
            assert (event["qid"], event["host"]) == (record["qid"], record["mta"])
            assert event["delay"] == record["delay_in_sec"] * 1_000_000
            assert event["enhanced"] == record["dsn"]
            assert event["status"] == record["status_canonical"].removesuffix("_local")
            assert event["relay_ip"] == record.get("relay_to", {"ip": ""})["ip"]
            assert event["reply"] in record["stat"]
        assert came["sender"] == record["from"].strip("<>")
        assert came["message_id"] == record["msgid"]
        assert (came["size"], came["nrcpt"]) == (int(record["size"]), int(record["nrcpts"]))


WORDS = st.sampled_from(
    [
        "2026-12-07 13:28:01 ", "2026-12-07 13:28:01.5 +0900 [7] ", "Dec  7 13:28:01 mta1 ", "2026-99-99 99:99:99 ",
        "exim[1]: ", "sm-mta[1]: ", "smtpd[1]: ", "[ID 801593 mail.info] ", "[1/2] ", "10HmaX-0005vi-00 ",
        "1wN9t2-00000002BQv-3hr9 ", "<= ", "=> ", "-> ", ">> ", "== ", "** ", "(= ", "Completed", "removed by root",
        "a@b.example ", '"x \\" y"@b ', "<c@d> ", "(e@f, g) ", "R=r ", "T=t ", "H=mx [192.0.2.1]:99999999999 ", "H=[ ",
        'C="250 ok"', " QT=1d99h", " QT=9e999s", "defer (-44): ", "defer (", ": ", "451-4.7.1 no\\n451 no", "S=1 ",
        "S=99999999999999999999999 ", "id=x@y ", 'T="\\377\\"" ', "for a b", "6B74S1Tu000102: ", "from=<a@b>",
        "from=, ", ", size=1", ", nrcpts=9999999999999", ", class=0", ", msgid=<x@y>", "to=<a@b>", "to=",
        '<"a, b"@c>', ",",
        " [more]", ", ctladdr=x", ", delay=1+99:99:99", ", delay=x", ", mailer=esmtp", ", relay=mx. [192.0.2.1]",
        ", relay=", ", dsn=5.1.1", ", dsn=", ", reply=550 5.1.1 no", ", stat=", "Sent (x", "Deferred: 451 no", "queued",
        "done; delay=", "6B74S1Tu000103: DSN: x", "split: count=2, ids=6B74S1Tu000104, 6B74S1Tu000105",
        "timeout waiting for input from mx. during client DATA status", "5df87c903d709659 ", "mta delivery ",
        "evpid=c405e39ad6bbc64f ", "from=<> ", "to=<a@b> ", "rcpt=<-> ", 'source="-" ', 'relay="192.0.2.1 (mx)" ',
        'relay="[[" ', "delay=1h2m ", 'result="Ok" ', "result=TempFail ", 'stat="', "smtp message msgid=c405e39a ",
        "smtp envelope ", "relay: Ok for ", "smtp-in: Accepted message 4296f490 ", "msgid=", "lost 5 messages",
        "rsyslogd: ", "花", "\t", " ", "<", ">", '"', "\\",
    ]
)  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lines=st.lists(st.lists(WORDS, max_size=14).map("".join), max_size=30))
def test_any_mixture_is_accounted(name: str, lines: list[str]) -> None:
    _check(lines, events(name, "\n".join(lines) + "\n" if lines else ""))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_lines_are_accounted(name: str, data: st.DataObject) -> None:
    lines = []
    for line in data.draw(st.lists(st.sampled_from(LINES[name]), min_size=1, max_size=20)):
        start, end = sorted(data.draw(st.tuples(st.integers(0, len(line)), st.integers(0, len(line)))))
        lines.append(
            line[:start]
            + data.draw(st.sampled_from(["", "x", " ", '"', ": ", ">", "花", line[start:end]]))
            + line[end:]
        )
    _check(lines, events(name, "\n".join(lines) + "\n"))


LINES = {
    name: [
        line
        for case in CASES
        if case.parent.name == name
        for line in (case / "mail.log").read_text(encoding="utf-8").splitlines()
    ]
    for name in FORMATS
}


def _check(lines: list[str], found: list[dict[str, Any]]) -> None:
    """Each line is parsed, ignored or rejected, and never two of these."""
    rejected = [event["line"] for event in found if event["kind"] == "rejected"]
    parsed = {event["line"] for event in found if event["kind"] != "rejected"}
    assert len(rejected) == len(set(rejected))
    assert not parsed & set(rejected)
    assert all(1 <= place <= len(lines) for place in parsed.union(rejected))
    for event in found:
        assert event["kind"] != "attempt" or (event["status"] and event["qid"] and event["recipient"])
        assert event["kind"] != "rejected" or (event["reply"] and event["text"] and not event["qid"])
        assert event["status"] != "sent" or event["kind"] != "attempt" or not event["reply"]
