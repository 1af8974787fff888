"""`scripts/bench send`: distinct mails of 20 KB to Postfix's smtp-sink, by our executor and by smtp-source, in one run.

Ours is the executor of a real run: its lanes, sessions, writer and a SQLite ledger with synchronous=FULL. Every mail is
armed before its dot, and its outcome is durable before the next dot on that connection. smtp-source keeps no record. A
second result compares a PostgreSQL ledger with the SQLite one, where a PostgreSQL server is installed. Loopback only;
sink and server are stopped afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop

from resend.clock import SystemClock
from resend.config import Config
from resend.executor.connect import SmtpConnector
from resend.executor.run import Options, Run
from resend.model import PlanState, Selector, delivery_key
from resend.policy.classify import Rules
from resend.policy.providers import ProviderTable
from resend.policy.routes import routes
from resend.stores import lifecycle, registry
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.plans import PlanBatch, PlanRow
from resend.stores.rows import Delivery, IncidentRecord, PlanRecord
from resend.stores.writer import LedgerWriter
from tests import postgres

MAILS, QUICK_MAILS = 20_000, 2_000
SESSIONS = 20
SIZE = 20 << 10
MUST, GOAL = 0.8, 1.2
PG_MUST, PG_GOAL = 0.5, 1.0
_BATCH = 500
_FILL = b"0123456789 abcdefghijklmnopqrstuvwxyz 0123456789 abcdefghijklmnopqrs\r\n" * (SIZE // 72)


def run(*, quick: bool) -> list[dict[str, Any]]:
    """Measure once: seconds of both sides and their ratio."""
    need("smtp-sink", "smtp-source")
    mails = QUICK_MAILS if quick else MAILS
    with sink() as port:
        ours = _ours(mails, port)
        theirs = source(mails, port)
        found = [
            result("send", mails, ours, theirs, theirs_is="smtp-source", must=MUST, goal=GOAL),
        ]
        try:
            with postgres.server(durable=True) as server:
                other = _ours(mails, port, server.database())
        except postgres.CannotStart:
            return found
    is_ = "the same on SQLite"
    return [*found, result("send-postgresql", mails, other, ours, theirs_is=is_, must=PG_MUST, goal=PG_GOAL)]


def result(
    part: str, mails: int, ours: float, theirs: float, *, theirs_is: str, must: float, goal: float
) -> dict[str, Any]:
    """What scripts/bench prints."""
    return {
        "part": part,
        "mails": mails,
        "bytes_each": SIZE,
        "ours_s": round(ours, 2),
        "theirs_s": round(theirs, 2),
        "theirs": theirs_is,
        "ours_per_s": round(mails / ours),
        "theirs_per_s": round(mails / theirs),
        "ratio": round(theirs / ours, 2),
        "must": must,
        "goal": goal,
    }


def need(*programs: str) -> None:
    """End here where a program is not installed."""
    for program in programs:
        if shutil.which(program, path=PATH) is None:
            raise SystemExit(f"{program} is not here: apt-get install postfix")


def source(mails: int, port: int) -> float:
    """Seconds that smtp-source takes."""
    started = time.perf_counter()
    words = [
        "-s",
        str(SESSIONS),
        "-m",
        str(mails),
        "-l",
        str(SIZE),
        "-f",
        "bounce@example.jp",
        "-t",
        "u@bench.example.jp",
    ]
    subprocess.run(["smtp-source", *words, "-d", f"127.0.0.1:{port}"], check=True, env={**os.environ, "PATH": PATH})
    return time.perf_counter() - started


PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


@contextmanager
def sink() -> Iterator[int]:
    """A smtp-sink on 127.0.0.1; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    words = ["smtp-sink", "-8"] if os.getuid() else ["smtp-sink", "-u", "nobody"]
    sink = subprocess.Popen([*words, f"127.0.0.1:{port}", "1000"], env={**os.environ, "PATH": PATH})
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        sink.terminate()
        sink.wait(10)


