"""`scripts/bench formats`: lines of each log format to events against a plain loop of Python's `re` that extracts the
same fields from the same lines, one core each, in the same run.

A row of CASES is a format: its name, a generator of its lines (made up from a fixed seed: bulk mail of a press-release
service, a part of it deferred), the patterns that a script of an afternoon would try on each line, the first that
matches wins, and how the group `at` is written. Both sides end with an event a line, of the same values: the time in
microseconds UTC, numbers as numbers, host names in lower case, message-ids in brackets, text without escapes. Ours
also accounts for every line and writes the part. The ratio is of processor seconds, so that neighbours on the machine
do not count. Both sides are warm, and blocks cost the same each: five times as many lines give the same ratios (Exim's
8 % better).

Beside it, at the full size, stands what a user waits for: `collect` of the same lines in a file, with its worker
processes, its start and its manifest, against the same loop, both by the clock on the wall.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from resend.collect import parse
from resend.collect.collect import collect
from resend.config import Config
from resend.stores.home import Home
from scripts.benchmarks._export_lines import EXPORTS
from scripts.benchmarks._server_lines import SERVERS

LINES = 400_000
QUICK_LINES = 60_000
MUST, GOAL = 5.0, 10.0
_SEED = 20260115
_DAY = date(2026, 1, 16)
_ZONE = ZoneInfo("Asia/Tokyo")


class Case(NamedTuple):
    """A format, its made-up lines, and what a script would match on each."""

    format: str
    lines: Callable[[random.Random], Iterator[str]]
    patterns: Sequence[str]
    stamp: str  # of the group `at`, for strptime; "" where it is seconds
    heading: str = ""


def run(*, quick: bool) -> list[dict[str, Any]]:
    """Measure each format once: seconds of both sides and their ratio."""
    return [_measure(case, QUICK_LINES if quick else LINES, walled=not quick) for case in CASES]


def _measure(case: Case, wanted: int, *, walled: bool) -> dict[str, Any]:
    rng = random.Random(_SEED)
    source = case.lines(rng)
    data = ("\n".join(next(source) for _ in range(wanted)) + "\n").encode()
    with tempfile.TemporaryDirectory(prefix="resend-bench-") as folder:
        ours, parsed = _ours(case, data, Path(folder) / "part.parquet")
        wall = _collected(case, data, Path(folder)) if walled else None
    theirs_wall, theirs = time.perf_counter(), time.process_time()
    found = _theirs(case, data)
    theirs_wall, theirs = time.perf_counter() - theirs_wall, time.process_time() - theirs
    if abs(found - parsed) > wanted * 0.01:
        raise SystemExit(f"{case.format}: the patterns find {found} lines, we parse {parsed} of {wanted}")
    result = {
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
    if wall is not None:
        result |= {
            "collect_wall_s": round(wall, 3),
            "theirs_wall_s": round(theirs_wall, 3),
            "wall_ratio": round(theirs_wall / wall, 2),
        }
    return result


def _ours(case: Case, data: bytes, out: Path) -> tuple[float, int]:
    """Processor seconds of this process for all blocks, as collect cuts them; how many lines gave events."""
    how = parse.Reading(case.format, _ZONE.key, _DAY, "", heading=case.heading)
    parse.parse_block(data[: data.index(b"\n") + 1], how, out)  # both sides are warm
    started = time.process_time()
    parsed = at = 0
    while at < len(data):
        end = data.find(b"\n", at + (16 << 20)) + 1 or len(data)
        parsed += parse.parse_block(data[at:end], how, out).parsed
        at = end
    return time.process_time() - started, parsed


def _collected(case: Case, data: bytes, folder: Path) -> float:
    """Seconds on the wall of a whole collect of a file."""
    log = folder / "log"
    log.write_bytes((f"{case.heading}\n".encode() if case.heading else b"") + data)
    started = time.perf_counter()
    collect(Home(folder / "home"), Config(tz=_ZONE.key), [log], format=case.format, year=_DAY.year)
    return time.perf_counter() - started


def _theirs(case: Case, data: bytes) -> int:
    """The loop: how many lines gave an event."""
    patterns = []
    for text in case.patterns:
        pattern = re.compile(text)
        patterns.append((pattern, [(name, _VALUES[name]) for name in pattern.groupindex if name in _VALUES]))
    found, stamp, event = 0, case.stamp, {}
    zone, dated = UTC if stamp.endswith("Z") else _ZONE, "%Y" in stamp
    for line in data.decode().split("\n"):
        for pattern, values in patterns:
            match = pattern.search(line)
            if match is not None:
                event = match.groupdict()
                for name, value_of in values:
                    text = event[name]
                    if text:
                        event[name] = value_of(text)
                if stamp:
                    moment = datetime.strptime(event["at"], stamp)  # noqa: DTZ007 (its zone comes next)
                    if moment.tzinfo is None:
                        moment = moment.replace(tzinfo=zone) if dated else moment.replace(year=_DAY.year, tzinfo=zone)
                    event["at"] = int(moment.timestamp() * 1_000_000)
                else:
                    event["at"] = int(float(event["at"]) * 1_000_000)
                found += 1
                break
    if not event or event["at"] < 1_000_000_000_000_000:
        raise SystemExit(f"{case.format}: the patterns find no event with a time")
    return found


def _host(text: str) -> str:
    return text.rstrip(".").lower()


def _bracketed(text: str) -> str:
    return text if text.startswith("<") else f"<{text}>"


def _plain(text: str) -> str:
    return str(json.loads(f'"{text}"')) if "\\" in text else text


def _micros(text: str) -> int:
    """`00:00:02`, `2s` in microseconds."""
    if ":" in text:
        hours, minutes, seconds = text.split(":")
        return (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * 1_000_000
    return int(float(text.rstrip("s")) * 1_000_000)


# What our events hold: numbers, lower-case hosts, message-ids in brackets, text as it was before it was put in JSON.
_VALUES: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("size", "msg_size", "nrcpt", "port", "code", "error_code"), int),
    **dict.fromkeys(("relay", "name"), _host),
    **dict.fromkeys(("reply", "reason", "response", "raw_reason", "content", "Details", "diagnosticCode"), _plain),
    **dict.fromkeys(("message", "smtpResponse", "description"), _plain),
    "message_id": _bracketed,
    "delay": _micros,
}

CASES: tuple[Case, ...] = tuple(Case(*each) for each in (*SERVERS, *EXPORTS))
