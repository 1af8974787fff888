"""The home directory: where each store lies, and the locks that keep two processes apart.

Files and directories are created for the owner only. Raises StoreError when the home cannot be made or is on a
network file system's lock refusal, LockHeld when a live process holds a lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from resend.errors import LockHeld, StoreError


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under the home. `create()` once before writing."""

    path: Path

    @property
    def evidence(self) -> Path:
        return self.path / "evidence"

    @property
    def catalog(self) -> Path:
        return self.path / "catalog"

    @property
    def content(self) -> Path:
        return self.path / "content"

    @property
    def derived(self) -> Path:
        return self.path / "derived"

    @property
    def ledger_db(self) -> Path:
        return self.path / "ledger.db"

    @property
    def evidence_lock(self) -> Path:
        return self.path / "evidence.lock"

    @property
    def run_lock(self) -> Path:
        return self.path / "run.lock"

    @property
    def ledger_write(self) -> Path:
        return self.path / "ledger.write"

    def create(self) -> Home:
        try:
            for directory in (self.path, self.evidence, self.catalog, self.content, self.derived):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the home: {error.strerror}", where=str(self.path), next_step="choose another with --home"
            ) from error
        return self


def private_opener(path: str, flags: int) -> int:
    """`opener` for `open()`: files readable by the owner only."""
    return os.open(path, flags, 0o600)


@contextmanager
def exclusive(path: Path, *, what: str, wait: bool = False) -> Iterator[None]:
    """Hold an flock on `path`. Without `wait`, a lock that a live process holds raises LockHeld naming its pid.

    The kernel drops the lock when the holder dies, however it dies, so a held lock proves a live process.
    """
    with open(path, "a+", opener=private_opener) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise LockHeld(
                f"{what} is in use by process {holder}", where=str(path), next_step="wait for it, or stop it first"
            ) from None
        except OSError as error:
            raise StoreError(
                f"cannot lock: {error.strerror}", where=str(path), next_step="put the home on a local file system"
            ) from error
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` durably and atomically: a reader sees the old file or the new one, also after a power loss."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=private_opener) as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        rename_durably(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None  # a write names no file by itself


def rename_durably(temporary: Path, path: Path) -> None:
    """Rename into place and sync the directory, so the name survives a power loss."""
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
