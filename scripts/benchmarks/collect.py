"""`scripts/bench collect`: collect + outcomes of a Postfix log against pflogsumm on the same file, in the same run.

The log is made up from a fixed seed and kept in the temp folder: bulk mail of a press-release service over some hours,
about 5 lines a mail (the injector keeps its connections), 2.5 % throttled by one provider, some hard bounces and second
tries, and the lines of anvil, tlsmgr and cron that every log has. Never touches a home of anybody.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from resend.collect.collect import collect
from resend.config import Config
from resend.linker.outcomes import outcomes
from resend.stores.home import Home

LINES = 5_000_000
QUICK_LINES = 500_000
MUST, GOAL = 6.0, 12.0
_SEED = 20260115
_START = datetime(2026, 1, 15, 9, 0, 0)  # noqa: DTZ001 (a log of this kind has no zone)
_BUSY = (
    "host {mx}[{ip}] said: 451 4.7.500 Server busy. Please try again later from [203.0.113.10]. (S77719)"
    " [TY{n}.apcprd01.prod.outlook.com 2026-01-15T01:02:03.456Z 08DE] (in reply to RCPT TO command)"
)
_GONE = "host {mx}[{ip}] said: 550 5.1.1 <{to}>: Recipient address rejected: User unknown (in reply to RCPT TO command)"


def run(*, quick: bool) -> dict[str, Any]:
    """Measure once: seconds of both sides and their ratio; processor seconds, too: a busy machine changes them less."""
    if shutil.which("pflogsumm") is None:
        raise SystemExit("pflogsumm is not here: apt-get install pflogsumm")
    lines = QUICK_LINES if quick else LINES
    log = make_log(lines)
    log.read_bytes()  # both sides find the file in the page cache
    with tempfile.TemporaryDirectory(prefix="resend-bench-") as folder:
        home, config = Home(Path(folder)), Config(tz="Asia/Tokyo")
        started, cpu = time.perf_counter(), _cpu()
        summary = collect(home, config, [log])
        collected = time.perf_counter()
        outcomes(home, config)
        ended, ours_cpu = time.perf_counter(), _cpu() - cpu
    if not summary.lines == summary.parsed + summary.ignored + summary.rejected == lines:
        raise SystemExit(f"the accounting does not add up: {summary}")
    theirs_started, cpu = time.perf_counter(), _cpu()
    subprocess.run(["pflogsumm", str(log)], stdout=subprocess.DEVNULL, check=True)
    theirs = time.perf_counter() - theirs_started
    return {
        "part": "collect",
        "lines": lines,
        "bytes": log.stat().st_size,
        "collect_s": round(collected - started, 3),
        "outcomes_s": round(ended - collected, 3),
        "ours_s": round(ended - started, 3),
        "ours_cpu_s": round(ours_cpu, 3),
        "theirs": "pflogsumm",
        "theirs_s": round(theirs, 3),
        "theirs_cpu_s": round(_cpu() - cpu, 3),
        "ratio": round(theirs / (ended - started), 2),
        "must": MUST,
        "goal": GOAL,
    }


def _cpu() -> float:
    """Processor seconds of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def make_log(lines: int) -> Path:
    """The log of `lines` lines; made once, then found in the temp folder."""
    folder = Path(tempfile.gettempdir()) / f"resend-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"mail-{_SEED}-{lines}.log"
    if not path.exists():
        part = path.with_suffix(".part")
        with part.open("w", encoding="ascii") as handle:
            handle.writelines(_lines(lines))
        part.replace(path)
    return path


def _lines(wanted: int) -> Iterator[str]:
    rng = random.Random(_SEED)
    pending: list[tuple[float, int, str]] = []  # lines to come: (second, order, text)
    written, clock, order = 0, 0.0, 0
    while True:
        clock += rng.expovariate(110.0)
        for delay, text in _mail(rng) if rng.random() > 0.004 else _others(rng):
            order += 1
            pending.append((clock + delay, order, text))
        if len(pending) < 20_000:
            continue
        pending.sort()
        for second, _, text in pending[:10_000]:
            if written == wanted:
                return
            written += 1
            yield f"{_START + timedelta(seconds=int(second)):%b %e %H:%M:%S} mta1 {text}\n"
        del pending[:10_000]


