"""Servers that tests start do not outlive them: a killed test process leaves no server and no directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import postgres
from tests.support import orphans, postfix

ROOT = Path(__file__).parents[1]
POSTGRES = """
from tests import postgres
with postgres.server() as server:
    print(server.directory, server.process.pid, flush=True)
    input()
"""
POSTFIX = """
from tests.support.orphans import workplace
from tests.support.postfix import PREFIX, STOP, postfix
with workplace(PREFIX, STOP) as folder, postfix(folder / "postfix", {}) as server:
    print(folder, (server.root / "spool/pid/master.pid").read_text(), flush=True)
    input()
"""


def needs_postgres() -> str:
    try:
        import psycopg  # noqa: F401

        postgres.binaries()
    except (ImportError, postgres.CannotStart) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("script", "why_not"),
    [
        pytest.param(POSTGRES, needs_postgres, marks=pytest.mark.postgres, id="postgres"),
        pytest.param(POSTFIX, postfix.unavailable, marks=pytest.mark.postfix, id="postfix"),
    ],
)
def test_a_killed_test_process_leaves_no_server(script: str, why_not: object) -> None:
    assert callable(why_not)
    if why_not() and os.environ.get("CI") != "true":
        pytest.skip(why_not())
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as test:
        assert test.stdout is not None
        folder, pid = test.stdout.readline().split()
        os.kill(int(pid), 0)
        test.send_signal(signal.SIGKILL)
    until = time.monotonic() + 15
    while (alive(int(pid)) or Path(folder).exists()) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(int(pid))
    assert not Path(folder).exists()


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old = time.time() - 60
    for name in ("w-gone", "w-unknown"):
        (tmp_path / name).mkdir()
    (tmp_path / "w-gone" / "owner").touch()
    os.utime(tmp_path / "w-gone" / "owner", (old, old))
    with orphans.workplace("w-", 'touch "$0.stopped"') as used:
        os.utime(used / "owner", (old, old))
        with orphans.workplace("w-", 'touch "$0.stopped"'):
            assert used.is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"w-gone.stopped", "w-unknown"}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
