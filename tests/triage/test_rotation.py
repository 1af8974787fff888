"""How long rotated logs stay: by logrotate's own rules, else estimated from the files."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resend.collect.rotation import rotations

NOW = datetime.now(UTC).replace(microsecond=0)


def make(folder: Path, ages: dict[str, float]) -> None:
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
    ],
)
def test_when_the_oldest_goes(tmp_path: Path, rule: str, days: float) -> None:
    make(tmp_path / "logs", WEEKLY)
    rules = tmp_path / "etc"
    (rules / "logrotate.d").mkdir(parents=True)
    (rules / "logrotate.conf").write_text("weekly\nrotate 4\ninclude /etc/logrotate.d\n")
    (rules / "logrotate.d" / "rsyslog").write_text(rule.replace("/logs/", f"{tmp_path}/logs/"))
    (found,) = rotations([tmp_path / "logs" / "mail.log"], rules=rules)
    assert found.oldest.name == "mail.log.4.gz" and len(found.files) == 5
    assert found.leaves_at == NOW + timedelta(days=days)
    assert bool(found.rule) == ("/logs/" in rule)


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
