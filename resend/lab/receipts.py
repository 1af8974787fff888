"""Receipts: what a lab receiver took, one fsynced JSON line per accepted (body, recipient); and what it refused.

`<pool>.receipts.jsonl` holds receipts, `<pool>.events.jsonl` refusals, drops and connections (not fsynced). The reading
half needs the standard library only and knows nothing of the tool that sent. A `Journal` never reorders and never
reports a line durable before its fsync; an error of the disk ends the journal, and with it every later reply.
"""

from __future__ import annotations

import json
import os
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One accepted body for one recipient. Times are nanoseconds since 1970; `sha256` is of the body as it was
    before dot-stuffing, CRLF lines, without the final dot; `clean` is false if it held a bare CR or LF or a NUL;
    `dropped_reply` is true if the sender was never told (the body counts as delivered all the same)."""

    at: int
    mail_at: int
    pool: str
    local: str
    peer: str
    connection: int
    sender: str
    rcpt: str
    sha256: str
    message_id: str
    size: int
    clean: bool
    dropped_reply: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LabEvent:
    """Something a receiver did that is no acceptance. `event`: connect, close, throttled, blocked, connection_limit,
    session_limit, greylisted, rejected, drop, garbage, silence, reply (a planted one), size, lost (the peer went)."""

    at: int
    pool: str
    connection: int
    event: str
    stage: str
    sender: str
    rcpt: str
    reply: str


def read_receipts(directory: Path, pool: str = "*") -> Iterator[Receipt]:
    """All receipts below `directory`, per pool in the order of acceptance. A torn last line is not a receipt."""
    for line in _lines(directory, f"{pool}.receipts.jsonl"):
        yield Receipt(**json.loads(line))


def read_events(directory: Path, pool: str = "*") -> Iterator[LabEvent]:
    for line in _lines(directory, f"{pool}.events.jsonl"):
        yield LabEvent(**json.loads(line))


def _lines(directory: Path, glob: str) -> Iterator[bytes]:
    for path in sorted(directory.glob(glob)):
        with path.open("rb") as handle:
            yield from (line for line in handle if line.endswith(b"\n"))


class Journal:
    """Append-only file with group fsync: a thread writes all waiting lines, syncs once, then calls back in the loop."""

    def __init__(self, path: Path, loop: AbstractEventLoop, *, notes: Path | None = None) -> None:
        self._fd = _open_whole_lines(path)
        self._notes_fd = _open_whole_lines(notes) if notes is not None else -1
        self._loop = loop
        self._lines: list[bytes] = []
        self._done: list[Callable[[], None]] = []
        self._notes: list[bytes] = []
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=f"journal {path.name}", daemon=True)
        self._thread.start()

    def add(self, line: bytes, done: Callable[[], None]) -> None:
        """Append `line` (with its newline); `done` runs in the loop once it is on disk."""
        with self._wake:
            self._lines.append(line)
            self._done.append(done)
            self._wake.notify()

    def note(self, line: bytes) -> None:
        """Append to the notes file, soon and without fsync."""
        with self._wake:
            self._notes.append(line)
            self._wake.notify()

    def close(self) -> None:
        """Write and sync what waits, then close. Callbacks that still come are dropped with their loop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        for fd in (self._fd, self._notes_fd):
            if fd >= 0:
                os.close(fd)

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._lines or self._notes or self._closing)
                lines, done, notes = self._lines, self._done, self._notes
                self._lines, self._done, self._notes = [], [], []
                if self._closing and not lines and not notes:
                    return
            if notes and self._notes_fd >= 0:
                _write_all(self._notes_fd, b"".join(notes))
            if lines:
                _write_all(self._fd, b"".join(lines))
                os.fdatasync(self._fd)
                try:
                    self._loop.call_soon_threadsafe(_call, done)
                except RuntimeError:  # the loop is closed: the lines are durable, nobody waits for the reply
                    return


def _open_whole_lines(path: Path) -> int:
    """Open for appending; a line that a crash tore is cut off, so that the next one starts its own line."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    size = os.fstat(fd).st_size
    tail = os.pread(fd, 1 << 16, max(0, size - (1 << 16)))
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(fd, size - len(tail) + tail.rfind(b"\n") + 1)
    return fd


def _call(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
