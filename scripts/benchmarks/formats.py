"""`scripts/bench formats`: lines of each log format to events against a plain loop of Python's `re` that extracts the same
fields from the same lines, one core each, in the same run.

A row of CASES is a format: its name, a generator of its lines (made up from a fixed seed: bulk mail of a press-release
service, a part of it deferred), the patterns that a script of an afternoon would try on each line, the first that matches
wins, and how the group `at` is written. Both sides end with the fields and the time of each event; ours also accounts for
every line and writes the part. Seconds are of the processor, so that neighbours on the machine do not count.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from resend.collect import parse

LINES = 400_000
QUICK_LINES = 60_000
MUST, GOAL = 5.0, 10.0
_SEED = 20260115
_START = datetime(2026, 1, 15, 9, 0, 0)  # noqa: DTZ001 (a log of this kind has no zone)
_DAY = date(2026, 1, 16)


class Case(NamedTuple):
    """A format, its made-up lines, and what a script would match on each."""

    format: str
    lines: Callable[[random.Random], Iterator[str]]
    patterns: Sequence[str]
    stamp: str  # of the group `at`, for strptime; "" where it is seconds
    heading: str = ""


def run(*, quick: bool) -> list[dict[str, Any]]:
    """Measure each format once: seconds of both sides and their ratio."""
    return [_measure(case, QUICK_LINES if quick else LINES) for case in CASES]


def _measure(case: Case, wanted: int) -> dict[str, Any]:
    rng = random.Random(_SEED)
    source = case.lines(rng)
    lines = [next(source) for _ in range(wanted)]
    data = ("\n".join(lines) + "\n").encode()
    how = parse.Reading(case.format, "Asia/Tokyo", _DAY, "", heading=case.heading)
    with tempfile.TemporaryDirectory(prefix="resend-bench-") as folder:
        out = Path(folder) / "part.parquet"
        parse.parse_block(data[: data.index(b"\n") + 1], how, out)  # both sides are warm
        started = time.process_time()
        parsed = 0
        at = 0
        while at < len(data):  # blocks as collect cuts them
            end = data.find(b"\n", at + (16 << 20)) + 1 or len(data)
            parsed += parse.parse_block(data[at:end], how, out).parsed
            at = end
        ours = time.process_time() - started
    patterns = [re.compile(pattern) for pattern in case.patterns]
    started = time.process_time()
    found, zone, last = 0, ZoneInfo("Asia/Tokyo"), 0.0
    for line in data.decode().split("\n"):
        for pattern in patterns:
            match = pattern.search(line)
            if match is not None:
                fields = match.groupdict()
                at = fields["at"]
                last = datetime.strptime(at, case.stamp).replace(tzinfo=zone).timestamp() if case.stamp else float(at)
                found += 1
                break
    theirs = time.process_time() - started
    assert last
    if abs(found - parsed) > wanted * 0.01:
        raise SystemExit(f"{case.format}: the patterns find {found} lines, we parse {parsed} of {wanted}")
    return {
        "part": f"formats {case.format}",
        "lines": wanted,
        "bytes": len(data),
        "ours_s": round(ours, 3),
        "theirs": "Python re",
        "theirs_s": round(theirs, 3),
        "ratio": round(theirs / ours, 2),
        "must": MUST,
        "goal": GOAL,
    }


def _clock(rng: random.Random) -> Iterator[datetime]:
    seconds = 0.0
    while True:
        seconds += rng.expovariate(100.0)
        yield _START + timedelta(seconds=int(seconds))


def _exim(rng: random.Random) -> Iterator[str]:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    for number, at in enumerate(_clock(rng)):
        stamp = at.strftime("%Y-%m-%d %H:%M:%S")
        qid = f"1wN9{''.join(rng.choices(digits, k=2))}-{number:011d}-{''.join(rng.choices(digits, k=4))}"
        domain = rng.randrange(4_000)
        to, release = f"user{rng.randrange(2_000_000)}@corp{domain}.example.jp", rng.randrange(2_000)
        host = f"H=mx{domain % 3}.corp{domain}.example.jp [198.51.100.{domain % 250}]"
        yield (
            f"{stamp} {qid} <= bounce+{release}@mail.example.jp H=app{number % 4}.example.jp (app) [10.0.0.5]:40122"
            f" P=esmtps X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no S={rng.randrange(6_000, 40_000)}"
            f" id=release.{release}.{number}@mail.example.jp"
        )
        if rng.random() < 0.1:
            yield (
                f"{stamp} {qid} == {to} R=dnslookup T=remote_smtp defer (-44) {host}: SMTP error from remote mail server"
                f" after RCPT TO:<{to}>: 451 4.7.500 Server busy. Please try again later from [203.0.113.10]. (S77719)"
            )
        if rng.random() < 0.01:
            yield (
                f"{stamp} {qid} ** {to} R=dnslookup T=remote_smtp {host}: SMTP error from remote mail server after"
                f" RCPT TO:<{to}>: 550 5.1.1 <{to}>: Recipient address rejected: User unknown"
            )
        else:
            yield (
                f"{stamp} {qid} => {to} R=dnslookup T=remote_smtp {host} X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=yes"
                f' C="250 2.0.0 Ok: queued as {rng.getrandbits(44):011X}"'
            )
        yield f"{stamp} {qid} Completed"
        if rng.random() < 0.05:
            yield f"{stamp} H=scan.example.net [192.0.2.9] F=<a@example.net> rejected RCPT <b@example.com>: relay not permitted"


_EXIM = r"^(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<id>\w{6}-\w{6,11}-\w{2,4}) "

CASES: tuple[Case, ...] = (
    Case(
        "exim",
        _exim,
        (
            _EXIM + r"<= (?P<sender>\S+) .*? S=(?P<size>\d+)(?: .*?id=(?P<message_id>\S+))?",
            _EXIM + r"(?P<flag>[=-]>) (?P<to>\S+)(?: <(?P<top>[^>]*)>)? .*?T=(?P<transport>\S+)"
            r'(?: .*?H=(?P<relay>\S+) \[(?P<ip>[^\]]+)\](?::(?P<port>\d+))?.*? C="(?P<code>\d+) ?(?P<enhanced>\d\.\d\.\d)?'
            r"(?:.*queued as (?P<next>\w+))?)?",
            _EXIM + r"(?P<flag>==|\*\*) (?P<to>\S+)(?: <(?P<top>[^>]*)>)? .*?(?:defer \((?P<errno>-?\d+)\))?"
            r" H=(?P<relay>\S+) \[(?P<ip>[^\]]+)\](?::(?P<port>\d+))?.*?: (?P<reply>.*?: (?P<code>\d{3})"
            r" (?P<enhanced>\d\.\d\.\d+)?.*)",
            _EXIM + r"(?P<flag>Completed)",
        ),
        "%Y-%m-%d %H:%M:%S",
    ),
)