def _mail(rng: random.Random) -> Iterator[tuple[float, str]]:
    qid = f"{rng.getrandbits(44):011X}"
    smtpd, smtp = 20_000 + rng.randrange(20), 30_000 + rng.randrange(100)
    recipient, release = rng.randrange(2_000_000), rng.randrange(2_000)
    domain = rng.randrange(4_000)
    office = domain % 8 == 0
    to = f"user{recipient}@corp{domain}.example.jp"
    mx = f"corp{domain}-example-jp.mail.protection.outlook.com" if office else f"mx{domain % 3}.corp{domain}.example.jp"
    ip = f"198.51.{100 + domain % 3}.{domain % 250}"
    yield 0.0, f"postfix/smtpd[{smtpd}]: {qid}: client=app{smtpd % 4}.example.jp[10.0.0.{smtpd % 4}]"
    yield 0.0, f"postfix/cleanup[{smtpd + 50}]: {qid}: message-id=<release.{release}.{recipient}@mail.example.jp>"
    size = rng.randrange(6_000, 40_000)
    yield 0.0, f"postfix/qmgr[900]: {qid}: from=<bounce+{release}@mail.example.jp>, size={size}, nrcpt=1 (queue active)"
    if rng.random() < 0.02:
        yield 0.1, f"postfix/smtpd[{smtpd}]: disconnect from app{smtpd % 4}.example.jp[10.0.0.1] ehlo=1 mail=50 rcpt=50"
        yield 0.1, f"postfix/smtpd[{smtpd}]: connect from app{smtpd % 4}.example.jp[10.0.0.{smtpd % 4}]"
    took, chance = rng.random() * 4, rng.random()
    reuse = "conn_use=2, " if chance > 0.8 else ""
    head = (
        f"postfix/smtp[{smtp}]: {qid}: to=<{to}>, relay={mx}[{ip}]:25, {reuse}delay={{:.2g}}, delays=0.02/0/0.5/1.2, "
    )
    if office and rng.random() < 0.2:
        busy = _BUSY.format(mx=mx, ip=ip, n=rng.randrange(99))
        yield took, head.format(took) + f"dsn=4.7.500, status=deferred ({busy})"
        yield took + 400, head.format(took + 400) + f"dsn=4.7.500, status=deferred ({busy})"
        if chance < 0.5:
            return  # still in the queue when the log ends
        took += 1_200
    if chance < 0.004:
        gone = _GONE.format(mx=mx, ip=ip, to=to)
        yield took, head.format(took) + f"dsn=5.1.1, status=bounced ({gone})"
        yield took, f"postfix/bounce[700]: {qid}: sender non-delivery notification: {rng.getrandbits(44):011X}"
    else:
        reply = f"250 2.6.0 <x@y> [InternalId={recipient}] Queued mail for delivery" if office else (
            f"250 2.0.0 Ok: queued as {rng.getrandbits(44):011X}"
        )  # fmt: skip
        yield took, head.format(took) + f"dsn=2.0.0, status=sent ({reply})"
    yield took, f"postfix/qmgr[900]: {qid}: removed"


def _others(rng: random.Random) -> Iterator[tuple[float, str]]:
    yield 0.0, "postfix/anvil[512]: statistics: max connection rate 12/60s for (smtp:10.0.0.1) at Jan 15 09:00:00"
    yield 0.0, "postfix/smtpd[20001]: warning: hostname scan.example.net does not resolve to address 192.0.2.9"
    yield 0.0, "postfix/smtpd[20001]: connect from unknown[192.0.2.9]"
    yield (
        0.0,
        (
            "postfix/smtpd[20001]: NOQUEUE: reject: RCPT from unknown[192.0.2.9]: 554 5.7.1 <a@example.net>: Relay"
            " access denied; from=<b@example.net> to=<a@example.net> proto=ESMTP helo=<x>"
        ),
    )
    yield (
        0.0,
        f"postfix/smtp[{30_000 + rng.randrange(100)}]: connect to mx.example.org[192.0.2.7]:25: Connection timed out",
    )
    yield 0.0, "CRON[4711]: pam_unix(cron:session): session opened for user root"
