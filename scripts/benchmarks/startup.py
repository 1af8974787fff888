"""`scripts/bench startup`: what a command costs before it does anything, above bare Python.

`resend --help` is held against the 200 ms that the design allows above bare Python; the commands of a tiny home (ten
log lines, one release) against the 450 ms of processor time that a person does not wait for. Each is the least
processor time of several runs, with compiled modules, as installed.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HELP_S, COMMAND_S, GOAL = 0.200, 0.450, 1.6
RUNS, QUICK_RUNS = 8, 3
_LINE = (
    "Nov 24 09:00:0{n} mx1 postfix/smtp[1]: 4A1B2C3D0{n}: to=<a{n}@example.jp>, relay=mx.example.jp[192.0.2.1]:25,"
    " delay=1.2, delays=0.1/0/0.5/0.6, dsn=4.7.500, status=deferred (host mx.example.jp[192.0.2.1] said: 451 4.7.500"
    " Server busy (in reply to RCPT TO command))\n"
)
_RELEASES = "id,customer,title,sender\nr1,c1,新製品のお知らせ,news@example.com\n"
_PREPARE = ("collect mail.log", "catalog load --releases releases.csv", "incident open x")
_COMMANDS = ("collect mail.log", "preview x", "status", "why a1@example.jp")


def run(*, quick: bool) -> list[dict[str, Any]]:
    """Measure `--help` and the small commands."""
    with tempfile.TemporaryDirectory(prefix="resend-bench-") as folder:
        place = Path(folder)
        (place / "mail.log").write_text("".join(_LINE.format(n=n) for n in range(10)), encoding="utf-8")
        (place / "releases.csv").write_text(_RELEASES, encoding="utf-8")
        for words in _PREPARE:
            _seconds(place, ["-m", "resend.cli", *words.split()])
        runs = QUICK_RUNS if quick else RUNS
        bare = min(_seconds(place, ["-c", ""]) for _ in range(runs))
        results = []
        for words in ("--help", *_COMMANDS):
            spent = min(_seconds(place, ["-m", "resend.cli", *words.split()]) for _ in range(runs))
            ours, allowed = (spent - bare, HELP_S) if words == "--help" else (spent, COMMAND_S)
            results.append(
                {
                    "part": f"resend {words.partition(' ')[0]}",
                    "ours_s": round(ours, 3),
                    "theirs_s": allowed,
                    "theirs": "as fast as the design demands",
                    "ratio": round(allowed / ours, 2),
                    "must": 1.0,
                    "goal": GOAL,
                    "runs": runs,
                }
            )
        return results


def _seconds(place: Path, words: list[str]) -> float:
    """Processor time of one Python process, which must not write into the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(place / "compiled"), "BULK_RESEND_HOME": str(place / "home")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=place, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
