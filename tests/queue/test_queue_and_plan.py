"""Mail on hold may be resent; mail that a printed script may release may not, whatever plan has it."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resend.clock import to_text
from tests.cli.conftest import Cli, cli, place

__all__ = ["cli", "place"]
NOW = datetime.now(UTC).replace(microsecond=0)
BUSY = "host mx.corp.jp[192.0.2.1] said: 451 4.7.500 Server busy. Please try again later."
TOML = """\
home = "home"
[link]
message_id = "release.{release}.{recipient}@mail.example.jp"
[mx_map]
"*" = "127.0.1.9:1"
[run]
wait = "0s"
"""


def write(cli: Cli) -> None:
    lines = []
    for number in (1, 2):
        at = (NOW - timedelta(hours=2)).isoformat()
        qid = f"A000{number}"
        lines += [
            f"{at} mta1 postfix/smtpd[1]: {qid}: client=bulk[10.0.0.1]",
            f"{at} mta1 postfix/cleanup[1]: {qid}: message-id=<release.R1.r{number}@mail.example.jp>",
            f"{at} mta1 postfix/qmgr[1]: {qid}: from=<b@example.jp>, size=9, nrcpt=1 (queue active)",
            f"{at} mta1 postfix/smtp[1]: {qid}: to=<u{number}@corp.jp>, relay=mx.corp.jp[192.0.2.1]:25, delay=1,"
            f" delays=0/0/0/1, dsn=4.7.500, status=deferred ({BUSY})",
        ]
    Path("mail.log").write_text("\n".join(lines) + "\n")
    Path("resend.toml").write_text(TOML)
    Path("releases.csv").write_text("id,customer,title,sender,envelope_from\nR1,C1,News,pr@example.jp,b@example.jp\n")
    Path("recipients.csv").write_text("id,address\nr1,u1@corp.jp\nr2,u2@corp.jp\n")
    Path("content").mkdir()
    Path("content/R1.eml.j2").write_text("From: pr@example.jp\nTo: {{ rcpt }}\nSubject: {{ title }}\n\nhello\n")
    assert cli("collect", "mail.log").exit == 0
    loaded = ("--releases", "releases.csv", "--recipients", "recipients.csv", "--content", "content")
    assert cli("catalog", "load", *loaded).exit == 0
    assert cli("incident", "open", "busy").exit == 0


def buckets(cli: Cli) -> dict[str, int]:
    found = cli("preview", "busy", "--json").rows[-1]["buckets"]
    return {name: count for name, count in found.items() if count}


def held(cli: Cli, at: datetime, state: str = "held") -> int:
    """As the script on the mail host would have written it; the exit code of its confirmation."""
    made = cli("queue", "busy", "--hold", "--json")
    (row,) = made.of("queue")
    listed = row["script"].split("<<'@END@'\n")[1].split("\n@END@")[0].splitlines()
    head = f"resend-queue\t1\t{row['incident']}\thold\tmta1\t{to_text(at)}\n"
    body = "".join(f"{line.split(chr(9))[5]}\t{state}\t{line.split(chr(9))[1]}\n" for line in listed)
    Path("result").write_text(f"{head}{body}end\t{len(listed)}\n")
    return cli("queue", "busy", "--confirm", "result").exit


def states() -> list[str]:
    with sqlite3.connect("home/ledger.db") as ledger:
        return [state for (state,) in ledger.execute("SELECT state FROM delivery ORDER BY rcpt")]


def test_what_was_held_is_resent_and_what_is_released_again_is_not(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    write(cli)
    assert buckets(cli) == {"still_queued": 2}
    assert held(cli, NOW, "refused") == 3 and buckets(cli) == {"still_queued": 2}
    assert held(cli, NOW) == 0 and buckets(cli) == {"resend": 2}
    plan = cli("plan", "make", "busy", "--json", "--identity", "new").rows[-1]
    assert plan["count"] == 2, plan
    assert cli("queue", "busy", "--release").exit == 0
    assert buckets(cli) == {"still_queued": 2}
    assert cli("queue", "busy", "--confirm", "result").exit == 2, "that hold is over"
    ran = cli("run", plan["id"], "--confirm", "2", "--json")
    assert ran.exit in (0, 3), ran.err
    assert states() == ["held", "held"]
    assert held(cli, datetime.now(UTC)) == 2, "by the mail host's clock it may be older than the release"
    monkeypatch.setattr("resend.flows.queue._SKEW", timedelta(0))
    assert held(cli, datetime.now(UTC)) == 0, "a new hold"
    assert states() == ["planned", "planned"]
