"""What a relay's log may still tell of: each mail with the instant of its own last try."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import insert, select

from resend.clock import to_micros
from resend.model import Fate, State, TryOutcome
from resend.stores import fates
from resend.stores.ledger import Ledger
from resend.stores.tables import delivery
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
    ledger.apply([FateChange(key=first.key, fate=Fate.RETURNED, at=NOW, reply="550 no")])
    with ledger.write() as conn:
        assert (left(conn).pending, left(conn).returned) == (0, 1)
        row = conn.execute(select(delivery).where(delivery.c.key == first.key)).mappings().one()
        later = {"key": "again", "generation": row["generation"] + 1, "state": State.PLANNED, "fate": ""}
        conn.execute(insert(delivery).values({**row, **later}))
        assert left(conn).returned == 0, "it was knowingly planned again"


def test_a_relays_newest_word_is_kept_until_the_mail_leaves_it(ledger: Ledger) -> None:
    world = World(ledger, egress="relay:127.0.0.1:25").start()
    held = world.claim()
    assert held is not None
    trials = [arm(row) for row in held.rows[:2]]
    for number, trial in enumerate(trials):
        ledger.apply([trial, end(trial, TryOutcome.ACCEPTED, remote_qid=f"4ABC{number}", fate=Fate.UNSEEN)])
    one, two = (row.key for row in held.rows[:2])

    def told(key: str, fate: Fate, seconds: int, reply: str = "") -> tuple[int, str, str]:
        with ledger.write() as conn:
            moved = fates.change_all(
                conn, [FateChange(key=key, fate=fate, at=NOW + timedelta(seconds=seconds), reply=reply)]
            )
            return moved, *conn.execute(
                select(delivery.c.fate, delivery.c.fate_reply).where(delivery.c.key == key)
            ).one()

    with ledger.read() as conn:
        assert fates.unheard(conn) == fates.unheard(conn, plan_id=world.plan_id) == 2
    assert told(one, Fate.QUEUED_AT_RELAY, 0) == (1, "queued_at_relay", "")
    with ledger.read() as conn:
        assert fates.unheard(conn) == 2
    assert told(one, Fate.QUEUED_AT_RELAY, 5, "451 later") == (0, "queued_at_relay", "451 later")
    assert told(one, Fate.QUEUED_AT_RELAY, 3, "451 older") == (0, "queued_at_relay", "451 later")
    assert told(one, Fate.QUEUED_AT_RELAY, 9) == (0, "queued_at_relay", "451 later")
    assert told(one, Fate.RETURNED, 20) == (1, "returned", "451 later"), "it expired: its last deferral is why"
    assert told(one, Fate.QUEUED_AT_RELAY, 30, "451 again") == (0, "returned", "451 later")
    assert told(two, Fate.QUEUED_AT_RELAY, 5, "451 later") == (1, "queued_at_relay", "451 later")
    assert told(two, Fate.DELIVERED, 6) == (1, "delivered", "")
    with ledger.read() as conn:
        assert fates.unheard(conn) == 0
