"""What lines cost: in proportion to their length, however they are made up; blank ones next to nothing."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from resend.collect import parse
from resend.collect.detect import detect
from resend.collect.formats import Input, envelopes, formats
from resend.errors import InputError
from scripts.benchmarks import formats as benchmark
from tests.collect.reading import REPOSITORY, mails

MADE_UP = {case.format: case for case in benchmark.CASES}
LINE_FORMATS = sorted(name for name, kind in formats().items() if kind.input is not Input.MAIL)
FILLERS = (
    " ", "a", ".", "a@b.", "<", "<a@b.example>", '"', '\\"', ",", '","', ", ", ": ", "=", " to=<", " (", ")",
    "[1.2.3.4]", "{", "}", "550 5.1.1 ", "1.2.3.", " status=", ": ", ";", "##", "花", "\\", " T=", " H=", ' C="',
    " defer (1): ", "host ", "-", "/",
)  # fmt: skip
SMALL = 32_000  # characters that a line gets on top


def sample(name: str, count: int) -> list[str]:
    if name == "postfix":
        return mails(count).splitlines()[:count]
    if name not in MADE_UP:
        return list(islice(cycle(_case(name)[1:]), count))
    return list(islice(MADE_UP[name].lines(random.Random(3)), count))


def _case(name: str) -> list[str]:
    """Lines of a format that the benchmark has not: its first case folder."""
    (log,) = min((REPOSITORY / "tests/cases" / name).iterdir()).glob("log.*")
    return log.read_text(encoding="utf-8").splitlines()


def reading(name: str) -> parse.Reading:
    if name in MADE_UP:
        heading = MADE_UP[name].heading
    else:
        heading = _case(name)[0] if formats()[name].input is Input.CSV else ""
    return parse.Reading(name, "Asia/Tokyo", date(2026, 3, 1), "", heading=heading)


def lengthened(name: str, size: int) -> bytes:
    """Made-up lines, each with one filler put in at a place that differs from line to line."""
    rng = random.Random(7)
    lines = []
    for number, line in enumerate(sample(name, len(FILLERS) * 3)):
        filler = FILLERS[number % len(FILLERS)]
        spot = rng.randrange(len(line) // 3, len(line))
        lines.append(line[:spot] + (filler * (size // len(filler) + 1))[:size] + line[spot:])
    return ("\n".join(lines) + "\n").encode()


def cost(work: Callable[[], Any]) -> float:
    """Processor seconds of the cheaper of two."""
    best = 1e9
    gc.collect()
    for _ in range(2):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def doubles(work: Callable[[int], Callable[[], Any]]) -> None:
    small, double = cost(work(SMALL)), cost(work(2 * SMALL))
    assert double < 2.5 * max(small, 0.05), f"{small:.3f} s, {double:.3f} s"  # quadratic: four times


@pytest.mark.parametrize("name", LINE_FORMATS)
def test_a_line_costs_no_more_than_its_length(name: str, tmp_path: Path) -> None:
    how = reading(name)

    def work(size: int) -> Callable[[], Any]:
        data = lengthened(name, size)
        return lambda: parse.parse_block(data, how, tmp_path / "part.parquet")

    work(100)()  # warm
    doubles(work)


@pytest.mark.parametrize("name", LINE_FORMATS)
def test_what_a_file_is_costs_no_more_than_its_beginning(name: str) -> None:
    """`detect` looks at the beginning of long lines only: twice the length is not even twice the cost."""

    def work(size: int) -> Callable[[], Any]:
        data = lengthened(name, size)

        def look() -> None:
            try:
                detect(data, where=name)
            except InputError:
                pass  # a filler hides what it is

        return look

    doubles(work)


def test_what_wraps_a_line_is_told_at_no_more_than_its_length() -> None:
    """Of lines that are nothing but a filler: a pattern must not try each place for each other place."""
    fillers = [*FILLERS, "a/"]
    lines = [filler * (200_000 // len(filler)) for filler in fillers]
    lines += ["{" + filler * 10_000 for filler in ('"stream":"stdout",', '"message":"')]
    for pattern in (pattern for kind in envelopes().values() for pattern in kind.detect):
        for line in lines:
            start = time.process_time()
            pattern.search(line)
            assert time.process_time() - start < 0.1, (pattern.pattern, line[:20])  # seconds; quadratic: twice as many


def blank_within(lines: list[str], end: str) -> Iterator[str]:
    """Runs of blank lines of all kinds of lengths: before, between and after the lines."""
    for number, line in enumerate(lines):
        yield end * (0, 1, 63, 64, 65, 200, 5_000)[number % 7]
        yield line + end
    yield end * 100


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", LINE_FORMATS)
def test_lines_keep_their_numbers_among_blank_ones(name: str, end: str, tmp_path: Path) -> None:
    lines = [*sample(name, 40), "garbage\x01", "", "no time stamp"]
    whole = "".join(blank_within(lines, end))
    numbered = [place for place, line in enumerate(whole.replace("\r\n", "\n").split("\n"), 1) if line]
    bare = "".join(line + end for line in lines if line)
    how = reading(name)
    expected = parse.parse_lines(bare.encode(), how)
    found = parse.parse_lines(whole.encode(), how)
    for event in expected:
        event["line"] = numbered[int(str(event["line"])) - 1]
    assert found == expected
    assert expected
    parsed = parse.parse_block(whole.encode(), how, tmp_path / "part.parquet")
    assert parsed.lines == whole.count("\n")


def test_a_block_of_blank_lines_costs_next_to_nothing(tmp_path: Path) -> None:
    how = reading("postfix")
    data = mails(1).encode() + b"\n" * (4 << 20) + mails(1, first=1).encode()
    parse.parse_block(data[:5_000], how, tmp_path / "part.parquet")
    spent = cost(lambda: parse.parse_block(data, how, tmp_path / "part.parquet"))
    assert spent < 0.4  # seconds; line by line it was more than one
    assert parse.parse_block(data, how, tmp_path / "part.parquet").lines == 10 + (4 << 20)


def test_line_ends_of_many_returns_are_lines_and_are_looked_at_once(tmp_path: Path) -> None:
    """With each CR that is taken off an end, another run of blank lines would show."""
    data = b"".join((b"\r" * count + b"\n") * 64 for count in range(250))
    how = reading("postfix")
    assert parse.parse_block(data, how, tmp_path / "part.parquet").lines == 250 * 64
    assert cost(lambda: parse.parse_block(data, how, tmp_path / "part.parquet")) < 1.0


def test_each_wrapping_passes_blank_lines_over() -> None:
    for name in envelopes():
        how = parse.Reading("postfix", "UTC", date(2026, 3, 1), "", name)
        assert parse.parse_lines(b"\n" * 200, how) == parse.parse_lines(b"\n", how) == []
