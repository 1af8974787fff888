"""`scripts/bench ledger`: a plan of a million mails, started and resumed, each in a process of its own.

Start: the plan's file enters the ledger in one transaction; the measure is the peak of memory. Resume: what a run does
with a ledger of a million rows, half of them sent, before its first mail: recovery, what is left, the pace it goes on
from, the first batch. SQLite, synchronous=FULL.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from resend.model import Identity, PlanState, Selector
from resend.stores import batches, claims, control, fates, lifecycle, registry
from resend.stores.home import Home
from resend.stores.ledger import open_ledger
from resend.stores.plans import PlanFile, PlanRow, write_plan
from resend.stores.rows import IncidentRecord, PlanRecord

MAILS, QUICK_MAILS = 1_000_000, 50_000
MEMORY_MIB, RESUME_S = 250.0, 10.0
BATCH = 500
PLAN = hashlib.sha256(b"a plan of a million").hexdigest()
ROOT = Path(__file__).resolve().parents[2]


def run(*, quick: bool) -> list[dict[str, Any]]:
    """Start and resume; both must stay within what the design allows."""
    mails = QUICK_MAILS if quick else MAILS
    with tempfile.TemporaryDirectory(prefix="resend-bench-") as folder:
        home = Home(Path(folder)).create()
        write_plan(home, PLAN, _rows(mails))
        started = _child("start", home, mails)
        _half_sent(home)
        resumed = _child("resume", home, mails)
    return [
        _result(
            "memory of a start", mails, started["mib"], MEMORY_MIB, started, "as little as the design allows (MiB)"
        ),
        _result(
            "memory of a resume", mails, resumed["mib"], MEMORY_MIB, resumed, "as little as the design allows (MiB)"
        ),
        _result("resume", mails, resumed["seconds"], RESUME_S, resumed, "as fast as the design demands"),
    ]


def _result(part: str, mails: int, ours: float, allowed: float, found: dict[str, float], than: str) -> dict[str, Any]:
    return {
        "part": f"ledger, {part}",
        "mails": mails,
        "ours_s": round(ours, 2),
        "theirs_s": allowed,
        "theirs": than,
        "ratio": round(allowed / ours, 2),
        "must": 1.0,
        "goal": 1.0,
        **{name: round(value, 2) for name, value in found.items()},
    }


def _child(what: str, home: Home, mails: int) -> dict[str, float]:
    call = [sys.executable, str(Path(__file__)), what, str(home.path), str(mails)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)})
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _start(home: Home, mails: int) -> dict[str, float]:
    now = datetime.now(UTC)
    with open_ledger("", home) as ledger:
        with ledger.write() as conn:
            incident = IncidentRecord(
                id="bench", name="bench", selector=Selector(provider="office365", from_at=now), open=True, counts={},
                evidence_id="e", opened_at=now,
            )  # fmt: skip
            registry.add_incident(conn, incident)
            record = PlanRecord(
                id=PLAN, incident_id="bench", state=PlanState.READY, total=mails, batches=-(-mails // BATCH),
                params="{}", eta_s=1.0, made_at=now,
            )  # fmt: skip
            registry.add_plan(conn, record)
        began = time.perf_counter()
        with PlanFile(home, PLAN) as frozen, ledger.write() as conn:
            lifecycle.start_plan(conn, PLAN, frozen.batches(), frozen.rows(), now=now)
        return {"seconds": time.perf_counter() - began}


def _half_sent(home: Home) -> None:
    """Half of the batches are through, every mail of them with its try."""
    with open_ledger("", home) as ledger, ledger.write() as conn:
        sent = "batch_id IN (SELECT id FROM batch WHERE seq % 2 = 0)"
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        conn.execute(
            text(
                "INSERT INTO try (id, delivery_key, epoch, worker, egress, provider, mail_at, armed_at, ended_at,"
                " outcome, stage, code, enhanced, reply, cause, remote_qid, body_sha256)"
                " SELECT substr(key, 1, 32), key, 1, 'w',"
                f" egress, provider, '{at}', '{at}', '{at}', 'accepted', 'dot', 250, '', 'ok', '', '', ''"
                f" FROM delivery WHERE {sent}"
            )
        )
        conn.execute(
            text(
                "UPDATE delivery SET state = 'accepted', fate = 'delivered', tries = 1, epoch = 1,"
                f" try_id = substr(key, 1, 32), accepted_at = '{at}' WHERE {sent}"
            )
        )
        conn.execute(text("UPDATE batch SET state = 'done', epoch = 1 WHERE seq % 2 = 0"))
        conn.execute(text("UPDATE batch SET state = 'leased', epoch = 1, owner = 'w' WHERE seq = 1"))
        conn.execute(
            text(
                "UPDATE delivery SET state = 'leased', epoch = 1 WHERE batch_id IN (SELECT id FROM batch WHERE seq = 1)"
            )
        )


def _resume(home: Home, mails: int) -> dict[str, float]:
    now = datetime.now(UTC)
    began = time.perf_counter()
    with open_ledger("", home) as ledger:
        with ledger.write() as conn:
            batches.recover(conn, now)
        recovered = time.perf_counter()
        with ledger.write() as conn:
            found = claims.work(conn, now, plan_id=PLAN)
            control.last_mail_at(conn)
            fates.pending(conn)
        looked = time.perf_counter()
        with ledger.write() as conn:
            claimed = claims.claim_batch(
                conn, egress="direct", provider="office365", owner="w2", now=now, lease_s=60, plan_id=PLAN
            )
        assert claimed is not None and found and len(claimed.rows) == BATCH
        ended = time.perf_counter()
        return {
            "seconds": ended - began,
            "recover_s": recovered - began,
            "look_s": looked - recovered,
            "claim_s": ended - looked,
        }


def _rows(mails: int) -> Iterator[PlanRow]:
    for n in range(mails):
        yield PlanRow(
            key=hashlib.sha256(f"{n}".encode()).hexdigest(),
            release=f"r{n // 1000}",
            recipient_id=f"p{n}",
            rcpt_key=f"u{n}@example{n % 997}.jp",
            rcpt=f"u{n}@example{n % 997}.jp",
            generation=0,
            incident_id="bench",
            customer=f"c{n % 50}",
            domain=f"example{n % 997}.jp",
            provider="office365",
            egress="direct",
            batch_id=f"{PLAN[:12]}-{n // BATCH}",
            batch_seq=n // BATCH,
            canary=False,
            seq=n % BATCH,
            rate=5.0,
            after_s=0,
            message_id=f"<r{n // 1000}.p{n}@mail.example.jp>",
            identity=Identity.SAME,
            date="2026-11-24T08:00:00.000000Z",
            content_id="c" * 64,
            content_kind="template",
            envelope_from="bounce@example.jp",
            sender="news@example.jp",
            title="title",
            urgency=5,
            expires_at="",
            not_before="",
            variables="{}",
        )


def _peak_mib() -> float:
    """Of this process alone: `ru_maxrss` counts what the process was that became it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    answer = {"start": _start, "resume": _resume}[sys.argv[1]](Home(Path(sys.argv[2])), int(sys.argv[3]))
    answer["mib"] = _peak_mib()
    print(json.dumps(answer))
