"""Several mails of one release to one mailbox, and mails whose link names somebody else: who stands for whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, cli, place

__all__ = ["cli", "place"]
NOW = datetime.now(UTC).replace(microsecond=0)
BEGIN = NOW - timedelta(days=1)
RELAY = "mx.corp.jp[192.0.2.1]"
BUSY = f"host {RELAY} said: 451 4.7.500 Server busy. Please try again later."
GONE = f"host {RELAY} said: 550 5.1.1 User unknown"
TOML = 'home = "home"\n[dns]\nenabled = false\n[mx_map]\n"*" = "127.0.1.9:1"\n'


class Log:
    """A mail log, line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def mail(self, qid: str, mail_id: str, rcpt: str, *ends: tuple[str, str, str], minute: int = 0) -> None:
        """One mail: each of `ends` is a try, (status, dsn, reply), a minute after the other; `expired` is no try."""
        at = BEGIN + timedelta(minutes=minute)
        head = f"{at.isoformat()} mta1 postfix"
        self.lines += [
            f"{head}/smtpd[1]: {qid}: client=bulk[10.0.0.1]",
            f"{head}/cleanup[1]: {qid}: message-id=<{mail_id}>",
            f"{head}/qmgr[1]: {qid}: from=<b@example.jp>, size=9, nrcpt=1 (queue active)",
        ]
        self.more(qid, rcpt, *ends, at=at)

    def more(self, qid: str, rcpt: str, *ends: tuple[str, str, str], at: datetime) -> None:
        for number, (status, dsn, reply) in enumerate(ends):
            when = at + timedelta(seconds=1 + 60 * number)
            head = f"{when.isoformat()} mta1 postfix"
            if status == "expired":
                self.lines.append(f"{head}/qmgr[1]: {qid}: from=<b@example.jp>, status=expired, returned to sender")
            else:
                self.lines.append(
                    f"{head}/smtp[1]: {qid}: to=<{rcpt}>, relay={RELAY}:25, delay={1 + 60 * number},"
                    f" delays=0/0/0/1, dsn={dsn}, status={status} ({reply})"
                )
            if status != "deferred":
                self.lines.append(f"{head}/qmgr[1]: {qid}: removed")


OVER = (("deferred", "4.7.500", BUSY), ("expired", "", ""))
SENT = (("sent", "2.0.0", "250 2.0.0 taken"),)
REFUSED = (("bounced", "5.1.1", GONE),)
PEOPLE = {"p1": "one@corp.jp", "p2": "two@corp.jp", "p3": "three@corp.jp", "p4": "four@xn--wgv71a119e.jp"}


@pytest.fixture
def log(cli: Cli) -> Log:
    """A catalog of one release and four people, and an empty log."""
    Path("resend.toml").write_text(TOML)
    Path("releases.csv").write_text("id,customer,title,sender,envelope_from\nR1,C1,News,pr@example.jp,b@example.jp\n")
    Path("recipients.csv").write_text("id,address\n" + "".join(f"{id_},{at}\n" for id_, at in PEOPLE.items()))
    Path("content").mkdir()
    Path("content/R1.eml.j2").write_text("From: pr@example.jp\nTo: {{ rcpt }}\nSubject: {{ title }}\n\nhello\n")
    return Log()


def opened(cli: Cli, log: Log, sent: dict[str, str]) -> None:
    """Collect, load, open incident `one`. `sent`: message-id -> recipient, as the send log has it."""
    Path("sent.csv").write_text(
        "release,recipient,message_id,sent_at\n"
        + "".join(f"R1,{who},<{mail_id}>,{BEGIN.isoformat()}\n" for mail_id, who in sent.items())
    )
    collect(cli, log)
    files = ("--releases", "releases.csv", "--recipients", "recipients.csv", "--sendlog", "sent.csv")
    assert cli("catalog", "load", *files, "--content", "content").exit == 0
    assert cli("incident", "open", "one").exit == 0


def collect(cli: Cli, log: Log) -> None:
    Path("mail.log").write_text("\n".join(log.lines) + "\n")
    assert cli("collect", "mail.log").exit == 0


def bucket(cli: Cli, address: str) -> list[tuple[str, str]]:
    """(queue id, bucket) of each mail to an address."""
    found = cli("why", address, "--json")
    assert found.exit == 0, found.err
    return [(row["outcome"]["queue_id"], verdict["bucket"]) for row in found.of("why") for verdict in row["verdicts"]]


