"""`resend triage` on logs of an incident that goes on, is over, or is too old to tell; by the real command line."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resend.cli import render
from tests.cli.conftest import Cli, cli, place

__all__ = ["cli", "place"]
NOW = datetime.now(UTC).replace(microsecond=0)
BUSY = "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (in reply to MAIL FROM command)"
OUTLOOK = "corp-jp.mail.protection.outlook.com[203.0.113.5]"
GMAIL = "gmail-smtp-in.l.google.com[203.0.113.9]:25"


def stamp(at: datetime) -> str:
    return at.isoformat()


def mail(
    number: int, at: datetime, rcpt: str, *tries: tuple[timedelta, str, str, str]
) -> Iterator[tuple[datetime, str]]:
    """A mail's lines; each try: how long after arrival, relay, status, reply."""
    qid = f"{0xA0000 + number:X}"
    yield at, f"postfix/smtpd[1]: {qid}: client=bulk[10.0.0.1]"
    yield at, f"postfix/cleanup[1]: {qid}: message-id=<release.R1.N{number}@mail.example.jp>"
    yield at, f"postfix/qmgr[1]: {qid}: from=<b@example.jp>, size=900, nrcpt=1 (queue active)"
    for after, relay, status, reply in tries:
        moment = at + after
        dsn = "2.0.0" if status == "sent" else "4.7.500"
        yield (
            moment,
            f"postfix/smtp[1]: {qid}: to=<{rcpt}>, relay={relay}, delay={after.total_seconds():g}, delays=0/0/0/0,"
            f" dsn={dsn}, status={status} ({reply})",
        )
        if status == "sent":
            yield moment, f"postfix/qmgr[1]: {qid}: removed"


def log(end: datetime, bad: tuple[float, float], *, hours: int = 30, host: str = "mta1") -> str:
    """`hours` of mail up to `end`, 20 an hour to each of two receivers; one refuses from..to hours before the end."""
    lines: list[tuple[datetime, str]] = []
    number = 0
    for quarter in range(4 * hours, 0, -1):
        for place_ in range(5):
            number += 1
            at = end - timedelta(minutes=15 * quarter - place_)
            back = (end - at) / timedelta(hours=1)
            soon = timedelta(seconds=1)
            lines += mail(number, at, f"u{number}@gmail.com", (soon, GMAIL, "sent", "250 2.0.0 OK"))
            number += 1
            said = f"host {OUTLOOK} said: {BUSY}"
            tries = [(soon, f"{OUTLOOK}:25", "deferred", said)]
            if bad[1] <= back <= bad[0]:
                lines += mail(number, at, f"u{number}@corp.jp", *tries)
            else:
                lines += mail(number, at, f"u{number}@corp.jp", (soon, f"{OUTLOOK}:25", "sent", "250 2.6.0 Queued"))
    lines.sort(key=lambda item: item[0])
    return "".join(f"{stamp(at)} {host} {text}\n" for at, text in lines)


def triage_(cli: Cli, *argv: str) -> dict[str, list[dict[str, object]]]:
    result = cli("triage", *argv, "--json")
    assert result.exit == 0, result.err
    rows: dict[str, list[dict[str, object]]] = {"summary": [result.rows[-1]]}
    for row in result.of("triage"):
        rows.setdefault(str(row["kind"]), []).append(row)
    return rows


def test_an_incident_that_goes_on(cli: Cli, place: Path) -> None:
    Path("mail.log").write_text(log(NOW, (6, 0)))
    found = triage_(cli, "mail.log")
    (summary,) = found["summary"]
    assert (summary["state"], summary["providers"]) == ("ongoing", {"office365": "ongoing"})
    (row,) = [row for row in found["provider"] if row["provider"] == "office365"]
    assert row["last_15m"] == {"tries": 5, "failed": 5, "share": 1.0}
    assert row["last_1h"] == {"tries": 20, "failed": 20, "share": 1.0}
    assert str(row["last_success"]) <= str(row["bad_from"]) < str(row["last_failure"])
    (queued,) = found["queue"]
    assert queued["mails"] == summary["queued"] == row["failing"] and queued["by_age"]["older"] == 0  # type: ignore[index]
    assert 120 <= int(str(queued["mails"])) <= 125
    assert sum(int(str(item["mails"])) for item in found["expiry"]) == queued["mails"]
    assert found["expiry"][-1]["total"] == queued["mails"]
    assert {"no_snapshot", "no_catalog"} <= {str(item["what"]) for item in found["evidence"]}
    commands = [str(item["command"]) for item in found["command"]]
    assert any(command.endswith("--hold > hold.sh") for command in commands)
    opened = next(command for command in commands if command.startswith("resend incident open"))
    assert "--to" not in opened
    result = cli(*shlex.split(opened)[1:], "--json")  # the command is ready to be run
    assert (result.exit, result.rows[-1]["affected"]) == (0, row["failing"]), result.err
    again = [str(item["command"]) for item in triage_(cli)["command"]]
    assert not any(opened.split(" --")[0] + " --" in command for command in again), "that name is taken now"


