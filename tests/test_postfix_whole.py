"""The whole chain on a real Postfix: its log is the evidence, its queue the relay, the pools' receipts the judge."""

from __future__ import annotations

import asyncio
import io
import json
import os
import smtplib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from resend.cli.border import run as command
from resend.lab.behaviour import Behaviour
from resend.lab.mx import serve
from resend.lab.receipts import read_receipts
from tests.support.orphans import workplace
from tests.support.postfix import PREFIX, STOP, Postfix, free_port, postfix, unavailable

pytestmark = [
    pytest.mark.postfix,
    pytest.mark.xdist_group("postfix"),
    pytest.mark.skipif(bool(unavailable()) and not os.environ.get("CI"), reason=unavailable() or "here"),
]
DOMAINS = {"open": "a.example.jp", "busy": "b.example.jp"}
MAILS = 60  # to each domain
BUSY_PER_S = 10.0  # what the busy pool takes; the rest of its mail expires in the relay
BUSY = "451 4.7.500 Server busy. Please try again later."
NO_SUCH_USER = "550 5.1.1 No such user here"
FAILED = range(0, 28, 2)  # originals to the busy pool, none of which it takes
KEPT = tuple(f"u{n}@b.example.jp" for n in range(0, 10, 2))  # what it still throttles when they are resent
GONE, NEVER = KEPT[:2]  # of these: refused in the end, and throttled until it expires
ANYWAY = ("--provider-not-recovered", "the lab is slow, not down")
THROTTLING = {
    "open": {"listen": ["127.0.1.21:0"], "hostname": "mx.a.example.jp"},
    "busy": {
        "listen": ["127.0.1.22:0"],
        "hostname": "mx.b.example.jp",
        "rate": {"per_second": BUSY_PER_S, "burst": 4, "at": "rcpt", "reply": BUSY},
    },
}
SHORT_LIFE = {"maximal_queue_lifetime": "3s", "bounce_queue_lifetime": "3s", "queue_run_delay": "1s",
              "minimal_backoff_time": "1s", "maximal_backoff_time": "1s"}  # fmt: skip
LONG_LIFE = {"maximal_queue_lifetime": "1h", "bounce_queue_lifetime": "1h", "queue_run_delay": "300s",
             "minimal_backoff_time": "300s", "maximal_backoff_time": "600s"}  # fmt: skip


