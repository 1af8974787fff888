"""The writer: groups, order, errors that touch one and errors that end all, lost connections."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, text

from resend.errors import StoreError
from resend.model import State
from resend.stores import claims
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.rows import Batch
from resend.stores.tables import audit, delivery
from resend.stores.transitions import Applied, Armed, Audit, EndBatch, RateChange
from resend.stores.writer import InlineWriter, LedgerWriter
from tests import postgres
from tests.ledger.world import NOW, World, arm, end, faults

MAKERS: list[Callable[[Ledger], LedgerWriter | InlineWriter]] = [LedgerWriter, InlineWriter]


def commits(ledger: Ledger) -> list[int]:
    """A list that grows with every commit."""
    seen: list[int] = []
    event.listen(ledger._engine, "commit", lambda conn: seen.append(1))
    return seen


@pytest.mark.parametrize("make", MAKERS)
def test_all_that_is_queued_shares_one_commit(ledger: Ledger, make: Callable[[Ledger], LedgerWriter]) -> None:
    world = World(ledger, count=40, size=40).start()
    held = world.claim()
    assert held is not None

    async def run(held: Batch) -> int:
        async with make(ledger) as writer:
            counted = commits(ledger)
            items = [arm(row) for row in held.rows]
            assert await asyncio.gather(*(writer.submit(item) for item in items)) == [Armed(True)] * 40
            results = await writer.submit_many([end(item) for item in items])
            assert [item.ok for item in results] == [True] * 40
            last = await writer.submit(EndBatch(batch_id=held.id, epoch=held.epoch))
            assert last == Applied(True)
            return len(counted)

    assert asyncio.run(run(held)) <= 5
    assert set(world.states().values()) == {State.ACCEPTED}
    assert not faults(ledger)


@pytest.mark.parametrize("make", MAKERS)
def test_calls_keep_their_place_among_transitions(ledger: Ledger, make: Callable[[Ledger], LedgerWriter]) -> None:
    async def run() -> list[int]:
        async with make(ledger) as writer:
            note = Audit(at=NOW, who="w", what="x", reason="r")
            count = select(func.count()).select_from(audit)
            one = writer.submit(note)
            first = writer.call(lambda conn: conn.execute(count).scalar_one())
            two = writer.submit_many([note, note])
            second = writer.call(lambda conn: conn.execute(count).scalar_one())
            await asyncio.gather(one, two)
            return [await first, await second]

    assert asyncio.run(run()) == [1, 3]


@pytest.mark.parametrize("make", MAKERS)
def test_a_transition_that_cannot_be_written_fails_alone(
    ledger: Ledger, make: Callable[[Ledger], LedgerWriter]
) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None

    async def run(held: Batch) -> list[object]:
        async with make(ledger) as writer:
            first = arm(held.rows[0])
            twice = arm(held.rows[1], try_id=first.try_id)  # an id that is taken
            wrong = RateChange(egress="d", provider="p", what="x", reason="r", at=NOW, fields={"speed": 1})
            jobs = [writer.submit(item) for item in (first, twice, wrong, arm(held.rows[2]))]
            jobs.append(writer.call(lambda conn: 1 // 0))
            results = await asyncio.gather(*jobs, return_exceptions=True)
            assert (await writer.submit(end(first))).ok, "the writer lives on"
            return list(results)

    results = asyncio.run(run(held))
    assert (results[0], results[3]) == (Armed(True), Armed(True))
    assert isinstance(results[1], StoreError)
    assert isinstance(results[2], ValueError)
    assert isinstance(results[4], ZeroDivisionError)
    assert world.states()[held.rows[1].key] == State.LEASED


def test_a_full_disk_fails_everything_from_then_on(home: Home) -> None:
    with open_ledger("", home) as ledger:
        world = World(ledger, count=200, size=200).start()
        held = world.claim()
        assert held is not None

        async def run(held: Batch) -> None:
            async with LedgerWriter(ledger) as writer:
                await writer.submit(arm(held.rows[0]))
                await writer.call(lambda conn: _limit(conn, 0))
                jobs = [writer.submit(arm(row)) for row in held.rows[1:]]
                for result in await asyncio.gather(*jobs, return_exceptions=True):
                    assert isinstance(result, StoreError) and "free space" in result.line()
                with pytest.raises(StoreError, match="full"):
                    await writer.submit(arm(held.rows[5]))
                with pytest.raises(StoreError, match="full"):
                    await writer.call(lambda conn: 1)

        asyncio.run(run(held))
    with open_ledger("", home) as again:
        states = list(World(again, plan_id=world.plan_id).states().values())
        assert states.count(State.SENDING) == 1, "what was told as failed did not happen"


@pytest.mark.parametrize("make", MAKERS)
def test_what_was_written_before_the_disk_was_full_is_told_as_written(
    home: Home, make: Callable[[Ledger], LedgerWriter]
) -> None:
    """All of it is queued in one turn, so it is in the writer's hands together."""
    with open_ledger("", home) as ledger:

        async def run() -> list[object]:
            async with make(ledger) as writer:
                jobs = [writer.submit(note()), writer.submit_many([note(), note()])]
                jobs.append(writer.call(lambda conn: _limit(conn, 0)))
                jobs.append(writer.submit(note("x" * 100_000)))
                jobs.append(writer.submit(note()))
                return list(await asyncio.gather(*jobs, return_exceptions=True))

        written = Applied(True, count=1)
        *told, too_big, after = asyncio.run(run())
        assert told == [written, [written] * 2, None]
        for result in (too_big, after):
            assert isinstance(result, StoreError) and "free space" in result.line()
    with open_ledger("", home) as again, again.read() as conn:
        assert conn.execute(select(func.count()).select_from(audit)).scalar() == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_dies_answers_whoever_waits_for_it(home: Home) -> None:
    with open_ledger("", home) as ledger:

        async def run() -> None:
            async with LedgerWriter(ledger) as writer:
                written = writer.submit(note())
                jobs = [writer.call(lambda conn: sys.exit("a defect of ours")), writer.submit(note())]
                answers = await asyncio.wait_for(asyncio.gather(written, *jobs, return_exceptions=True), 20)
                assert answers[0] == Applied(True, count=1)
                for result in answers[1:]:
                    assert isinstance(result, StoreError) and "a defect of ours" in str(result)
                with pytest.raises(StoreError, match="a defect of ours"):
                    await writer.submit(note())

        asyncio.run(run())