def test_what_arrived_under_another_message_id_is_not_sent_again(cli: Cli, log: Log) -> None:
    """Sent once more by hand while the incident went on: delivered at once, so that nothing of it ever failed."""
    log.mail("A0001", "first@x", PEOPLE["p1"], *OVER)
    log.mail("A0002", "second@x", PEOPLE["p1"], *SENT, minute=90)
    log.mail("A0003", "third@x", PEOPLE["p2"], *OVER)
    log.mail("A0004", "fourth@x", PEOPLE["p2"], *OVER, minute=90)  # by hand, too, and in vain
    opened(cli, log, {"first@x": "p1", "second@x": "p1", "third@x": "p2", "fourth@x": "p2"})
    assert bucket(cli, PEOPLE["p1"]) == [("A0001", "folded")]
    assert bucket(cli, PEOPLE["p2"]) == [("A0003", "resend"), ("A0004", "folded")]
    assert cli("plan", "make", "one", "--json").summary["count"] == 1


def test_of_two_failures_the_one_that_forbids_stands(cli: Cli, log: Log) -> None:
    log.mail("A0001", "first@x", PEOPLE["p1"], *OVER)
    log.mail("A0002", "second@x", PEOPLE["p1"], *REFUSED, minute=90)
    opened(cli, log, {"first@x": "p1", "second@x": "p1"})
    assert bucket(cli, PEOPLE["p1"]) == [("A0001", "folded"), ("A0002", "never")]


def test_the_end_of_mail_to_somebody_else_says_nothing_of_the_one_that_its_link_names(cli: Cli, log: Log) -> None:
    """The send log's recipient has another address by now: ambiguous, and its arrival is not that of his mail."""
    log.mail("A0001", "mine@x", PEOPLE["p1"], *OVER)
    log.mail("A0002", "other@x", PEOPLE["p2"], ("deferred", "4.7.500", BUSY))
    opened(cli, log, {"mine@x": "p1", "other@x": "p1"})
    assert bucket(cli, PEOPLE["p2"]) == [("A0002", "still_queued")], "found by the address that the log has"
    log.more("A0002", PEOPLE["p2"], *SENT, at=NOW - timedelta(hours=3))
    collect(cli, log)
    assert bucket(cli, PEOPLE["p1"]) == [("A0001", "resend")]
    assert cli("plan", "make", "one", "--json").summary["count"] == 1


def test_why_takes_an_address_as_people_write_it_and_says_what_ended(cli: Cli, log: Log) -> None:
    log.mail("A0001", "first@x", PEOPLE["p4"], ("deferred", "4.7.500", BUSY))
    opened(cli, log, {"first@x": "p4"})
    for text in ("four@日本語.jp", "Four@XN--WGV71A119E.jp"):
        assert bucket(cli, text) == [("A0001", "still_queued")]
    log.more("A0001", PEOPLE["p4"], *REFUSED, at=NOW - timedelta(hours=3))
    collect(cli, log)
    (row,) = cli("why", "four@日本語.jp", "--json").of("why")
    assert row["outcome"]["status"] == "bounced"
    assert row["verdicts"][0]["reason"] == "queued when the incident was opened, bounced since"


def test_a_plan_that_was_closed_or_whose_file_broke_is_made_whole_again(cli: Cli, log: Log) -> None:
    log.mail("A0001", "first@x", PEOPLE["p1"], *OVER)
    opened(cli, log, {"first@x": "p1"})
    id_ = cli("plan", "make", "one", "--json").summary["id"]
    file = Path(f"home/derived/plan-{id_}.parquet")
    before = file.read_bytes()
    for harm in (b"", before[:-9], None):
        file.unlink() if harm is None else file.write_bytes(harm)
        assert "its file was written anew" in cli("plan", "make", "one").out
        assert file.read_bytes() == before
    assert cli("plan", "close", id_[:12], "--reason", "a slip").exit == 0
    again = cli("plan", "make", "one", "--json")
    assert [(row["id"], row["state"]) for row in again.of("plan")] == [(id_, "ready")]
    assert [row["state"] for row in cli("plan", "list", "--json").of("plan")] == ["ready"]
