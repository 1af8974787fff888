"""Collect killed with SIGKILL around its commit: run again, it gives the same evidence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resend.stores.evidence import Evidence
from resend.stores.home import Home
from tests.collect.reading import REPOSITORY, mails, rows

PROGRAM = """
import sys
from pathlib import Path
from resend.collect import files
files.BLOCK_BYTES = 64 << 10
from resend.collect import collect as module
module._COMMIT_EVERY_S = 0.0
from resend.config import Config
from resend.stores.home import Home
if __name__ == "__main__":
    module.collect(Home(Path(sys.argv[1])), Config(tz="UTC"), [Path(sys.argv[2])])
"""


def run(home: Home, log: Path, failpoints: str = "") -> int:
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "BULK_RESEND_FAILPOINTS": failpoints}
    program = log.with_name("program.py")
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(home.path), str(log)]
    return subprocess.run(command, env=environ, cwd=log.parent, check=False).returncode


@pytest.mark.parametrize(
    "failpoint",
    [
        "collect.part_written=kill@1",
        "collect.part_written=kill@3",
        "collect.part_renamed=kill@2",
        "collect.manifest=kill@1",
    ],
)
def test_killed_then_run_again(tmp_path: Path, home: Home, failpoint: str) -> None:
    log = tmp_path / "mail.log"
    log.write_text(mails(1500))
    whole = Home(tmp_path / "whole")
    assert run(whole, log) == 0
    assert run(home, log, failpoint) == -signal.SIGKILL
    seen = rows(home)  # what is there is sound: a beginning of the file, or nothing
    in_order = sorted(rows(whole), key=lambda row: row[-1])
    assert sorted(seen, key=lambda row: row[-1]) == in_order[: len(seen)]
    assert run(home, log) == 0
    assert rows(home) == rows(whole)
    assert Evidence(home).manifest_id() == Evidence(whole).manifest_id()
    assert not list(Evidence(home).parts.glob(".*"))


def test_a_killed_collect_leaves_no_process(tmp_path: Path, home: Home) -> None:
    log = tmp_path / "mail.log"
    log.write_text(mails(1500))
    assert run(home, log, "collect.part_written=kill@3") == -signal.SIGKILL
    for _ in range(100):
        if not _waiting_for(log):
            return
        time.sleep(0.05)
    raise AssertionError(f"left behind: {_waiting_for(log)}")


def _waiting_for(log: Path) -> list[int]:
    """Processes that were started in the folder of `log`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if entry.readlink() == log.parent:
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def test_killed_while_a_grown_file_is_read(tmp_path: Path, home: Home) -> None:
    log = tmp_path / "mail.log"
    log.write_text(mails(900))
    assert run(home, log) == 0
    before = rows(home)
    log.write_text(mails(1500))
    assert run(home, log, "collect.part_renamed=kill@2") == -signal.SIGKILL
    assert rows(home) == before
    assert run(home, log) == 0
    assert len(rows(home)) == 7500


INTERRUPTED = PROGRAM.replace(
    """if __name__ == "__main__":""",
    """
from resend.collect import pool
import os, signal
pool._ALONE_BYTES = 0
os.cpu_count = lambda: 3
def progress(done, total):
    if done > total * float(sys.argv[3]):
        os.killpg(0, signal.SIGINT)
if __name__ == "__main__":
  try:""",
).replace(
    "Path(sys.argv[2])])", "Path(sys.argv[2])], progress=progress)\n  except KeyboardInterrupt:\n    sys.exit(130)"
)


@pytest.mark.parametrize("after", [0.0, 0.5])
def test_ctrl_c_at_a_terminal_ends_all_processes_without_a_word(tmp_path: Path, home: Home, after: float) -> None:
    """It reaches the whole group: helpers that are starting (at the first block), and those that wait or parse."""
    log = tmp_path / "mail.log"
    log.write_text(mails(1500))
    program = tmp_path / "program.py"
    program.write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, str(program), str(home.path), str(log), str(after)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    for _ in range(100):
        if not _waiting_for(log):
            break
        time.sleep(0.05)
    assert not _waiting_for(log)
    assert run(home, log) == 0
    assert len(rows(home)) == 7500
    assert not list(Evidence(home).parts.glob(".*"))