@contextmanager
def pools(receipts: Path, documents: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Receivers on loopback that behave as `documents` say, in a thread of their own; their addresses."""
    behaviour = Behaviour.from_json({"seed": 1, "pools": documents})
    ready, stop = threading.Event(), threading.Event()
    found: dict[str, str] = {}

    async def main() -> None:
        async with serve(behaviour, receipts) as lab:
            found.update({name: lab.address(name) for name in documents})
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
    """Run a real command in `folder`, a run in a process of its own; its JSON rows."""
    if words[0] == "run":
        argv = [sys.executable, "-m", "resend.cli", "--json", *words]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120)
        code, said, errors = done.returncode, done.stdout, done.stderr
    else:
        out, err = io.StringIO(), io.StringIO()
        with chdir(folder), redirect_stdout(out), redirect_stderr(err):
            code = command(["--json", *words])
        said, errors = out.getvalue(), err.getvalue()
    assert code in may, (words, code, said[-2000:], errors[-2000:])
    return [json.loads(line) for line in said.splitlines()]


def send_originals(server: Postfix, numbers: Iterable[int] = range(2 * MAILS)) -> None:
    with smtplib.SMTP("127.0.0.1", server.port) as session:
        for number in numbers:
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


def write_config(folder: Path, found: dict[str, str], server: Postfix, *, relay: bool, rate: int = 8) -> None:
    ways = "".join(f'"{DOMAINS[name]}" = "{address}"\n' for name, address in found.items())
    through = f'host = "127.0.0.1"\nport = {server.port}\ntls = "none"\nlog = "{server.log}"\n'
    (folder / "resend.toml").write_text(
        'home = "home"\ntz = "UTC"\n[link]\nmessage_id = "release.{release}.{recipient}@mail.example.jp"\n'
        '[run]\nwait = "20s"\nretry_after = "1s"\nretry_at_most = "2s"\n'
        + ("[relay]\n" + through if relay else "[mx_map]\n" + ways)
        + '[providers.busy]\nmx = ["127.0.1.22", "b.example.jp"]\n'
        + f'rate = "{rate}/s"\nstart = "{rate}/s"\nfloor = "{rate // 4}/s"\n'
        'dwell = "0s"\ncooldown = "1s"\nclean_for = "1s"\ncap_for = "2s"\nconnections = 2\n'
    )


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Postfix' sockets need a short path that its own user can reach."""
    with workplace(PREFIX, STOP) as folder:
        yield folder


@pytest.mark.parametrize("relay", [False, True], ids=["direct", "through the relay"])
def test_a_throttled_pool_is_found_linked_and_resent_exactly_once(short_path: Path, relay: bool) -> None:
    assert not unavailable(), unavailable()
    folder = short_path / "work"
    folder.mkdir()
    receipts = short_path / "receipts"
    receipts.mkdir()
    with pools(receipts, THROTTLING) as found:
        transport = {
            "a.example.jp": "smtp:[127.0.1.21]:" + found["open"].split(":")[1],
            "b.example.jp": "smtp:[127.0.1.22]:" + found["busy"].split(":")[1],
        }
        with postfix(short_path / "postfix", transport, SHORT_LIFE) as server:
            send_originals(server)
            server.wait_until_left(0)
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
            go = ("run", plan["id"], "--confirm", str(plan["count"]))
            (refused,) = resend(folder, *go, may=(2,))
            assert "has not recovered" in refused["what"]
            resend(folder, *go, *ANYWAY, may=(0, 3))
            if relay:
                server.wait_until_left(0)
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


def busy_pool(port: int, *faults: dict[str, Any]) -> dict[str, Any]:
    return {"busy": {"listen": [f"127.0.1.22:{port}"], "hostname": "mx.b.example.jp", "faults": list(faults)}}


def refusing(reply: str, *recipients: str) -> dict[str, Any]:
    return {"do": "reply", "at": "rcpt", "reply": reply, "recipients": recipients}


def test_what_a_relay_keeps_is_left_to_it_and_what_it_sends_back_is_told(short_path: Path) -> None:
    """The relay's 250 is not the end: some of the resend waits there; then most of that drains, two mails come back."""
    assert not unavailable(), unavailable()
    folder, receipts, port = short_path / "work", short_path / "receipts", free_port("127.0.1.22")
    folder.mkdir()
    receipts.mkdir()
    lost = {f"u{n}@b.example.jp" for n in FAILED}

    def arrived() -> Counter[str]:
        return Counter(receipt.rcpt for receipt in read_receipts(receipts))

    def ends() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for rcpt, (state, fate) in _fates(folder).items():
            assert state == "accepted"
            found.setdefault(fate, set()).add(rcpt)
        return found

    def why(rcpt: str) -> tuple[str, str]:
        (mail,) = {
            (mail["fate"], mail["fate_reply"])
            for row in resend(folder, "why", rcpt)
            if row["type"] == "why"
            for mail in row["deliveries"]
        }
        return mail

    def standing() -> tuple[int, int]:
        """What `status` says of the relay's work; the invariants hold at every point."""
        assert all(row["ok"] for row in resend(folder, "check") if row["type"] == "check")
        summary = resend(folder, "status")[-1]
        return summary["pending"], summary["returned"]

    with postfix(short_path / "postfix", {"b.example.jp": f"smtp:[127.0.1.22]:{port}"}, SHORT_LIFE) as server:
        with pools(receipts, busy_pool(port, refusing(BUSY))) as found:
            send_originals(server, FAILED)
            server.wait_until_left(0)
        assert not arrived()
        server.configure(LONG_LIFE)
        write_catalog(folder)
        write_config(folder, found, server, relay=True, rate=40)
        resend(folder, "collect", str(server.log))
        load = ("--releases", "releases.csv", "--recipients", "recipients.csv", "--content", "content")
        resend(folder, "catalog", "load", *load)
        resend(folder, "incident", "open", "busy")
        plan = resend(folder, "plan", "make", "busy")[-1]
        assert plan["count"] == len(lost)
        go = ("run", plan["id"], "--confirm", str(plan["count"]), *ANYWAY)

        with pools(receipts, busy_pool(port, refusing(BUSY, *KEPT))):
            run = resend(folder, *go, may=(3,))[-1]
            assert (run["counts"]["accepted"], run["pending"], run["returned"]) == (len(lost), len(KEPT), 0)
            assert ends() == {"delivered": lost - set(KEPT), "queued_at_relay": set(KEPT)}
            fate, said = why(GONE)
            assert fate == "queued_at_relay" and BUSY[4:] in said
            assert standing() == (len(KEPT), 0)
            assert resend(folder, "reconcile", may=(3,))[-1]["pending"] == len(KEPT)
            for again in (go, ("catch-up",)):
                assert not resend(folder, *again, may=(0, 3))[-1]["counts"], "the relay sends these, we never do"
            assert arrived() == Counter(lost - set(KEPT))

        with pools(receipts, busy_pool(port, refusing(NO_SUCH_USER, GONE), refusing(BUSY, NEVER))):
            server.flush()
            server.wait_until_left(1)
            server.configure(SHORT_LIFE)
            server.wait_until_left(0)
        left = resend(folder, "reconcile", str(server.log), may=(3,))[-1]
        assert (left["fates"], left["pending"], left["returned"]) == ({"delivered": len(KEPT) - 2, "returned": 2}, 0, 2)
    assert arrived() == Counter(lost - {GONE, NEVER}), "each exactly once, and nothing else"
    assert ends() == {"delivered": set(arrived()), "returned": {GONE, NEVER}}
    assert [(fate, reply in said) for (fate, said), reply in ((why(GONE), "5.1.1"), (why(NEVER), "4.7.500"))] == [
        ("returned", True)
    ] * 2
    assert standing() == (0, 2)
    assert not resend(folder, *go, may=(3,))[-1]["counts"], "what came back is not sent again by itself"
    resend(folder, "incident", "open", "again")
    assert resend(folder, "preview", "again")[-1]["buckets"]["resend"] == 0


def _fates(folder: Path) -> dict[str, tuple[str, str]]:
    import sqlite3

    with sqlite3.connect(folder / "home" / "ledger.db") as ledger:
        return {rcpt: (state, fate) for rcpt, state, fate in ledger.execute("SELECT rcpt, state, fate FROM delivery")}
