"""Three hosts, each with a home of its own, send one plan from one PostgreSQL: one is killed, one stopped too long.

Two of them come when the first has all connections, and get a part. The receiver's word counts: each mail once, or in
doubt; connections and pace as if there were one host.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from resend.clock import to_text
from resend.lab.pools import to_toml
from resend.lab.receipts import LabEvent, read_events, read_receipts
from resend.model import ControlKind, PlanState, State
from resend.policy.content import content_id
from resend.stores import batches, control
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.plans import PlanRow, write_plan
from resend.stores.tables import batch, delivery, plan, provider_slot, try_
from tests import postgres
from tests.ledger.world import World, faults

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("hosts")]
LEASE_S = 3.0
RATE, CONNECTIONS = 100.0, 5
MAILS = 1200
TEMPLATE = "Subject: {{ title }}\nContent-Type: text/plain; charset=utf-8\n\nこんにちは {{ recipient.name }}\n"


class MadeWorld(World):
    """A world whose mails can be made: every host has its plan file and its template."""

    def rows(self) -> list[PlanRow]:
        sha = hashlib.sha256(TEMPLATE.encode()).hexdigest()
        return [
            row._replace(
                date="2026-11-24T08:00:00.000000Z",
                content_id=content_id(
                    template_sha256=sha,
                    variables="{}",
                    message_id=row.message_id,
                    date="2026-11-24T08:00:00.000000Z",
                    kind="template",
                ),
            )
            for row in super().rows()
        ]


@dataclass
class Lab:
    """A receiver, a ledger, and the hosts that were started."""

    folder: Path
    url: str
    address: str
    world: MadeWorld
    ledger: Ledger
    hosts: list[subprocess.Popen[str]] = field(default_factory=list)

    def host(self, name: str, *, content: bool = True) -> Path:
        """A folder with a config and a home of its own."""
        folder = self.folder / name
        home = Home(folder / "home").create()
        write_plan(home, self.world.plan_id, self.world.rows())
        if content:
            (home.content / f"{self.world.release}.eml.j2").write_text(TEMPLATE, encoding="utf-8")
        profile = {"rate": f"{RATE:g}/s", "start": f"{RATE:g}/s", "dwell": "200ms", "connections": CONNECTIONS}
        tree = {
            "home": "home",
            "ledger": {"url": self.url},
            "mx_map": {"*": self.address},
            "run": {"wait": "5s", "connections": 20},
            "providers": {"office365": profile},
        }
        (folder / "resend.toml").write_text(to_toml(tree), encoding="utf-8")
        return folder

    def start(self, folder: Path, *words: str) -> subprocess.Popen[str]:
        out = (folder / "out").open("w")
        environment = {**os.environ, "BULK_RESEND_FAILPOINTS": f"lease_s={LEASE_S},idle_s=1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "resend.cli", "--json", *words],
            cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        out.close()
        self.hosts.append(process)
        return process

    def run_words(self) -> tuple[str, ...]:
        return ("run", self.world.plan_id, "--confirm", str(self.world.count))

    def command(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "resend.cli", "--json", *words]
        return subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=60)

    def post(self, kind: ControlKind) -> None:
        with self.ledger.write() as conn:
            control.post(conn, kind, reason="test", who="operator", now=datetime.now(UTC))

    def not_before(self, seconds: float) -> None:
        """Nothing may be claimed before so many seconds from now, by any host."""
        with self.ledger.write() as conn:
            conn.execute(update(batch).values(not_before=to_text(datetime.now(UTC) + timedelta(seconds=seconds))))

    def took(self) -> int:
        path = self.folder / "receipts" / "office365.receipts.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def until(self, mails: int, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while self.took() < mails:
            assert time.monotonic() < end, (self.took(), self.said())
            time.sleep(0.02)

    def said(self) -> str:
        return "\n".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("*/out")))

    def leased_by(self, pid: int) -> int:
        with self.ledger.read() as conn:
            return int(
                conn.execute(
                    select(func.count())
                    .select_from(delivery.join(batch, batch.c.id == delivery.c.batch_id))
                    .where(batch.c.owner.like(f"%:{pid}:%"), delivery.c.state == State.LEASED)
                ).scalar_one()
            )

    def owners(self) -> set[int]:
        """Process ids that hold a connection."""
        with self.ledger.read() as conn:
            holds = (provider_slot.c.owner != "", provider_slot.c.n < CONNECTIONS)
            found = conn.scalars(select(provider_slot.c.owner).where(*holds))
            return {int(owner.split(":")[-2]) for owner in found}


@pytest.fixture
def lab(tmp_path: Path, postgres_server: postgres.Server, empty_ledger: str) -> Iterator[Lab]:
    url = postgres_server.database(template=empty_ledger)
    behaviour = {
        "seed": 1,
        "pools": {
            "office365": {
                "listen": ["127.0.1.61:0"],
                "faults": [{"do": "slow", "at": "dot", "name": "slow", "ms": 20}],
            }
        },
    }
    (tmp_path / "behaviour.json").write_text(json.dumps(behaviour))
    words = ("--behaviour", str(tmp_path / "behaviour.json"), "--receipts", str(tmp_path / "receipts"))
    mx = subprocess.Popen([sys.executable, "-m", "resend.lab.mx", *words], stdout=subprocess.PIPE, text=True)
    made: Lab | None = None
    ledger = open_ledger(url, Home(tmp_path / "none"))
    try:
        assert mx.stdout is not None
        address = json.loads(mx.stdout.readline())["pools"]["office365"][0]
        made = Lab(tmp_path, url, address, MadeWorld(ledger, count=MAILS, size=120), ledger)
        yield made
    finally:
        for process in [*(made.hosts if made else []), mx]:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        if mx.stdout is not None:
            mx.stdout.close()
        ledger.close()
        postgres_server.drop(url)


def test_three_hosts_one_killed_one_stopped_past_its_lease(lab: Lab) -> None:
    lab.world.start()
    staying = lab.start(lab.host("a"), *lab.run_words())
    lab.until(10)  # it has all connections by now
    killed = lab.start(lab.host("b"), *lab.run_words())
    stopped = lab.start(lab.host("c"), "worker")
    end = time.monotonic() + 10
    while len(lab.owners()) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    assert lab.owners() == {staying.pid, killed.pid, stopped.pid}, lab.said()

    # a command holds on all hosts within two seconds
    lab.post(ControlKind.PAUSE)
    time.sleep(2.0)
    before = lab.took()
    time.sleep(0.7)
    assert lab.took() == before < MAILS
    shown = [json.loads(line) for line in lab.command(lab.folder / "a", "status").stdout.splitlines()]
    assert {killed.pid, stopped.pid} <= {row["pid"] for row in shown if row["type"] == "worker"}
    lab.post(ControlKind.RESUME)

    lab.until(before + 60)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    dead_at = time.monotonic()
    stopped.send_signal(signal.SIGSTOP)
    stopped_ns = time.time_ns()
    end = dead_at + LEASE_S + 3
    while (lab.leased_by(killed.pid) or lab.leased_by(stopped.pid)) and time.monotonic() < end:
        time.sleep(0.05)
    taken_over_s = time.monotonic() - dead_at
    assert not lab.leased_by(killed.pid) and not lab.leased_by(stopped.pid), lab.said()
    assert taken_over_s <= LEASE_S + 2.0
    time.sleep(max(0.0, LEASE_S + 1.0 - (time.monotonic() - dead_at)))
    stopped.send_signal(signal.SIGCONT)
    resumed_ns = time.time_ns()

    assert staying.wait(60) in (0, 3), lab.said()
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(20) == 0, lab.said()

    states = Counter(lab.world.states().values())
    doubtful = {key for key, state in lab.world.states().items() if state is State.SENDING}
    assert set(states) <= {State.ACCEPTED, State.SENDING} and len(doubtful) <= CONNECTIONS, (states, lab.said())
    received = Counter(receipt.rcpt for receipt in read_receipts(lab.folder / "receipts"))
    accepted = {row.rcpt for row in lab.world.rows() if row.key not in doubtful}
    assert all(received[rcpt] == 1 for rcpt in accepted)
    assert set(received.values()) == {1}
    _pace_held([receipt.mail_at for receipt in read_receipts(lab.folder / "receipts")])
    zombie = (stopped_ns + int(LEASE_S * 5e8), resumed_ns + 1_500_000_000)
    assert _most_open(list(read_events(lab.folder / "receipts")), zombie) <= CONNECTIONS

    # what the killed host had armed holds its connections until no answer can come any more, then it is in doubt
    with lab.ledger.read() as conn:
        armed_by = set(
            conn.scalars(
                select(try_.c.worker).where(
                    try_.c.id.in_(select(delivery.c.try_id).where(delivery.c.state == State.SENDING))
                )
            )
        )
    assert {owner.split(":")[-2] for owner in armed_by} <= {str(killed.pid)}
    with pytest.MonkeyPatch.context() as later:
        later.setattr(batches, "DOT_S", 0.0)
        with lab.ledger.write() as conn:
            assert set(batches.recover(conn, datetime.now(UTC)).in_doubt) == doubtful
    with lab.ledger.read() as conn:
        holds = (provider_slot.c.owner != "", provider_slot.c.n < CONNECTIONS)
        assert not conn.execute(select(provider_slot).where(*holds)).all()
    assert not faults(lab.ledger)


def _pace_held(times_ns: list[int], rate: float = RATE) -> None:
    times = sorted(at / 1e9 for at in times_ns)
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            width = times[last] - begin
            assert last - first + 1 <= rate * (width + 0.25) + 1, (last - first + 1, width)


def _most_open(events: list[LabEvent], but: tuple[int, int]) -> int:
    """Most connections at once, but for a time. A close is seen a little after the sender closed."""
    changes = [(event.at, 1) for event in events if event.event == "connect"]
    changes += [(event.at - 50_000_000, -1) for event in events if event.event in ("close", "lost")]
    most = now = 0
    for at, change in sorted(changes):
        now += change
        if not but[0] < at < but[1]:
            most = max(most, now)
    return most


def test_a_host_without_the_content_sends_nothing_and_says_what_to_copy(lab: Lab) -> None:
    lab.world.start()
    folder = lab.host("bare", content=False)
    process = lab.start(folder, "worker")
    assert process.wait(30) == 1
    said = next(json.loads(line) for line in (folder / "out").read_text().splitlines() if line.startswith("{"))
    assert said["type"] == "error" and "copy content/" in said["next"]
    assert set(lab.world.states().values()) == {State.PLANNED}
    with lab.ledger.read() as conn:
        assert conn.execute(select(plan.c.state)).scalar_one() == PlanState.STARTED


def test_a_worker_takes_what_is_started_later_and_stops_when_told(lab: Lab) -> None:
    lab.world.count = 40
    process = lab.start(lab.host("late"), "worker")
    time.sleep(1.5)
    lab.world.start()
    end = time.monotonic() + 30
    state = ""
    while state != PlanState.FINISHED and time.monotonic() < end:
        time.sleep(0.1)
        with lab.ledger.read() as conn:
            state = conn.execute(select(plan.c.state)).scalar_one()
    assert state == PlanState.FINISHED and lab.took() == 40, lab.said()
    assert lab.command(lab.folder / "late", "stop", "--reason", "done").returncode == 0
    assert process.wait(10) == 0, lab.said()


def test_a_worker_refuses_sqlite(tmp_path: Path) -> None:
    Home(tmp_path / "home").create()
    (tmp_path / "resend.toml").write_text('home = "home"\n')
    open_ledger("", Home(tmp_path / "home")).close()
    call = [sys.executable, "-m", "resend.cli", "worker"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "PostgreSQL" in done.stderr
