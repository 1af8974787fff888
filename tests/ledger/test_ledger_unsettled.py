"""What a relay's log may still tell of: each mail with the instant of its own last try."""

from __future__ import annotations

from resend.clock import to_micros
from resend.model import Fate, TryOutcome
from resend.stores.ledger import Ledger
from resend.stores.transitions import FateChange
from resend.stores.unsettled import left, unsettled
from tests.ledger.world import NOW, World, arm, end


def test_mails_behind_a_relay_are_unsettled_until_their_fate_is_final(ledger: Ledger) -> None:
    world = World(ledger, egress="relay:127.0.0.1:25").start()
    held = world.claim()
    assert held is not None
    first, second, third = held.rows[:3]
    for number, row in enumerate((first, second, third)):
        trial = arm(row)
        ledger.apply([trial])
        outcome = TryOutcome.IN_DOUBT if row is third else TryOutcome.ACCEPTED
        more = {} if row is third else {"remote_qid": f"4ABC{number}", "fate": Fate.UNSEEN}
        ledger.apply([end(trial, outcome, **more)])
    ledger.apply([FateChange(key=second.key, fate=Fate.DELIVERED, at=NOW)])
    with ledger.read() as conn:
        found = {item.key: item for item in unsettled(conn)}
        assert set(found) == {first.key, third.key}
        assert (found[first.key].remote_qid, found[third.key].remote_qid) == ("4ABC0", "")
        assert abs(found[first.key].armed_us - to_micros(NOW)) < 3600_000_000, "its own arm (by the database's clock)"
        assert [item.key for item in unsettled(conn, qids=["4ABC0", "4ABC1", ""])] == [first.key]
        assert list(unsettled(conn, qids=[])) == []
        rest = left(conn)
    assert (rest.in_doubt, rest.pending, rest.returned) == (1, 1, 0)
