"""A private Postfix: own configuration, queue and data directories, own log file, loopback only; stopped after use.

Needs Debian's postfix and root (its master drops privileges by itself). `unavailable()` says why it cannot run.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_POSTFIX = "/usr/sbin/postfix"
_START_SECONDS = 20.0
PREFIX = "resend-pf-"  # of workplaces (tests/support/orphans) with instances in them, and how those are stopped
STOP = f'for etc in "$0"/*/etc; do {_POSTFIX} -c "$etc" stop; done'

_MASTER = """\
{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
showq unix n - n - - showq
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def unavailable() -> str:
    """Why no private Postfix can run here, "" where it can."""
    if not Path(_POSTFIX).exists():
        return "Postfix is not installed"
    if os.getuid() != 0:
        return "a private Postfix needs root"
    return ""


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running instance: submit to 127.0.0.1:`port`, read `log`."""

    root: Path
    port: int
    log: Path

    @property
    def config(self) -> Path:
        return self.root / "etc"

    def run(self, *command: str) -> str:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def flush(self) -> None:
        """Try every deferred mail now."""
        self.run("/usr/sbin/postqueue", "-c", str(self.config), "-f")

    def queue_json(self) -> str:
        """`postqueue -j`: one JSON object a queued mail."""
        return self.run("/usr/sbin/postqueue", "-c", str(self.config), "-j")

    def configure(self, settings: Mapping[str, str]) -> None:
        """Change settings of the running instance; what is queued stays queued."""
        words = [f"{name} = {value}" for name, value in settings.items()]
        self.run("/usr/sbin/postconf", "-c", str(self.config), "-e", *words)
        self.run(_POSTFIX, "-c", str(self.config), "reload")

    def wait_until_left(self, count: int, seconds: float = 60.0, *, flush_every: float = 2.0) -> None:
        """Drain the queue down to `count` mails; raise TimeoutError when more are left."""
        deadline = time.monotonic() + seconds
        flushed = time.monotonic()
        while len(self.queue_json().splitlines()) > count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"still queued:\n{self.queue_json()}")
            if time.monotonic() - flushed > flush_every:
                self.flush()
                flushed = time.monotonic()
            time.sleep(0.2)


@contextmanager
def postfix(root: Path, transport: Mapping[str, str], settings: Mapping[str, str] | None = None) -> Iterator[Postfix]:
    """Start an instance that sends by `transport` (domain -> `smtp:[127.0.1.9]:2525`); stop it whatever happens."""
    port = free_port()
    etc, spool, data = root / "etc", root / "spool", root / "data"
    log = root / "mail.log"
    for directory in (etc, spool, data):
        directory.mkdir(parents=True)
    for directory in (root, *root.parents):  # Postfix's own user must reach its directories
        if directory == Path("/tmp") or directory == Path("/"):
            break
        directory.chmod(0o755)
    shutil.chown(data, "postfix", "postfix")
    values = {
        "compatibility_level": "3.6",
        "queue_directory": str(spool),
        "data_directory": str(data),
        "command_directory": "/usr/sbin",
        "daemon_directory": "/usr/lib/postfix/sbin",
        "maillog_file": str(log),
        "maillog_file_prefixes": str(root),
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "myhostname": "mta1.example.jp",
        "mydestination": "",
        "mynetworks": "127.0.0.0/8",
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "transport_maps": f"inline:{{{', '.join(f'{{ {name} = {to} }}' for name, to in transport.items())}}}",
        "default_transport": "error:5.1.2 no such domain in this test",
        "smtp_bind_address": "127.0.0.1",
        "smtp_dns_support_level": "disabled",
        "smtp_host_lookup": "native",
        "smtp_tls_security_level": "none",
        "smtpd_tls_security_level": "none",
        "smtp_destination_concurrency_limit": "5",
        "queue_run_delay": "2s",
        "minimal_backoff_time": "2s",
        "maximal_backoff_time": "4s",
        "maximal_queue_lifetime": "1h",
        "bounce_queue_lifetime": "10s",
        "smtpd_client_connection_count_limit": "0",
        "notify_classes": "",
        "alias_maps": "",
        "alias_database": "",
        "local_recipient_maps": "",
        **(settings or {}),
    }
    (etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in values.items()))
    (etc / "master.cf").write_text(_MASTER.format(port=f"127.0.0.1:{port}"))
    instance = Postfix(root, port, log)
    try:
        _start(instance)
        _wait_for(port)
        yield instance
    finally:
        subprocess.run([_POSTFIX, "-c", str(etc), "stop"], check=False, capture_output=True, timeout=60)


def _start(instance: Postfix) -> None:
    """Start it; a busy machine may need a second attempt, and what its log says is shown."""
    for attempt in range(3):
        try:
            instance.run(_POSTFIX, "-c", str(instance.config), "start")
            return
        except RuntimeError as error:
            if attempt == 2:
                said = instance.log.read_text() if instance.log.exists() else ""
                raise RuntimeError(f"{error}\n{said}") from None
            time.sleep(1)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as session:
                if session.recv(3) == b"220":
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)