def test_an_incident_that_is_over_drains_by_itself(cli: Cli, place: Path) -> None:
    Path("mail.log").write_text(log(NOW, (9, 3)))
    found = triage_(cli, "mail.log")
    assert found["summary"][0]["state"] == "over"
    commands = [str(item["command"]) for item in found["command"]]
    assert not any("--hold" in command for command in commands)
    opened = next(command for command in commands if command.startswith("resend incident open"))
    assert "--to" in opened
    result = cli(*shlex.split(opened)[1:], "--json")
    assert result.rows[-1]["affected"] == found["queue"][0]["mails"]


def test_a_quiet_log_says_so_and_old_evidence_is_told(cli: Cli, place: Path) -> None:
    Path("mail.log").write_text(log(NOW - timedelta(hours=5), (0, 1)))
    found = triage_(cli, "mail.log")
    assert (found["summary"][0]["state"], found.get("queue"), found.get("command")) == ("normal", None, None)
    assert "stale" in {item["what"] for item in found["evidence"]}
    Path("later.log").write_text(log(NOW + timedelta(hours=9), (0, 1), hours=2, host="mta2"))
    said = {str(item["what"]): item for item in triage_(cli, "later.log")["evidence"]}
    assert "--tz" in str(said["future"]["next"])
    seen = cli("triage").out
    assert "the newest line collected is 8h " in seen and "ago)" not in seen


def test_what_the_queue_has_beside_the_log(cli: Cli, place: Path) -> None:
    Path("mail.log").write_text(log(NOW, (2, 0), hours=20))
    waiting = [line.split() for line in Path("mail.log").read_text().splitlines() if "status=deferred" in line][-3:]
    queued: list[dict[str, object]] = [
        {"queue_name": "deferred", "queue_id": words[3][:-1], "sender": "b@example.jp",
         "arrival_time": int(datetime.fromisoformat(words[0]).timestamp()) - 1,
         "recipients": [{"address": words[4][4:-2], "delay_reason": "busy"}]}
        for words in waiting
    ]  # fmt: skip
    queued += [
        {"queue_name": "hold", "queue_id": "F00001", "arrival_time": int((NOW - timedelta(hours=30)).timestamp()),
         "sender": "b@example.jp", "recipients": [{"address": "never.tried@corp.jp", "delay_reason": ""}]},
    ]  # fmt: skip
    Path("queue.json").write_text("".join(json.dumps(item) + "\n" for item in queued))
    found = triage_(cli, "mail.log", "--queue", "queue.json", "--host", "mta1")
    (row,) = found["queue"]
    assert row["provider"] == "office365", "by where its domain's mail goes"
    assert (row["mails"], row["held"], row["untried"]) == (4, 1, 1)
    assert sum(int(str(item["mails"])) for item in found["expiry"]) == 3, "mail on hold does not expire"
    assert "no_snapshot" not in {item["what"] for item in found["evidence"]}


def test_logs_beside_the_one_given_are_named_before_they_go(cli: Cli, place: Path) -> None:
    folder = place / "log"
    folder.mkdir()
    (folder / "mail.log").write_text(log(NOW, (2, 0), hours=20))
    for number, days in ((1, 1), (2, 2), (3, 3)):
        path = folder / f"mail.log.{number}"
        path.write_text(log(NOW - timedelta(days=days), (0, 1), hours=20))
        os.utime(path, ((NOW - timedelta(days=days)).timestamp(),) * 2)
    said = {str(item["what"]): item for item in triage_(cli, "log/mail.log")["evidence"]}
    assert "mail.log.1, mail.log.2, mail.log.3" in str(said["uncollected"]["text"])
    assert str(said["rotates"]["where"]).endswith("mail.log.3") and "deleted in about 0 days" in str(
        said["rotates"]["text"]
    )
    left = {item["what"] for item in triage_(cli, "log")["evidence"]}
    assert not left & {"uncollected", "rotates"}


def test_what_people_read_fits_80_columns(cli: Cli, place: Path) -> None:
    Path("mail.log").write_text(log(NOW, (6, 0)))
    result = cli("triage", "mail.log")
    assert "ONGOING" in result.out and "What to do now" in result.out
    for line in result.out.splitlines():
        assert render.width(line) <= 80 or line.startswith("  resend incident open"), line


def test_without_evidence_the_next_step_is_said(cli: Cli, place: Path) -> None:
    result = cli("triage")
    assert result.exit == 1 and "resend triage /var/log/mail.log*" in result.one_error()


@pytest.mark.parametrize("path", ["missing.log", "."])
def test_what_cannot_be_read_is_one_error(cli: Cli, place: Path, path: str) -> None:
    result = cli("triage", path)
    assert result.exit == 1 and result.one_error()
