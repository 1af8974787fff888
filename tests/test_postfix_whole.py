"""The whole chain on a real Postfix: its log is the evidence, its queue the relay, the pools' receipts the judge."""

from __future__ import annotations

import asyncio
import json
import os
import smtplib
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from resend.lab.behaviour import Behaviour
from resend.lab.mx import serve
from resend.lab.receipts import read_receipts
from tests.support.postfix import Postfix, postfix, unavailable

pytestmark = [
    pytest.mark.postfix,
    pytest.mark.xdist_group("postfix"),
    pytest.mark.skipif(bool(unavailable()) and not os.environ.get("CI"), reason=unavailable() or "here"),
]
MAILS = 60  # to each domain
BUSY_PER_S = 5.0  # what the busy pool takes; the rest of its mail expires in the relay


@contextmanager
def pools(receipts: Path) -> Iterator[dict[str, str]]:
    """Two receivers on loopback, in a thread of their own: one takes all, one throttles."""
    busy = {
        "per_second": BUSY_PER_S,
        "burst": 1,
        "at": "rcpt",
        "reply": "451 4.7.500 Server busy. Please try again later.",
    }
    behaviour = Behaviour.from_json(
        {
            "seed": 1,
            "pools": {
                "open": {"listen": ["127.0.1.21:0"], "hostname": "mx.a.example.jp"},
                "busy": {"listen": ["127.0.1.22:0"], "hostname": "mx.b.example.jp", "rate": busy},
            },
        }
    )
    ready, stop = threading.Event(), threading.Event()
    found: dict[str, str] = {}

    async def main() -> None:
        async with serve(behaviour, receipts) as lab:
            found.update({name: lab.address(name) for name in ("open", "busy")})
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert ready.wait(10)
        yield found
    finally:
        stop.set()
        thread.join(20)


