"""The one writer of a run: everything that is queued goes into one transaction, one fsync for all connections.

`submit` gives an awaitable that is done when the transition is durable. LedgerWriter works in a thread of its own;
InlineWriter works in the caller's, for simulation and small tools. Contention is tried again; a disk error is not:
after one, everything fails with StoreError until the ledger is opened anew. What a transition means is not known here.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from resend.errors import StoreError
from resend.stores.engine import store_error
from resend.stores.ledger import Ledger
from resend.stores.transitions import Result, Transition

T = TypeVar("T")
_CHECKPOINT_JOBS = 3000  # about 16 MiB of write-ahead log: the file keeps its size, so it does not tell what is in it
_CALL_JOBS = 50  # a claim writes about as much as so many transitions
_TURNS = 20  # of the loop that a writer waits at most while each brings something: less than a commit takes
_IDLE_S = 1.0  # idle this long: a checkpoint, so that the log does not stay big
_CONTENTION_S = 30.0


class Writer(Protocol):
    """What the executor is given."""

    def submit(self, transition: Transition) -> asyncio.Future[Result]:
        """Done when the transition is durable; its result says whether it was made."""
        ...

    def tell(self, transition: Transition, done: Callable[[Result | Exception], None]) -> None:
        """The same for a caller that goes on: `done` is called in the event loop with the result or the failure."""
        ...

    def submit_many(self, transitions: Sequence[Transition]) -> asyncio.Future[list[Result]]:
        """The same for several that belong in one transaction, in their order."""
        ...

    def call(self, function: Callable[[Connection], T]) -> asyncio.Future[T]:
        """Run `function` in a write transaction of its own (a claim, a reservation); it may run again on contention."""
        ...


@dataclass(slots=True)
class _Job:
    """Transitions (or one function) and who waits for them."""

    done: Callable[[Any], None]
    transitions: tuple[Transition, ...] = ()
    single: bool = False
    function: Callable[[Connection], Any] | None = None


class LedgerWriter:
    """Writes in a thread of its own; made, used and closed in one event loop. `async with` closes it.

    `close` waits for what is queued. After a failure that is not contention every later `submit` fails at once.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Job] = deque()  # the loop appends, the thread pops: both atomic
        self._wake = threading.Event()
        self._waking = False
        self._seen = self._turns = 0  # how much was queued a turn ago, and how many turns the writer has waited
        self._closing = False
        self._broken: StoreError | None = None
        self._working: Sequence[_Job] = ()  # in the thread's hands
        self._done: list[_Done] = []  # of these, in their order, what has its result
        self._unfolded = 0  # written since the last checkpoint
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, transition: Transition) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = self._loop.create_future()
        self._put(_Job(partial(_settle, future), (transition,), single=True))
        return future

    def tell(self, transition: Transition, done: Callable[[Result | Exception], None]) -> None:
        self._put(_Job(done, (transition,), single=True))

    def submit_many(self, transitions: Sequence[Transition]) -> asyncio.Future[list[Result]]:
        future: asyncio.Future[list[Result]] = self._loop.create_future()
        self._put(_Job(partial(_settle, future), tuple(transitions)))
        return future

    def call(self, function: Callable[[Connection], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self._put(_Job(partial(_settle, future), function=function))
        return future

    async def close(self) -> None:
        """Write what is queued, checkpoint, end the thread."""
        self._closing = True
        self._wake.set()
        await self._loop.run_in_executor(None, self._thread.join)

    async def __aenter__(self) -> LedgerWriter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _put(self, job: _Job) -> None:
        if self._broken is not None:
            job.done(self._broken)
        elif self._closing:
            job.done(StoreError("the ledger's writer is closed", where=self._ledger.where))
        else:
            self._queue.append(job)
            if not self._waking:
                self._waking = True
                self._loop.call_soon(self._wake_up)

    def _wake_up(self) -> None:
        """What is submitted in one turn of the loop goes into one transaction, and what more the next turns bring.

        A commit costs the disk's time whatever is in it. A turn that brings nothing ends the wait.
        """
        queued = len(self._queue)
        if queued > self._seen and self._turns < _TURNS:
            self._seen = queued
            self._turns += 1
            self._loop.call_soon(self._wake_up)
            return
        self._waking = False
        self._seen = self._turns = 0
        self._wake.set()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # a defect of ours must not leave senders waiting for an answer
            self._broken = StoreError(f"the ledger's writer failed: {error!r}", where=self._ledger.where)
            self._closing = True
            left = [*self._working[len(self._done) :], *_drain(self._queue)]
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_resolve, _told(self._done, left, self._broken))
            raise

    def _serve(self) -> None:
        while True:
            if not self._wake.wait(_IDLE_S):
                self._checkpoint()
                self._wake.wait()
            self._wake.clear()
            closing = self._closing
            if jobs := _drain(self._queue):
                self._working, self._done = jobs, []
                done = self._work(jobs)
                self._working, self._done = (), []
                try:
                    self._loop.call_soon_threadsafe(_resolve, done)
                except RuntimeError:
                    return  # the loop is gone: nobody waits for an answer
                self._unfolded += _written(jobs)
                if self._unfolded >= _CHECKPOINT_JOBS:
                    self._checkpoint()
            if closing and not self._queue:
                self._checkpoint()
                return
            if self._queue or closing:
                self._wake.set()

    def _work(self, jobs: Sequence[_Job]) -> list[_Done]:
        if self._broken is None:
            try:
                _perform(self._ledger, jobs, self._done)
            except StoreError as error:
                self._broken = error
        return _told(self._done, jobs[len(self._done) :], self._broken)

    def _checkpoint(self) -> None:
        if self._broken is None and self._unfolded:
            try:
                self._ledger.checkpoint()
            except StoreError as error:
                self._broken = error
        self._unfolded = 0


class InlineWriter:
    """Writes in the event loop's own thread, once per turn of the loop: for simulation, or where threads are unwanted.

    What is submitted in one turn goes into one transaction, as with LedgerWriter.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._jobs: deque[_Job] = deque()
        self._broken: StoreError | None = None
        self._unfolded = 0

    def submit(self, transition: Transition) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._put(_Job(partial(_settle, future), (transition,), single=True))
        return future

    def tell(self, transition: Transition, done: Callable[[Result | Exception], None]) -> None:
        self._put(_Job(done, (transition,), single=True))

    def submit_many(self, transitions: Sequence[Transition]) -> asyncio.Future[list[Result]]:
        future: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        self._put(_Job(partial(_settle, future), tuple(transitions)))
        return future

    def call(self, function: Callable[[Connection], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put(_Job(partial(_settle, future), function=function))
        return future

    async def close(self) -> None:
        """Write what is queued."""
        self._flush()

    async def __aenter__(self) -> InlineWriter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _put(self, job: _Job) -> None:
        if not self._jobs:
            asyncio.get_running_loop().call_soon(self._flush)
        self._jobs.append(job)

    def _flush(self) -> None:
        jobs = _drain(self._jobs)
        if not jobs:
            return
        done: list[_Done] = []
        if self._broken is None:
            try:
                _perform(self._ledger, jobs, done)
                self._unfolded += _written(jobs)
                if self._unfolded >= _CHECKPOINT_JOBS:
                    self._unfolded = 0
                    self._ledger.checkpoint()
            except StoreError as error:
                self._broken = error
        _resolve(_told(done, jobs[len(done) :], self._broken))


_Done = tuple[Callable[[Any], None], Any]


def _drain(queue: deque[_Job]) -> list[_Job]:
    jobs: list[_Job] = []
    try:
        while True:
            jobs.append(queue.popleft())
    except IndexError:
        return jobs


def _written(jobs: Sequence[_Job]) -> int:
    return sum(_CALL_JOBS if job.function is not None else len(job.transitions) for job in jobs)


def _told(done: list[_Done], left: Sequence[_Job], error: StoreError | None) -> list[_Done]:
    """What each job is told: its own result where it has one, the failure where it came too late for one."""
    return done + [(job.done, error) for job in left]


def _resolve(outcomes: Sequence[_Done]) -> None:
    for done, outcome in outcomes:
        done(outcome)


def _settle(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():  # whoever waited was cancelled; the transition is durable all the same
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _perform(ledger: Ledger, jobs: Sequence[_Job], done: list[_Done]) -> None:
    """Write everything, in order; what each job gets is added to `done` as soon as it is durable.

    Raises StoreError where the database cannot go on: what `done` holds by then was written, and nothing else.
    """
    group: list[_Job] = []
    for job in jobs:
        if job.function is None:
            group.append(job)
            continue
        _group(ledger, group, done)
        group = []
        done.append((job.done, _guarded(ledger, job)))
    _group(ledger, group, done)


def _group(ledger: Ledger, jobs: Sequence[_Job], done: list[_Done]) -> None:
    """One transaction for all; where one of them cannot be written, one for each, so that only that one fails."""
    flat = [transition for job in jobs for transition in job.transitions]
    results: list[Result] | None = None
    if len(jobs) > 1:
        try:
            results = _again(ledger, lambda: ledger.apply_raw(flat))
        except _Disk as error:
            raise error.told from error
        except Exception:  # some job's own fault
            results = None
    if results is None:
        for job in jobs:
            done.append((job.done, _guarded(ledger, job)))  # noqa: PERF401 - it must be there if the next one raises
        return
    at = 0
    for job in jobs:
        mine = results[at : at + len(job.transitions)]
        at += len(job.transitions)
        done.append((job.done, mine[0] if job.single else mine))


def _guarded(ledger: Ledger, job: _Job) -> Any:
    """The result of one job, or the exception that is its own fault."""
    try:
        if job.function is None:
            results = _again(ledger, lambda: ledger.apply_raw(job.transitions))
            return results[0] if job.single else results
        return _again(ledger, lambda: _call(ledger, job.function))
    except _Disk as error:
        raise error.told from error
    except Exception as error:
        return store_error(error, ledger.where) if isinstance(error, SQLAlchemyError) else error


def _call(ledger: Ledger, function: Callable[[Connection], Any] | None) -> Any:
    assert function is not None
    with ledger.transaction() as conn:
        return function(conn)


class _Disk(Exception):
    """The database cannot go on."""

    def __init__(self, told: StoreError) -> None:
        super().__init__(str(told))
        self.told = told


def _again(ledger: Ledger, write: Callable[[], T]) -> T:
    """Write; contention and a lost PostgreSQL connection are tried again.

    A connection lost in COMMIT leaves open whether it was done. Writing again tells: every transition finds its own try
    by its id, and the rows' locks make it wait for a COMMIT that still runs.
    """
    try:
        try:
            return write()
        except DBAPIError as error:
            if not _passes(error):
                raise
        return _persistently(write)
    except (OperationalError, InternalError, InterfaceError) as error:
        raise _Disk(store_error(error, ledger.where)) from error


def _persistently(write: Callable[[], T]) -> T:
    trying = Retrying(
        retry=retry_if_exception(_passes),
        stop=stop_after_delay(_CONTENTION_S),
        wait=wait_random_exponential(multiplier=0.01, max=1.0),
        reraise=True,
    )
    return trying(write)


def _passes(error: BaseException) -> bool:
    """Whether this may be otherwise next time: another writer, a deadlock, a lost connection. Never a disk error."""
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", 0)
        return (code & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    state = getattr(error.orig, "sqlstate", None) or ""
    return state in ("40001", "40P01") or state[:2] in ("08", "57") or error.connection_invalidated or not state