def _ours(mails: int, port: int, url: str = "") -> float:
    """Seconds from the first claim to the last durable outcome."""
    with tempfile.TemporaryDirectory(prefix="resend-bench-") as folder:
        home = Home(Path(folder)).create()
        config = Config.model_validate({"mx_map": {"*": f"localhost:{port}"}, "run": {"connections": SESSIONS}})
        with open_ledger(url, home) as ledger:
            plan_id = _plan(ledger, mails, f"relay:localhost:{port}")
            started = time.perf_counter()
            sent = uvloop.run(_send(ledger, config, plan_id))
            spent = time.perf_counter() - started
    if sent != mails:
        raise SystemExit(f"{sent:,} of {mails:,} mails were accepted")
    return spent


def _plan(ledger: Ledger, mails: int, egress: str) -> str:
    now = datetime.now(UTC)
    plan_id = hashlib.sha256(b"bench").hexdigest()
    batches = [
        PlanBatch(
            id=f"b{n:05d}", egress=egress, provider="bench", seq=n, size=min(_BATCH, mails - n * _BATCH),
            rate=1e6, canary=False, after_s=0,
        )
        for n in range(-(-mails // _BATCH))
    ]  # fmt: skip
    with ledger.write() as conn:
        registry.add_incident(
            conn,
            IncidentRecord(
                id="inc", name="bench", selector=Selector(), open=True, counts={"affected": mails, "buckets": {}},
                evidence_id="", opened_at=now,
            ),
        )  # fmt: skip
        registry.add_plan(
            conn,
            PlanRecord(
                id=plan_id, incident_id="inc", state=PlanState.READY, total=mails, batches=len(batches),
                params=json.dumps({}), eta_s=0.0, made_at=now,
            ),
        )  # fmt: skip
        lifecycle.start_plan(conn, plan_id, batches, (_row(n, egress) for n in range(mails)), now=now)
    return plan_id


def _row(n: int, egress: str) -> PlanRow:
    rcpt = f"u{n}@d{n % 997}.example.jp"
    return PlanRow(
        key=delivery_key("r", rcpt, 0), release="r", recipient_id=str(n), rcpt_key=rcpt, rcpt=rcpt, generation=0,
        incident_id="inc", customer="c", domain=rcpt.partition("@")[2], provider="bench", egress=egress,
        batch_id=f"b{n // _BATCH:05d}", batch_seq=n // _BATCH, canary=False, seq=n % _BATCH, rate=1e6, after_s=0,
        message_id=f"<r.{n}@example.jp>", identity="same", date="2026-01-01T00:00:00.000000Z", content_id="c",
        content_kind="template", envelope_from="bounce@example.jp", sender="news@example.jp", title="t", urgency=5,
        expires_at="", not_before="", variables="{}",
    )  # fmt: skip


def _render(row: Delivery) -> tuple[bytes, str]:
    head = f"Message-ID: {row.message_id}\r\nFrom: news@example.jp\r\nTo: {row.rcpt}\r\nSubject: bench\r\n\r\n"
    return head.encode() + _FILL, row.date


async def _send(ledger: Ledger, config: Config, plan_id: str) -> int:
    profile = replace(
        ProviderTable.load().profile("bench"),
        rate=1e6,
        start=1e6,
        connections=SESSIONS,
        mails_per_connection=10**9,
        dwell=timedelta(0),
        canary=0,
    )
    async with LedgerWriter(ledger) as writer:
        run_ = Run(
            plan_id=plan_id,
            worker="bench",
            writer=writer,
            clock=SystemClock(),
            connector=SmtpConnector(config.relay, local_hostname="localhost"),
            rules=Rules.load(),
            routes=routes(config),
            profile=lambda _: profile,
            render=_render,
            options=Options(
                connections=SESSIONS, wait=timedelta(0), blind=True, shared_pace=ledger.dialect != "sqlite"
            ),
        )
        summary = await run_.execute()
    return summary.counts["accepted"]
