"""A run that is SIGKILLed twenty times, at every point that matters, and resumed by the same command each time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from resend.flows import demo
from resend.lab import proof
from resend.lab.incident import generate
from resend.stores.export import export_rows
from resend.stores.home import Home
from resend.stores.invariants import check
from resend.stores.ledger import open_ledger

pytestmark = pytest.mark.xdist_group("kill")
POINTS = ("run.before_arm", "run.armed", "run.after_dot", "ledger.mid_commit")
KILLS = 20
CONNECTIONS = 4


def silent(_: str) -> None:
    """A demo without a word."""


def test_twenty_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    lab = generate(tmp_path, scale=0.003, seed=7, end=datetime.now(UTC).replace(minute=0, second=0, microsecond=0))
    passed = tmp_path / "passed.log"
    with demo._receivers(tmp_path, lab) as (addresses, relay):
        demo._write_config(tmp_path, lab, addresses, relay, silent)
        stage = demo._Stage(tmp_path, silent, silent)
        stage.play("collect", "logs", "--queue", lab.queue.relative_to(tmp_path).as_posix())
        kinds = ["releases", "recipients", "sendlog", "suppressions"]
        there = [kind for kind in kinds if (lab.catalog / f"{kind}.csv").exists()]
        tables = [word for kind in there for word in (f"--{kind}", f"catalog/{kind}.csv")]
        stage.play("catalog", "load", *tables, "--content", "content")
        stage.play("incident", "open", "demo")
        with stage.summary("preview", "demo") as preview:
            pass
        (tmp_path / "buckets.json").write_text(json.dumps(preview["buckets"]))
        with stage.summary("plan", "make", "demo") as made:
            pass
        words = ("run", made["id"], "--confirm", str(made["count"]), "--connections", str(CONNECTIONS))
        words += ("--provider-not-recovered", "the incident has just ended in this log")
        killed: Counter[str] = Counter()
        for number in range(KILLS):
            point = POINTS[number % len(POINTS)]
            # mid_commit also passes while the run starts: later passages are commits of arms and outcomes
            at = (25 if point == "ledger.mid_commit" else 3) + number // len(POINTS)
            spec = f"{point}=kill@{at}," + ",".join(f"{name}=count" for name in POINTS if name != point)
            environment = {**os.environ, "BULK_RESEND_FAILPOINTS": spec, "BULK_RESEND_FAILPOINT_LOG": str(passed)}
            done = subprocess.run(
                [sys.executable, "-m", "resend.cli", *words],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                timeout=90,
            )
            killed[point] += done.returncode == -signal.SIGKILL
        final = subprocess.run(
            [sys.executable, "-m", "resend.cli", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert final.returncode in (0, 3), final.stdout + final.stderr
        stage.play("reconcile", may=(0, 3))
    assert all(killed[point] >= 3 for point in POINTS), killed
    counted = Counter(line.split()[0] for line in passed.read_text().splitlines())
    assert set(POINTS) <= set(counted)
    with (
        open_ledger("", Home(tmp_path / "home"), create=False) as ledger,
        ledger.read() as conn,
        (tmp_path / "ledger.jsonl").open("w", encoding="utf-8") as handle,
    ):
        for row in export_rows(conn):
            handle.write(json.dumps(row, default=str) + "\n")
        assert not [item for item in check(conn) if not item.ok]
    faults, sums = proof.judge(tmp_path)
    assert not faults, faults
    # what the lab itself drops after the dot comes on top of what the kills leave
    dropped = sum(1 for event in _events(tmp_path / "receipts") if event["event"] == "drop")
    assert sums["in_doubt"] <= CONNECTIONS * sum(killed.values()) + dropped
    assert sums["duplicates"] == sums["lost"] == 0


def _events(folder: Path) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for path in folder.glob("*.events.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
