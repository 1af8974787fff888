"""Mail that was queued when the incident was opened, and that a later log shows bounced or expired: said, never resent
from there, and taken once by the incident that the command opens."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from resend.clock import to_text
from resend.stores import sql
from tests.cli.conftest import Cli, Result, cli, place

__all__ = ["cli", "place"]
NOW = datetime.now(UTC).replace(microsecond=0)
ARRIVED = NOW - timedelta(days=2)
BUSY = "host mx.corp.jp[192.0.2.1] said: 451 4.7.500 Server busy. Please try again later."
FULL = (
    "host mx.corp.jp[192.0.2.1] said: 552 5.2.2 the store of this user has no room left (in reply to RCPT TO command)"
)
TOML = """\
home = "home"
[link]
message_id = "release.{release}.{recipient}@mail.example.jp"
[mx_map]
"*" = "127.0.1.9:1"
"""
FIRST = range(1, 6)  # 5 mails are put off; of these 1 bounces, 2 and 3 expire, 4 arrives, 5 waits on


def try_(number: int, at: datetime, status: str, dsn: str, reply: str) -> str:
    return (
        f"{at.isoformat()} mta1 postfix/smtp[1]: A000{number}: to=<u{number}@corp.jp>, relay=mx.corp.jp[192.0.2.1]:25,"
        f" delay={int((at - ARRIVED).total_seconds())}, delays=0/0/0/1, dsn={dsn}, status={status} ({reply})"
    )


def first_log() -> list[str]:
    lines = []
    for number in FIRST:
        head = f"{ARRIVED.isoformat()} mta1 postfix"
        lines += [
            f"{head}/smtpd[1]: A000{number}: client=bulk[10.0.0.1]",
            f"{head}/cleanup[1]: A000{number}: message-id=<release.R1.r{number}@mail.example.jp>",
            f"{head}/qmgr[1]: A000{number}: from=<b@example.jp>, size=9, nrcpt=1 (queue active)",
            try_(number, ARRIVED + timedelta(seconds=1), "deferred", "4.7.500", BUSY),
        ]
    return lines


def later_log() -> list[str]:
    at = NOW - timedelta(hours=3)
    lines = [try_(1, at, "bounced", "5.2.2", FULL)]
    for number in (2, 3):
        lines += [
            try_(number, at, "deferred", "4.7.500", BUSY),
            f"{at.isoformat()} mta1 postfix/qmgr[1]: A000{number}: from=<b@example.jp>, status=expired, returned",
        ]
    lines += [try_(4, at, "sent", "2.0.0", "250 2.0.0 taken"), try_(5, at, "deferred", "4.7.500", BUSY)]
    lines += [f"{at.isoformat()} mta1 postfix/qmgr[1]: A000{number}: removed" for number in (1, 2, 3, 4)]
    return lines


def write(cli: Cli, *selection: str, lines: Sequence[str] = (), load: Sequence[str] = ()) -> None:
    Path("mail.log").write_text("\n".join(lines or first_log()) + "\n")
    Path("resend.toml").write_text(TOML)
    Path("releases.csv").write_text("id,customer,title,sender,envelope_from\nR1,C1,News,pr@example.jp,b@example.jp\n")
    people = "".join(f"r{number},u{number}@corp.jp\n" for number in FIRST)
    Path("recipients.csv").write_text(f"id,address\n{people}")
    Path("content").mkdir()
    Path("content/R1.eml.j2").write_text("From: pr@example.jp\nTo: {{ rcpt }}\nSubject: {{ title }}\n\nhello\n")
    assert cli("collect", "mail.log").exit == 0
    loaded = ("--releases", "releases.csv", "--recipients", "recipients.csv", "--content", "content")
    assert cli("catalog", "load", *loaded, *load).exit == 0
    opened = cli("incident", "open", "busy", *selection)
    assert opened.exit == 0, opened.err
    assert not cli("preview", "busy", "--json").of("ended"), "nothing is said where nothing ended"


def go_on(cli: Cli, lines: list[str]) -> None:
    with Path("mail.log").open("a") as log:
        log.write("\n".join(lines) + "\n")
    assert cli("collect", "mail.log").exit == 0


def buckets(result: Result) -> dict[str, int]:
    return {name: count for name, count in result.summary["buckets"].items() if count}


def ended(cli: Cli, *command: str) -> dict[str, Any]:
    (row,) = cli(*command, "--json").of("ended")
    return row


def test_each_command_says_it_and_a_new_incident_takes_them_once(cli: Cli) -> None:
    write(cli)
    go_on(cli, later_log())
    told = {"type": "ended", "v": 1, "bounced": 1, "expired": 2, "taken": 0, "next": "resend incident open busy-2"}
    found = cli("preview", "busy", "--json")
    assert found.of("ended") == [told] and found.summary["ended"] == 3
    assert buckets(found) == {"delivered_late": 1, "still_queued": 4}, "the rows stay as they are frozen"
    (bucket,) = [row for row in found.of("bucket") if row["name"] == "still_queued"]
    assert bucket["reasons"] == {
        "queued when the incident was opened, expired since": 2,
        "queued when the incident was opened, bounced since": 1,
        "still in the mail host's queue": 1,
    }
    shown = " ".join(cli("preview", "busy").out.split())
    assert "3 mails that were queued when this incident was opened have meanwhile bounced (1) or expired (2)" in shown
    assert shown.endswith("next: resend incident open busy-2")
    assert ended(cli, "incident", "show", "busy") == told
    refused = cli("plan", "make", "busy")
    assert refused.exit == 2 and "nothing is to be resent" in refused.err
    assert "bounced (1) or expired (2)" in refused.err and "resend incident open busy-2" in refused.err

    assert cli(*shlex.split(told["next"])[1:]).exit == 0
    taken = cli("preview", "busy-2", "--json")
    assert not taken.of("ended") and buckets(taken)["still_queued"] == 1
    assert buckets(taken).get("resend", 0) + buckets(taken).get("never", 0) == 3
    again = ended(cli, "preview", "busy")
    assert (again["taken"], again["next"]) == (3, ""), "said, and no third incident asked for"

    plan = cli("plan", "make", "busy-2", "--json", "--identity", "new").summary
    assert plan["count"] == buckets(taken)["resend"] >= 2
    third = cli("incident", "open", "third", "--json")
    assert third.exit == 0
    assert cli("plan", "make", "third", "--json", "--identity", "new").summary["count"] == plan["count"]
    cli("run", plan["id"], "--confirm", str(plan["count"]), "--json")
    both = [buckets(cli("preview", name, "--json")) for name in ("busy", "third")]
    assert both[1].get("resend", 0) == 0, "what one plan armed no other takes"
    assert both[0].get("already_resent", 0) == plan["count"]


def test_a_script_has_only_what_still_waits(cli: Cli) -> None:
    write(cli)
    go_on(cli, later_log())
    for action in ("hold", "delete", "release"):
        made = cli("queue", "busy", f"--{action}", "--json")
        (row,) = made.of("queue")
        assert row["recipients"] == 1 and "A0005" in row["script"], action
        assert not any(f"A000{number}" in row["script"] for number in (1, 2, 3, 4)), action
        assert made.summary["ended"] == 3 and made.of("ended")[0]["bounced"] == 1
        assert "bounced (1) or expired (2)" in made.err
    at = NOW - timedelta(hours=2)
    go_on(cli, [try_(5, at, "bounced", "5.2.2", FULL), f"{at.isoformat()} mta1 postfix/qmgr[1]: A0005: removed"])
    none = cli("queue", "busy", "--hold")
    assert none.exit == 2 and "no mail of this incident is still queued" in none.err
    assert "bounced (2) or expired (2)" in none.err and "resend incident open busy-2" in none.err


def test_what_was_released_and_ended_can_be_resent_but_not_what_still_waits(cli: Cli) -> None:
    write(cli)
    assert cli("queue", "busy", "--release").exit == 0, "a veto on all five"
    go_on(cli, later_log())
    assert cli("incident", "open", "busy-2").exit == 0
    found = cli("preview", "busy-2", "--json")
    assert buckets(found) == {"delivered_late": 1, "still_queued": 1, "resend": 3}
    with sqlite3.connect("home/ledger.db") as ledger:
        assert ledger.execute("SELECT count(*) FROM veto WHERE kind = 'delivery' AND reason = 'held'").fetchone() == (
            2,
        )


def test_what_has_a_copy_that_still_waits_stays_held(cli: Cli) -> None:
    """Another mail of the release to the same recipient may still arrive, whatever became of the first."""
    Path("sendlog.csv").write_text("release,recipient,message_id\nR1,r1,second@mail.example.jp\n")
    second = [line.replace("A0001", "B0001") for line in first_log()[:4]]
    second[1] = second[1].replace("release.R1.r1@", "second@")
    write(cli, lines=[*first_log(), *second], load=("--sendlog", "sendlog.csv"))
    assert cli("queue", "busy", "--release").exit == 0
    go_on(cli, later_log())
    assert cli("incident", "open", "busy-2").exit == 0
    assert buckets(cli("preview", "busy-2", "--json")) == {
        "folded": 1, "delivered_late": 1, "still_queued": 2, "resend": 2,
    }  # fmt: skip
    with sqlite3.connect("home/ledger.db") as ledger:
        assert ledger.execute("SELECT count(*) FROM veto WHERE kind = 'delivery' AND reason = 'held'").fetchone() == (
            3,
        )


def test_what_an_open_plan_has_stays_held(cli: Cli) -> None:
    """It was put on hold, planned, released and then it ended: the plan judged the deferral, not the end."""
    write(cli)
    (row,) = cli("queue", "busy", "--hold", "--json").of("queue")
    rows = "".join(f"{number}\theld\tA000{number}\n" for number in FIRST)
    head = f"resend-queue\t1\t{row['incident']}\thold\tmta1\t{to_text(NOW)}\n"
    Path("result").write_text(f"{head}{rows}end\t5\n")
    assert cli("queue", "busy", "--confirm", "result").exit == 0
    plan = cli("plan", "make", "busy", "--json", "--identity", "new").summary
    assert plan["count"] == 5
    assert cli("queue", "busy", "--release").exit == 0
    go_on(cli, later_log())
    assert cli("incident", "open", "busy-2").exit == 0
    assert buckets(cli("preview", "busy-2", "--json")) == {"delivered_late": 1, "still_queued": 1, "wait": 3}
    assert cli("plan", "close", plan["id"], "--reason", "it ended").exit == 0
    assert cli("incident", "open", "busy-3").exit == 0
    assert buckets(cli("preview", "busy-3", "--json")) == {"delivered_late": 1, "still_queued": 1, "resend": 3}


def test_the_command_has_the_selection_but_a_cause_that_changed(cli: Cli) -> None:
    start = (ARRIVED - timedelta(hours=1)).isoformat()
    write(cli, "--provider", "corp.jp", "--cause", "throttled", "--customer", "C1", "--from", start)
    go_on(cli, [try_(1, NOW - timedelta(hours=4), "bounced", "4.7.500", BUSY)])
    kept = shlex.split(ended(cli, "preview", "busy")["next"])
    assert kept[:4] == ["resend", "incident", "open", "busy-2"]
    assert {"--cause", "--customer", "--from", "--provider"} < set(kept), "it ended as it was put off"
    go_on(cli, [*later_log()[1:], try_(5, NOW - timedelta(hours=2), "bounced", "5.2.2", FULL)])
    wide = ended(cli, "preview", "busy")
    words = shlex.split(wide["next"])
    assert "--cause" not in words and words[words.index("--provider") + 1] == "corp.jp"
    opened = cli(*words[1:], "--json")
    assert opened.exit == 0 and ended(cli, "preview", "busy")["taken"] == wide["bounced"] + wide["expired"] == 4


def test_the_report_calls_nothing_queued_that_ended(cli: Cli) -> None:
    write(cli)
    go_on(cli, later_log())
    for lang, waits, over in (("en", "still on its way", "has failed since"), ("ja", "配信待ち", "不達")):
        assert cli("report", "busy", "--lang", lang, "--out", "out").exit == 0
        (page,) = Path("out").glob(f"*-{lang}.html")
        rows = {
            line.split("</td>")[0]: int(line.split('class="n">')[1].split("<")[0])
            for line in page.read_text().split("<tr><td>")[1:]
            if "total" not in line and 'class="n">' in line
        }
        assert [count for label, count in rows.items() if over in label] == [3]
        assert [count for label, count in rows.items() if label == waits] == [1]


FROZEN = (1, "<a@x>", "u@y", "mta1", "Q1", 100, 500, "still_queued")
COLUMNS = {
    "outcome_id": "BIGINT", "message_id": "VARCHAR", "recipient": "VARCHAR", "host": "VARCHAR", "qid": "VARCHAR",
    "arrived_at": "BIGINT", "at": "BIGINT", "status": "VARCHAR",
}  # fmt: skip


@pytest.mark.parametrize(
    ("today", "expected"),
    [
        ([(7, "<a@x>", "U@y", "mta2", "Q9", 100, 900, "bounced")], [(1, 7, "bounced", 0)]),
        ([(7, "<a@x>", "u@y", "mta1", "Q1", 100, None, "expired")], [(1, 7, "expired", 0)]),
        ([(7, "<a@x>", "u@y", "mta1", "Q1", 100, 400, "bounced")], []),  # known before it was frozen as queued
        ([(7, "<a@x>", "u@y", "mta1", "Q1", 100, 900, "no_evidence")], []),
        ([(7, "<a@x>", "u@z", "mta1", "Q1", 100, 900, "bounced"), (8, "<b@x>", "u@y", "", "", 1, 900, "bounced")], []),
        *(
            ([(7, "<a@x>", "u@y", "", "", 1, 900, "bounced"), (8, "<a@x>", "u@y", "", "", 1, 600, other)], [])
            for other in ("still_queued", "delivered", "delivered_late")
        ),
        (
            [(7, "<a@x>", "u@y", "", "", 1, 600, "bounced"), (8, "<a@x>", "u@y", "", "", 1, 900, "expired")],
            [(1, 8, "expired", 0)],
        ),
    ],
)
def test_an_end_is_the_last_word_on_all_copies(today: list[Any], expected: list[Any]) -> None:
    with sql.connect(memory_limit="256MiB", threads=1) as con:
        for table, rows in (("frozen", [FROZEN]), ("suspect", today), ("later", [])):
            sql.create_table(con, table, COLUMNS, rows)
        assert con.execute(sql.load("link/freeze/ended")).fetchall() == expected


def test_mail_without_a_message_id_is_known_by_its_queue_id_and_arrival() -> None:
    frozen = (1, "", "u@y", "mta1", "Q1", 100, 500, "still_queued")
    other = (8, "", "u@y", "mta1", "Q1", 777, 900, "bounced")  # the queue id was used again
    with sql.connect(memory_limit="256MiB", threads=1) as con:
        sql.create_table(con, "frozen", COLUMNS, [frozen])
        sql.create_table(con, "suspect", COLUMNS, [other, (7, "", "u@y", "mta1", "Q1", 100, 800, "expired")])
        sql.create_table(con, "later", COLUMNS, [(3, "", "u@y", "mta1", "Q1", 100, 800, "expired"), other])
        assert con.execute(sql.load("link/freeze/ended")).fetchall() == [(1, 7, "expired", 1)]