def test_a_checkpoint_that_fails_takes_no_answer_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr("resend.stores.writer._CHECKPOINT_JOBS", 1)
    with open_ledger("", home) as ledger:
        monkeypatch.setattr(ledger, "checkpoint", refused)

        async def run() -> None:
            async with InlineWriter(ledger) as writer:
                writer.tell(note(), told.append)
                await asyncio.sleep(0)
                with pytest.raises(StoreError, match="full"):
                    await writer.submit(note())

        asyncio.run(run())
        monkeypatch.undo()
    assert told == [Applied(True, count=1)]


def note(reason: str = "r") -> Audit:
    return Audit(at=NOW, who="w", what="x", reason=reason)


def refused() -> None:
    raise StoreError("checkpoint: database or disk is full")


def _limit(conn: object, more: int) -> None:
    """Let the database grow by so many pages only, on every connection: a full disk."""
    pages = conn.exec_driver_sql("PRAGMA page_count").scalar()  # type: ignore[attr-defined]
    conn.exec_driver_sql(f"PRAGMA max_page_count = {pages + more}")  # type: ignore[attr-defined]


def test_a_locked_ledger_is_waited_for(home: Home) -> None:
    with open_ledger("", home) as ledger:
        world = World(ledger).start()
        held = world.claim()
        assert held is not None
        other = sqlite3.connect(home.ledger_db, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")  # a foreign tool that knows nothing of ledger.write

        def let_go() -> None:
            time.sleep(0.5)
            other.execute("COMMIT")

        thread = threading.Thread(target=let_go)
        thread.start()

        async def run(held: Batch) -> None:
            async with LedgerWriter(ledger) as writer:
                assert await writer.submit(arm(held.rows[0])) == Armed(True)

        asyncio.run(run(held))
        thread.join()
        other.close()


@pytest.mark.postgres
@pytest.mark.parametrize("moment", ["before", "in commit"])
def test_a_lost_connection_is_found_out_never_guessed(
    postgres_server: postgres.Server, home: Home, moment: str
) -> None:
    """The server ends our backend before COMMIT, or after it took effect and before we heard: the arm is told right."""
    with open_ledger(postgres_server.database(), home) as ledger:
        world = World(ledger).start()
        held = world.claim()
        assert held is not None
        cut: list[str] = []

        def cut_line(conn: object) -> None:
            if cut:
                return
            cut.append("x")
            raw = conn.connection.dbapi_connection  # type: ignore[attr-defined]
            if moment == "in commit":
                raw.commit()  # it took effect; the answer below never comes
            raw.execute("SELECT 1")
            os.close(os.dup(raw.fileno()))
            import psycopg

            with psycopg.connect(postgres_server.dsn(), autocommit=True) as killer:
                killer.execute("SELECT pg_terminate_backend(%s)", (raw.info.backend_pid,))

        event.listen(ledger._engine, "commit", cut_line)

        async def run(held: Batch) -> None:
            async with LedgerWriter(ledger) as writer:
                items = [arm(row) for row in held.rows[:3]]
                assert await writer.submit_many(items) == [Armed(True)] * 3
                results = await writer.submit_many([end(item) for item in items])
                assert all(item.ok for item in results)

        asyncio.run(run(held))
        assert cut
        assert sorted(world.states().values()).count(State.ACCEPTED) == 3
        assert not faults(ledger)


def test_closing_writes_what_is_queued_and_refuses_what_comes_after(ledger: Ledger) -> None:
    async def run() -> None:
        writer = LedgerWriter(ledger)
        note = Audit(at=NOW, who="w", what="x", reason="r")
        jobs = [writer.submit(note) for _ in range(100)]
        await writer.close()
        assert all(job.result().ok for job in jobs)
        with pytest.raises(StoreError, match="closed"):
            await writer.submit(note)

    asyncio.run(run())
    with ledger.read() as conn:
        assert conn.execute(select(func.count()).select_from(audit)).scalar() == 100


def test_a_cancelled_wait_does_not_undo_or_stop_the_writer(ledger: Ledger) -> None:
    async def run() -> None:
        async with LedgerWriter(ledger) as writer:
            note = Audit(at=NOW, who="w", what="x", reason="r")
            job = writer.submit(note)
            job.cancel()
            assert (await writer.submit(note)).ok

    asyncio.run(run())
    with ledger.read() as conn:
        assert conn.execute(select(func.count()).select_from(audit)).scalar() == 2


def test_the_log_is_folded_in_while_idle(home: Home) -> None:
    with open_ledger("", home) as ledger:
        world = World(ledger, count=3000, size=500).start()
        assert ledger.wal_bytes() > 1024 * 1024

        async def run() -> int:
            async with LedgerWriter(ledger) as writer:
                await writer.submit(Audit(at=NOW, who="w", what="x", reason="r"))
                until = time.monotonic() + 10
                while time.monotonic() < until and _pages_in_file(home.ledger_db) < 200:
                    await asyncio.sleep(0.1)
                return _pages_in_file(home.ledger_db)

        assert asyncio.run(run()) >= 200
        assert len(world.states()) == 3000


def _pages_in_file(path: Path) -> int:
    return path.stat().st_size // 4096


def test_claims_go_through_the_writer(ledger: Ledger) -> None:
    world = World(ledger).start()

    async def run() -> Batch | None:
        async with LedgerWriter(ledger) as writer:
            return await writer.call(
                lambda conn: claims.claim_batch(
                    conn, egress="direct", provider="office365", owner="w", now=NOW, lease_s=60, plan_id=world.plan_id
                )
            )

    held = asyncio.run(run())
    assert held is not None and len(held.rows) == 5
    with ledger.read() as conn:
        assert conn.execute(select(func.count()).where(delivery.c.state == "leased")).scalar() == 5
        conn.execute(text("SELECT 1"))
