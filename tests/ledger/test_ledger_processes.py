"""Several processes at one ledger: every mail exactly once, whoever dies or stalls, on both databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import update

from resend.model import State
from resend.stores import batches
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.tables import try_
from tests.ledger import sender
from tests.ledger.world import NOW, World, faults

REPOSITORY = Path(__file__).resolve().parents[2]
LONG_AGO = "2000-01-01T00:00:00.000000Z"


class Senders:
    """Starts sender processes and reads what the receiver got."""

    def __init__(self, url: str, home: Home, plan_id: str, folder: Path) -> None:
        self.arguments = [url or "-", str(home.path), plan_id]
        self.receipts = folder / "receipts"
        self.log = folder / "failpoints"

    def start(self, owner: str, *, stall: bool = False, failpoints: str = "") -> subprocess.Popen[str]:
        environment = dict(os.environ)
        if failpoints:
            environment |= {"BULK_RESEND_FAILPOINTS": failpoints, "BULK_RESEND_FAILPOINT_LOG": str(self.log)}
        command = [
            sys.executable,
            "-m",
            "tests.ledger.sender",
            *self.arguments,
            owner,
            str(self.receipts),
            *(["stall"] if stall else []),
        ]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def got(self) -> Counter[str]:
        lines = self.receipts.read_text().splitlines() if self.receipts.exists() else []
        return Counter(line.split()[0] for line in lines)


@pytest.fixture
def world(ledger: Ledger) -> World:
    return World(ledger, count=240, size=12).start()


@pytest.fixture
def senders(ledger_url: str, home: Home, world: World, tmp_path: Path) -> Senders:
    return Senders(ledger_url, home, world.plan_id, tmp_path)


def done(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate("go on\n", timeout=60)
    assert process.returncode == code, err
    return out


def free(world: World) -> int:
    """How many mails are free again because their holder is gone, or is taken to be."""
    with world.ledger.write() as conn:
        return batches.recover(conn, NOW).freed


def test_two_processes_send_every_mail_exactly_once(world: World, senders: Senders) -> None:
    both = [senders.start("w1"), senders.start("w2")]
    claims = [done(process).count("claimed") for process in both]
    assert senders.got() == Counter(dict.fromkeys((row.key for row in world.rows()), 1))
    assert set(world.states().values()) == {State.ACCEPTED}
    assert sum(claims) == 20
    assert not faults(world.ledger)


def test_a_zombie_arms_nothing_after_its_lease(world: World, senders: Senders) -> None:
    began = time.monotonic()
    zombie = senders.start("zombie", stall=True)
    assert zombie.stdout is not None and zombie.stdout.readline() == "claimed\n"
    while not (freed := free(world)):  # SQLite: at once, as a new run that holds run.lock; PostgreSQL: after the lease
        assert time.monotonic() - began < 60
        time.sleep(0.05)
    assert freed == 12
    assert world.ledger.dialect == "sqlite" or time.monotonic() - began > sender.LEASE_S
    done(senders.start("w2"))
    assert done(zombie).count("refused") == 12
    assert senders.got() == Counter(dict.fromkeys((row.key for row in world.rows()), 1))
    assert not faults(world.ledger)


@pytest.mark.parametrize("nth", [5, 12])
def test_killed_in_mid_commit_and_started_again(world: World, senders: Senders, nth: int) -> None:
    """SIGKILL between the statements and COMMIT: nothing of that group happened, everything before it did."""
    killed = senders.start("w1", failpoints=f"ledger.mid_commit=kill@{nth}")
    done(killed, -signal.SIGKILL)
    assert f"ledger.mid_commit {nth} " in senders.log.read_text()
    before = senders.got()
    with world.ledger.write() as conn:
        if world.ledger.dialect != "sqlite":
            conn.execute(update(batches.batch).values(lease_until=LONG_AGO))
            conn.execute(update(try_).values(armed_at=LONG_AGO))
        doubt = set(batches.recover(conn, NOW).in_doubt)
    states = world.states()
    accepted = {key for key, state in states.items() if state == State.ACCEPTED}
    assert accepted <= set(before) <= accepted | doubt, "what was received is accepted or in doubt"
    assert len(doubt) <= 4, "at most one for each connection"
    done(senders.start("w2"))
    got = senders.got()
    assert max(got.values()) == 1
    assert set(got) | doubt == {row.key for row in world.rows()}
    assert not faults(world.ledger)


def test_a_reader_of_another_process_sees_commits_only(world: World, senders: Senders) -> None:
    process = senders.start("w1")
    seen: list[int] = []
    while process.poll() is None:
        broken = faults(world.ledger)
        assert not broken, broken
        seen.append(sum(state == State.ACCEPTED for state in world.states().values()))
    done(process)
    assert seen == sorted(seen)
