"""Packed days hold the same evidence: for queries, for sources that are read again, and whenever compact is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from resend.collect import files
from resend.collect.collect import collect
from resend.config import Config
from resend.errors import StoreError
from resend.linker.outcomes import outcomes
from resend.stores.compact import compact
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from tests.collect.reading import REPOSITORY, mails, numbers, rows

NOW = datetime(2100, 1, 1, tzinfo=UTC)
CONFIG = Config(tz="UTC")
PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from resend.stores.compact import compact
from resend.stores.evidence import Evidence
from resend.stores.home import Home
compact(Evidence(Home(Path(sys.argv[1]))), now=datetime(2100, 1, 1, tzinfo=UTC))
"""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 32 << 10)


def day(number: int, count: int = 150, *, first: int = 0) -> str:
    """Mails of the 20th, 21st ... of November; some fail."""
    text = mails(count, first=1000 * number + first).replace("Nov 20", f"Nov {20 + number}")
    return text.replace("dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as ABC123)", BAD, 3)


BAD = "dsn=4.7.500, status=deferred (host mx.example.jp[192.0.2.1] said: 451 4.7.500 Server busy)"


def collected(home: Home, *paths: Path) -> Evidence:
    collect(home, CONFIG, list(paths))
    return Evidence(home)


def aged(evidence: Evidence) -> None:
    """As if the last commit was long ago."""
    for path in evidence.parts.iterdir():
        os.utime(path, (time.time() - 10_000,) * 2)


def loose(evidence: Evidence) -> set[str]:
    return {path.stem for path in evidence.parts.glob("*.parquet") if not path.stem.startswith("day-")}


def test_the_same_evidence_in_fewer_files(tmp_path: Path) -> None:
    home, log = Home(tmp_path / "home"), tmp_path / "mail.log"
    log.write_text(day(0) + day(1) + day(2))
    evidence = collected(home, log)
    before, counts, id_, parts = rows(home), numbers(home), evidence.manifest_id(), loose(evidence)
    first = outcomes(home, CONFIG)
    suspects = first.suspects.read_bytes()
    done = compact(evidence, now=NOW)
    assert done.days == 2 and done.files_before > 4 and done.files_after == 2
    assert (rows(home), numbers(home), evidence.manifest_id()) == (before, counts, id_)
    assert outcomes(home, CONFIG).id == first.id, "cached outcomes stay"
    for path in (*first.suspects.parent.iterdir(), first.suspects.parent):
        path.unlink() if path.is_file() else path.rmdir()
    assert outcomes(home, CONFIG).suspects.read_bytes() == suspects, "and would be the same"
    assert loose(evidence) == parts, "queries that began before still find them"
    aged(evidence)
    assert compact(evidence, now=NOW).days == 0
    assert len(loose(evidence)) == len(parts) - done.files_before and rows(home) == before
    again = collect(home, CONFIG, [log])
    assert again.new_parts == 0 and rows(home) == before


def test_grown_rotated_and_late_files_after_packing(tmp_path: Path) -> None:
    home, log, late = Home(tmp_path / "home"), tmp_path / "mail.log", tmp_path / "late.log"
    log.write_text(day(0) + day(1, 40))
    evidence = collected(home, log)
    collect(home, CONFIG, [_written(tmp_path / "newest.log", day(3, 5))])
    assert compact(evidence, now=NOW).days == 2
    log.write_text(day(0) + day(1, 40) + day(1, 100, first=40))  # its tail part, packed, is replaced
    collected(home, log)
    log.rename(tmp_path / "mail.log.1")
    assert collect(home, CONFIG, [tmp_path / "mail.log.1"]).new_parts == 0
    late.write_text(day(0, 30, first=500).replace("mta1", "mta2"))
    collected(home, late)
    whole = Home(tmp_path / "whole")
    collect(whole, CONFIG, [tmp_path / "mail.log.1", tmp_path / "newest.log", late])
    expected = rows(whole)
    assert rows(home) == expected
    assert compact(evidence, now=NOW).days == 2
    aged(evidence)
    with evidence.writing():
        pass
    assert rows(home) == expected and len(list(evidence.parts.glob("day-*"))) == 2
    assert compact(evidence, now=NOW).days == 0


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "point", ["compact.pack_written", "compact.pack_renamed", "collect.manifest", "compact.manifest"]
)
def test_killed_then_run_again(tmp_path: Path, point: str) -> None:
    home, log = Home(tmp_path / "home"), tmp_path / "mail.log"
    log.write_text(day(0, 60) + day(1, 60) + day(2, 20))
    evidence = collected(home, log)
    before = rows(home)
    program = _written(tmp_path / "program.py", PROGRAM)
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "BULK_RESEND_FAILPOINTS": f"{point}=kill@2"}
    command = [sys.executable, str(program), str(home.path)]
    assert subprocess.run(command, env=environ, check=False).returncode == -signal.SIGKILL
    assert rows(home) == before
    aged(evidence)
    compact(evidence, now=NOW)
    assert rows(home) == before and compact(evidence, now=NOW).days == 0
    names = {path.name for path in evidence.parts.iterdir()}
    assert len([name for name in names if name.startswith("day-")]) == 2 and not any(n.startswith(".") for n in names)


def test_today_and_a_lost_part_are_left_alone(tmp_path: Path) -> None:
    home, log = Home(tmp_path / "home"), tmp_path / "mail.log"
    log.write_text(day(0) + day(1))
    evidence = collected(home, log)
    assert compact(evidence, now=datetime(2000, 1, 1, tzinfo=UTC)).days == 0
    before = {path.name for path in evidence.parts.iterdir()}
    part = min(evidence.manifest().parts, key=lambda name: evidence.manifest().parts[name].first_at or 0)
    evidence.part_path(part).rename(tmp_path / "aside")
    with pytest.raises(StoreError, match="is gone"):
        compact(evidence, now=NOW)
    (tmp_path / "aside").rename(evidence.part_path(part))
    assert {path.name for path in evidence.parts.iterdir()} == before
