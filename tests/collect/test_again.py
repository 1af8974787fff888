"""A file that was collected before is read as then, where no flag says otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from resend.collect.collect import CollectSummary
from resend.errors import InputError
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from tests.collect.reading import mails

Gather = Callable[..., CollectSummary]
NOVEMBER = datetime(2026, 11, 24, tzinfo=UTC).timestamp()


def write(path: Path, text: str, at: float = NOVEMBER) -> Path:
    path.write_text(text)
    os.utime(path, (at, at))
    return path


def first_year(home: Home) -> int:
    (info,) = Evidence(home).sources()
    assert info.first_at is not None
    return datetime.fromtimestamp(info.first_at / 1e6, UTC).year


def test_a_zone_is_kept_by_the_log_and_its_rotated_copies(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", mails(2))
    gather(log, tz="UTC")
    (before,) = Evidence(home).sources()
    assert gather(log).known_parts == 1
    log.rename(tmp_path / "mail.log.1")
    write(log, mails(2, first=2), NOVEMBER + 60)
    write(tmp_path / "other.log", mails(2, first=4))
    found = gather([log, tmp_path / "mail.log.1", tmp_path / "other.log"])
    assert found.warnings == [
        "mail.log and 1 more: times are read in UTC, as before, and not in Asia/Tokyo; to change that: --tz Asia/Tokyo"
    ]
    zones = {Path(name).name: source.zone for name, source in Evidence(home).manifest().sources.items()}
    assert zones == {"mail.log": "UTC", "mail.log.1": "UTC", "other.log": "Asia/Tokyo"}
    assert {info.first_at for info in Evidence(home).sources() if info.path.endswith(".1")} == {before.first_at}


def test_a_year_is_kept_until_the_file_changes(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", mails(2))
    gather(log, year=2024)
    (warning,) = gather(log).warnings
    assert "--year 2026" in warning and first_year(home) == 2024
    gather(write(log, mails(3), NOVEMBER + 60))
    assert first_year(home) == 2026


def test_a_format_is_kept_where_the_content_tells_none(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", "Nov 20 10:00:00 mx1 app[9]: nothing here\n")
    with pytest.raises(InputError):
        gather(log)
    gather(log, format="exim")
    write(log, log.read_text() * 2, NOVEMBER + 60)
    assert gather(log).warnings == ["mail.log: read as exim, as before"]
    gather(write(log, mails(2), NOVEMBER + 120))
    assert Evidence(home).sources()[0].format == "postfix"


def test_a_format_that_was_given_is_kept_against_the_content(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", mails(2))
    gather(log, format="sendmail")
    assert gather(log).warnings == ["mail.log: read as sendmail, as before; to change that: --format postfix"]
    assert gather(log, format="postfix").warnings == []
    assert Evidence(home).sources()[0].format == "postfix"
    assert gather(log).warnings == []


def test_an_empty_file_tells_nothing_of_what_it_will_hold(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", "")
    gather(log, format="exim", tz="UTC")
    found = gather(write(log, mails(1), NOVEMBER + 60))
    assert found.warnings == [] and Evidence(home).sources()[0].format == "postfix"
