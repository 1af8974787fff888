"""`check` finds every planted fault, and only that invariant breaks (or those that must with it)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, text, update

from resend.clock import to_text
from resend.model import State
from resend.stores.filechecks import check_files
from resend.stores.home import Home
from resend.stores.invariants import check
from resend.stores.ledger import Ledger
from resend.stores.tables import batch, delivery, incident, plan, try_, veto
from tests.ledger.world import NOW, World, arm, end, faults, send_all

KEY = World.rows(World(None, count=5))[0].key  # type: ignore[arg-type]
FOLDED = World.rows(World(None, count=5))[0].rcpt_key  # type: ignore[arg-type]


def _raw(**values: object) -> Callable[[Connection], object]:
    return lambda conn: conn.execute(update(delivery).where(delivery.c.key == KEY).values(values))


def _try(**values: object) -> Callable[[Connection], object]:
    return lambda conn: conn.execute(update(try_).where(try_.c.delivery_key == KEY).values(values))


def _plan(**values: object) -> Callable[[Connection], object]:
    return lambda conn: conn.execute(update(plan).values(values))


def _second_try(conn: Connection) -> None:
    first = conn.execute(try_.select().where(try_.c.delivery_key == KEY)).mappings().one()
    conn.execute(insert(try_).values(**{**first, "id": "0" * 32}))
    conn.execute(update(delivery).where(delivery.c.key == KEY).values(tries=2))


def _veto(**values: str) -> Callable[[Connection], object]:
    """A veto that stood an hour before anything was sent."""
    row = {"scope": "", "evidence": "", "source": "catalog", "at": to_text(NOW - timedelta(hours=1)), **values}
    return lambda conn: conn.execute(insert(veto).values(**row))


def _again(conn: Connection, generation: int = 1) -> None:
    """The same recipient once more as a later generation, though generation 0 was accepted."""
    from resend.model import delivery_key

    first = dict(conn.execute(delivery.select().where(delivery.c.key == KEY)).mappings().one())
    first |= {"key": delivery_key(first["release"], first["rcpt_key"], generation), "generation": generation}
    first |= {"state": State.PLANNED, "fate": "", "tries": 0, "try_id": ""}
    conn.execute(insert(delivery).values(**first))
    conn.execute(update(plan).values(total=plan.c.total + 1))
    conn.execute(update(batch).where(batch.c.id == first["batch_id"]).values(size=batch.c.size + 1))


# planted on a world of 5 mails: the first is accepted, the second under way, the third deferred, two leased
PLANTED: list[tuple[str, Callable[[Connection], object]]] = [
    ("states, fates and outcomes are known", _raw(state="sent")),
    ("a started plan has exactly its frozen total of mails", _plan(total=6)),
    ("a plan that was not started has no mails", _plan(started_at=None)),
    ("every mail has its plan, incident and batch", _raw(batch_id="nobody")),
    ("every mail has its plan, incident and batch", _raw(provider="docomo")),
    ("no batch holds more mails than its size", lambda conn: conn.execute(update(batch).values(size=4))),
    ("the batches of a started plan add up to its total", lambda conn: conn.execute(update(batch).values(size=9))),
    ("a leased mail is in a leased batch of its epoch", lambda conn: conn.execute(update(batch).values(epoch=9))),
    ("a leased mail is in a leased batch of its epoch", lambda conn: conn.execute(update(batch).values(state="open"))),
    ("a mail under way has exactly one armed try, its own", _raw(state="sending", fate="")),
    ("an armed try belongs to a mail under way", _try(outcome="armed")),
    ("an accepted mail has its accepted try", _try(outcome="deferred")),
    ("no mail was accepted twice without a counted release", _second_try),
    ("a mail in doubt is listed with a try in doubt", _raw(state="in_doubt", fate="")),
    ("tries are counted", _raw(tries=3)),
    ("every release from doubt is in the audit", _raw(released=1)),
    ("an accepted mail has a fate, any other none", _raw(fate="")),
    (
        "a deferred mail is due some time and not given up",
        lambda conn: conn.execute(update(delivery).values(due_at=None)),
    ),
    ("nothing of a closed plan waits to be sent", _plan(state="closed")),
    ("nothing of a finished plan waits to be sent", _plan(state="finished")),
    ("a mail is planned again only after a final failure, or with a reason", _again),
    ("a mail's key is made of what it is", _raw(release="r9")),
    ("states, fates and outcomes are known", _veto(kind="moon", subject="r1", reason="held")),
    ("a plan's times fit its state", _plan(state="finished", finished_at=None)),
    ("a plan's times fit its state", _plan(started_at=None)),
    (
        "a mail that waits is in a batch that will be sent",
        lambda conn: (
            conn.execute(update(delivery).where(delivery.c.state == "leased").values(state="planned"))
            and conn.execute(update(batch).values(state="done"))
        ),
    ),
    ("epochs only rise: no try is ahead of its mail, no mail of its batch", _try(epoch=7)),
    ("epochs only rise: no try is ahead of its mail, no mail of its batch", _raw(epoch=7)),
    ("an accepted mail has its accepted try", _raw(accepted_at=None)),
    ("an accepted try has an answer that accepts, or evidence", _try(code=550)),
    ("generations of a mail have no gap", lambda conn: _again(conn, 2)),
    ("nothing was sent against a veto", _veto(kind="release", subject="r1", reason="withdrawn")),
    ("nothing was sent against a veto", _veto(kind="address", subject=FOLDED, reason="suppressed", scope="release:r1")),
    (
        "an incident's buckets add up",
        lambda conn: conn.execute(update(incident).values(counts='{"affected": 5, "buckets": {"resend": 4}}')),
    ),
]


def _world(ledger: Ledger) -> None:
    from resend.model import TryOutcome

    world = World(ledger, count=5).start()
    held = world.claim()
    assert held is not None
    send_all(world, held.rows[:1])
    deferred = arm(held.rows[2])
    ledger.apply([arm(held.rows[1]), deferred, end(deferred, TryOutcome.DEFERRED)])


@pytest.mark.parametrize(("invariant", "plant"), PLANTED, ids=[f"{n}-{name}" for n, (name, _) in enumerate(PLANTED)])
def test_a_planted_fault_is_found(ledger: Ledger, invariant: str, plant: Callable[[Connection], object]) -> None:
    _world(ledger)
    assert not faults(ledger)
    with ledger.write() as conn:
        plant(conn)
    found = {result.invariant: result.detail for result in faults(ledger)}
    assert invariant in found, found
    assert found[invariant]


def test_other_bytes_in_a_later_arm_are_found(ledger: Ledger) -> None:
    _world(ledger)
    with ledger.write() as conn:
        _second_try(conn)
        conn.execute(update(try_).where(try_.c.id == "0" * 32).values(body_sha256="1" * 64))
    assert "every arm of a mail has the same bytes" in {result.invariant for result in faults(ledger)}


def test_a_try_without_its_mail_is_found_on_sqlite(ledger: Ledger) -> None:
    if ledger.path is None:
        return  # PostgreSQL's foreign key refuses to be broken
    import sqlite3

    _world(ledger)
    with sqlite3.connect(ledger.path) as con:
        con.execute("DELETE FROM delivery WHERE key = ?", (KEY,))
    found = {result.invariant for result in faults(ledger)}
    assert {"every try has its mail", "the database is sound"} <= found
    with sqlite3.connect(ledger.path) as con:
        con.execute("DELETE FROM plan")
    assert "every batch has its plan" in {result.invariant for result in faults(ledger)}


def test_every_invariant_is_reported_also_when_it_holds(ledger: Ledger) -> None:
    with ledger.snapshot() as conn:
        results = check(conn)
    assert all(result.ok for result in results)
    names = [result.invariant for result in results]
    assert len(names) == len(set(names)) > 20
    planted = {name for name, _ in PLANTED} | {
        "every arm of a mail has the same bytes",
        "every try has its mail",
        "every batch has its plan",
    }
    told = {name for name in names if name.endswith((" are counted", " are listed"))} - planted
    assert len(told) == 6, "not faults, but to be seen"
    assert set(names) - planted - told == {"the database is sound"}, "each has a planted fault"


def test_files_are_missed_where_the_ledger_is_their_own(ledger: Ledger, tmp_path: Path) -> None:
    """Of several hosts on PostgreSQL not each has every file: that is told, and is no fault."""
    World(ledger, count=5).start()
    with ledger.snapshot() as conn:
        found = {result.invariant: result for result in check_files(conn, Home(tmp_path / "elsewhere"))}
    lacking = {name for name, result in found.items() if result.detail}
    assert lacking == {
        "every incident's frozen file is there and whole",
        "every plan's frozen file is what was confirmed",
    }
    for name in lacking:
        assert found[name].ok == (ledger.path is None)
        assert ("is gone" if found[name].ok is False else "not on this host") in found[name].detail


def test_check_of_many_mails_takes_seconds(ledger: Ledger) -> None:
    import time

    World(ledger, count=5_000, size=500).start()
    with ledger.write() as conn:
        conn.execute(text("ANALYZE"))
    begun = time.monotonic()
    assert not faults(ledger)
    assert time.monotonic() - begun < 10
