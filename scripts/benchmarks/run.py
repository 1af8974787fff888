"""`scripts/bench run`: the whole `resend run` of a plan to smtp-sink, and a real Postfix that relays as many there.

Ours starts as a person starts it: a process that opens the plan, renders each mail from its template, claims, paces,
arms, sends and keeps the outcomes. Theirs is a private Postfix, from the first mail of smtp-source to the last that it
has handed on. What leads to the plan (a log, a catalog, the incident) is made by the tool itself and not measured.
Loopback only; Postfix needs root.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from scripts.benchmarks.send import SESSIONS, SIZE, need, result, sink, source
from tests.support import postfix

MAILS, QUICK_MAILS = 20_000, 1_000
MUST, GOAL = 5.0, 10.0
_DRAIN_S = 1800.0
_RELAY = "mx.bench.example.net"
_CONFIG = f"""\
home = "home"
[mx_map]
"*" = "localhost:{{port}}"
[run]
connections = {SESSIONS}
wait = "0s"
[providers.bench]
mx = ["{_RELAY}"]
rate = "1000000/s"
start = "1000000/s"
connections = {SESSIONS}
mails_per_connection = 1000000
canary = 0
dwell = "0s"
"""
_HEAD = """\
From: News <news@example.jp>
To: {{ name }} <{{ rcpt }}>
Subject: {{ title }}
Content-Type: text/plain; charset=UTF-8

Dear {{ name }},

"""
_LINE = "0123456789 abcdefghijklmnopqrstuvwxyz 0123456789 abcdefghijklmnopqrs\n"
_LOG = """\
{at} mta1 postfix/cleanup[9]: {id}: message-id=<r1.{n}@example.jp>
{at} mta1 postfix/qmgr[8]: {id}: from=<bounce@example.jp>, size=20900, nrcpt=1 (queue active)
{at} mta1 postfix/smtp[7]: {id}: to=<u{n}@d{domain}.example.net>, relay={relay}[198.51.100.7]:25, delay=9, \
delays=1/1/1/6, dsn=4.7.500, status=deferred (host {relay}[198.51.100.7] said: 451 4.7.500 Server busy. Please try \
again later (in reply to RCPT TO command))
{at} mta1 postfix/qmgr[8]: {id}: from=<bounce@example.jp>, status=expired, returned to sender
{at} mta1 postfix/qmgr[8]: {id}: removed
"""


def run(*, quick: bool) -> dict[str, Any]:
    """Measure once."""
    need("smtp-sink", "smtp-source")
    why_not = postfix.unavailable()
    if why_not:
        raise SystemExit(why_not)
    mails = QUICK_MAILS if quick else MAILS
    with tempfile.TemporaryDirectory(prefix="resend-bench-") as name, sink() as port:
        folder = Path(name)
        ours = _ours(folder, mails, port)
        theirs = _theirs(folder, mails, port)
    return result("run", mails, ours, theirs, theirs_is="Postfix", must=MUST, goal=GOAL)


def _ours(folder: Path, mails: int, port: int) -> float:
    """Seconds of `resend run`, from its start to its end."""
    _write(folder, mails, port)
    _resend(folder, "collect", "logs")
    words = [word for kind in ("releases", "recipients", "sendlog") for word in (f"--{kind}", f"{kind}.csv")]
    _resend(folder, "catalog", "load", *words, "--content", "content")
    _resend(folder, "incident", "open", "bench")
    plan = _resend(folder, "plan", "make", "bench")
    if plan["count"] != mails:
        raise SystemExit(f"the plan has {plan['count']:,} of {mails:,} mails")
    started = time.perf_counter()
    why = ("--provider-not-recovered", "the log of a benchmark ends with its incident")
    _resend(folder, "run", str(plan["id"]), "--confirm", str(mails), "--blind", *why)
    return time.perf_counter() - started


def _resend(folder: Path, *words: str) -> dict[str, Any]:
    """The last row of a command that must succeed."""
    call = [sys.executable, "-m", "resend.cli", "--json", *words]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"resend {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _write(folder: Path, mails: int, port: int) -> None:
    """A log of mails that expired a few hours ago, the catalog that they belong to, and the content."""
    sent = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=6)
    at = sent.strftime("%b %d %H:%M:%S")
    (folder / "resend.toml").write_text(_CONFIG.format(port=port), encoding="utf-8")
    for name in ("logs", "content"):
        (folder / name).mkdir()
    (folder / "content" / "r1.eml.j2").write_text(_HEAD + _LINE * (SIZE // len(_LINE)), encoding="utf-8")
    with (folder / "logs" / "mail.log").open("w", encoding="utf-8") as log:
        for n in range(mails):
            log.write(_LOG.format(at=at, id=f"4A{n:08X}", n=n, domain=n % 997, relay=_RELAY))
    zoned = sent.isoformat()
    _table(folder / "releases.csv", ["id", "customer", "title", "sender", "envelope_from", "sent_at"], [
        ["r1", "c1", "A title", "news@example.jp", "bounce@example.jp", zoned]
    ])  # fmt: skip
    _table(folder / "recipients.csv", ["id", "address", "name"], (
        [f"p{n}", f"u{n}@d{n % 997}.example.net", f"Name {n}"] for n in range(mails)
    ))  # fmt: skip
    _table(folder / "sendlog.csv", ["release", "recipient", "message_id", "sent_at"], (
        ["r1", f"p{n}", f"<r1.{n}@example.jp>", zoned] for n in range(mails)
    ))  # fmt: skip


def _table(path: Path, header: list[str], rows: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(header)
        writer.writerows(rows)


def _theirs(folder: Path, mails: int, port: int) -> float:
    """Seconds from the first mail that Postfix takes to the last that it has handed on."""
    settings = {
        "smtp_destination_concurrency_limit": str(SESSIONS),
        "initial_destination_concurrency": str(SESSIONS),
        "default_process_limit": "100",
    }
    transport = {"bench.example.jp": f"smtp:[127.0.0.1]:{port}"}
    with postfix.postfix(folder / "postfix", transport, settings) as relay:
        started = time.perf_counter()
        source(mails, relay.port)
        sent = 0
        with relay.log.open(encoding="utf-8", errors="replace") as log:
            while sent < mails and time.perf_counter() - started < _DRAIN_S:
                sent += log.read().count("status=sent")
                time.sleep(0.05)
        spent = time.perf_counter() - started
    if sent != mails:
        raise SystemExit(f"Postfix sent {sent:,} of {mails:,} mails")
    return spent
