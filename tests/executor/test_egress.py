"""Several ways out, by the receivers' own word: who sent from where, at which pace, and by the relays' logs.

Source addresses are bound for real (127.0.2.x); a killed run goes on with the same egress for each mail.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from resend.errors import Exit
from resend.lab.pools import to_toml
from resend.lab.receipts import read_events, read_receipts
from tests.cli.conftest import Cli, cli, place

__all__ = ["cli", "place"]
MAILS = 120
RATES = {"a": 40.0, "b": 20.0}
CONNECTIONS = {"a": 3, "b": 1}
SOURCES = {"127.0.2.1": "direct:a", "127.0.2.2": "direct:b"}
BUSY = "status=deferred (host mx[52.1.1.1] said: 451 4.7.500 Server busy. Please try again later)"


def incident(cli: Cli, tree: Mapping[str, Any], mails: int = MAILS) -> None:
    """Mails that Office 365 throttled until they expired, linked and opened as `busy` under this configuration."""
    at = datetime.now(UTC) - timedelta(hours=9)
    lines = []
    for number in range(mails):
        qid, rcpt = f"4B{number:08X}", f"u{number}@corp{number % 20}.example"
        relay = "corp.mail.protection.outlook.com[52.1.1.1]:25"
        texts = (
            "smtpd[1]: {qid}: client=app[10.0.0.5]",
            f"cleanup[2]: {{qid}}: message-id=<release.R1.r{number}@mail.example.jp>",
            "qmgr[3]: {qid}: from=<bounce@example.jp>, size=900, nrcpt=1 (queue active)",
            f"smtp[4]: {{qid}}: to=<{rcpt}>, relay={relay}, delay=1, delays=1/0/0/0, dsn=4.7.0, {BUSY}",
            "qmgr[3]: {qid}: from=<bounce@example.jp>, status=expired, returned to sender",
            "qmgr[3]: {qid}: removed",
        )
        lines += [f"{at.isoformat(timespec='seconds')} mta1 postfix/{text.format(qid=qid)}" for text in texts]
    Path("mail.log").write_text("\n".join(lines) + "\n")
    Path("releases.csv").write_text("id,customer,title,sender,envelope_from\nR1,C1,News,pr@example.jp,b@example.jp\n")
    people = "".join(f"r{n},u{n}@corp{n % 20}.example\n" for n in range(mails))
    Path("recipients.csv").write_text("id,address\n" + people)
    Path("content").mkdir()
    Path("content/R1.eml.j2").write_text("From: pr@example.jp\nTo: {{ rcpt }}\nSubject: {{ title }}\n\nhello\n")
    configured(tree)
    assert cli("collect", "mail.log").exit == 0
    loaded = ("--releases", "releases.csv", "--recipients", "recipients.csv", "--content", "content")
    assert cli("catalog", "load", *loaded).exit == 0
    opened = cli("incident", "open", "busy")
    assert opened.exit == 0, opened.err


def configured(tree: Mapping[str, Any]) -> None:
    profile = {"rate": "40/s", "start": "40/s", "dwell": "100ms", "connections": 3, "canary": 5}
    rest = {
        "home": "home",
        "tz": "UTC",
        "link": {"message_id": "release.{release}.{recipient}@mail.example.jp"},
        "run": {"wait": "1s"},
        "providers": {"office365": profile},
    }
    Path("resend.toml").write_text(to_toml({**rest, **tree}))


@contextmanager
def process(*words: str) -> Iterator[dict[str, Any]]:
    """A lab server until the block ends; what it says when it is ready."""
    lab = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert lab.stdout is not None
        yield json.loads(lab.stdout.readline())
    finally:
        lab.send_signal(signal.SIGTERM)
        lab.wait(10)


@contextmanager
def receiver(**limits: Any) -> Iterator[str]:
    """A receiver that writes receipts; its address."""
    pool = {"listen": ["127.0.1.81:0"], "hostname": "mx.test", **limits}
    Path("behaviour.json").write_text(json.dumps({"seed": 1, "pools": {"all": pool}}))
    with process("resend.lab.mx", "--behaviour", "behaviour.json", "--receipts", "receipts") as ready:
        yield ready["pools"]["all"][0]


def two_sources(address: str) -> dict[str, Any]:
    slow = {"rate": "20/s", "start": "20/s", "connections": 1}
    return {
        "mx_map": {"*": address},
        "egress": {
            "a": {"source": "127.0.2.1", "ehlo": "a.example.jp", "weight": 2},
            "b": {"source": "127.0.2.2", "ehlo": "b.example.jp", "limits": {"office365": slow}},
        },
    }


def planned(cli: Cli) -> tuple[str, dict[str, int]]:
    """Plan id, and mails by egress."""
    made = cli("plan", "make", "busy", "--json")
    assert made.exit == 0, made.err
    return made.summary["id"], {row["egress"]: row["mails"] for row in made.of("provider")}


def words(plan: str, mails: int = MAILS) -> tuple[str, ...]:
    return ("run", plan, "--confirm", str(mails), "--provider-not-recovered", "a test", "--json")


def test_each_mail_comes_from_its_own_address_at_its_own_pace_also_after_a_kill(cli: Cli) -> None:
    with receiver() as address:
        incident(cli, two_sources(address))
        plan, shares = planned(cli)
        assert shares == {"direct:a": 80, "direct:b": 40}
        assert planned(cli)[0] == plan, "frozen twice it is the same plan"
        run = words(plan)
        with Path("out").open("w") as out:
            call = [sys.executable, "-m", "resend.cli", "--home", "home", *run]
            killed = subprocess.Popen(call, stdout=out, stderr=subprocess.STDOUT)
        end = time.monotonic() + 12
        while time.monotonic() < end and len(list(read_receipts(Path("receipts")))) < 15:
            time.sleep(0.05)
        killed.kill()
        killed.wait()
        first = len(list(read_receipts(Path("receipts"))))
        assert 15 <= first < MAILS, Path("out").read_text()
        done = cli(*run)
        assert done.exit in (Exit.DONE, Exit.LEFT), done.err
        rows = cli("plan", "show", plan, "--json", "--unmask").of("delivery")
    frozen = {row["recipient"]: row["egress"] for row in rows}
    assert Counter(frozen.values()) == shares
    receipts = list(read_receipts(Path("receipts")))
    assert max(Counter(receipt.rcpt for receipt in receipts).values()) == 1
    doubtful = sum(row["state"] == "in_doubt" for row in rows)
    assert MAILS - len(receipts) <= doubtful <= sum(CONNECTIONS.values())
    times: defaultdict[str, list[int]] = defaultdict(list)
    lines: dict[int, str] = {}
    for receipt in receipts:
        source = SOURCES[receipt.peer.rpartition(":")[0]]
        assert source == frozen[receipt.rcpt]
        times[source].append(receipt.mail_at)
        lines[receipt.connection] = source
    for name, rate in RATES.items():
        _pace_held(times[f"direct:{name}"], rate)
        assert _most_open(lines, f"direct:{name}") <= CONNECTIONS[name]
    assert cli("check").exit == 0


def _pace_held(times_ns: list[int], rate: float) -> None:
    times = sorted(at / 1e9 for at in times_ns)
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= rate * (times[last] - begin + 0.25) + 1


def _most_open(lines: Mapping[int, str], source: str) -> int:
    """Most connections of a source at once. A close is seen a little after the sender closed."""
    changes = [
        (event.at, 1) if event.event == "connect" else (event.at - 50_000_000, -1)
        for event in read_events(Path("receipts"))
        if lines.get(event.connection) == source and event.event in ("connect", "close", "lost")
    ]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def test_what_was_greylisted_comes_again_from_the_same_address(cli: Cli) -> None:
    with receiver(greylist={"seconds": 0.2}) as address:
        tree = two_sources(address) | {"run": {"wait": "4s", "retry_after": "500ms"}}
        incident(cli, tree, 24)
        plan, shares = planned(cli)
        assert shares == {"direct:a": 16, "direct:b": 8}
        done = cli(*words(plan, 24))
        assert done.exit == Exit.DONE and done.summary["counts"]["deferred"] >= 24, done.out
        rows = cli("plan", "show", plan, "--json", "--unmask").of("delivery")
    frozen = {row["recipient"]: row["egress"] for row in rows}
    receipts = list(read_receipts(Path("receipts")))
    assert len(receipts) == 24
    assert all(SOURCES[receipt.peer.rpartition(":")[0]] == frozen[receipt.rcpt] for receipt in receipts)


def test_one_egress_is_paused_and_slowed_down_alone(cli: Cli) -> None:
    with receiver() as address:
        incident(cli, two_sources(address))
        plan, _ = planned(cli)
        assert cli("pause", "nobody/").exit == Exit.USAGE
        assert cli("pause", "b/", "--reason", "a test").exit == 0
        assert cli("rate", "a/office365=35/s").exit == 0
        with Path("out").open("w") as out:
            call = [sys.executable, "-m", "resend.cli", "--home", "home", *words(plan)]
            running = subprocess.Popen(call, stdout=out, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + 20
            while time.monotonic() < end and len(list(read_receipts(Path("receipts")))) < 80:
                time.sleep(0.05)
            before = Counter(SOURCES[receipt.peer.rpartition(":")[0]] for receipt in read_receipts(Path("receipts")))
            assert before == {"direct:a": 80}, Path("out").read_text()
            assert "nothing there is paused or parked" in cli("resume", "a/").out
            resumed = cli("resume", "b/office365")
            assert resumed.exit == 0 and "office365 by direct:b goes on; it was paused" in resumed.out
            assert running.wait(20) == 0, Path("out").read_text()
        finally:
            running.kill()
            running.wait()
    rows = {row["egress"]: row for row in cli("status", "--json").of("provider")}
    assert {name: (row["ceiling"], row["paused"]) for name, row in rows.items()} == {
        "direct:a": (35.0, False),
        "direct:b": (20.0, False),
    }
    _pace_held([r.mail_at for r in read_receipts(Path("receipts")) if r.peer.startswith("127.0.2.1:")], 35.0)


def test_an_address_that_is_not_here_or_not_in_the_config_any_more_stops_before_the_first_mail(cli: Cli) -> None:
    with receiver() as address:
        tree = two_sources(address)
        tree["egress"]["b"]["source"] = "192.0.2.77"
        incident(cli, tree)
        plan, _ = planned(cli)
        run = words(plan)
        refused = cli(*run, "--egress-not-ready", "test")
        assert refused.exit == Exit.USAGE and "192.0.2.77" in refused.rows[-1]["what"]
        del tree["egress"]["b"]
        configured(tree)
        assert cli(*run).exit == Exit.STALE
        changed = cli("plan", "diff", plan, "--json")
        assert changed.exit == Exit.STALE and "direct:b is no longer" in changed.of("difference")[0]["what"]
    assert not list(read_receipts(Path("receipts")))


def test_a_receiver_that_answers_no_dot_is_parked_and_the_run_says_what_to_do(cli: Cli) -> None:
    busy = {"do": "reply", "at": "rcpt", "reply": "452 4.2.2 mailbox full", "recipients": ["u1@*"]}
    with receiver(faults=[busy, {"do": "drop", "at": "dot"}]) as address:
        incident(cli, {"mx_map": {"*": address}}, mails=20)
        plan, _ = planned(cli)
        done = cli(*words(plan, 20)[:-1])
    assert done.exit == Exit.PARKED, done.err
    assert "parked: office365: canary: " in done.out and "in doubt; 'resend reconcile' settles" in done.out
    assert "when the cause is mended: resend resume office365 --reason TEXT\nthen: resend run " in done.out
    assert "next due 2" not in done.out and "catch-up" not in done.out
    row = cli("status", "--json").of("provider")[0]
    assert row["states"]["deferred"] == 1 and 4 <= row["states"]["in_doubt"] <= 10
    assert "when that is mended: resend resume office365" in " ".join(cli("status").out.split())


@pytest.mark.parametrize("other", [{"mx_map": {"*": "127.0.0.1:9"}}, {"relay": {"host": "relay.example.jp"}}])
def test_a_plan_for_the_receivers_does_not_leave_by_a_relay_that_was_set_later(cli: Cli, other: dict[str, Any]) -> None:
    incident(cli, {"mx_map": {"*": "192.0.2.25"}}, mails=2)
    plan, shares = planned(cli)
    assert shares == {"direct": 2}
    configured({"mx_map": {"*": "192.0.2.26"}})
    assert cli("plan", "diff", plan).exit == 0, "where to connect says nothing of who it is"
    configured(other)
    refused = cli(*words(plan, 2), "--blind")
    assert refused.exit == Exit.STALE and "direct" in refused.rows[-1]["what"], refused.rows
    assert cli("plan", "diff", plan).exit == Exit.STALE


@pytest.mark.parametrize("followed", ["each", "later"])
def test_two_relays_get_their_shares_and_each_log_tells_the_fate_of_its_own(cli: Cli, followed: str) -> None:
    ports = {name: 22000 + os.getpid() % 3000 + 3000 * n for n, name in enumerate("ab")}
    with receiver() as address:
        for name, port in ports.items():
            tree = {"smtpd": {"listen": [f"127.0.0.1:{port}"], "hostname": name}, "routes": {"*": address}}
            Path(f"{name}.json").write_text(json.dumps(tree | {"host": f"relay-{name}"}))
        egress = {
            name: {"host": "127.0.0.1", "port": port, "tls": "none", "log": f"{name}.log", "weight": 1 + (name == "a")}
            for name, port in ports.items()
        }
        if followed == "later":
            egress["b"]["log"] = ""
        incident(cli, {"egress": egress})
        plan, shares = planned(cli)
        assert shares == {"relay:a": 80, "relay:b": 40}
        run = words(plan)
        with _relay("a"), _relay("b"):
            if followed == "later":
                refused = cli(*run)
                assert refused.exit == Exit.USAGE and refused.rows[-1]["where"] == "[egress.b] log"
                run = (*run, "--blind")
            done = cli(*run)
            assert done.exit in (Exit.DONE, Exit.LEFT), done.err
            until = time.monotonic() + 10
            while time.monotonic() < until and len(list(read_receipts(Path("receipts")))) < MAILS:
                time.sleep(0.1)
            settled = cli("reconcile", *(["a.log", "b.log"] if followed == "later" else []), "--json")
        assert settled.exit == Exit.DONE, settled.out + settled.err
        rows = cli("plan", "show", plan, "--json").of("delivery")
    assert {row["fate"] for row in rows} == {"delivered"}
    for name, mails in (("a", 80), ("b", 40)):
        assert Path(f"{name}.log").read_text().count("status=sent") == mails
    assert max(Counter(receipt.rcpt for receipt in read_receipts(Path("receipts"))).values()) == 1
    if followed == "each":
        delivered = cli("status", "--json").of("provider")
        assert {row["egress"]: row["fates"] for row in delivered} == {
            "relay:a": {"delivered": 80},
            "relay:b": {"delivered": 40},
        }


@contextmanager
def _relay(name: str) -> Iterator[None]:
    words = ("--relay", f"{name}.json", "--queue", f"queue-{name}", "--log", f"{name}.log")
    with process("resend.lab.relay", *words):
        yield
