"""Which batch a claim takes: plans, zones, hours, canaries of other hosts, slots, and how much of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from resend.clock import to_text
from resend.model import State, TryOutcome, VetoKind, VetoReason
from resend.stores import claims, control, vetoes
from resend.stores.ledger import Ledger
from resend.stores.rows import Batch, Veto
from resend.stores.tables import batch, delivery, provider_rate, provider_slot
from resend.stores.transitions import EndBatch
from tests.ledger.world import NOW, World, arm, end, faults, later, refuse, send_all


def claim(world: World, **more: Any) -> Batch | None:
    values = {"egress": world.egress, "provider": world.provider, "owner": "w1", "now": NOW, "lease_s": 60.0} | more
    with world.ledger.write() as conn:
        return claims.claim_batch(conn, **values)


def retry(world: World, **more: Any) -> Batch | None:
    values = {"egress": world.egress, "provider": world.provider, "owner": "w1", "now": NOW, "lease_s": 60.0} | more
    with world.ledger.write() as conn:
        return claims.retry_batch(conn, **values)


def end_batch(world: World, held: Batch | None) -> Batch:
    assert held is not None
    world.ledger.apply([EndBatch(batch_id=held.id, epoch=held.epoch)])
    return held


def defer_all(world: World, held: Batch | None, due: timedelta = timedelta(0)) -> None:
    assert held is not None
    armed = [arm(row) for row in held.rows]
    world.ledger.apply([*armed, *(end(item, TryOutcome.DEFERRED, due_at=NOW + due) for item in armed)])
    end_batch(world, held)


def change_batch(ledger: Ledger, seq: int, **values: object) -> None:
    with ledger.write() as conn:
        assert conn.execute(update(batch).where(batch.c.seq == seq).values(**values)).rowcount == 1


def two_plans(ledger: Ledger) -> tuple[World, World]:
    worlds = World(ledger, count=2, size=2), World(ledger, count=2, size=2, release="r2", incident_id="inc-2")
    for world in worlds:
        world.start()
    return worlds


def test_a_claim_keeps_to_its_plan_and_without_one_takes_the_oldest(ledger: Ledger) -> None:
    first, second = two_plans(ledger)
    with ledger.write() as conn:
        conn.execute(update(claims.plan).where(claims.plan.c.id == second.plan_id).values(started_at=to_text(NOW)))
        conn.execute(update(claims.plan).where(claims.plan.c.id == first.plan_id).values(started_at=to_text(later(-9))))
    held = claim(second, plan_id=second.plan_id)
    assert held is not None and held.plan_id == second.plan_id
    assert claim(second, plan_id=second.plan_id) is None, "the other plan's batch is not its"
    end_batch(second, held)
    oldest = claim(second)
    assert oldest is not None and oldest.plan_id == first.plan_id
    other = claim(second, egress="relay:x:25")
    assert other is None


def test_a_retry_keeps_to_its_plan_and_without_one_takes_what_waited_longest(ledger: Ledger) -> None:
    first, second = two_plans(ledger)
    defer_all(first, claim(first, plan_id=first.plan_id), timedelta(seconds=-1))
    defer_all(second, claim(second, plan_id=second.plan_id), timedelta(seconds=-5))
    longest = end_batch(first, retry(first))
    assert longest.plan_id == second.plan_id and len(longest.rows) == 2
    named = retry(first, plan_id=first.plan_id)
    assert named is not None and named.plan_id == first.plan_id and len(named.rows) == 2
    assert not faults(ledger)


def test_a_batch_is_claimed_from_its_hour_on(ledger: Ledger) -> None:
    world = World(ledger, count=2, size=2).start()
    at = NOW if ledger.dialect == "sqlite" else NOW + timedelta(hours=1)  # PostgreSQL goes by its own clock
    change_batch(ledger, 0, not_before=to_text(at + timedelta(hours=1)))
    assert claim(world, now=at) is None
    change_batch(ledger, 0, not_before=to_text(at if ledger.dialect == "sqlite" else NOW))
    assert claim(world, now=at) is not None


@pytest.mark.parametrize("ledger_url", [""])  # SQLite alone: the clock of PostgreSQL does not stand still
def test_a_row_may_leave_at_the_very_moment_that_it_waits_for(ledger: Ledger) -> None:
    world = World(ledger, count=1, not_before=to_text(NOW)).start()
    assert claim(world, now=NOW - timedelta(microseconds=1)) is None
    held = claim(world)
    assert held is not None and held.lease_until == NOW + timedelta(seconds=60)


def test_batches_of_closed_zones_are_passed_over(ledger: Ledger) -> None:
    world = World(ledger, count=6, size=2).start()
    change_batch(ledger, 0, zone="Asia/Tokyo")
    change_batch(ledger, 1, zone="Europe/Berlin")
    held = claim(world, closed=("Asia/Tokyo", "Europe/Berlin"))
    assert held is not None and (held.seq, held.zone) == (2, "")
    assert claim(world, closed={"Asia/Tokyo", "Europe/Berlin"}) is None
    berlin = claim(world, closed=["Asia/Tokyo"])
    assert berlin is not None and berlin.zone == "Europe/Berlin"


def test_retries_keep_to_one_zone_and_pass_closed_ones_over(ledger: Ledger) -> None:
    world = World(ledger, count=6, size=2).start()
    for seq, zone in enumerate(("Asia/Tokyo", "Europe/Berlin", "Europe/Berlin")):
        change_batch(ledger, seq, zone=zone)
    for number in range(3):
        defer_all(world, claim(world), timedelta(seconds=-9 + number))
    assert retry(world, closed=["Asia/Tokyo", "Europe/Berlin"]) is None
    berlin = retry(world, closed=["Asia/Tokyo"])
    assert berlin is not None and (berlin.zone, len(berlin.rows)) == ("Europe/Berlin", 4)
    tokyo = retry(world)
    assert tokyo is not None and (tokyo.zone, len(tokyo.rows)) == ("Asia/Tokyo", 2)
    assert not faults(ledger)


@pytest.mark.parametrize("again", [False, True])
def test_so_many_of_a_batch_and_the_rest_stays(ledger: Ledger, again: bool) -> None:
    world = World(ledger, count=5, size=5).start()
    if again:
        defer_all(world, claim(world), timedelta(seconds=-1))
    held = end_batch(world, (retry if again else claim)(world, limit=2))
    assert len(held.rows) == 2
    rest = (retry if again else claim)(world, limit=9)
    assert rest is not None and len(rest.rows) == (3 if again else 5)
    assert not faults(ledger)


def test_what_is_vetoed_is_taken_out_when_it_is_leased(ledger: Ledger) -> None:
    world = World(ledger, count=4, size=2).start()
    keys = [row.key for row in world.rows()]
    told = [Veto(kind=VetoKind.DELIVERY, subject=key, reason=VetoReason.DELIVERED) for key in (*keys[:2], keys[3])]
    with ledger.write() as conn:
        vetoes.put(conn, told, source="collect", now=NOW)
        conn.execute(update(delivery).values(state=State.PLANNED, reason=""))  # as if the veto came just now
    held = claim(world)
    assert held is not None and [row.key for row in held.rows] == [keys[2]], "a batch of vetoed mail is passed over"
    states = world.states()
    assert [states[key] for key in keys] == [State.SUPPRESSED, State.SUPPRESSED, State.LEASED, State.SUPPRESSED]
    assert not faults(ledger)


def test_other_hosts_wait_for_the_canary_and_its_dwell(ledger: Ledger) -> None:
    world = World(ledger, count=6, size=2).start()
    with ledger.write() as conn:
        control.ensure_rate(conn, egress=world.egress, provider=world.provider, start=1.0, ceiling=1.0)
    canary = claim(world)
    assert canary is not None and canary.canary
    assert claim(world, owner="w2", shared=True) is None, "it is under way"
    send_all(world, canary.rows)
    end_batch(world, canary)
    dwell(ledger, until=timedelta(hours=1), done=0)
    assert claim(world, owner="w2", shared=True) is None, "its replies are waited for"
    dwell(ledger, until=timedelta(hours=1), done=1)
    assert claim(world, owner="w2", shared=True) is not None
    dwell(ledger, until=timedelta(hours=-1), done=0)
    assert claim(world, owner="w3", shared=True) is not None


def dwell(ledger: Ledger, *, until: timedelta, done: int) -> None:
    with ledger.write() as conn:
        conn.execute(update(provider_rate).values(canary_done=done, dwell_until=to_text(NOW + until)))


def test_a_canary_elsewhere_holds_nothing_back(ledger: Ledger) -> None:
    first, second = two_plans(ledger)
    assert claim(first, plan_id=first.plan_id) is not None
    held = claim(second, plan_id=second.plan_id, owner="w2", shared=True)
    assert held is not None, "the canary of another plan"


def test_half_of_the_free_slots_are_left_to_other_hosts(ledger: Ledger) -> None:
    world = World(ledger, count=8, size=2).start()
    with ledger.write() as conn:
        conn.execute(update(batch).values(canary=0))
    taken = [claim(world, owner=f"w{n}", shared=True, connections=4, want=4) for n in range(4)]
    assert [held.slots if held else None for held in taken] == [(0, 1), (2,), (3,), None]


def test_slots_that_are_held_go_on_with_the_next_batch(ledger: Ledger) -> None:
    world = World(ledger, count=6, size=2).start()
    first = claim(world, connections=3, want=2)
    assert first is not None and first.slots == (0, 1)
    second = claim(world, connections=3, want=2, held=first.slots)
    assert second is not None and second.slots == (0, 1)
    with ledger.read() as conn:
        owners = conn.execute(select(provider_slot.c.batch_id, provider_slot.c.owner).order_by(provider_slot.c.n)).all()
    assert [tuple(row) for row in owners] == [(second.id, "w1")] * 2 + [("", "")]
    stranger = claim(world, owner="w2", connections=3, want=2, held=first.slots)
    assert stranger is not None and stranger.slots == (2,), "what another owner holds is not taken"


def test_who_has_the_connections_while_mail_waits(ledger: Ledger) -> None:
    world = World(ledger, count=4, size=2).start()

    def asked(**more: Any) -> dict[str, int]:
        values = {"egress": "direct", "provider": "office365", "owner": "late", "connections": 2} | more
        with ledger.read() as conn:
            return claims.held_elsewhere(conn, **values)

    assert asked() == {}, "nobody has sent yet"
    assert claim(world, owner="w1", connections=2) is not None
    assert asked() == {}, "one is free"
    second = claim(world, owner="w2", connections=2)
    assert second is not None
    assert asked() == {}, "and nothing waits"
    with ledger.write() as conn:
        conn.execute(update(batch).where(batch.c.id == second.id).values(state="open"))
    assert asked() == asked(plan_id=world.plan_id) == {"w1": 1, "w2": 1}
    assert asked(plan_id="another") == asked(owner="w1") == asked(egress="relay:x:25") == {}
    assert asked(connections=1) == {"w1": 1}


def test_a_retry_leaves_the_batches_that_it_empties_behind_as_done(ledger: Ledger) -> None:
    world = World(ledger, count=4, size=2).start()
    held = claim(world)
    assert held is not None
    ledger.apply([refuse(row) for row in held.rows])
    end_batch(world, held)
    with ledger.write() as conn:
        conn.execute(update(delivery).where(delivery.c.state == State.DEFERRED).values(due_at=to_text(NOW)))
        conn.execute(update(batch).where(batch.c.seq == 1).values(rate=7.0))
    joined = retry(world)
    assert joined is not None and (joined.retry, joined.seq, joined.rate, joined.canary) == (True, 2, 7.0, False)
    with ledger.read() as conn:
        assert conn.execute(select(batch.c.state).where(batch.c.id == held.id)).scalar() == "done"
        assert sorted(claims.batch_keys(conn, joined.id)) == sorted(row.key for row in joined.rows)
        assert claims.batch_keys(conn, held.id) == []
