"""A rehearsal sends the whole plan to a sink, changes nothing of the real ledger, and can never become real."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from resend.lab.behaviour import Behaviour, Pool
from resend.lab.mx import serve
from resend.lab.pools import to_toml
from resend.lab.receipts import read_receipts
from resend.model import PlanState, State
from resend.stores import control
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.plans import write_plan
from resend.stores.tables import metadata
from tests.executor.test_hosts import TEMPLATE, MadeWorld

MAILS = 60


@contextmanager
def sink(folder: Path) -> Iterator[str]:
    """A receiver in a thread of its own: its address."""
    import threading

    started: list[str] = []
    ready, over = threading.Event(), threading.Event()

    async def main() -> None:
        pool = Pool(name="sink", listen=("127.0.1.71:0",))
        async with serve(Behaviour(pools=(pool,)), folder) as lab:
            started.append(lab.address("sink"))
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield started[0]
    finally:
        over.set()
        thread.join()


def whole(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with ledger.snapshot() as conn:
        return {
            table.name: sorted((tuple(row) for row in conn.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def test_everything_goes_to_the_sink_and_nothing_is_changed(
    tmp_path: Path, home: Home, ledger: Ledger, ledger_url: str
) -> None:
    world = MadeWorld(ledger, count=MAILS, size=30).start()
    write_plan(home, world.plan_id, world.rows())
    (home.content / f"{world.release}.eml.j2").write_text(TEMPLATE, encoding="utf-8")
    with ledger.write() as conn:  # what would keep the real run from sending does not keep a rehearsal
        control.ensure_rate(conn, egress="direct", provider="office365", start=100.0, ceiling=200.0)
    before = whole(ledger)
    fast = {"rate": "200/s", "start": "200/s", "dwell": "100ms", "connections": 4}
    config = {
        "ledger": {"url": ledger_url},
        "relay": {"host": "relay.example.jp", "log": str(tmp_path / "none.log")},
        "providers": {"office365": fast},
    }
    (tmp_path / "resend.toml").write_text(to_toml(config), encoding="utf-8")

    def resend(at: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, object]]:
        call = [sys.executable, "-m", "resend.cli", "--json", "--home", str(at), *words]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        return done, json.loads(done.stdout.splitlines()[-1])

    run = ("run", world.plan_id, "--confirm", str(MAILS))
    with sink(tmp_path / "receipts") as address:
        done, summary = resend(home.path, *run, "--to-sink", address)
        assert done.returncode == 0, done.stdout + done.stderr
        assert summary["rehearsal"] is True and summary["counts"]["accepted"] == MAILS  # type: ignore[index]
        assert "REHEARSAL" in done.stderr
        wrong, said = resend(home.path, *run[:-1], "7", "--to-sink", address)
        assert wrong.returncode == 4 and said["type"] == "error"
    if not ledger_url:
        nowhere, said = resend(home.path, *run, "--to-sink", "nowhere:port")
        assert nowhere.returncode == 2 and said["where"] == "--to-sink"
    received = sorted(receipt.message_id for receipt in read_receipts(tmp_path / "receipts"))
    assert received == sorted(row.message_id for row in world.rows())
    assert whole(ledger) == before
    assert set(world.states().values()) == {State.PLANNED}
    with ledger.read() as conn:
        assert {row.state for row in conn.execute(select(metadata.tables["plan"].c.state))} == {PlanState.STARTED}

    copy = home.derived / f"rehearsal-{world.plan_id[:12]}"
    (tmp_path / "resend.toml").write_text(to_toml({"providers": {"office365": fast}}), encoding="utf-8")
    refused, said = resend(copy, *run)
    assert refused.returncode == 2 and "rehearsal" in str(said["what"])
    refused, said = resend(copy, "catch-up")
    assert refused.returncode == 2 and "rehearsal" in str(said["what"])
