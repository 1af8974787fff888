"""A whole run in its own process: each mail arrives once or is in doubt, and a second run sends nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from resend.flows import demo
from resend.lab import pools
from resend.lab.incident import Lab, generate
from resend.lab.receipts import read_events, read_receipts
from resend.stores.export import export_rows
from resend.stores.home import Home
from resend.stores.invariants import check
from resend.stores.ledger import open_ledger
from resend.stores.plans import PlanFile

pytestmark = pytest.mark.xdist_group("run")
FAST = {
    "rate": "300/s",
    "start": "200/s",
    "dwell": "100ms",
    "cooldown": "500ms",
    "clean_for": "500ms",
    "connections": 4,
    "floor": "5/s",
}


@dataclass
class Ready:
    """A folder with a plan that nobody has started, and receivers that wait for it."""

    folder: Path
    plan: str
    total: int

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "resend.cli", "--json", *words]
        return subprocess.run(call, cwd=self.folder, capture_output=True, text=True, timeout=90)

    def run(self, confirm: int | None = None) -> subprocess.CompletedProcess[str]:
        words = ("run", self.plan, "--confirm", str(self.total if confirm is None else confirm))
        return self.command(*words, "--provider-not-recovered", "the made-up log ends in the incident")

    def received(self) -> Counter[tuple[str, str]]:
        return Counter((item.message_id.strip("<>"), item.rcpt) for item in read_receipts(self.folder / "receipts"))

    def rows(self) -> dict[tuple[str, str], dict[str, object]]:
        with open_ledger("", Home(self.folder / "home"), create=False) as ledger, ledger.read() as conn:
            return {(str(row["message_id"]).strip("<>"), str(row["recipient"])): row for row in export_rows(conn)}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    folder = tmp_path_factory.mktemp("run")
    lab = generate(folder, scale=0.002, seed=11, end=datetime.now(UTC).replace(minute=0, second=0, microsecond=0))
    with demo._receivers(folder, lab) as (addresses, _):
        write_config(folder, addresses, ())
        abroad(lab.catalog / "recipients.csv")
        last(folder, "collect", "logs", "--queue", lab.queue.relative_to(folder).as_posix())
        last(folder, "catalog", "load", *tables(lab), "--content", "content")
        last(folder, "incident", "open", "one")
        made = last(folder, "plan", "make", "one")
        with PlanFile(Home(folder / "home"), str(made["id"])) as plan:
            providers = {row.provider for row in plan.rows()}
            assert {batch.zone for batch in plan.batches()} == {"", "America/New_York"}
        write_config(folder, addresses, providers)
        yield Ready(folder, str(made["id"]), int(made["count"]))


def abroad(path: Path) -> None:
    """Every third recipient lives by another clock than the config's."""
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    assert all(row.count(",Asia/Tokyo,") == 1 for row in rows)
    moved = [row.replace(",Asia/Tokyo,", ",America/New_York,") if n % 3 == 0 else row for n, row in enumerate(rows)]
    path.write_text("\n".join([head, *moved, ""]), encoding="utf-8")


def tables(lab: Lab) -> list[str]:
    found = [lab.catalog / f"{kind}.csv" for kind in ("releases", "recipients", "sendlog", "suppressions")]
    return [word for path in found if path.exists() for word in (f"--{path.stem}", f"catalog/{path.name}")]


def test_a_closed_window_ends_the_run_with_7_and_status_says_until_when(ready: Ready) -> None:
    past = datetime.now(ZoneInfo("Asia/Tokyo")) - timedelta(minutes=3)
    config = ready.folder / "resend.toml"
    whole = config.read_text(encoding="utf-8")
    window = f"{past:%H:%M}-{past + timedelta(minutes=1):%H:%M}"
    config.write_text(whole.replace("[run]\n", f'[run]\nwindow = "{window}"\n'), encoding="utf-8")
    try:
        done = ready.run()
        assert done.returncode == 7, done.stdout + done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])
        assert summary["exit"] == 7 and summary["shut"] and not summary["counts"] and not ready.received()
        shown = [json.loads(line) for line in ready.command("status").stdout.splitlines()]
        shut = {row["provider"]: row for row in shown if row["type"] == "provider" and row["shut"]}
        assert shut.keys() == summary["shut"].keys()
        assert all(row["shut"] == "the send window is closed" and row["shut_until"] for row in shut.values())
    finally:
        config.write_text(whole, encoding="utf-8")


def write_config(folder: Path, addresses: dict[str, str], providers: set[str] | tuple[str, ...]) -> None:
    tree = pools.config(addresses)
    tree["home"] = "home"
    tree["run"]["wait"] = "10s"
    tree["providers"] |= {name: {**tree["providers"].get(name, {}), **FAST} for name in providers}
    (folder / "resend.toml").write_text(pools.to_toml(tree), encoding="utf-8")


def last(folder: Path, *words: str) -> dict[str, Any]:
    """The last JSON row of a command that must succeed."""
    call = [sys.executable, "-m", "resend.cli", "--json", *words]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_run_sends_each_mail_once_and_a_second_one_nothing(ready: Ready) -> None:
    wrong = ready.run(confirm=ready.total + 1)
    assert wrong.returncode not in (0, 3) and not ready.received()

    done = ready.run()
    assert done.returncode in (0, 3), done.stdout + done.stderr
    rows, received = ready.rows(), ready.received()
    assert len(rows) == ready.total > 100
    states = Counter(str(row["state"]) for row in rows.values())
    assert set(states) <= {"accepted", "in_doubt"}, states
    assert states["accepted"] >= ready.total * 0.9
    assert set(received) <= set(rows) and max(received.values()) == 1
    for key, row in rows.items():
        if row["state"] == "accepted":
            assert received[key] == 1, key
    # the lab drops the line after a few dots that it took; nothing else may leave a mail in doubt
    drops = Counter(event.event for event in read_events(ready.folder / "receipts"))["drop"]
    assert states["in_doubt"] == drops
    invariants_hold(ready)

    again = ready.run()
    assert again.returncode in (0, 3), again.stdout + again.stderr
    assert ready.received() == received
    after = ready.rows()
    assert {key: row["state"] for key, row in after.items()} == {key: row["state"] for key, row in rows.items()}
    invariants_hold(ready)


def invariants_hold(ready: Ready) -> None:
    with open_ledger("", Home(ready.folder / "home"), create=False) as ledger, ledger.read() as conn:
        results = list(check(conn))
    assert results and not [item for item in results if not item.ok]
    assert ready.command("check").returncode == 0