def resend(folder: Path, *words: str, may: tuple[int, ...] = (0,)) -> list[dict[str, Any]]:
    """Run a real command in `folder`; its JSON rows."""
    done = subprocess.run(
        [sys.executable, "-m", "resend.cli", "--json", *words], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode in may, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


def send_originals(server: Postfix) -> None:
    with smtplib.SMTP("127.0.0.1", server.port) as session:
        for number in range(2 * MAILS):
            recipient = f"u{number}@{'a' if number % 2 else 'b'}.example.jp"
            head = f"Message-ID: <release.R1.N{number}@mail.example.jp>\r\nFrom: pr@example.jp\r\nSubject: news\r\n\r\n"
            session.sendmail("bounce@example.jp", [recipient], head + "hello\r\n")


def write_catalog(folder: Path) -> None:
    (folder / "releases.csv").write_text(
        "id,customer,title,sender\nR1,C1,新製品のお知らせ,pr@example.jp\n", encoding="utf-8"
    )
    lines = [f"N{n},u{n}@{'a' if n % 2 else 'b'}.example.jp,名前{n}" for n in range(2 * MAILS)]
    (folder / "recipients.csv").write_text("id,address,name\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (folder / "content").mkdir()
    (folder / "content" / "R1.eml.j2").write_text(
        "From: pr@example.jp\nTo: {{ name }} <{{ rcpt }}>\nSubject: {{ title }}\n\n{{ name }} 様\n", encoding="utf-8"
    )


def write_config(folder: Path, found: dict[str, str], server: Postfix, *, relay: bool) -> None:
    ways = f'"a.example.jp" = "{found["open"]}"\n"b.example.jp" = "{found["busy"]}"\n'
    through = f'host = "127.0.0.1"\nport = {server.port}\ntls = "none"\nlog = "{server.log}"\n'
    (folder / "resend.toml").write_text(
        'home = "home"\ntz = "UTC"\n[link]\nmessage_id = "release.{release}.{recipient}@mail.example.jp"\n'
        '[run]\nwait = "20s"\nretry_after = "1s"\nretry_at_most = "2s"\n'
        + ("[relay]\n" + through if relay else "[mx_map]\n" + ways)
        + '[providers.busy]\nmx = ["127.0.1.22", "b.example.jp"]\nrate = "4/s"\nstart = "4/s"\n'
        + 'dwell = "0s"\ncooldown = "1s"\n'
        'clean_for = "1s"\ncap_for = "2s"\nfloor = "1/s"\nconnections = 2\n'
    )


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Postfix' sockets need a short path that its own user can reach."""
    with tempfile.TemporaryDirectory(prefix="pf") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("relay", [False, True], ids=["direct", "through the relay"])
def test_a_throttled_pool_is_found_linked_and_resent_exactly_once(short_path: Path, relay: bool) -> None:
    assert not unavailable(), unavailable()
    folder = short_path / "work"
    folder.mkdir()
    receipts = short_path / "receipts"
    receipts.mkdir()
    with pools(receipts) as found:
        transport = {
            "a.example.jp": "smtp:[127.0.1.21]:" + found["open"].split(":")[1],
            "b.example.jp": "smtp:[127.0.1.22]:" + found["busy"].split(":")[1],
        }
        lifetime = {"maximal_queue_lifetime": "3s", "bounce_queue_lifetime": "3s", "queue_run_delay": "1s",
                    "minimal_backoff_time": "1s", "maximal_backoff_time": "1s"}  # fmt: skip
        with postfix(short_path / "postfix", transport, lifetime) as server:
            send_originals(server)
            server.wait_until_empty(60)
            before = Counter(receipt.rcpt for receipt in read_receipts(receipts))
            lost = {f"u{n}@b.example.jp" for n in range(0, 2 * MAILS, 2)} - set(before)
            assert len(lost) >= 10, "the pool should have throttled"
            write_catalog(folder)
            write_config(folder, found, server, relay=relay)
            (summary,) = [row for row in resend(folder, "collect", str(server.log)) if row["type"] == "summary"]
            assert summary["rejected"] == 0
            load = ("--releases", "releases.csv", "--recipients", "recipients.csv", "--content", "content")
            resend(folder, "catalog", "load", *load)
            resend(folder, "incident", "open", "busy")
            buckets = resend(folder, "preview", "busy")[-1]["buckets"]
            assert buckets["resend"] == len(lost), buckets
            plan = resend(folder, "plan", "make", "busy")[-1]
            assert plan["count"] == len(lost)
            assert resend(folder, "run", plan["id"], "--confirm", "1", may=(4,))[-1]["type"] == "error"
            resend(folder, "run", plan["id"], "--confirm", str(plan["count"]), may=(0, 3))
            if relay:
                server.wait_until_empty(60)
            resend(folder, "reconcile", str(server.log), may=(0, 3))
            after = Counter(receipt.rcpt for receipt in read_receipts(receipts))
            new = after - before
            delivered = set(new)
            assert new == Counter(dict.fromkeys(delivered, 1))
            assert delivered <= lost
            status = resend(folder, "status", may=(0, 3))
            assert status
            assert all(row["ok"] for row in resend(folder, "check", may=(0, 3)) if row["type"] == "check")
            why = resend(folder, "why", min(lost))
            assert why
            fates = _fates(folder)
            assert {
                rcpt for rcpt, (state, fate) in fates.items() if state == "accepted" and fate == "delivered"
            } == delivered
            if not relay:
                assert delivered == lost
            resend(folder, "incident", "open", "again")
            second = resend(folder, "preview", "again")[-1]["buckets"]
            assert second["resend"] == 0, second


def _fates(folder: Path) -> dict[str, tuple[str, str]]:
    import sqlite3

    with sqlite3.connect(folder / "home" / "ledger.db") as ledger:
        return {rcpt: (state, fate) for rcpt, state, fate in ledger.execute("SELECT rcpt, state, fate FROM delivery")}
