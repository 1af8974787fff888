"""Replies from bytes, strictly: what is no reply is garbage."""

from __future__ import annotations

import pytest

from resend.executor.replies import BYTES_MAX, LINE_MAX, TEXT_MAX, Garbage, is_last, parse, parsed, remote_queue_id


def test_lines_of_one_reply_are_joined() -> None:
    reply = parse([b"451-4.7.500 Server busy.", b"451 4.7.500 Try again (S77719)"])
    assert (reply.code, reply.enhanced) == (451, "4.7.500")
    assert reply.text == "4.7.500 Server busy.\n4.7.500 Try again (S77719)"


def test_a_bare_code_is_a_reply() -> None:
    reply = parse([b"250"])
    assert (reply.code, reply.enhanced, reply.text) == (250, "", "")


def test_bytes_that_are_no_utf8_are_kept_readable() -> None:
    assert parse([b"550 \xff no"]).text == "\ufffd no"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [b"\x00\x01 not a reply"],
        [b"25 Ok"],
        [b"2500 Ok"],
        [b"250Ok"],
        [b"150 Ok"],
        [b"650 Ok"],
        [b"260 Ok"],
        [b"250-Ok", b"251 Ok"],
        [b"250-" + b"x" * 1_020] * (BYTES_MAX >> 10) + [b"250 Ok"],
        [b"250 " + b"x" * LINE_MAX],
    ],
)
def test_what_is_no_reply_is_garbage(lines: list[bytes]) -> None:
    with pytest.raises(Garbage):
        parse(lines)


def test_the_bounds_of_a_reply_are_its_longest_and_no_more() -> None:
    assert parse([b"250 " + b"x" * (LINE_MAX - 4)]).code == 250
    assert parse([b"250-a", b"250 " + b"x" * (LINE_MAX - 4)]).code == 250  # more than a line's bound, no line is
    line = b"250-" + b"x" * 1_020
    whole = [line] * ((BYTES_MAX >> 10) - 1) + [b"250 " + b"x" * 1_020]
    assert sum(map(len, whole)) == BYTES_MAX and parse(whole).code == 250
    with pytest.raises(Garbage):
        parse([*whole[:-1], b"250 " + b"x" * 1_021])
    with pytest.raises(Garbage):
        parse([b"250-a", b"250 " + b"x" * (LINE_MAX - 3)])


def test_a_text_of_its_bound_is_kept_as_it_is() -> None:
    short = [b"250-" + b"x" * (TEXT_MAX // 2), b"250 " + b"y" * (TEXT_MAX - TEXT_MAX // 2 - 1)]
    assert len(parse(short).text) == TEXT_MAX and parse(short).text.count("y") == TEXT_MAX - TEXT_MAX // 2 - 1


def test_a_line_that_was_seen_before_is_the_same_reply() -> None:
    assert parsed(b"354 go ahead") == parsed(b"354 go ahead") == parse([b"354 go ahead"])
    with pytest.raises(Garbage):
        parsed(b"rubbish")


def test_however_long_a_reply_is_its_code_counts_and_its_last_line_is_kept() -> None:
    reply = parse([b"250-2.0.0 taken with pleasure"] * 4_000 + [b"250 2.0.0 Ok: queued as 4RYx2B1"])
    assert (reply.code, reply.enhanced) == (250, "2.0.0")
    assert TEXT_MAX < len(reply.text) < TEXT_MAX + 100 and remote_queue_id(reply.text) == "4RYx2B1"


@pytest.mark.parametrize(
    ("line", "last"), [(b"250-Ok", False), (b"250 Ok", True), (b"250", True), (b"rubbish", True), (b"", True)]
)
def test_the_last_line(line: bytes, last: bool) -> None:
    assert is_last(line) is last


@pytest.mark.parametrize(
    ("text", "qid"),
    [
        ("2.0.0 Ok: queued as 4RYx2B1", "4RYx2B1"),
        ("2.0.0 Ok: queued as 4RYx2B1.", "4RYx2B1"),
        ("OK id=1rAbCd-000001-2x", "1rAbCd-000001-2x"),
        ("2.6.0 thank you", ""),
    ],
)
def test_the_remote_queue_id(text: str, qid: str) -> None:
    assert remote_queue_id(text) == qid
