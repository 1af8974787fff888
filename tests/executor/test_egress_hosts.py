"""Several hosts and several addresses: a host sends what leaves by its own, and leaves the rest to who has them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from resend.lab.receipts import read_receipts
from resend.model import ControlKind, State
from resend.stores.home import Home
from resend.stores.plans import write_plan
from resend.stores.status import decisions
from tests.executor.test_hosts import TEMPLATE, Lab, MadeWorld, lab

__all__ = ["lab"]
pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("hosts")]
ADDRESSES = {"here": ("127.0.2.1", "192.0.2.201"), "there": ("192.0.2.202", "127.0.2.2")}


def test_each_host_sends_by_the_addresses_it_has(lab: Lab) -> None:
    lab.world.egress, lab.world.count, lab.world.size = "direct:a", 40, 20
    other = MadeWorld(lab.ledger, count=30, size=15, egress="direct:b", release="r2", incident_id="inc-2")
    folders = {name: _host(lab, other, name) for name in ADDRESSES}
    mine = lab.start(folders["here"], "worker")  # what it cannot send comes later
    lab.world.start()
    other.start()
    lab.until(40)
    refused = lab.command(folders["here"], "run", other.plan_id, "--confirm", str(other.count), "--in-doubt", "hold")
    assert refused.returncode == 2 and "192.0.2.201" in refused.stdout
    assert Counter(state for key, state in other.states().items() if key in _keys(other)) == {State.PLANNED: 30}
    assert lab.command(folders["here"], "catch-up", "--max-duration", "1s").returncode in (0, 3)
    with lab.ledger.read() as conn:
        said = {(item.value, item.reason[:32]) for item in decisions(conn, what="egress_not_here")}
    assert said == {("direct:b", "this host cannot send from 192.0")}
    theirs = lab.start(folders["there"], "worker")
    lab.until(70)
    lab.post(ControlKind.STOP)
    assert mine.wait(15) == 0 and theirs.wait(15) == 0, lab.said()
    assert set(lab.world.states().values()) == {State.ACCEPTED}
    receipts = list(read_receipts(lab.folder / "receipts"))
    assert {(receipt.peer.rpartition(":")[0], receipt.message_id[:3]) for receipt in receipts} == {
        ("127.0.2.1", "<r1"),
        ("127.0.2.2", "<r2"),
    }
    assert len({(receipt.message_id, receipt.rcpt) for receipt in receipts}) == len(receipts) == 70


def _keys(world: MadeWorld) -> set[str]:
    return {row.key for row in world.rows()}


def _host(lab: Lab, other: MadeWorld, name: str) -> Path:
    folder = lab.host(name)
    write_plan(Home(folder / "home"), other.plan_id, other.rows())
    (folder / "home" / "content" / f"{other.release}.eml.j2").write_text(TEMPLATE, encoding="utf-8")
    with (folder / "resend.toml").open("a") as config:
        for egress, source in zip("ab", ADDRESSES[name], strict=True):
            config.write(f'[egress.{egress}]\nsource = "{source}"\nehlo = "{egress}.example.jp"\n')
    return folder
