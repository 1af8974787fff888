"""Servers that tests start end with the test process, also when that is killed; what was left anyway is swept later.

A workplace is a directory of its own that its process holds locked. Beside it waits a shell, in a session of its own,
for the process to end: then it stops the server and removes the directory. Whoever makes a workplace first does the
same for those whose owner is gone. Stop commands are shell text with the directory as $0.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FRESH_S = 5  # a workplace this young may not be locked yet
_NOBODYS_S = 3600  # one without a lock file was never finished, or is not ours: no test takes that long


@contextmanager
def workplace(prefix: str, stop: str) -> Iterator[Path]:
    """A new directory `prefix...`; whatever `stop` stops does not outlive this process."""
    _sweep(prefix, stop)
    root = Path(tempfile.mkdtemp(prefix=prefix))
    root.chmod(0o755)
    lock = os.open(root / "owner", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    script = f'read -r line || {{ {stop}\n rm -rf "$0"; }}'
    with subprocess.Popen(
        ["/bin/sh", "-c", script, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    ) as watcher:
        try:
            yield root
        finally:
            with suppress(BrokenPipeError):
                watcher.communicate(b"all is well\n")
            shutil.rmtree(root, ignore_errors=True)
            os.close(lock)


def _sweep(prefix: str, stop: str) -> None:
    for root in Path(tempfile.gettempdir()).glob(prefix + "*"):
        with suppress(OSError):
            if _left(root):
                subprocess.run(
                    ["/bin/sh", "-c", stop, str(root)], check=False, capture_output=True, timeout=60, cwd="/"
                )
                shutil.rmtree(root, ignore_errors=True)


def _left(root: Path) -> bool:
    """Whether nobody alive holds this workplace."""
    owner = root / "owner"
    if not owner.exists():
        return time.time() - root.stat().st_mtime > _NOBODYS_S
    if time.time() - owner.stat().st_mtime < _FRESH_S:
        return False
    lock = os.open(owner, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
