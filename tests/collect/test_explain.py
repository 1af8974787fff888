"""One line explained: as its file was collected, from any kind of file, and nothing written."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from resend.collect.collect import CollectSummary
from resend.collect.explain import FIELDS, KINDS, Explained, explain
from resend.errors import InputError, UsageError
from resend.model import EventKind
from resend.stores.evidence import EVENT_COLUMNS, Evidence
from resend.stores.home import Home
from tests.collect.reading import mail, mails

NOVEMBER = datetime(2026, 11, 24, tzinfo=UTC).timestamp()


def told(place: str | Path, home: Home | None = None, **flags: object) -> Explained:
    sources = Evidence(home).manifest().sources if home else {}
    return explain(str(place), sources, **({"tz": "", "zone": "Asia/Tokyo"} | flags))  # type: ignore[arg-type]


@pytest.mark.parametrize("packed", [False, True])
def test_the_line_of_a_log(tmp_path: Path, packed: bool) -> None:
    log = tmp_path / ("mail.log.gz" if packed else "mail.log")
    data = mails(9000).encode()  # more than one block
    log.write_bytes(gzip.compress(data, 1) if packed else data)
    found = told(f"{log}:44999")
    (event,) = found.events
    assert (found.verdict, found.why, found.text) == ("parsed", "", data.splitlines()[44_998].decode())
    assert (event["kind"], event["recipient"]) == ("attempt", "user8999@corp4.example.jp")
    with pytest.raises(InputError, match="it has only 45,000 lines"):
        told(f"{log}:45001")


def test_why_a_line_gives_no_event(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    stamp = "Nov 20 10:00:00 mta1"
    log.write_text(f"{mail(1)}{stamp} CRON[1]: x\n\n{stamp} postfix/smtp[1]: connect to x\ngarbage\n")
    said = [(found.verdict, found.why) for found in (told(f"{log}:{line}") for line in (6, 7, 8, 9))]
    assert said[0] == ("ignored", "a line of CRON, no program of Postfix")
    assert said[1] == ("ignored", "an empty line")
    assert said[2][1].startswith("a line of postfix/smtp that tells nothing")
    assert said[3] == ("rejected", "no time stamp")


def test_as_its_file_was_collected(tmp_path: Path, home: Home, gather: Callable[..., CollectSummary]) -> None:
    log = tmp_path / "logs" / "mail.log"
    log.parent.mkdir()
    log.write_text(mail(1))
    os.utime(log, (NOVEMBER, NOVEMBER))
    gather(log, tz="UTC")
    os.utime(log)  # another day, another year perhaps
    before = Evidence(home).manifest_id()
    (event,) = told("mail.log:1", home).events  # evidence names files without their folder
    assert datetime.fromtimestamp(event["at_us"] / 1e6, UTC) == datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
    (event,) = told("mail.log:1", home, tz="Asia/Tokyo", year=2020).events
    assert datetime.fromtimestamp(event["at_us"] / 1e6, UTC) == datetime(2020, 11, 20, 1, 0, tzinfo=UTC)
    assert Evidence(home).manifest_id() == before
    assert sorted(path.name for path in log.parent.iterdir()) == ["mail.log"]


def test_inside_a_wrapping(tmp_path: Path) -> None:
    log = tmp_path / "journal.json"
    body = mail(1).splitlines()[3].partition("]: ")[2]
    entry = {"__REALTIME_TIMESTAMP": "1796617681000000", "_HOSTNAME": "mta1", "SYSLOG_IDENTIFIER": "postfix/smtp"}
    log.write_text(json.dumps(entry | {"MESSAGE": body}) + "\n")
    found = told(f"{log}:1")
    assert found.envelope
    assert (found.envelope.name, found.verdict) == ("journald", "parsed")
    assert found.inside.endswith(body)


def test_the_second_mail_of_a_mailbox(tmp_path: Path) -> None:
    box = tmp_path / "bounces.mbox"
    box.write_text(
        "".join(f"From x Fri Nov 20 10:00:00 2026\nFrom: a@b.example\nSubject: {n}\n\nhello\n\n" for n in (1, 2))
    )
    found = told(f"{box}:2")
    assert (found.format.name, found.verdict, found.why) == ("bounce", "ignored", "no report of a failure")
    assert "Subject: 2" in found.text
    with pytest.raises(InputError, match="only 2 mails"):
        told(f"{box}:3")


@pytest.mark.parametrize("place", ["mail.log", "mail.log:", "mail.log:0", ":3", "mail.log:x"])
def test_what_is_no_place(place: str) -> None:
    with pytest.raises(UsageError, match="not a place in a file"):
        told(place)


def test_places_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        told("nowhere.log:3")
    with pytest.raises(InputError, match="a folder has no lines"):
        told(f"{tmp_path}:1")


def test_every_kind_and_column_has_words() -> None:
    assert set(KINDS) == set(EventKind)
    assert {*FIELDS, "kind", "line", "at_us"} == set(EVENT_COLUMNS)
