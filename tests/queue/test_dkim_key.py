"""The key that signs our mail: refused before anything is leased where it is missing or wrong; the same bytes each try.

Through the real commands, and a receiver that keeps what it took.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resend.flows import proofs
from resend.lab.receipts import read_events, read_receipts
from tests.cli.conftest import Cli, cli, place
from tests.queue.test_plan_proofs import ready
from tests.queue.test_queue_and_plan import TOML
from tests.support.keys import rsa_key

__all__ = ["cli", "place"]
KEY = '[dkim]\nselector = "s1"\ndomain = "example.jp"\nkey_file = "key.pem"\n'
NAME = "s1._domainkey.example.jp"
RUN = ("--confirm", "2", "--provider-not-recovered", "test", "--evidence-age", "9d", "--json")


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """TXT records; ours is published."""
    pytest.importorskip("dkim")
    answers = {NAME: rsa_key()[1]}
    monkeypatch.setattr(proofs, "dns_txt", lambda name, _: answers.get(name, ""))
    return answers


@pytest.fixture
def receiver(place: Path) -> Iterator[str]:
    """A receiver that defers each mail once, at its end, and keeps what it then takes."""
    once = {"do": "reply", "at": "dot", "name": "once", "once": True, "reply": "451 4.3.0 Try again later"}
    pool = {"listen": ["127.0.1.67:0"], "hostname": "mx.test", "faults": [once]}
    Path("behaviour.json").write_text(json.dumps({"seed": 1, "keep_bodies": True, "pools": {"all": pool}}))
    words = [sys.executable, "-m", "resend.lab.mx", "--behaviour", "behaviour.json", "--receipts", "receipts"]
    lab = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert lab.stdout is not None
    try:
        yield json.loads(lab.stdout.readline())["pools"]["all"][0]
    finally:
        lab.kill()
        lab.wait()
        lab.stdout.close()


def write_key(pem: bytes) -> None:
    path = Path("key.pem")
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_bytes(pem)


def other_key() -> bytes:
    return subprocess.run(["openssl", "genrsa", "1024"], check=True, capture_output=True).stdout


def ledger(query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect("home/ledger.db") as con:
        return con.execute(query).fetchall()


def test_a_key_that_cannot_sign_or_is_not_the_published_one_makes_no_plan(cli: Cli, dns: dict[str, str]) -> None:
    ready(cli, toml=KEY)
    missing = cli("plan", "make", "busy")
    assert missing.exit == 2 and "key.pem" in missing.one_error()
    write_key(b"no key at all\n")
    assert cli("plan", "make", "busy").exit == 2
    write_key(other_key())
    wrong = cli("plan", "make", "busy")
    assert wrong.exit == 2 and f"TXT of {NAME}" in wrong.one_error()
    write_key(rsa_key()[0])
    dns.clear()
    unknown = cli("plan", "make", "busy")
    assert unknown.exit == 2 and "not in DNS" in unknown.one_error()
    assert cli("plan", "list", "--json").of("plan") == []


def gone() -> None:
    Path("key.pem").unlink()


def another() -> None:
    write_key(other_key())


def unconfigured() -> None:
    Path("resend.toml").write_text(TOML)


def as_planned() -> None:
    write_key(rsa_key()[0])
    Path("resend.toml").write_text(TOML + KEY)


def test_a_run_without_the_key_of_its_plan_leases_nothing(cli: Cli, dns: dict[str, str]) -> None:
    ready(cli, toml=KEY)
    as_planned()
    plan = cli("plan", "make", "busy", "--json").of("plan")[0]["id"]
    for spoil in (gone, another, unconfigured):
        spoil()
        refused = cli("run", plan, *RUN)
        assert refused.exit == 2, (spoil, refused.out)
        assert ledger("SELECT state FROM plan") == [("ready",)] and ledger("SELECT * FROM batch") == []
        as_planned()
    cli("run", plan, *RUN)  # nobody listens there; the plan is started
    assert ledger("SELECT state FROM plan") == [("started",)]
    before = ledger("SELECT state, epoch FROM batch"), ledger("SELECT key, state, epoch FROM delivery ORDER BY key")
    for spoil in (gone, another, unconfigured):
        spoil()
        for words in (("run", plan, *RUN), ("catch-up", "--json")):
            assert cli(*words).exit == 2, (spoil, words)
        as_planned()
    assert before == (
        ledger("SELECT state, epoch FROM batch"),
        ledger("SELECT key, state, epoch FROM delivery ORDER BY key"),
    )


def test_what_was_deferred_leaves_again_with_the_same_bytes_and_a_signature_that_holds(
    cli: Cli, dns: dict[str, str], receiver: str
) -> None:
    import dkim

    quick = '[providers."corp.jp"]\ndwell = "100ms"\nstart = "2/s"\n'
    toml = TOML.replace("127.0.1.9:1", receiver).replace('wait = "0s"', 'wait = "10s"\nretry_after = "200ms"')
    ready(cli)
    Path("resend.toml").write_text(toml + KEY + quick)
    write_key(rsa_key()[0])
    plan = cli("plan", "make", "busy", "--json", "--identity", "new").of("plan")[0]["id"]
    ran = cli("run", plan, *RUN)
    assert ran.exit == 0, ran.out + ran.err
    tries = ledger("SELECT delivery_key, outcome, body_sha256 FROM try ORDER BY delivery_key, mail_at")
    assert [outcome for _, outcome, _ in tries] == ["deferred", "accepted"] * 2
    receipts = list(read_receipts(Path("receipts")))
    assert len(receipts) == 2 and sum(event.event == "reply" for event in read_events(Path("receipts"))) == 2
    for first, second in zip(tries[::2], tries[1::2], strict=True):
        assert first[0] == second[0] and first[2] == second[2] != ""
    assert {receipt.sha256 for receipt in receipts} == {digest for _, _, digest in tries}
    for receipt in receipts:
        wire = Path(f"receipts/bodies/{receipt.sha256}.eml").read_bytes()
        assert wire.startswith(b"DKIM-Signature: ") and receipt.rcpt.encode() in wire
        assert dkim.verify(wire, dnsfunc=lambda name, timeout=5: dns[name.decode().rstrip(".")].encode())
        changed = wire.replace(b"hello", b"hallo")
        assert not dkim.verify(changed, dnsfunc=lambda name, timeout=5: dns[name.decode().rstrip(".")].encode())
    assert cli("check").exit == 0
