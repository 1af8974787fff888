"""`scripts/bench formats`: lines of each log format to events against a plain loop of Python's `re` that extracts the
same fields from the same lines, one core each, in the same run.

A row of CASES is a format: its name, a generator of its lines (made up from a fixed seed: bulk mail of a press-release
service, a part of it deferred), the patterns that a script of an afternoon would try on each line, the first that
matches wins, and how the group `at` is written. Both sides end with the fields and the time of each event; ours also
accounts for every line and writes the part. Seconds are of the processor, so that neighbours on the machine do not
count.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from resend.collect import parse
from scripts.benchmarks._export_lines import EXPORTS
from scripts.benchmarks._server_lines import SERVERS

LINES = 400_000
QUICK_LINES = 60_000
MUST, GOAL = 5.0, 10.0
_SEED = 20260115
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


CASES: tuple[Case, ...] = tuple(Case(*each) for each in (*SERVERS, *EXPORTS))
