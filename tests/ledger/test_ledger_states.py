"""Claims, arms and endings on both databases: who may change what, and what is said where it may not."""

from __future__ import annotations

from tests.ledger.world import NOW, World, arm, end, later, refuse, send_all

from resend.model import Fate, State, TryOutcome
from resend.stores.ledger import Ledger
from resend.stores.transitions import Applied, Armed, EndBatch, GiveBack


def test_a_batch_is_claimed_armed_and_accepted(ledger: Ledger) -> None:
    world = World(ledger).start()
    batch = world.claim()
    assert batch is not None
    assert (batch.epoch, batch.seq, batch.canary, len(batch.rows)) == (1, 0, True, 5)
    assert [row.seq for row in batch.rows] == [0, 1, 2, 3, 4]
    send_all(world, batch.rows)
    row = world.row(batch.rows[0].key)
    assert (row["state"], row["fate"], row["tries"]) == (State.ACCEPTED, Fate.DELIVERED, 1)
    assert ledger.apply([EndBatch(batch_id=batch.id, epoch=1)]) == [Applied(True, count=0)]
    second = world.claim()
    assert second is not None and second.seq == 1
    assert world.claim() is None
