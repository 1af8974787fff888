"""`scripts/bench formats`: lines of each log format to events against a plain loop of Python's `re` that extracts the
same fields from the same lines, in the same run.

A row of CASES is a format: its name, a generator of its lines (made up from a fixed seed: bulk mail of a press-release
service, a part of it deferred), the patterns that a script of an afternoon would try on each line, the first that
matches wins, and how the group `at` is written. Both sides end with an event a line, of the same values: the time in
microseconds UTC, numbers as numbers, host names in lower case, message-ids in brackets, text without escapes. Ours
also accounts for every line and writes the part.

At the full size the ratio is what a user waits for, as `scripts/bench collect` measures Postfix: a whole `collect` of a
file, with its worker processes, its start and its manifest, against the loop over the same file, by the clock on the
wall. Beside it, and as the ratio of the quick size, stands `cpu_ratio`: one core each, processor seconds, both sides
warm, so that neighbours on the machine do not count.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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

LINES, CPU_LINES = 5_000_000, 400_000
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
    return [_measure(case, quick=quick) for case in CASES]


def _measure(case: Case, *, quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="resend-bench-") as name:
        folder = Path(name)
        wanted = QUICK_LINES if quick else CPU_LINES
        data = "".join(_lines(case, wanted)).encode()
        ours, parsed = _ours(case, data, folder / "part.parquet")
        theirs = time.process_time()
        found = _theirs(case, data.decode().split("\n"))
        theirs = time.process_time() - theirs
        _compared(case, found, parsed, wanted)
        result = {"lines": wanted, "bytes": len(data), "ours_s": round(ours, 3), "theirs_s": round(theirs, 3)}
        if not quick:
            del data
            result = _walled(case, folder) | {"cpu_ratio": round(theirs / ours, 2)}
    result |= {"ratio": round(result["theirs_s"] / result["ours_s"], 2), "must": MUST, "goal": GOAL}
    return {"part": f"formats {case.format}", "theirs": "Python re", **result}


def _lines(case: Case, wanted: int) -> Iterator[str]:
    for line in itertools.islice(case.lines(random.Random(_SEED)), wanted):
        yield f"{line}\n"


def _compared(case: Case, found: int, parsed: int, wanted: int) -> None:
    if abs(found - parsed) > wanted * 0.01:
        raise SystemExit(f"{case.format}: the patterns find {found} lines, we parse {parsed} of {wanted}")


def _walled(case: Case, folder: Path) -> dict[str, Any]:
    """Seconds on the wall of both sides for a file that both find in the page cache."""
    log = folder / "log"
    with log.open("w", encoding="utf-8") as handle:
        handle.writelines(_lines(case, LINES))
    headed = log
    if case.heading:  # the loop knows its columns
        headed = folder / "headed"
        with headed.open("wb") as whole, log.open("rb") as rest:
            whole.write(f"{case.heading}\n".encode())
            shutil.copyfileobj(rest, whole)
    os.sync()  # what the disk still has to write is nobody's time
    started = time.perf_counter()
    summary = collect(Home(folder / "home"), Config(tz=_ZONE.key), [headed], format=case.format, year=_DAY.year)
    ours = time.perf_counter() - started
    with log.open(encoding="utf-8", newline="\n") as handle:
        theirs = time.perf_counter()
        found = _theirs(case, handle)
        theirs = time.perf_counter() - theirs
    _compared(case, found, summary.parsed, LINES)
    return {"lines": LINES, "bytes": log.stat().st_size, "ours_s": round(ours, 2), "theirs_s": round(theirs, 2)}


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


def _theirs(case: Case, lines: Iterable[str]) -> int:
    """The loop: how many lines gave an event."""
    patterns = []
    for text in case.patterns:
        pattern = re.compile(text)
        patterns.append((pattern, [(name, _VALUES[name]) for name in pattern.groupindex if name in _VALUES]))
    found, stamp, event = 0, case.stamp, {}
    zone, dated = UTC if stamp.endswith("Z") else _ZONE, "%Y" in stamp
    for line in lines:
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
