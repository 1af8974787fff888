"""What an arm leaves behind, and when the same words again are no arm."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from resend.model import State, TryOutcome
from resend.stores.ledger import Ledger
from resend.stores.tables import batch, delivery, try_
from resend.stores.transitions import Armed, EndBatch
from tests.ledger.world import NOW, World, arm, end, faults

DATE = "Tue, 24 Nov 2026 09:00:00 +0900"


@pytest.mark.parametrize("outcome", [TryOutcome.ACCEPTED, TryOutcome.DEFERRED, TryOutcome.IN_DOUBT])
def test_an_arm_that_is_told_again_after_its_end_arms_nothing(ledger: Ledger, outcome: TryOutcome) -> None:
    world = World(ledger, count=1).start()
    held = world.claim()
    assert held is not None
    item = arm(held.rows[0])
    assert ledger.apply([item, end(item, outcome)])[1].ok
    assert ledger.apply([item]) == [Armed(False, f"state {outcome.value}")]
    assert world.states()[item.key] == State(outcome)
    assert not faults(ledger)


def test_an_arm_of_a_mail_that_is_not_there(ledger: Ledger) -> None:
    world = World(ledger, count=1).start()
    held = world.claim()
    assert held is not None
    nobody = replace(arm(held.rows[0]), key="f" * 64)
    good = arm(held.rows[0])
    assert ledger.apply([nobody, good]) == [Armed(False, "no such mail"), Armed(True)]


@pytest.mark.parametrize("wrong", ["batch", "epoch", "lease"])
def test_an_arm_needs_the_lease_of_its_batch(ledger: Ledger, wrong: str) -> None:
    world = World(ledger, count=4, size=2).start()
    held, other = world.claim(), world.claim()
    assert held is not None and other is not None
    item = arm(held.rows[0])
    if wrong == "batch":
        item = replace(item, batch_id=other.id)
    elif wrong == "epoch":
        item = replace(item, epoch=0)
    else:
        with ledger.write() as conn:
            conn.execute(update(batch).where(batch.c.id == held.id).values(state="open"))
    assert ledger.apply([item]) == [Armed(False, "lost lease")]
    assert world.states()[item.key] == State.LEASED


def test_the_date_of_the_first_arm_stays(ledger: Ledger) -> None:
    """A mail under a new identity has no Date before it leaves; every later try carries the same."""
    world = World(ledger, count=2).start()
    with ledger.write() as conn:
        conn.execute(update(delivery).values(date=None))
    held = world.claim()
    assert held is not None and [row.date for row in held.rows] == ["", ""]
    first, without = (replace(arm(row), date=date) for row, date in zip(held.rows, (DATE, ""), strict=True))
    ledger.apply([first, without, *(end(item, TryOutcome.DEFERRED, due_at=NOW) for item in (first, without))])
    ledger.apply([EndBatch(batch_id=held.id, epoch=held.epoch)])
    with ledger.read() as conn:
        kept = dict(conn.execute(select(delivery.c.key, delivery.c.date)).all())
        tried = dict(conn.execute(select(try_.c.delivery_key, try_.c.body_sha256)).all())
    assert kept == {first.key: DATE, without.key: None}, "no Date is not an empty one"
    assert tried == {item.key: item.body_sha256 for item in (first, without)}
    again = world.retry(now=NOW)
    assert again is not None
    later = [replace(arm(row), date="Wed, 25 Nov 2026 09:00:00 +0900") for row in again.rows]
    assert all(result.ok for result in ledger.apply(later))
    assert world.row(first.key)["date"] == DATE
