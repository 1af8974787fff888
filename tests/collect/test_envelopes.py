"""The wrappings around log lines: journald, containers, RFC 5424. What is no entry of them is accounted, too."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resend.collect import parse
from resend.collect.detect import detect
from resend.errors import InputError

BODY = (
    "4A10000001: to=<a@b.example>, relay=mx.b[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=4.7.1, status=deferred"
    " (host mx.b[192.0.2.1] said: 451 4.7.1 混雑)"
)
LINE = f"postfix/smtp[7]: {BODY}"
AT_US = 1_796_617_681_000_000
BSD = "Dec  7 04:28:01 mta1 "
ISO = "2026-12-07T04:28:01+00:00 mta1 "
ENTRY = {
    "__CURSOR": "s=1;i=2",
    "__REALTIME_TIMESTAMP": str(AT_US),
    "_HOSTNAME": "mta1",
    "SYSLOG_IDENTIFIER": "postfix/smtp",
    "_PID": "7",
}


def events(lines: Sequence[str], envelope: str, *, host: str = "") -> list[dict[str, Any]]:
    data = "".join(f"{line}\n" for line in lines).encode()
    return parse.parse_lines(data, parse.Reading("postfix", "UTC", date(2026, 12, 7), host, envelope))


def entry(**fields: object) -> str:
    return json.dumps(ENTRY | fields, ensure_ascii=False)


def record(**fields: object) -> str:
    return json.dumps(fields, ensure_ascii=False)


def docker(text: str) -> str:
    return json.dumps({"log": f"{text}\n", "stream": "stdout", "time": "2026-12-07T04:28:01Z"}, separators=(",", ":"))


@pytest.mark.parametrize("level", ["mail.info", "mail:info", "mail.warn"])
def test_a_level_between_host_and_program(level: str) -> None:
    line = f"{BSD}{level} {LINE}"
    assert detect(line.encode() + b"\n", where="x").format == "postfix"
    assert [(event["host"], event["instance"]) for event in events([line], "")] == [("mta1", "postfix")]


@pytest.mark.parametrize(
    ("envelope", "line"),
    [
        ("journald", entry(MESSAGE=BODY)),
        ("journald", json.dumps(ENTRY | {"MESSAGE": BODY})),
        ("journald", entry(MESSAGE=list(BODY.encode()))),
        ("journald", entry(MESSAGE=BODY, SYSLOG_IDENTIFIER=["postfix/smtp", "other"])),
        ("journald", entry(MESSAGE=BODY, __REALTIME_TIMESTAMP="1", _SOURCE_REALTIME_TIMESTAMP=str(AT_US))),
        ("docker", docker(BSD + LINE)),
        ("docker", docker(ISO + LINE)),
        ("docker", f"2026-12-07T04:28:01.5Z stdout F {BSD}{LINE}"),
        ("docker", f"2026-12-07T04:28:01.5Z {BSD}{LINE}"),
        ("docker", f"mail-1  | {BSD}{LINE}"),
        ("rfc5424", f"<22>1 2026-12-07T04:28:01Z mta1 postfix/smtp 7 - - {BODY}"),
        ("rfc5424", f'<22>1 2026-12-07T04:28:01Z mta1 postfix/smtp 7 ID1 [a@1 x="\\]"][b@2] \ufeff{BODY}'),
        ("rfc5424", f"312 <22>1 2026-12-07T04:28:01Z mta1 postfix/smtp - - - {BODY}"),
        ("rfc5424", f"<22>1 2026-12-07T04:28:01Z mta1 postfix 7 - - {BODY}"),
        ("docker", f"\x1b[36mmail-1  |\x1b[0m {BSD}{LINE}"),
        ("docker", f"{BSD}\x1b[01;31m\x1b[Kpostfix\x1b[m\x1b[K/smtp[7]: {BODY}"),
        ("relayed", f"Dec  7 13:29:00 node1 docker[32]: {BSD}{LINE}"),
        ("relayed", f"2026-12-07T13:29:00.5+09:00 node1 docker/mail[32]: {ISO}{LINE}"),
        ("relayed", f"Dec  7 04:28:01 mta1 docker/mail[32]: {LINE}"),
        ("relayed", f"<30>Dec  7 04:28:01 mta1 mail: {LINE}"),
        ("relayed", f"    {BSD}{LINE}"),
        ("relayed", f"/var/log/mail.log.1:{BSD}{LINE}"),
        ("relayed", f"mail.log-20261208.gz:12:{ISO}{LINE}"),
        ("relayed", f"<22>{ISO}{LINE}"),
        ("relayed", f"Mon 2026-12-07 04:28:01 UTC mta1 {LINE}"),
        ("relayed", f"Mon 2026-12-07 04:28:01 JST mta1 {LINE}"),
        ("relayed", f"2026 {BSD}{LINE}"),
        ("relayed", f"{ISO}{LINE}".replace(" ", "\t", 2)),
        ("record", record(message=BSD + LINE, **{"@timestamp": "2026-12-07T04:29:09Z"})),
        ("record", record(ts="2026-12-07T04:28:01Z", line=BSD + LINE)),
        (
            "record",
            record(_index="mail", _source={"@timestamp": "2026-12-07T04:28:01Z", "host": "mta1", "message": LINE}),
        ),
        ("record", record(preview=False, result={"_raw": ISO + LINE, "_time": "2026-12-07 04:28:01"})),
        ("record", record(textPayload=BSD + LINE, timestamp="2026-12-07T04:28:02Z")),
        ("record", record(jsonPayload={"message": LINE, "host": "mta1"}, timestamp="2026-12-07T04:28:01Z")),
        (
            "record",
            record(time="2026-12-07T04:28:01Z", host="mta1", **{"syslog-tag": "postfix/smtp[7]:"}, message=f" {BODY}"),
        ),
        ("record", record(timestamp=AT_US // 1_000_000, host="mta1", short_message=LINE)),
        ("record", record(ts=AT_US // 1000, hostname="mta1", program="postfix/smtp", pid=7, msg=BODY)),
        (
            "record",
            record(
                **{"@timestamp": "2026-12-07T04:28:01.000Z"},
                host={"name": "mta1"},
                process={"name": "postfix/smtp", "pid": 7},
                message=BODY,
            ),
        ),
        (
            "record",
            record(PROGRAM="postfix/smtp", MESSAGE=BODY, HOST="mta1", DATE="Dec  7 04:28:01", PID="7", FACILITY="mail"),
        ),
        (
            "record",
            record(
                **{"@timestamp": "2026-12-07T04:28:01.000Z"},
                host={"name": "mta1"},
                log={"syslog": {"appname": "postfix/smtp"}},
                message=BODY,
            ),
        ),
        ("unusual", f"443 {BSD}{LINE}"),
        ("unusual", f"Dec  7 04:28:01 [mta1]{LINE}"),
        ("unusual", f"{BSD}mta1 {LINE}"),
        ("unusual", f"{BSD}{BODY}"),
        ("unusual", f"mail-0 postfix {BSD}{LINE}"),
        ("unusual", f"mail_smtp.1.k3j2h1@node1    | {BSD}{LINE}"),
        ("unusual", f"2026.12.07 04:28:01 mta1(mail.info) {LINE}"),
        ("unusual", f"2026/12/07 04:28:01 mta1 {LINE}"),
        ("unusual", f"[2026-12-07 04:28:01,000] mta1 {LINE}"),
        ("unusual", f"07/Dec/2026:13:28:01 +0900 mta1 {LINE}"),
        ("unusual", f"Mon Dec  7 04:28:01 2026 mta1 {LINE}"),
        ("unusual", f"1796617681000 mta1 {LINE}"),
        ("unusual", f'"Dec 7, 2026 @ 04:28:01.000",mta1,"{LINE}"'),
        ("unusual", f'"2026-12-07T04:28:01.000Z","mta1","mta1 {LINE}"'),
        ("unusual", f"2026-12-07 04:28:01\tmta1\tmail\tinfo\tpostfix/smtp[7]:\t{BODY}"),
        ("unusual", f"700\t2026-12-07T04:27:59Z\t2026-12-07T04:28:01Z\t42\tmta1\tMail\tInfo\tpostfix/smtp\t{BODY}"),
        ("unusual", f"{BSD}{LINE}  "),
        ("unusual", f"7 Dec 04:28:01 mta1 {LINE}"),
        ("unusual", f"Dec  7 04:28:01 mta1: {LINE}"),
        ("unusual", f"'{BSD}{LINE}',"),
        ("unusual", f"{BSD}{LINE}".replace("<", "&lt;").replace(">", "&gt;")),
    ],
)
def test_the_line_inside(envelope: str, line: str) -> None:
    assert detect(line.encode() + b"\n", where="x").envelope == envelope
    (event,) = events([line], envelope)
    assert (event["at_us"], event["host"], event["instance"], event["qid"]) == (AT_US, "mta1", "postfix", "4A10000001")
    assert (event["status"], event["code"], event["reply"][-2:]) == ("deferred", 451, "混雑")


def test_a_level_where_the_host_should_be() -> None:
    lines = [f"2026-12-07T04:28:01.123456789Z INFO    {LINE}", f"mail-1  | 2026-12-07T04:28:01+00:00 warning {LINE}"]
    assert detect("\n".join(lines).encode(), where="x").envelope == "unusual"
    found = events(lines, "unusual", host="mta1")
    assert [(event["at_us"] - AT_US, event["host"]) for event in found] == [(123_456, "mta1"), (0, "mta1")]
    assert {event["host"] for event in events(lines, "unusual")} == {"localhost"}


def test_lines_of_the_usual_form_need_no_taking_apart() -> None:
    """However few of a system log are those of the mail server."""
    others = [f"{BSD}app[{number}]: nothing to tell" for number in range(9)]
    assert detect("\n".join([*others, BSD + LINE]).encode(), where="x").envelope == ""
    assert [event["qid"] for event in events([*others, BSD + LINE, "no time at all"], "unusual")] == ["4A10000001", ""]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (f"{LINE}\n".encode(), "without any time; .*short-iso"),
        (f"[    5.123456] mta1 {LINE}\n".encode(), "without any time; .*short-iso"),
        (f"__CURSOR=s=1\nSYSLOG_IDENTIFIER=postfix/smtp\nMESSAGE={BODY}\n".encode(), "journalctl -o json"),
        (f"{BSD}{LINE}\n".encode("utf-16-le"), "no text: .*iconv"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(data: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        detect(data, where="x")


def test_spaces_that_have_become_several() -> None:
    lines = [BSD + LINE, BSD + LINE.replace(": to=", ":  to=", 1).replace(", relay", ",   relay")]
    assert detect("\n".join(lines).encode(), where="x").envelope == "spaced"
    first, second = events(lines, "spaced")
    assert first | {"line": 2} == second
    assert detect((BSD + LINE).encode(), where="x").envelope == ""


def test_a_page_s_source_of_which_few_lines_name_an_address() -> None:
    lines = [BSD + LINE.replace("<", "&lt;"), *([BSD + "postfix/qmgr[9]: 4A10000001: removed"] * 5)]
    assert detect("\n".join(lines).encode(), where="x").envelope == "unusual"
    assert {event["qid"] for event in events(lines, "unusual")} == {"4A10000001"}
    assert events(lines, "unusual")[0]["recipient"] == events([BSD + LINE], "")[0]["recipient"]


def test_a_reply_within_quotes_of_a_csv_field() -> None:
    quoted = LINE.replace("混雑", '""later""')
    line = f'"2026-12-07T04:28:01Z","mta1","{quoted}"'
    (event,) = events([line], "unusual")
    assert event["reply"] == 'host mx.b[192.0.2.1] said: 451 4.7.1 "later"'


@pytest.mark.parametrize(
    "make",
    [
        json.dumps,
        lambda records: json.dumps(records, indent=1),
        lambda records: json.dumps({"events": records, "searchedLogStreams": []}),
        lambda records: json.dumps({"nextToken": "x", "events": records}, indent=4),
    ],
)
def test_records_in_one_list(make: Callable[[object], str]) -> None:
    """As an API gives them: all in one line, or each over several, the list perhaps in an object."""
    records = [{"time": str(AT_US // 1_000_000), "program": "postfix/smtp", "message": BODY}] * 2
    found = detect(make(records).encode(), where="x")
    assert (found.format, found.envelope, found.spread) == ("postfix", "record", True)


def test_records_without_a_line_of_the_log_are_ignored_or_kept_as_they_are() -> None:
    lines = [
        record(message=BSD + LINE),
        record(level="info"),
        record(message="started"),
        '{"message": "cut',
        BSD + LINE,
    ]
    found = events(lines, "record")
    assert [(event["line"], event["kind"]) for event in found] == [
        (1, "attempt"),
        (3, "rejected"),
        (4, "rejected"),
        (5, "attempt"),
    ]


def test_lines_beside_those_of_another_log_stay_as_they_are() -> None:
    lines = [
        f"Dec  7 13:29:00 node1 docker[32]: {BSD}{LINE}",
        BSD + LINE,
        "Dec  7 13:29:00 node1 cron[1]: at 04:28:01 done",
    ]
    assert [(event["line"], event["at_us"]) for event in events(lines, "relayed")] == [(1, AT_US), (2, AT_US)]


def test_a_container_that_writes_exims_lines() -> None:
    line = "2026-12-07 04:28:01 1sDAbc-0001Zz-9Q => u@b.example R=dnslookup T=remote_smtp H=mx.b.example [192.0.2.1]"
    assert detect(f"mail-1  | {line}\n".encode(), where="x").envelope == "docker"
    data = f"mail-1  | {line}\n".encode()
    (event,) = parse.parse_lines(data, parse.Reading("exim", "UTC", date(2026, 12, 7), "", "docker"))
    assert (event["at_us"], event["qid"], event["status"]) == (AT_US, "1sDAbc-0001Zz-9Q", "sent")


def test_a_container_that_writes_no_time_and_no_host() -> None:
    lines = [docker(LINE), f"2026-12-07T04:28:01Z stderr F {LINE}", f"2026-12-07T04:28:01Z {LINE}"]
    assert [(event["at_us"], event["host"]) for event in events(lines, "docker")] == [(AT_US, "localhost")] * 3
    assert {event["host"] for event in events(lines, "docker", host="mx7")} == {"mx7"}
    assert events([docker("Starting up"), docker(""), "2026-12-07T04:28:01Z stdout F hello"], "docker") == []


def test_entries_of_the_journal_that_tell_of_no_mail() -> None:
    others = [
        json.dumps(ENTRY),  # no message
        entry(MESSAGE=None),
        entry(MESSAGE="Accepted publickey", SYSLOG_IDENTIFIER="sshd"),
        entry(MESSAGE="first line\nsecond line", SYSLOG_IDENTIFIER="app"),
        entry(MESSAGE=["a", "b"], SYSLOG_IDENTIFIER="app"),
        "",
    ]
    assert events(others, "journald") == []
    lost = entry(MESSAGE="Suppressed 85 messages from postfix@-.service", SYSLOG_IDENTIFIER="systemd-journald")
    assert [event["kind"] for event in events([lost], "journald")] == ["loss"]


def test_a_message_with_bytes_that_are_no_text() -> None:
    (event,) = events([entry(MESSAGE=list(BODY.encode().replace("混雑".encode(), b"\xff\x1b\x00")))], "journald")
    assert (event["qid"], event["code"]) == ("4A10000001", 451)


DAMAGE = st.sampled_from(
    [
        entry(MESSAGE=BODY), entry(MESSAGE=[300, -1]), entry(MESSAGE={"a": [1]}), entry(__REALTIME_TIMESTAMP="9" * 30),
        entry(__REALTIME_TIMESTAMP="9" * 18, MESSAGE=BODY), entry(_HOSTNAME=["a b"], MESSAGE="x"), docker(BSD + LINE),
        '{"log":5}', "{}", "[]", "null", '{"log":', "<22>1 - - - - - -", "<22>1 x", f"mail | {BSD}",
        "2026-12-07T04:28:01Z stdout P x", "2026-12-07Tx stdout F ", f"<22>1 2026-12-07T04:28:01Z m p 7 - [x {BODY}",
    ]
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["journald", "docker", "rfc5424", "unusual"]),
    st.lists(st.tuples(DAMAGE, st.integers(0, 400), st.text(max_size=6)), max_size=12),
)
def test_any_damage_is_accounted(tmp_path_factory: pytest.TempPathFactory, envelope: str, damaged: list[Any]) -> None:
    lines = [(text[:at] + noise + text[at + 1 :]).replace("\n", " ") for text, at, noise in damaged]
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
    how = parse.Reading("postfix", "UTC", date(2026, 12, 7), "", envelope)
    out: Path = tmp_path_factory.getbasetemp() / "any.parquet"
    parsed = parse.parse_block(data, how, out)
    assert parsed.lines == data.count(b"\n")
    assert parsed.parsed + parsed.rejected <= parsed.lines
