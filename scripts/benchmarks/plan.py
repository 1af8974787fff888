"""`scripts/bench plan`: from a raw log to a frozen plan, a plan of a whole incident's mails, and how both grow.

The incident is made up from a fixed seed: a press-release service's log of four days, about 5 lines a mail, 2.5 % of
the mails deferred by one provider until they expire; releases, recipients and templates beside it. Each measurement is
a process of its own, with a home of its own; its memory is that of it and its workers together, sampled. Three results:

plan                the plan of 192,080 mails, once their incident is open
raw log to plan     collect, open (outcomes, link, causes, verdicts), plan of a part of the real log (38 M lines, 7.68 M
                    mails, 192,080 failed), extrapolated to all of it: collect and open by lines, the plan as above
growth              processor time of collect + outcomes of 16 times the log, against 16 times that of the log
"""

from __future__ import annotations

import csv
import gc
import heapq
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FAILED, QUICK_FAILED = 192_080, 19_208  # mails of the plan
MAILS, QUICK_MAILS = 1_920_000, 400_000  # mails of the largest raw log: a quarter of the real one, a nineteenth
REAL_MAILS, REAL_LINES, REAL_FAILED = 7_682_607, 38_000_000, 192_080
PLAN_MUST_S, PLAN_GOAL_S = 10.0, 5.0
RAW_MUST_S, RAW_GOAL_S, RAW_MUST_MIB = 240.0, 120.0, 2048
GROWTH_MUST, GROWTH_GOAL = 1.15, 1.05
_SEED = 20260115
_START = datetime(2026, 1, 12, 0, 0, 0)  # noqa: DTZ001 (a log of this kind has no zone)
_SPAN_S = 4 * 86_400
_SHARE = 0.025  # of the mails fail
_RETRIES_S = (0, 300, 900, 2_100)  # when the throttled are tried; then they expire
_PER_RELEASE = 2_000  # mails
_SAMPLE_S = 0.1
_NOW = datetime(2026, 1, 17, tzinfo=UTC)
_BUSY = (
    "host {mx}[{ip}] said: 451 4.7.500 Server busy. Please try again later from [203.0.113.10]. (S77719)"
    " [TY{n}.apcprd01.prod.outlook.com 2026-01-15T01:02:03.456Z 08DE] (in reply to RCPT TO command)"
)
_TEMPLATE = """\
From: News <news@example.jp>
To: {{ name }} <{{ rcpt }}>
Subject: {{ title }}
Content-Type: text/plain; charset=UTF-8

{{ name }} 様

"""


