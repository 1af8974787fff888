"""How long rotated logs stay: by logrotate's own rules, else estimated from the files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resend.collect.rotation import rotations

NOW = datetime.now(UTC).replace(microsecond=0)


def make(folder: Path, ages: Mapping[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, days in ages.items():
        path = folder / name
        path.write_text("x\n")
        at = (NOW - timedelta(days=days)).timestamp()
        os.utime(path, (at, at))


WEEKLY = {"mail.log": 0, "mail.log.1": 2, "mail.log.2.gz": 9, "mail.log.3.gz": 16, "mail.log.4.gz": 23}


@pytest.mark.parametrize(
    ("rule", "days"),
    [
        ("", 5),  # the fourth is the last that there is: gone at the next weekly rotation
        ("/logs/mail.log\n{\n  rotate 4\n  weekly\n  postrotate\n    rotate 9\n  endscript\n}\n", 5),
        ('"/logs/*.log" {\n rotate 6 # copies\n}\n', 5 + 14),
        ("/logs/*.log {\n rotate 6\n daily\n}\n", -2 + 3),
        ("/elsewhere/*.log {\n rotate 99\n}\n", 5),
        ("/logs/mail.log { rotate 6\n}\n", 5 + 14),
        ("/logs/mail.log { daily\n rotate 6 }\n/elsewhere { rotate 1\n}\n", -2 + 3),
        ("daily\nrotate 6\n/logs/mail.log {\n compress\n}\nweekly\n", -2 + 3),
        ("/logs/other.log {\n daily\n}\nrotate 6\n'/logs/mail.log' {\n}\n", 5 + 14),
        ("/logs/mail.log {\n daily\n size 10M\n rotate=6\n}\n", 5 + 14),  # the files show a week
        ("/logs/mail.log {\n size=10M\n daily\n rotate 6\n}\n", -2 + 3),
        ("/logs/mail.log {\n rotate 60\n maxage 30\n}\n", 30 - 23),
        ("/logs/mail.log {\n rotate -1\n prerotate\n [ -e x ] && {\n daily\n }\n endscript\n}\n", None),
    ],
)
def test_when_the_oldest_goes(tmp_path: Path, rule: str, days: float | None) -> None:
    make(tmp_path / "logs", WEEKLY)
    rules = tmp_path / "etc"
    (rules / "logrotate.d").mkdir(parents=True)
    (rules / "logrotate.conf").write_text("weekly\nrotate 4\ninclude /etc/logrotate.d\n")
    (rules / "logrotate.d" / "rsyslog").write_text(rule.replace("/logs/", f"{tmp_path}/logs/"))
    (found,) = rotations([tmp_path / "logs" / "mail.log"], rules=rules)
    assert found.oldest.name == "mail.log.4.gz" and len(found.files) == 5
    assert found.leaves_at == (None if days is None else NOW + timedelta(days=days))
    assert bool(found.rule) == ("/logs/" in rule)


@pytest.mark.parametrize(
    ("name", "said", "keep", "period"),
    [
        ("mail.log", "rotate 4\nweekly", 4, 7),
        ("mail.log", "rotate 0\nmonthly", 0, 30),
        ("maillog", "rotate 60\nyearly", 60, 365),
        ("mail.info", "rotate 3\nhourly", 3, 1 / 24),
        ("mail.err", "daily\nrotate -1", None, 1),
        ("mail.warn", "rotate many", 1, None),
    ],
)
@pytest.mark.parametrize("copy", [".1", ".1.gz", "-20261101", "-20261101.xz", "-2026110113", ".20261101.bz2"])
def test_what_a_rule_says_of_a_log_by_any_name_of_its_copy(
    tmp_path: Path, name: str, said: str, keep: int | None, period: float | None, copy: str
) -> None:
    make(tmp_path / "logs", {name: 0, name + copy: 2, f"{name}.bak": 5})
    rules = tmp_path / "etc" / "logrotate.d"
    rules.mkdir(parents=True)
    (rules / "mail").write_text(f"{tmp_path}/logs/mail* {tmp_path}/logs/other {{\n{said}\n}}\n")
    (found,) = [one for one in rotations([tmp_path / "logs"], rules=tmp_path / "etc") if one.base.name == name]
    assert [path.name for path in found.files] == [name, name + copy]
    assert (found.keep, found.period) == (keep, None if period is None else timedelta(days=period))


def test_a_folder_of_dated_copies_and_what_is_no_copy(tmp_path: Path) -> None:
    make(tmp_path, {"maillog": 0, "maillog-20261101.gz": 3, "maillog-20261102": 2, "maillog-old.txt": 9, "other": 1})
    (found,) = rotations([tmp_path], rules=tmp_path / "none")
    assert [path.name for path in found.files] == ["maillog", "maillog-20261102", "maillog-20261101.gz"]
    assert found.period == timedelta(days=1)
    assert rotations([tmp_path / "gone"], rules=tmp_path / "none") == []


def test_one_copy_tells_no_period(tmp_path: Path) -> None:
    make(tmp_path, {"mail.log": 0, "mail.log.1": 2})
    (found,) = rotations([tmp_path / "mail.log.1"], rules=tmp_path / "none")
    assert found.period is None and found.leaves_at is None
