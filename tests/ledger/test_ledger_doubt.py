"""Doubt: settled by evidence, released or closed by the operator, always counted."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from resend.errors import UsageError, WrongCount
from resend.model import Fate, State, TryOutcome
from resend.stores import doubt, fates, history, lifecycle
from resend.stores.ledger import Ledger
from resend.stores.tables import audit, try_
from resend.stores.transitions import EndBatch, FateChange
from tests.ledger.world import NOW, World, arm, end, faults, send_all


def doubtful(ledger: Ledger, count: int = 4, egress: str = "relay:h:25") -> tuple[World, list[str]]:
    """A finished plan whose mails are all in doubt; their keys in sending order."""
    world = World(ledger, count=count, size=count, egress=egress).start()
    held = world.claim()
    assert held is not None
    armed = [arm(row) for row in held.rows]
    ledger.apply([*armed, *(end(item, TryOutcome.IN_DOUBT) for item in armed)])
    ledger.apply([EndBatch(batch_id=held.id, epoch=held.epoch)])
    with ledger.write() as conn:
        assert lifecycle.finish_plan(conn, world.plan_id, now=NOW)
    return world, [row.key for row in held.rows]


def test_doubt_is_listed_with_what_tells_the_mail_in_a_log(ledger: Ledger) -> None:
    world, keys = doubtful(ledger)
    with ledger.read() as conn:
        found = doubt.listed(conn)
        assert {item.key for item in found} == set(keys)
        assert found[0].message_id.startswith("<r1.p") and found[0].armed_at is not None
        assert [item.key for item in doubt.listed(conn, keys=keys[:1])] == keys[:1]
        assert doubt.listed(conn, provider="docomo") == []
        assert len(doubt.listed(conn, plan_id=world.plan_id)) == 4
    assert not faults(ledger)


def test_evidence_settles_both_ways(ledger: Ledger) -> None:
    world, keys = doubtful(ledger)
    with ledger.write() as conn:
        told = {"evidence": "mail.log:7", "now": NOW}
        assert doubt.settle_accepted(conn, keys[0], remote_qid="4ABC", **told)
        assert not doubt.settle_accepted(conn, keys[0], remote_qid="4ABC", **told)
        assert doubt.settle_not_accepted(conn, keys[1], **told)
        assert not doubt.settle_not_accepted(conn, "nobody", **told)
        outcomes = {row.delivery_key: row.outcome for row in conn.execute(select(try_))}
    assert (outcomes[keys[0]], outcomes[keys[1]]) == (TryOutcome.ACCEPTED, TryOutcome.DEFERRED)
    assert world.row(keys[0])["fate"] == Fate.UNSEEN
    assert world.row(keys[1])["released"] == 1
    again = world.claim()
    assert again is not None and [row.key for row in again.rows] == [keys[1]], "the plan goes on with it"
    send_all(world, again.rows)
    assert not faults(ledger)


def test_the_operator_gives_the_count(ledger: Ledger) -> None:
    world, keys = doubtful(ledger)
    decision = {"reason": "asked the receiver", "who": "me", "now": NOW}
    with pytest.raises(WrongCount, match="4 mails are in doubt here, not 3"), ledger.write() as conn:
        doubt.release(conn, confirm=3, **decision)
    with pytest.raises(UsageError, match="not in doubt"), ledger.write() as conn:
        doubt.close(conn, keys=["x"], confirm=1, **decision)
    assert set(world.states().values()) == {State.IN_DOUBT}
    with ledger.write() as conn:
        assert doubt.close(conn, keys=keys[:1], confirm=1, **decision) == 1
        assert doubt.release(conn, provider="office365", confirm=3, **decision) == 3
        assert doubt.release(conn, confirm=0, **decision) == 0
        said = conn.execute(select(audit.c.what, audit.c.reason).order_by(audit.c.id)).all()
    assert [row.what for row in said] == ["doubt_closed", *["doubt_released"] * 3]
    assert {row.reason for row in said} == {"asked the receiver"}
    assert world.row(keys[0])["reason"] == "asked the receiver"
    again = world.claim()
    assert again is not None and len(again.rows) == 3
    send_all(world, again.rows)
    assert not faults(ledger)


def test_fates_are_counted_for_each_provider(ledger: Ledger) -> None:
    world = World(ledger, egress="relay:h:25").start()
    held = world.claim()
    assert held is not None
    send_all(world, held.rows)
    with ledger.write() as conn:
        moves = [
            FateChange(key=row.key, fate=fate, at=NOW)
            for row, fate in zip(held.rows, (Fate.DELIVERED, Fate.RETURNED, Fate.QUEUED_AT_RELAY), strict=False)
        ]
        assert fates.change_all(conn, moves) == 3
        place = ("relay:h:25", "office365")
        assert fates.pending(conn) == fates.pending(conn, plan_id=world.plan_id) == {place: 3}
        assert fates.counts(conn, plan_id=world.plan_id)[place] == {
            Fate.DELIVERED: 1,
            Fate.RETURNED: 1,
            Fate.QUEUED_AT_RELAY: 1,
            Fate.UNSEEN: 2,
        }


def test_released_from_a_closed_plan_a_mail_is_free_for_another_one(ledger: Ledger) -> None:
    world, keys = doubtful(ledger)
    with ledger.write() as conn:
        lifecycle.close_plan(conn, world.plan_id, reason="another way", who="me", now=NOW)
        assert doubt.release(conn, keys=keys[:1], confirm=1, reason="not in their log", who="me", now=NOW) == 1
        assert doubt.settle_not_accepted(conn, keys[1], evidence="mail.log:9", now=NOW)
    assert world.states()[keys[0]] == world.states()[keys[1]] == State.CLOSED
    assert world.row(keys[0])["released"] == world.row(keys[1])["released"] == 1
    with ledger.read() as conn:
        past = {row.rcpt_key: row.state for row in history.past_deliveries(conn)}
    assert [past[world.row(key)["rcpt_key"]] for key in keys[:2]] == [State.CLOSED] * 2, "another plan may have them"
    assert not faults(ledger)


def test_a_mail_whose_doubt_was_closed_counts_as_sent(ledger: Ledger) -> None:
    world, keys = doubtful(ledger)
    with ledger.write() as conn:
        doubt.close(conn, keys=keys[:1], confirm=1, reason="the customer has it", who="me", now=NOW)
    with ledger.read() as conn:
        past = {row.rcpt_key: row.state for row in history.past_deliveries(conn)}
    assert past[world.row(keys[0])["rcpt_key"]] == State.ACCEPTED, "no plan takes it again without --again"
    assert past[world.row(keys[1])["rcpt_key"]] == State.IN_DOUBT
    assert not faults(ledger)