def run(*, quick: bool) -> list[dict[str, Any]]:
    """Measure all three."""
    failed, mails = (QUICK_FAILED, QUICK_MAILS) if quick else (FAILED, MAILS)
    whole = _measured(failed, share=1.0)
    once, four, sixteen = (_measured(mails // parts, share=_SHARE, plan=parts == 1) for parts in (16, 4, 1))
    return [_plan(whole, failed), _raw(sixteen, mails, whole, failed), _growth(once, four, sixteen)]


def _plan(found: dict[str, Any], failed: int) -> dict[str, Any]:
    allowed, spent = PLAN_MUST_S * failed / FAILED, found["plan"]["wall"]
    return {
        "part": "plan",
        "mails": failed,
        "batches": found["batches"],
        "ours_s": round(spent, 2),
        "ours_cpu_s": round(found["plan"]["cpu"], 2),
        "peak_mib": found["plan"]["mib"],
        "theirs": "as fast as the design demands",
        "theirs_s": round(allowed, 2),
        "ratio": round(allowed / spent, 2),
        "must": 1.0,
        "goal": PLAN_MUST_S / PLAN_GOAL_S,
    }


def _raw(found: dict[str, Any], mails: int, whole: dict[str, Any], failed: int) -> dict[str, Any]:
    """Of the real log: collect and open, times as many lines; the plan of as many mails, measured at its full size."""
    by_lines, by_failed = REAL_LINES / found["lines"], REAL_FAILED / failed
    clocks = ("wall", "cpu")
    spent = {c: (found["collect"][c] + found["open"][c]) * by_lines + whole["plan"][c] * by_failed for c in clocks}
    peak = max(found["collect"]["mib"], found["open"]["mib"], whole["plan"]["mib"])
    measured = found["collect"]["wall"] + found["open"]["wall"]
    return {
        "part": "raw log to plan, extrapolated",
        "mails": REAL_MAILS,
        "lines": REAL_LINES,
        "failed": REAL_FAILED,
        "ours_s": round(spent["wall"], 1),
        "ours_cpu_s": round(spent["cpu"], 1),
        "measured_mails": mails,
        "measured_lines": found["lines"],
        "measured_failed": found["count"],
        **{f"measured_{stage}_s": round(found[stage]["wall"], 2) for stage in ("collect", "open", "plan")},
        **{f"measured_{stage}_cpu_s": round(found[stage]["cpu"], 2) for stage in ("collect", "open", "plan")},
        "lines_per_s": round(found["lines"] / measured),
        "peak_mib": peak,
        "peak_must_mib": RAW_MUST_MIB,
        "theirs": "as fast as the design demands",
        "theirs_s": RAW_MUST_S,
        "ratio": round(min(RAW_MUST_S / spent["wall"], RAW_MUST_MIB / peak), 2),
        "must": 1.0,
        "goal": RAW_MUST_S / RAW_GOAL_S,
    }


def _growth(once: dict[str, Any], four: dict[str, Any], sixteen: dict[str, Any]) -> dict[str, Any]:
    def spent(found: dict[str, Any]) -> float:
        return float(found["collect"]["cpu"] + found["outcomes"]["cpu"])

    def times(found: dict[str, Any]) -> float:
        return round(spent(found) / spent(once) * float(once["lines"]) / float(found["lines"]), 3)

    worst = max(times(four), times(sixteen))
    return {
        "part": "growth",
        "lines": once["lines"],
        "ours_s": round(spent(sixteen), 2),
        "theirs_s": round(spent(once) * sixteen["lines"] / once["lines"], 2),
        "theirs": "linear",
        "growth_4x": times(four),
        "growth_16x": times(sixteen),
        **{f"mib_{name}x": found["collect"]["mib"] for name, found in ((1, once), (4, four), (16, sixteen))},
        **{f"outcomes_mib_{name}x": found["outcomes"]["mib"] for name, found in ((1, once), (4, four), (16, sixteen))},
        "ratio": round(GROWTH_MUST / worst, 2),
        "must": 1.0,
        "goal": round(GROWTH_MUST / GROWTH_GOAL, 3),
    }


def _measured(mails: int, *, share: float, plan: bool = True) -> dict[str, Any]:
    """What `_play` says of an incident of `mails`, with the memory of each of its stages."""
    log, lines = _log(mails, share)
    log.read_bytes()  # the file is in the page cache
    with tempfile.TemporaryDirectory(prefix="resend-bench-") as folder:
        _catalog(Path(folder), mails)
        words = [sys.executable, str(Path(__file__)), folder, str(log), *(["plan"] if plan else [])]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True) as process:
            peak = _Peak(process.pid)
            found: dict[str, Any] = {"lines": lines}
            assert process.stdout is not None
            for line in process.stdout:
                stage, values = json.loads(line)
                found[stage] = values | {"mib": peak.reset()} if isinstance(values, dict) else values
            peak.stop()
        if process.returncode:
            raise SystemExit(f"the benchmark's process ended with {process.returncode}")
    if plan:
        parts = [found["outcomes"], found["linked"]]
        found["open"] = {clock: sum(part[clock] for part in parts) for clock in ("wall", "cpu")}
        found["open"]["mib"] = max(part["mib"] for part in parts)
    return found


class _Peak:
    """Samples the memory of a session of processes, shared pages by their share."""

    def __init__(self, session: int) -> None:
        self._session, self._most, self._ended = session, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self._most = max(self._most, sum(map(self._kib, Path("/proc").glob("[0-9]*"))))

    def _kib(self, process: Path) -> int:
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[3]) != self._session:
                return 0
            rollup = (process / "smaps_rollup").read_text()
            return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        except (OSError, ValueError, StopIteration):  # it has ended
            return 0

    def reset(self) -> int:
        """MiB at most since the last time."""
        most, self._most = self._most, 0
        return round(most / 1024)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


