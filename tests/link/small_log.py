"""A small log, catalog and send log for tests of linking that go through the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

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
