"""A private PostgreSQL for the tests: Debian's binaries, a data directory of its own, a free port on 127.0.0.1.

Started once for each pytest process and always stopped, also when that is killed. As root the server runs as user
nobody (it refuses root). Where it cannot start, tests skip and say why; with CI=true they fail.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.orphans import workplace

PREFIX = "resend-pg-"
STOP = """\
pid=$(head -n 1 "$0/data/postmaster.pid")
ours() { ps -o args= -p "$pid" | grep -qF -- "$0/data"; }  # its number may be another process's by now
ours && kill -QUIT "$pid"
for tenth in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do ours || break; sleep 0.1; done
"""
_START_S = 60


class CannotStart(Exception):
    """Why there is no server."""


def binaries() -> Path:
    """Where initdb and postgres lie; the newest version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    beside = shutil.which("initdb")
    if beside is None:
        raise CannotStart("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    return Path(beside).resolve().parent


class Server:
    """A running server. `database()` makes a new, empty one."""

    def __init__(self, directory: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.directory = directory
        self.port = port
        self.process = process

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://tester@127.0.0.1:{self.port}/{database}"

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://tester@127.0.0.1:{self.port}/{database}"

    def database(self, template: str = "template1") -> str:
        """URL of a new database, a copy of `template`."""
        import psycopg

        name = f"ledger_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.dsn(), autocommit=True) as con:
            con.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected."""
        import psycopg

        with psycopg.connect(self.dsn(), autocommit=True) as con:
            con.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)".encode())


@contextmanager
def server(*, durable: bool = False) -> Iterator[Server]:
    """Start one, stop it in any case. `durable`: commits reach the disk, for measuring. Raises CannotStart."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise CannotStart("psycopg is not installed (pip install 'bulk-resend[postgres]')") from None
    bin_ = binaries()
    with workplace(PREFIX, STOP) as root, _running(bin_, root) as running:
        yield running


@contextmanager
def _running(bin_: Path, root: Path) -> Iterator[Server]:
    drop = _drop(root)
    data, log = root / "data", root / "log"
    initdb = [str(bin_ / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "--no-sync"]
    _run([*initdb, "-E", "UTF8", "--locale=C"], drop)
    port = _free_port()
    command = [str(bin_ / "postgres"), "-D", str(data), "-p", str(port), "-k", str(root)]
    # fsync off: the server itself never crashes here, its clients do
    for setting in ("listen_addresses=127.0.0.1", "max_connections=60", "shared_buffers=32MB", "fsync=off"):
        command += ["-c", setting]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=root, **drop)  # type: ignore[call-overload]
    try:
        _await(process, port, log)
        yield Server(root, port, process)
    finally:
        process.send_signal(signal.SIGQUIT)  # immediate shutdown: nothing of it is kept
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_or_skip() -> Iterator[Server]:
    """For a session fixture: the server, or a skip with its reason (in CI a failure)."""
    try:
        context = server()
        running = context.__enter__()
    except CannotStart as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"PostgreSQL is needed in CI: {error}")
        pytest.skip(f"PostgreSQL: {error}")
    try:
        yield running
    finally:
        context.__exit__(None, None, None)


def _drop(root: Path) -> dict[str, object]:
    """Popen arguments that leave root behind, and the directory given to that user."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    os.chown(root, user.pw_uid, user.pw_gid)
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(root)}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "env": environment}


def _run(command: list[str], drop: dict[str, object]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=command[2].rsplit("/", 1)[0], **drop
        )  # type: ignore[call-overload]
    except OSError as error:
        raise CannotStart(f"{command[0]}: {error}") from None
    if done.returncode:
        raise CannotStart(f"initdb: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import psycopg

    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise CannotStart(f"the server ended: {log.read_text(errors='replace')[-500:]}")
        with suppress(psycopg.OperationalError):
            psycopg.connect(f"postgresql://tester@127.0.0.1:{port}/postgres", connect_timeout=2).close()
            return
        time.sleep(0.05)
    raise CannotStart(f"no answer within {_START_S} s: {log.read_text(errors='replace')[-500:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