def _play(folder: Path, log: Path, *, plan: bool) -> None:
    """In a process of its own: every stage with its seconds, one JSON line each."""
    from resend.cli import _NEW_OBJECTS
    from resend.collect.collect import collect
    from resend.config import Config
    from resend.flows.incident import open_
    from resend.flows.plan import Options, make_plan
    from resend.linker.outcomes import outcomes
    from resend.model import Selector
    from resend.stores.catalog_load import load_catalog
    from resend.stores.home import Home
    from resend.stores.ledger import open_ledger

    gc.set_threshold(_NEW_OBJECTS, 20, 20)  # as every command does
    home = Home(folder / "home").create()
    config = Config.model_validate(
        {
            "tz": "Asia/Tokyo",
            "dns": {"enabled": False},
            "link": {"message_id": "release.{release}.{recipient}@mail.example.jp"},
        }
    )
    load_catalog(
        home,
        config,
        releases=folder / "releases.csv",
        recipients=folder / "recipients.csv",
        content=folder / "content",
    )
    _stage("collect", lambda: collect(home, config, [log], year=_START.year))
    _stage("outcomes", lambda: outcomes(home, config))
    if not plan:
        return
    with open_ledger("", home) as ledger:
        opened = _stage("linked", lambda: open_(home, config, ledger, "bench", Selector(), now=_NOW))
        options = Options(domain_share=config.run.domain_share)
        made = _stage("plan", lambda: make_plan(home, config, ledger, opened.record.id, options=options, now=_NOW))
    print(json.dumps(["count", made.record.total]), json.dumps(["batches", made.record.batches]), sep="\n", flush=True)


def _stage(name: str, work: Callable[[], Any]) -> Any:
    started, cpu = time.perf_counter(), _cpu()
    done = work()
    print(json.dumps([name, {"wall": time.perf_counter() - started, "cpu": _cpu() - cpu}]), flush=True)
    return done


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _recipient(number: int) -> tuple[str, int]:
    """Address and the number of its domain; every eighth domain is behind the provider that throttles."""
    domain = number * 7 % 4_000
    return f"user{number}@corp{domain}.example.jp", domain


