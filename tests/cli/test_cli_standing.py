"""The standing policy and the wait for a receiver's recovery, through the real commands and a real receiver."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resend.errors import Exit, StoreError
from resend.lab.receipts import read_receipts
from resend.model import CatchUpEnd
from resend.report.words import CATCH_UP_ENDS, WORDS
from resend.stores.home import Home, exclusive
from tests.support.keys import rsa_key

PORT = 18725 + os.getpid() % 2000
BUSY = "host mx[52.1.1.1] said: 451 4.7.500 Server busy. Please try again later (in reply to RCPT TO command)"
GONE = "host mx[52.1.1.1] said: 550 5.1.1 User unknown (in reply to RCPT TO command)"
OK = "250 2.6.0 Queued mail for delivery"


def toml(policy: str) -> str:
    return f"""home = "home"
tz = "UTC"
[link]
message_id = "release.{{release}}.{{recipient}}@mail.example.jp"
[mx_map]
"*" = "127.0.1.1:{PORT}"
[run]
wait = "1s"
[providers.office365]
rate = "500/s"
start = "500/s"
dwell = "100ms"
{policy}
"""


POLICY = '[catchup]\nproviders = ["office365"]\nage_from = "1h"\nage_to = "24h"\nmax = 20\n'


class Story:
    """A log up to now: 30 mails that Office 365 throttled until they expired, then days as usual."""

    def __init__(self, place: Path, ended: timedelta) -> None:
        self.place = place
        self.now = datetime.now(UTC) - ended
        self.lines: list[tuple[datetime, str]] = []

    def mail(self, number: int, ago: timedelta, tries: list[tuple[timedelta, str, str]], *, end: str) -> None:
        """`tries`: (after arrival, status, reply); `end`: removed, expired, or still in the queue."""
        qid, at = f"4B{number:08X}", self.now - ago
        self.say(at, "smtpd[1]", f"{qid}: client=app[10.0.0.5]")
        self.say(at, "cleanup[2]", f"{qid}: message-id=<release.R1.r{number}@mail.example.jp>")
        self.say(at, "qmgr[3]", f"{qid}: from=<bounce@example.jp>, size=900, nrcpt=1 (queue active)")
        for after, status, reply in tries:
            relay = "corp.mail.protection.outlook.com[52.1.1.1]:25"
            s = int(after.total_seconds())
            self.say(
                at + after,
                "smtp[4]",
                f"{qid}: to=<u{number}@corp.example>, relay={relay}, delay={s}, delays={s}/0/0/0, dsn=4.7.0,"
                f" status={status} ({reply})",
            )
            at_end = at + after
        if end == "expired":
            self.say(at_end, "qmgr[3]", f"{qid}: from=<bounce@example.jp>, status=expired, returned to sender")
        if end:
            self.say(at_end, "qmgr[3]", f"{qid}: removed")

    def say(self, at: datetime, program: str, text: str) -> None:
        self.lines.append((at, f"{at.isoformat(timespec='milliseconds')} mta1 postfix/{program}: {text}"))

    def write(self) -> None:
        self.lines.sort()
        (self.place / "mail.log").write_text("\n".join(line for _, line in self.lines) + "\n")


def tell(story: Story, *, quiet: timedelta = timedelta(hours=3)) -> None:
    """Throttling until `quiet` ago. 1-30 expired, 31-32 refused for good, 33 waits in the queue; the rest arrives."""
    hour = timedelta(hours=1)
    for number in range(1, 34):
        ago = quiet + 4 * hour + timedelta(minutes=number)
        if number <= 30:
            story.mail(number, ago, [(0 * hour, "deferred", BUSY), (4 * hour, "deferred", BUSY)], end="expired")
        elif number <= 32:
            story.mail(number, ago, [(0 * hour, "bounced", GONE)], end="removed")
        else:
            story.mail(number, ago, [(0 * hour, "deferred", BUSY), (4 * hour, "deferred", BUSY)], end="")
    for number in range(100, 400):
        story.mail(number, timedelta(minutes=(number - 100) * 2.4), [(timedelta(seconds=1), "sent", OK)], end="removed")
    story.write()


def catalog(place: Path) -> None:
    people = [*range(1, 34), *range(100, 400)]
    (place / "releases.csv").write_text("id,customer,title,sender,template\nR1,C1,題名,pr@example.jp,r.eml.j2\n")
    (place / "recipients.csv").write_text("id,address\n" + "".join(f"r{n},u{n}@corp.example\n" for n in people))
    content = place / "content"
    content.mkdir()
    (content / "R1.eml.j2").write_text("Subject: {{ title }}\nTo: {{ rcpt }}\n\nText for {{ recipient }}\n")
    (place / "releases.csv").write_text("id,customer,title,sender\nR1,C1,題名,pr@example.jp\n")


@pytest.fixture
def receiver(place: Path) -> Iterator[Path]:
    behaviour = {"seed": 1, "pools": {"all": {"listen": [f"127.0.1.1:{PORT}"], "hostname": "mx.test"}}}
    (place / "behaviour.json").write_text(json.dumps(behaviour))
    lab = subprocess.Popen(
        [sys.executable, "-m", "resend.lab.mx", "--behaviour", "behaviour.json", "--receipts", str(place / "receipts")],
        cwd=place,
        stdout=subprocess.PIPE,
    )
    try:
        assert lab.stdout is not None and json.loads(lab.stdout.readline())["type"] == "ready"
        yield place / "receipts"
    finally:
        lab.send_signal(signal.SIGTERM)
        lab.wait(10)


@pytest.fixture
def ready(place, cli):
    """`ready(policy, quiet)`: log and catalog collected under this configuration."""

    def prepare(policy: str, *, ended: timedelta = timedelta(0), **options: timedelta) -> None:
        (place / "resend.toml").write_text(toml(policy))
        tell(Story(place, ended), **options)
        catalog(place)
        assert cli("collect", "mail.log").exit == 0
        loaded = cli(
            *("catalog", "load", "--releases", "releases.csv", "--recipients", "recipients.csv", "--content", "content")
        )
        assert loaded.exit == 0, loaded.err

    return prepare


def test_the_policy_takes_what_failed_for_good_up_to_its_cap_and_once(cli, ready, receiver):
    ready(POLICY)
    first = cli("catch-up", "--json")
    assert first.exit in (Exit.DONE, Exit.LEFT), first.err
    (row,) = first.of("standing")
    assert (row["provider"], row["mails"], row["passed_over"]) == ("office365", 20, "")
    second = cli("catch-up", "--json")
    assert [row["mails"] for row in second.of("standing")] == [10]
    third = cli("catch-up", "--json")
    assert [row["passed_over"] for row in third.of("standing")] == ["nothing to take"]
    sent = [receipt.rcpt for receipt in read_receipts(receiver)]
    assert sorted(sent) == sorted(f"u{n}@corp.example" for n in range(1, 31))  # not the refused, not the queued
    assert cli("check").exit == 0


@pytest.mark.parametrize(
    ("policy", "quiet", "said"),
    [
        (POLICY, timedelta(minutes=30), "failed in the last 2h"),
        (POLICY, timedelta(hours=3), ""),
        (POLICY.replace('"24h"', '"2h"'), timedelta(hours=3), "nothing to take"),
        (POLICY + 'causes = ["greylisted"]\n', timedelta(hours=3), "nothing to take"),
    ],
)
def test_a_condition_that_does_not_hold_is_said(cli, ready, receiver, policy, quiet, said):
    ready(policy, quiet=quiet)
    found = cli("catch-up", "--json").of("standing")
    assert [said in row["passed_over"] for row in found] == [True]
    assert bool(list(read_receipts(receiver))) == (not said)


def test_status_tells_what_the_last_catch_up_did(cli, ready, receiver):
    ready(POLICY)
    assert cli("incident", "open", "x", "--provider", "office365").exit == 0  # a ledger
    assert cli("status", "--json").of("catch_up") == [] and "catch-up" not in cli("status").out
    done = cli("catch-up", "--json")
    assert done.exit == Exit.DONE and done.summary["left"] == {}
    (row,) = cli("status", "--json").of("catch_up")
    assert (row["due"], row["by_policy"], row["counts"]["accepted"], row["exit"]) == (0, 20, 20, 0)
    assert row["ending"] == "done" and row["began_at"] < row["ended_at"] and row["next_due"] is None
    shown = cli("status").out
    assert "20 by policy" in shown and "20 accepted" in shown and "nothing left that is due" in shown
    (plan,) = row["taken"]
    assert plan["provider"] == "office365" and plan["mails"] == 20
    (made,) = cli("plan", "list", "--json").of("plan")
    for lang, words in (("ja", ("自動で選んだ配信 20 通", "20 通", "予定なし")), ("en", ("20 chosen by", "20 mails"))):
        report = Path(cli("report", made["incident"], "--lang", lang, "--json").summary["path"])
        text = report.read_text()
        assert all(word in text for word in words) and CATCH_UP_ENDS[lang][CatchUpEnd.DONE] in text
    elsewhere = Path(cli("report", "x", "--lang", "en", "--json").summary["path"]).read_text()
    assert WORDS["en"]["catchup"] not in elsewhere  # none of its mails


@pytest.mark.parametrize("fate", ["returned", "queued_at_relay", "unseen"])
def test_what_waits_at_the_relay_or_came_back_is_left_as_in_run(cli, ready, receiver, place, fate):
    ready(POLICY)
    assert cli("catch-up").exit == Exit.DONE
    (plan,) = cli("plan", "list", "--json").of("plan")
    (place / "resend.toml").write_text(toml(""))
    with sqlite3.connect(place / "home/ledger.db") as con:
        con.execute("UPDATE delivery SET fate = ? WHERE key = (SELECT min(key) FROM delivery)", (fate,))
    reasons = {row["name"]: row["reasons"] for row in cli("preview", plan["incident"], "--json").of("bucket")}
    resent = reasons["already_resent"]
    assert sorted(resent.values()) == [1, 19] and "it was resent, and delivered" in resent
    assert any("returned later" in reason for reason in resent) is (fate == "returned")
    name = "returned" if fate == "returned" else "pending"
    found = cli("catch-up", "--json")
    assert found.exit == Exit.LEFT and found.summary["left"] == {name: 1} and found.summary[name] == 1
    assert cli("run", plan["id"], "--confirm", "20").exit == Exit.LEFT
    assert cli("incident", "close", plan["incident"]).exit == 0  # a person has seen it
    assert cli("catch-up").exit == Exit.DONE


def test_a_signature_that_would_not_be_believed_stops_the_policy_with_2(cli, ready, receiver, place, monkeypatch):
    pytest.importorskip("dkim")
    two = POLICY.replace('["office365"]', '["office365", "nobody.example"]')
    key = '[dkim]\nselector = "s1"\ndomain = "example.jp"\nkey_file = "key.pem"\n'
    ready(two)
    (place / "resend.toml").write_text(toml(two + key))
    missing = cli("catch-up")
    assert missing.exit == Exit.USAGE and "key.pem" in missing.one_error()
    (place / "key.pem").touch(0o600)
    (place / "key.pem").write_bytes(rsa_key()[0])
    monkeypatch.setattr("resend.flows.proofs.dns_txt", lambda name, _: "")  # its public half is not there
    found = cli("catch-up", "--json")
    assert found.exit == Exit.USAGE
    said = {row["provider"]: row["passed_over"] for row in found.of("standing")}
    assert "a person must decide" in said["office365"] and said["nobody.example"] == "nothing to take"
    assert list(read_receipts(receiver)) == [] and cli("plan", "list", "--json").of("plan") == []
    (row,) = cli("status", "--json").of("catch_up")
    assert row["exit"] == Exit.USAGE and [item["mails"] for item in row["taken"]] == [0, 0]
    monkeypatch.setattr("resend.flows.proofs.dns_txt", lambda name, _: rsa_key()[1])
    assert cli("catch-up").exit == Exit.DONE and len(list(read_receipts(receiver))) == 20


def test_a_catch_up_that_finds_a_run_going_on_is_none(cli, ready, receiver, place):
    ready(POLICY)
    assert cli("catch-up").exit == Exit.DONE
    (before,) = cli("status", "--json").of("catch_up")
    with exclusive(Home(place / "home").run_lock, what="the run"):
        assert cli("catch-up").exit == Exit.LOCKED
    assert cli("status", "--json").of("catch_up") == [before]


def test_a_catch_up_that_was_killed_is_seen(cli, ready, receiver, place):
    ready(POLICY.replace("max = 20", "max = 30"))
    (place / "resend.toml").write_text((place / "resend.toml").read_text().replace("500/s", "5/s"))
    words = [sys.executable, "-m", "resend.cli", "catch-up"]
    process = subprocess.Popen(words, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not list(read_receipts(receiver)) and time.monotonic() < end:
        time.sleep(0.05)
    process.kill()
    process.wait()
    (row,) = cli("status", "--json").of("catch_up")
    assert row["ended_at"] is None and row["ending"] is None
    assert "killed" in cli("status").out


def test_old_evidence_carries_no_decision(cli, ready, receiver):
    ready(POLICY, ended=timedelta(minutes=20))  # [run] max_evidence_age is 15 minutes
    found = cli("catch-up", "--json").of("standing")
    assert ["collect first" in row["passed_over"] for row in found] == [True]


def test_only_what_the_policy_made_is_sent_without_a_count(cli, ready, receiver, place):
    ready(POLICY)
    assert cli("incident", "open", "x", "--provider", "office365").exit == 0
    mine = cli("plan", "make", "x", "--reason", "standing policy: throttled", "--json").summary
    (place / "resend.toml").write_text(toml(""))  # the policy is off
    assert cli("catch-up", "--json").of("standing") == []
    assert list(read_receipts(receiver)) == []
    states = {row["id"]: row["state"] for row in cli("plan", "list", "--json").of("plan")}
    assert states == {mine["id"]: "ready"}


def test_a_plan_that_was_never_started_is_taken_anew(cli, ready, receiver, place, monkeypatch):
    ready(POLICY)
    with monkeypatch.context() as patch:
        patch.setattr("resend.flows.run.check_fresh", lambda *a, **k: (_ for _ in ()).throw(StoreError("stopped here")))
        assert cli("catch-up").exit == Exit.ERROR
    (left,) = cli("plan", "list", "--json").of("plan")
    assert left["state"] == "ready" and list(read_receipts(receiver)) == []
    (place / "resend.toml").write_text(toml(""))
    assert cli("catch-up", "--json").of("standing") == []  # off: nothing of it is sent any more
    (place / "resend.toml").write_text(toml(POLICY))
    assert [row["mails"] for row in cli("catch-up", "--json").of("standing")] == [20]
    assert len(list(read_receipts(receiver))) == 20
    states = {row["id"]: row["state"] for row in cli("plan", "list", "--json").of("plan")}
    assert states.pop(left["id"]) == "closed" and len(states) == 1


@pytest.mark.parametrize("policy", ['[catchup]\ncauses = ["throttled"]\n', POLICY + 'causes = ["mailbox_gone"]\n'])
def test_a_policy_that_cannot_be_is_a_wrong_configuration(cli, ready, policy):
    ready(policy)
    assert cli("incident", "open", "x").exit == 0  # a ledger to catch up on
    found = cli("catch-up")
    assert found.exit == Exit.USAGE and "[catchup]" in found.one_error()


def test_nothing_starts_into_a_receiver_that_still_refuses(cli, ready, receiver):
    ready("", quiet=timedelta(minutes=20))
    assert cli("incident", "open", "x", "--provider", "office365").exit == 0
    made = cli("plan", "make", "x", "--json").summary
    refused = cli("run", made["id"], "--confirm", str(made["count"]))
    assert refused.exit == Exit.USAGE and "--provider-not-recovered" in refused.one_error()
    assert list(read_receipts(receiver)) == []
    done = cli("run", made["id"], "--confirm", str(made["count"]), "--provider-not-recovered", "they say it is mended")
    assert done.exit in (Exit.DONE, Exit.LEFT), done.err
    assert len(list(read_receipts(receiver))) == made["count"]
