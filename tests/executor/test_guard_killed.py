"""A run that is killed while a provider is left alone: the next one waits as long, tries single mails, doubles on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resend.lab.pools import to_toml
from resend.lab.receipts import LabEvent, read_events, read_receipts
from resend.stores import control
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.plans import write_plan
from resend.stores.rows import Rate
from tests.executor.test_hosts import TEMPLATE, MadeWorld
from tests.ledger.world import faults

SAID = "421 4.7.0 Slow down, friend"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A receiver that says the same to every recipient."""
    said = {"do": "reply", "at": "rcpt", "name": "said", "reply": SAID}
    behaviour = {"seed": 1, "pools": {"p": {"listen": ["127.0.1.66:0"], "faults": [said]}}}
    (tmp_path / "behaviour.json").write_text(json.dumps(behaviour))
    words = ("--behaviour", str(tmp_path / "behaviour.json"), "--receipts", str(tmp_path / "receipts"))
    mx = subprocess.Popen([sys.executable, "-m", "resend.lab.mx", *words], stdout=subprocess.PIPE, text=True)
    assert mx.stdout is not None
    try:
        yield json.loads(mx.stdout.readline())["pools"]["p"][0]
    finally:
        mx.kill()
        mx.wait()
        mx.stdout.close()


def place(folder: Path, address: str, ledger: Ledger) -> MadeWorld:
    home = Home(folder / "home")
    world = MadeWorld(ledger, count=20, size=20).start()
    write_plan(home, world.plan_id, world.rows())
    (home.content / f"{world.release}.eml.j2").write_text(TEMPLATE, encoding="utf-8")
    reaction = {"on": "slow down, friend", "sample": SAID, "do": {"cooldown": "500ms"}}
    figures = {"rate": "50/s", "start": "50/s", "dwell": "100ms", "cooldown": "500ms", "connections": 1}
    tree = {
        "home": "home",
        "mx_map": {"*": address},
        "run": {"wait": "30s", "retry_after": "100ms"},
        "providers": {"office365": figures},
    }
    rows = "".join(f"{key} = {json.dumps(value)}\n" for key, value in reaction.items() if key != "do")
    (folder / "resend.toml").write_text(
        f'{to_toml(tree)}\n[[providers.office365.reactions]]\n{rows}do = {{cooldown = "500ms"}}\n', encoding="utf-8"
    )
    return world


def rate_of(ledger: Ledger) -> Rate | None:
    with ledger.read() as conn:
        return next(iter(control.rates(conn)), None)


def until(ledger: Ledger, holds: Callable[[Rate], bool], seconds: float = 60) -> Rate:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rate = rate_of(ledger)
        if rate is not None and holds(rate):
            return rate
        time.sleep(0.02)
    raise AssertionError(rate_of(ledger))


def refusals(folder: Path) -> list[LabEvent]:
    return [event for event in read_events(folder / "receipts") if event.event == "reply"]


def test_a_run_killed_in_a_doubled_cooldown_is_not_begun_afresh(tmp_path: Path, address: str) -> None:
    with open_ledger("", Home(tmp_path / "home").create()) as ledger:
        world = place(tmp_path, address, ledger)
        words = [sys.executable, "-m", "resend.cli", "--json", "run", world.plan_id, "--confirm", str(world.count)]
        with (tmp_path / "out").open("w") as out:
            first = subprocess.Popen(words, cwd=tmp_path, stdout=out, stderr=out)
            second: subprocess.Popen[bytes] | None = None
            try:
                left_alone = until(ledger, lambda rate: bool(rate.parked) and rate.next_cooldown_s >= 4)
                first.send_signal(signal.SIGKILL)
                first.wait()
                before = len(refusals(tmp_path))
                assert before == 3 and left_alone.cooldown_until is not None  # the canary's first mail, two probes
                second = subprocess.Popen(words, cwd=tmp_path, stdout=out, stderr=out)
                again = until(ledger, lambda rate: rate.next_cooldown_s >= 8)
                told = refusals(tmp_path)
                assert len(told) == before + 1, "a single mail tried it"
                assert told[-1].at / 1e9 >= left_alone.cooldown_until.timestamp()
                assert again.cooldown_until is not None and again.cooldown_until > left_alone.cooldown_until
            finally:
                for process in (first, second):
                    if process is not None and process.poll() is None:
                        process.send_signal(signal.SIGTERM)
                        process.wait(20)
        assert not list(read_receipts(tmp_path / "receipts")) and faults(ledger) == []