def _recipients(mails: int) -> int:
    return max(_PER_RELEASE, mails // 16)


def _catalog(folder: Path, mails: int) -> None:
    (folder / "content").mkdir()
    releases = -(-mails // _PER_RELEASE)
    for number in range(releases):
        body = _TEMPLATE + "0123456789 abcdefghijklmnopqrstuvwxyz 0123456789 abcdefghijklmnopqrs\n" * 40
        (folder / "content" / f"{number}.eml.j2").write_text(body, encoding="utf-8")
    _table(folder / "releases.csv", ["id", "customer", "title", "sender", "envelope_from", "sent_at"], (
        [str(n), f"c{n % 300}", f"新製品のお知らせ {n}", "news@example.jp", "bounce@example.jp", "2026-01-13T00:00:00Z"]
        for n in range(releases)
    ))  # fmt: skip
    _table(folder / "recipients.csv", ["id", "address", "name", "locale"], (
        [str(n), _recipient(n)[0], f"山田 {n}", "ja"] for n in range(_recipients(mails))
    ))  # fmt: skip


def _table(path: Path, header: list[str], rows: Iterable[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(header)
        writer.writerows(rows)


def _log(mails: int, share: float) -> tuple[Path, int]:
    """The log of so many mails, of which a share fails, and its lines; made once, then found in the temp folder."""
    folder = Path(tempfile.gettempdir()) / f"resend-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"plan-{_SEED}-{mails}-{share:g}.log"
    counted = path.with_suffix(".lines")
    if not counted.exists():
        lines = 0
        with path.open("w", encoding="ascii") as handle:
            for line in _lines(mails, share):
                handle.write(line)
                lines += 1
        counted.write_text(str(lines))
    return path, int(counted.read_text())


def _lines(mails: int, share: float) -> Iterator[str]:
    rng = random.Random(_SEED)
    pending: list[tuple[float, int, str]] = []  # lines to come: (second, order, text)
    order = 0
    for number in range(mails):
        clock = number * _SPAN_S / mails
        while pending and pending[0][0] < clock:
            yield _stamped(*heapq.heappop(pending))
        for delay, text in _mail(number, mails, share, rng):
            order += 1
            heapq.heappush(pending, (clock + delay, order, text))
    while pending:
        yield _stamped(*heapq.heappop(pending))


def _stamped(second: float, _: int, text: str) -> str:
    return f"{_START + timedelta(seconds=int(second)):%b %e %H:%M:%S} mta1 {text}\n"


def _mail(number: int, mails: int, share: float, rng: random.Random) -> Iterator[tuple[float, str]]:
    release, recipients = number // _PER_RELEASE, _recipients(mails)
    recipient = (number + release * 37) % recipients
    to, domain = _recipient(recipient)
    fails = share == 1.0 or (domain % 8 == 0 and rng.random() < share * 8)
    office = fails or domain % 8 == 0
    qid, smtpd, smtp = f"4{number:010X}", 20_000 + number % 20, 30_000 + number % 100
    mx = (
        f"corp{domain}-example-jp.mail.protection.outlook.com"
        if office
        else f"mx{domain % 3}.host{domain % 300}.example"
    )
    ip = f"198.51.{100 + domain % 3}.{domain % 250}"
    yield 0.0, f"postfix/smtpd[{smtpd}]: {qid}: client=app{smtpd % 4}.example.jp[10.0.0.{smtpd % 4}]"
    yield 0.0, f"postfix/cleanup[{smtpd + 50}]: {qid}: message-id=<release.{release}.{recipient}@mail.example.jp>"
    size = 6_000 + number % 30_000
    yield 0.0, f"postfix/qmgr[900]: {qid}: from=<bounce@example.jp>, size={size}, nrcpt=1 (queue active)"
    took = rng.random() * 4
    head = f"postfix/smtp[{smtp}]: {qid}: to=<{to}>, relay={mx}[{ip}]:25, delay={{:.2g}}, delays=0.02/0/0.5/1.2, "
    if not fails:
        reply = f"250 2.6.0 <x@y> [InternalId={number}] Queued mail for delivery" if office else (
            f"250 2.0.0 Ok: queued as {rng.getrandbits(44):011X}"
        )  # fmt: skip
        yield took, head.format(took) + f"dsn=2.0.0, status=sent ({reply})"
        yield took, f"postfix/qmgr[900]: {qid}: removed"
        return
    for later in _RETRIES_S:
        busy = _BUSY.format(mx=mx, ip=ip, n=rng.randrange(99))
        yield took + later, head.format(took + later) + f"dsn=4.7.500, status=deferred ({busy})"
    ended = took + _RETRIES_S[-1] + 1_500
    yield ended, f"postfix/qmgr[900]: {qid}: from=<bounce@example.jp>, status=expired, returned to sender"
    yield ended, f"postfix/qmgr[900]: {qid}: removed"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    _play(Path(sys.argv[1]), Path(sys.argv[2]), plan=sys.argv[3:] == ["plan"])
