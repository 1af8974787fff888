"""Claims, arms and endings on both databases: who may change what, and what is said where it may not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from resend.model import TRANSITIONS, Fate, Stage, State, TryOutcome, VetoKind, VetoReason
from resend.stores import batches, claims, doubt, lifecycle, vetoes
from resend.stores.ledger import Ledger
from resend.stores.rows import Veto
from resend.stores.tables import audit, batch, delivery, try_
from resend.stores.transitions import (
    Applied,
    Armed,
    EndBatch,
    FateChange,
    GiveBack,
    Quarantine,
    Renew,
    Replan,
    Suppress,
    Transition,
)
from tests.ledger.world import BODY, NOW, World, arm, end, faults, later, refuse, send_all


def test_a_batch_is_claimed_armed_and_accepted(ledger: Ledger) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    assert (held.epoch, held.seq, held.canary, held.retry, len(held.rows)) == (1, 0, True, False, 5)
    assert [row.seq for row in held.rows] == [0, 1, 2, 3, 4]
    send_all(world, held.rows)
    row = world.row(held.rows[0].key)
    assert (row["state"], row["fate"], row["tries"], row["body_sha256"]) == (State.ACCEPTED, Fate.DELIVERED, 1, BODY)
    assert ledger.apply([EndBatch(batch_id=held.id, epoch=1)]) == [Applied(True, count=0)]
    second = world.claim()
    assert second is not None and second.seq == 1
    assert world.claim() is None
    assert not faults(ledger)


def test_behind_a_relay_an_accepted_mail_is_unseen(ledger: Ledger) -> None:
    world = World(ledger, egress="relay:127.0.0.1:25").start()
    held = world.claim()
    assert held is not None
    send_all(world, held.rows[:1])
    assert world.row(held.rows[0].key)["fate"] == Fate.UNSEEN


def test_an_arm_of_a_stale_epoch_finds_no_row(ledger: Ledger) -> None:
    world = World(ledger).start()
    old = world.claim()
    assert old is not None
    ledger.apply([EndBatch(batch_id=old.id, epoch=old.epoch)])
    new = world.claim(owner="w2")
    assert new is not None and new.id == old.id and new.epoch == 2
    assert ledger.apply([arm(old.rows[0])]) == [Armed(False, "lost lease")]
    assert ledger.apply([arm(new.rows[0])]) == [Armed(True)]
    with ledger.read() as conn:
        assert conn.execute(select(try_.c.epoch)).all() == [(2,)]


def test_one_lost_arm_does_not_stop_the_others_of_its_group(ledger: Ledger) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    group = [arm(row) for row in held.rows[:3]] + [arm(held.rows[3], epoch=7)]
    assert ledger.apply(group) == [Armed(True)] * 3 + [Armed(False, "lost lease")]
    assert not faults(ledger)


def test_the_same_arm_told_twice_is_one_arm(ledger: Ledger) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    item = arm(held.rows[0])
    assert ledger.apply([item, item]) == [Armed(True), Armed(True)]
    assert ledger.apply([item]) == [Armed(True)]
    assert ledger.apply([arm(held.rows[0])]) == [Armed(False, "state sending")]
    finished = end(item)
    assert ledger.apply([finished])[0].ok and ledger.apply([finished])[0].ok
    assert world.row(item.key)["tries"] == 1


def test_other_bytes_than_the_first_arm_are_quarantined(ledger: Ledger) -> None:
    world = World(ledger, count=1).start()
    held = world.claim()
    assert held is not None
    item = arm(held.rows[0])
    ledger.apply([item, end(item, TryOutcome.DEFERRED, due_at=NOW)])
    again = world.retry(now=later(1))
    assert again is not None and again.retry and again.rows[0].body_sha256 == BODY
    assert ledger.apply([arm(again.rows[0], body="0" * 64)]) == [Armed(False, "body changed")]
    assert world.row(item.key)["state"] == State.QUARANTINED


@pytest.mark.parametrize("outcome", [o for o in TryOutcome if o is not TryOutcome.ARMED])
def test_each_ending_of_an_armed_try(ledger: Ledger, outcome: TryOutcome) -> None:
    world = World(ledger, count=1).start()
    held = world.claim()
    assert held is not None
    item = arm(held.rows[0])
    ledger.apply([item])
    expected = State.PLANNED if outcome is TryOutcome.DISARMED else State(outcome)
    assert ledger.apply([end(item, outcome)]) == [Applied(True, state=expected, count=1)]
    row = world.row(item.key)
    assert (row["state"], row["tries"]) == (expected, 0 if outcome is TryOutcome.DISARMED else 1)
    assert not faults(ledger)


def test_a_refusal_before_the_arm_is_a_try(ledger: Ledger) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    results = ledger.apply([refuse(held.rows[0]), refuse(held.rows[1], TryOutcome.REJECTED)])
    assert [item.state for item in results if isinstance(item, Applied)] == [State.DEFERRED, State.REJECTED]
    assert world.row(held.rows[1].key)["code"] == 550
    assert ledger.apply([refuse(held.rows[0])])[0].ok is False
    assert not faults(ledger)


def test_the_twelfth_deferral_gives_up(ledger: Ledger) -> None:
    world = World(ledger, count=2, size=1).start()
    held = world.claim()
    assert held is not None
    last = ledger.apply([refuse(held.rows[0], at=NOW - timedelta(days=1))])[0]
    for _ in range(11):
        assert isinstance(last, Applied) and last.state == State.DEFERRED
        again = world.retry(now=NOW)
        assert again is not None
        last = ledger.apply([refuse(again.rows[0], at=NOW - timedelta(days=1))])[0]
    assert isinstance(last, Applied) and last.state == State.GAVE_UP
    assert world.row(held.rows[0].key)["reason"] == "12 tries"
    assert not faults(ledger)


def test_a_deferral_two_days_after_the_first_try_gives_up(ledger: Ledger) -> None:
    world = World(ledger, count=1).start()
    held = world.claim()
    assert held is not None
    ledger.apply([refuse(held.rows[0], at=NOW - timedelta(hours=48))])
    again = world.retry(now=NOW)
    assert again is not None
    item = arm(again.rows[0])
    result = ledger.apply([item, end(item, TryOutcome.DEFERRED)])[1]
    assert isinstance(result, Applied) and result.state == State.GAVE_UP
    assert world.row(item.key)["reason"] == "48 hours after the first try"


def test_due_rows_join_one_retry_batch_and_early_ones_wait(ledger: Ledger) -> None:
    world = World(ledger, count=6, size=2).start()
    for due in (NOW - timedelta(seconds=2), NOW, NOW + timedelta(hours=1)):
        held = world.claim()
        assert held is not None
        armed = [arm(row) for row in held.rows]
        ledger.apply([*armed, *(end(item, TryOutcome.DEFERRED, due_at=due) for item in armed)])
        ledger.apply([EndBatch(batch_id=held.id, epoch=held.epoch)])
    with ledger.read() as conn:
        assert claims.next_due(conn)[("direct", "office365")] == NOW - timedelta(seconds=2)
        left = claims.work(conn, NOW)
    assert [(item.ready, item.due, item.next_at) for item in left] == [(0, 4, NOW + timedelta(hours=1))]
    again = world.retry(now=NOW, plan_id="")
    assert again is not None and len(again.rows) == 4 and again.retry and again.rate == 5.0
    assert world.retry(now=NOW) is None
    send_all(world, again.rows)
    assert not faults(ledger)


def test_rows_given_back_are_claimed_again(ledger: Ledger) -> None:
    world = World(ledger, count=5).start()
    held = world.claim()
    assert held is not None
    keys = tuple(row.key for row in held.rows)
    send_all(world, held.rows[:2])
    given = GiveBack(keys=keys, batch_id=held.id, epoch=held.epoch)
    assert ledger.apply([given]) == [Applied(False, "not leased any more", count=3)]
    ledger.apply([EndBatch(batch_id=held.id, epoch=held.epoch)])
    again = world.claim()
    assert again is not None and {row.key for row in again.rows} == set(keys[2:])
    assert ledger.apply([EndBatch(batch_id=held.id, epoch=held.epoch)]) == [Applied(False, "lost lease")]
    renew = Renew(batch_id=again.id, epoch=again.epoch, lease_s=60, now=NOW)
    assert ledger.apply([renew]) == [Applied(True)]


def test_a_row_that_must_wait_is_not_claimed_before_its_time(ledger: Ledger) -> None:
    from resend.clock import to_text

    world = World(ledger, count=3, not_before=to_text(NOW + timedelta(hours=1))).start()
    assert world.claim() is None
    with ledger.read() as conn:
        (left,) = claims.work(conn, NOW)
    assert (left.ready, left.next_at) == (0, NOW + timedelta(hours=1))


def test_relay_scope_rejections_return_to_planned_and_are_counted(ledger: Ledger) -> None:
    world = World(ledger, count=3).start()
    held = world.claim()
    assert held is not None
    ledger.apply([refuse(row, TryOutcome.REJECTED) for row in held.rows])
    ledger.apply([EndBatch(batch_id=held.id, epoch=held.epoch)])
    with ledger.write() as conn:
        assert lifecycle.finish_plan(conn, world.plan_id, now=NOW)
    keys = tuple(row.key for row in held.rows)
    change = Replan(keys=keys, plan_id=world.plan_id, reason="550 to all: local_config", at=NOW)
    assert ledger.apply([change]) == [Applied(True, count=3)]
    with ledger.read() as conn:
        assert conn.execute(select(audit.c.value).where(audit.c.what == "replanned")).scalar() == "3"
    again = world.claim()
    assert again is not None and len(again.rows) == 3, "the batch and the plan are open again"
    assert not faults(ledger)


def test_slots_bound_the_connections_of_a_provider(ledger: Ledger) -> None:
    world = World(ledger, count=10, size=2).start()
    first = world.claim(connections=3, want=2)
    second = world.claim(connections=3, want=2)
    assert first is not None and second is not None
    assert (first.slots, second.slots) == ((0, 1), (2,))
    assert world.claim(connections=3) is None
    ledger.apply([EndBatch(batch_id=first.id, epoch=first.epoch)])
    third = world.claim(connections=3, want=3)
    assert third is not None and third.slots == (0, 1)


def test_recovery_frees_unarmed_rows_and_doubts_armed_ones(ledger: Ledger) -> None:
    world = World(ledger).start()
    held = world.claim(connections=4, want=2)
    assert held is not None
    item = arm(held.rows[0])
    ledger.apply([item, end(arm_ := arm(held.rows[1])), arm_])  # a finish before its arm finds nothing
    assert world.states()[held.rows[1].key] == State.SENDING
    if ledger.dialect == "postgresql":
        with ledger.write() as conn:
            assert batches.recover(conn, NOW) == batches.Recovered(0, (), 0), "the lease holds"
            conn.execute(update(batch).where(batch.c.id == held.id).values(lease_until="2000-01-01T00:00:00.000000Z"))
            conn.execute(update(batches.provider_slot).values(lease_until="2000-01-01T00:00:00.000000Z"))
        with ledger.write() as conn:
            found = batches.recover(conn, NOW)
            assert (found.freed, found.in_doubt, found.slots) == (3, (), 0), "armed mails may still be answered"
            conn.execute(update(try_).values(armed_at="2000-01-01T00:00:00.000000Z"))
        freed = 0
    else:
        freed = 3
    with ledger.write() as conn:
        found = batches.recover(conn, NOW)
    assert (found.freed, set(found.in_doubt), found.slots) == (freed, {item.key, arm_.key}, 2)
    assert sorted(world.states().values()) == sorted([State.IN_DOUBT] * 2 + [State.PLANNED] * 8)
    assert not faults(ledger)
    again = world.claim(connections=4, want=4)
    assert again is not None and again.epoch == 2 and len(again.rows) == 3 and again.slots == (0, 1, 2, 3)


def test_a_late_answer_settles_the_doubt_of_its_own_try(ledger: Ledger) -> None:
    world = World(ledger, count=4, size=4).start()
    held = world.claim()
    assert held is not None
    armed = [arm(row) for row in held.rows]
    ledger.apply([*armed, *(end(item, TryOutcome.IN_DOUBT) for item in armed)])
    late = [
        end(armed[0]),
        end(armed[1], TryOutcome.REJECTED),
        end(armed[2], TryOutcome.DISARMED),
        end(armed[3], TryOutcome.IN_DOUBT),
    ]
    results = ledger.apply(late)
    # the tries ended as in doubt, so each may still learn better
    states = [world.row(item.key)["state"] for item in armed]
    assert states == [State.ACCEPTED, State.PLANNED, State.PLANNED, State.IN_DOUBT]
    assert [item.ok for item in results] == [True, True, True, True]
    assert [world.row(item.key)["released"] for item in armed] == [0, 1, 1, 0]
    assert not faults(ledger)


def test_a_late_acceptance_after_a_release_is_a_known_duplicate_and_overwrites_nothing(ledger: Ledger) -> None:
    world = World(ledger, count=2, size=2).start()
    held = world.claim()
    assert held is not None
    old = [arm(row) for row in held.rows]
    ledger.apply([*old, *(end(item, TryOutcome.IN_DOUBT) for item in old)])
    ledger.apply([EndBatch(batch_id=held.id, epoch=held.epoch)])
    with ledger.write() as conn:
        assert doubt.release(conn, confirm=2, reason="sure", who="me", now=NOW) == 2
    again = world.claim()
    assert again is not None and len(again.rows) == 2
    new = arm(next(row for row in again.rows if row.key == old[0].key))
    ledger.apply([new, end(new)])
    assert ledger.apply([end(old[0]), end(old[1])]) == [
        Applied(False, "late: accepted", State.ACCEPTED),
        Applied(False, "late: leased", State.LEASED),
    ]
    assert world.row(old[0].key)["try_id"] == new.try_id
    with ledger.read() as conn:
        said = dict(conn.execute(select(audit.c.subject, audit.c.what).where(audit.c.who == "worker")).all())
    assert said == {old[0].key: "known_duplicate", old[1].key: "late_accepted"}
    other = next(row for row in again.rows if row.key == old[1].key)
    assert ledger.apply([arm(other)]) == [Armed(False, "vetoed:delivered")], "it is not sent a second time"
    assert not faults(ledger)


def test_fates_only_move_on(ledger: Ledger) -> None:
    world = World(ledger, egress="relay:h:25").start()
    held = world.claim()
    assert held is not None
    key = held.rows[0].key
    queued = FateChange(key=key, fate=Fate.QUEUED_AT_RELAY, at=NOW)
    assert ledger.apply([queued])[0].ok is False, "not accepted yet"
    send_all(world, held.rows[:1])
    gone = FateChange(key=key, fate=Fate.RETURNED, at=NOW, reply="550 no")
    assert [item.ok for item in ledger.apply([queued, queued, gone, queued])] == [True, False, True, False]
    assert ledger.apply([FateChange(key=key, fate=Fate.DELIVERED, at=NOW)])[0].ok is False
    assert world.row(key)["fate_reply"] == "550 no"


def test_text_from_outside_never_breaks_a_write(ledger: Ledger) -> None:
    world = World(ledger, count=1).start()
    held = world.claim()
    assert held is not None
    item = arm(held.rows[0])
    reply = "450 a\0b \udc80 'quote\" \\ 日本語 \U0001f600"
    assert ledger.apply([item, end(item, TryOutcome.DEFERRED, reply=reply)])[1].ok
    assert "日本語 \U0001f600" in str(world.row(item.key)["reply"])


def test_an_ending_that_does_not_exist_is_refused_when_made() -> None:
    from tests.ledger.world import Delivery

    mail = Delivery(
        **dict.fromkeys(("key", "plan_id", "batch_id", "release", "recipient_id", "rcpt_key", "rcpt"), "x"),
        **dict.fromkeys(("customer", "domain", "egress", "provider", "envelope_from", "identity"), "x"),
        **dict.fromkeys(("message_id", "date", "content_id", "body_sha256"), "x"),
        **dict.fromkeys(("seq", "epoch", "tries"), 0),
        expires_at=None,
        first_try_at=None,
    )
    item = arm(mail)
    with pytest.raises(ValueError, match="needs due_at"):
        end(item, TryOutcome.DEFERRED, due_at=None)
    with pytest.raises(ValueError, match="has no due_at"):
        end(item, TryOutcome.ACCEPTED, due_at=NOW)
    with pytest.raises(ValueError, match="armed"):
        end(item, TryOutcome.ARMED)


@pytest.mark.parametrize("state", list(State))
def test_from_every_state_only_what_the_table_allows(ledger: Ledger, state: State) -> None:
    """Plant a mail in each state and try everything on it: what changes is in TRANSITIONS."""
    world = World(ledger, count=1).start()
    held = world.claim()
    assert held is not None
    (mail,) = held.rows
    item = arm(mail)
    attempts: list[Transition] = [
        arm(mail),
        *(end(item, outcome) for outcome in TryOutcome if outcome is not TryOutcome.ARMED),
        refuse(mail),
        refuse(mail, TryOutcome.REJECTED),
        GiveBack(keys=(mail.key,), batch_id=held.id, epoch=1),
        Quarantine(key=mail.key, epoch=1, reason="x"),
        Suppress(key=mail.key, epoch=1, reason="x"),
        Replan(keys=(mail.key,), plan_id=world.plan_id, reason="x", at=NOW),
        FateChange(key=mail.key, fate=Fate.DELIVERED, at=NOW),
    ]
    changed: set[tuple[State, State]] = set()
    for attempt in attempts:
        with ledger.write() as conn:
            conn.execute(try_.delete())
            conn.execute(update(batch).values(state="leased", epoch=1))
            fate = Fate.UNSEEN if state == State.ACCEPTED else ""
            conn.execute(update(delivery).values(state=state, try_id=item.try_id, epoch=1, tries=1, fate=fate))
            outcome = TryOutcome.ARMED if state == State.SENDING else TryOutcome.IN_DOUBT
            if state in (State.SENDING, State.IN_DOUBT):
                conn.execute(
                    try_.insert().values(
                        id=item.try_id,
                        delivery_key=mail.key,
                        epoch=1,
                        worker="w",
                        egress="direct",
                        provider="p",
                        mail_at="x",
                        outcome=outcome,
                    )
                )
        (result,) = ledger.apply([attempt])
        after = world.states()[mail.key]
        if after != state:
            changed.add((state, after))
            assert result.ok
        elif not isinstance(attempt, FateChange) and state != State.IN_DOUBT:
            assert not result.ok, attempt
    assert changed <= TRANSITIONS
    wanted = {
        State.LEASED: {
            State.SENDING,
            State.DEFERRED,
            State.REJECTED,
            State.PLANNED,
            State.QUARANTINED,
            State.SUPPRESSED,
        },
        State.SENDING: {State.ACCEPTED, State.DEFERRED, State.REJECTED, State.IN_DOUBT, State.PLANNED},
        State.IN_DOUBT: {State.ACCEPTED, State.PLANNED},
        State.REJECTED: {State.PLANNED},
    }
    assert {to for _, to in changed} == wanted.get(state, set())


def test_a_provider_veto_in_mid_batch_stops_the_next_arm(ledger: Ledger) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    assert ledger.apply([arm(held.rows[0])]) == [Armed(True)]
    with ledger.write() as conn:
        told = [Veto(kind=VetoKind.RELEASE, subject="r1", reason=VetoReason.WITHDRAWN)]
        assert vetoes.put(conn, told, source="catalog", now=NOW) == 1
        late = conn.execute(select(audit.c.value).where(audit.c.what == "veto_too_late")).scalar()
    assert late == "1"
    assert ledger.apply([arm(held.rows[1])]) == [Armed(False, "vetoed:withdrawn")]
    assert world.states()[held.rows[1].key] == State.SUPPRESSED
    assert Stage.DOT == "dot"


def test_an_old_answer_does_not_settle_the_doubt_of_a_newer_try(ledger: Ledger) -> None:
    world = World(ledger, count=1).start()
    held = world.claim()
    assert held is not None
    first = arm(held.rows[0])
    ledger.apply([first, end(first, TryOutcome.IN_DOUBT), EndBatch(batch_id=held.id, epoch=held.epoch)])
    with ledger.write() as conn:
        doubt.release(conn, confirm=1, reason="r", who="me", now=NOW)
    again = world.claim()
    assert again is not None
    second = arm(again.rows[0])
    ledger.apply([second, end(second, TryOutcome.IN_DOUBT)])
    assert ledger.apply([end(first)]) == [Applied(False, "late: in_doubt", State.IN_DOUBT)]
    assert world.row(first.key)["try_id"] == second.try_id
    assert not faults(ledger)


def test_an_expired_lease_arms_nothing_by_the_clock_of_the_database(ledger: Ledger) -> None:
    """PostgreSQL's clock decides, even before anybody takes over; on SQLite `run.lock` proves the holder, not time."""
    world = World(ledger, count=5).start()
    held = world.claim()
    assert held is not None
    with ledger.write() as conn:
        conn.execute(update(batch).values(lease_until="2000-01-01T00:00:00.000000Z"))
    renew = Renew(batch_id=held.id, epoch=held.epoch, lease_s=60, now=NOW)
    if ledger.dialect == "sqlite":
        assert ledger.apply([arm(held.rows[0]), renew]) == [Armed(True), Applied(True)]
    else:
        assert ledger.apply([arm(held.rows[0]), renew]) == [Armed(False, "lost lease"), Applied(False, "lost lease")]
        again = world.claim(owner="w2")
        assert again is not None and (again.id, again.epoch) == (held.id, 2), "a claim takes over what has expired"
    assert not faults(ledger)
