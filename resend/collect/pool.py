"""Worker processes that turn blocks into parts. A block that is evidence already is only hashed.

At most four processes (spawn: nothing of the parent is inherited), one of them the parent itself, so that one core
needs no second process, nor do files that are parsed sooner than a process starts. A worker reads its block from the
file by itself where it can. Never writes the manifest.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from resend.collect import parse
from resend.collect.files import Block
from resend.errors import StoreError

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing.process import BaseProcess

WORKERS_MAX = 4
_ALONE_BYTES = 4 << 20  # parsed in about the time that a process takes to start (0.3 s)
_HEAD_BYTES = 200
_ROOM = 1 << 20  # bytes; a part that fails with less room fails for lack of it
_SAID = 200  # of an error, as it is shown

_known: frozenset[str] = frozenset()
_number = itertools.count()


@dataclass(frozen=True, slots=True)
class Job:
    """A block, how to read it, and the text that stands for that in the part's id."""

    block: Block
    how: parse.Reading
    how_id: str
    parts: Path


@dataclass(frozen=True, slots=True)
class Done:
    """A part: its id, the first bytes of its block, and (None where it was known) its accounting and Parquet file.

    missing: bytes of the block that its file does not hold any more.
    """

    part: str
    head: str
    length: int
    parsed: parse.Parsed | None
    temporary: Path | None
    missing: int = 0


def work(job: Job, known: frozenset[str] | None = None) -> Done:
    """Hash, and parse what is not known. Raises StoreError where the part cannot be written."""
    data = job.block.read()
    missing = job.block.length - len(data)
    digest = hashlib.sha256(job.how_id.encode())
    digest.update(data)
    part = digest.hexdigest()[:40]
    head = hashlib.sha256(data[:_HEAD_BYTES].partition(b"\n")[0]).hexdigest()[:16]
    if part in (_known if known is None else known):
        return Done(part, head, len(data), None, None, missing)
    # Equal blocks come twice, too: the first one's file may not be in its place yet.
    temporary = job.parts / f".{part}.{os.getpid()}-{next(_number)}.tmp"
    try:
        return Done(part, head, len(data), parse.parse_block(data, job.how, temporary), temporary, missing)
    except (duckdb.IOException, OSError) as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        why = "" if _free_bytes(job.parts) >= _ROOM else ": the disk is full"
        raise StoreError(
            f"the evidence cannot be written{why} ({str(error)[:_SAID]})",
            where=str(job.parts),
            next_step="make room, then run the same command again; what is collected so far is kept",
        ) from None


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _start(known: frozenset[str]) -> None:
    global _known
    _known = known
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's group; the parent ends us
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A helper waits for its next block for ever; a collect that was killed must not leave it behind."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Pool:
    """`run(jobs)` yields what became of each job, in order. Starts processes only where they pay."""

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self._helpers = max(0, min(WORKERS_MAX, os.cpu_count() or 1) - 1)
        self._executor: ProcessPoolExecutor | None = None
        self._processes: set[BaseProcess] = set()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._executor is None:
            return
        if kind is not None:  # nobody waits for what is being parsed; the next collect sweeps its files
            for process in self._processes:
                process.terminate()
        self._executor.shutdown(cancel_futures=True)

    def run(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Each helper has a block and one more waits; meanwhile this process does one, too."""
        coming = iter(jobs)
        given: deque[Future[Done]] = deque()
        seen = 0  # bytes
        for job in coming:
            seen += job.block.length
            busy = sum(not future.done() for future in given)
            others = list(self._hand_out(coming, busy)) if seen > _ALONE_BYTES else []
            given += [_future(work(job, self._known)), *others]
            while given and given[0].done():
                yield _result(given.popleft())
        while given:
            yield _result(given.popleft())

    def _hand_out(self, coming: Iterator[Job], busy: int) -> Iterator[Future[Done]]:
        for _ in range(self._helpers and self._helpers + 1 - busy):
            job = next(coming, None)
            if job is None:
                return
            yield self._submit(job)

    def _submit(self, job: Job) -> Future[Done]:
        if self._executor is None:
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context

            self._executor = ProcessPoolExecutor(
                self._helpers, mp_context=get_context("spawn"), initializer=_start, initargs=(self._known,)
            )
        from multiprocessing import active_children

        with _without_ctrl_c():  # a process inherits it, so that none is interrupted while it starts
            before = set(active_children())
            future = self._executor.submit(work, job)
            self._processes |= set(active_children()) - before
        return future


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Put Ctrl-C off until the block ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # the first process starts it, and that would end the putting off
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _future(done: Done) -> Future[Done]:
    future: Future[Done] = Future()
    future.set_result(done)
    return future


def _result(future: Future[Done]) -> Done:
    error = future.exception()
    if error is None:
        return future.result()
    from concurrent.futures.process import BrokenProcessPool

    if isinstance(error, BrokenProcessPool):
        raise StoreError(
            "a parsing process was killed, perhaps for lack of memory", next_step="run the same command again"
        )
    raise error
