"""Plans started, stale, finished and closed; commands, rates; status, exports and copies."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import func, select

from resend.errors import LockHeld, StalePlan, StoreError, UsageError
from resend.model import ControlKind, PlanState, State, TryOutcome
from resend.policy.address import fold
from resend.stores import control, lifecycle, registry, vetoes
from resend.stores.export import export_rows
from resend.stores.frozen import PlannedMail, PlannedMails
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.plans import PlanFile, write_plan
from resend.stores.status import decisions, status
from resend.stores.tables import delivery
from resend.stores.transitions import Audit, EndBatch, RateChange
from tests.ledger.world import NOW, World, arm, end, faults, send_all


def test_a_plan_starts_once(ledger: Ledger) -> None:
    world = World(ledger).start()
    with ledger.write() as conn:
        assert lifecycle.start_plan(conn, world.plan_id, world.batches(), world.rows(), now=NOW) == 0
        assert registry.find_plan(conn, world.plan_id[:8]).state == PlanState.STARTED
        with pytest.raises(UsageError, match="no plan"):
            registry.find_plan(conn, "zz")
    assert world.row(world.rows()[1].key)["folded"] == "u1@example1.jp"


def test_mails_enter_from_the_plans_file_as_they_were_frozen(ledger: Ledger, home: Home) -> None:
    world = World(ledger, count=4, size=2).make()
    first, *others = world.rows()
    odd = first._replace(
        rcpt="Ünï@例え.jp", date="", expires_at="2026-12-01T09:00:00+09:00", not_before="2026-11-30T00:00:00Z"
    )
    write_plan(home, world.plan_id, [odd, *others])
    with closing(PlannedMails(home, world.plan_id)) as frozen, ledger.write() as conn:
        assert lifecycle.start_plan(conn, world.plan_id, frozen.batches(), frozen.mails(), now=NOW) == 4
    with ledger.read() as conn:
        found = {row.key: row._asdict() for row in conn.execute(select(delivery))}
    assert found.keys() == {row.key for row in world.rows()}
    for row in [odd, *others]:
        entered = found[row.key]
        assert all(entered[name] == getattr(row, name) for name in PlannedMail._fields[:-3])
        assert (entered["plan_id"], entered["state"], entered["folded"]) == (world.plan_id, "planned", fold(row.rcpt))
        never = {
            name: value for name, value in entered.items() if name not in (*PlannedMail._fields, "plan_id", "state")
        }
        del never["folded"], never["due_at"]
        assert set(never.values()) <= {"", 0, None}
    assert found[first.key]["date"] is None
    assert (found[first.key]["expires_at"], found[first.key]["due_at"]) == (
        "2026-12-01T00:00:00.000000Z",
        "2026-11-30T00:00:00.000000Z",
    )
    assert not faults(ledger)


def test_a_plan_with_mails_of_another_is_stale_and_leaves_nothing(ledger: Ledger) -> None:
    World(ledger).start()
    other = World(ledger, count=12).make()
    with pytest.raises(StalePlan, match="plan make"), ledger.write() as conn:
        lifecycle.start_plan(conn, other.plan_id, other.batches(), other.rows(), now=NOW)
    with ledger.read() as conn:
        assert conn.execute(select(func.count()).select_from(delivery)).scalar() == 10
    assert not faults(ledger)


def test_a_plan_whose_file_lost_mails_does_not_start(ledger: Ledger) -> None:
    world = World(ledger).make()
    with pytest.raises(StoreError, match="9 mails, the plan 10"), ledger.write() as conn:
        lifecycle.start_plan(conn, world.plan_id, world.batches(), world.rows()[:9], now=NOW)


def test_closing_frees_what_is_unsent(ledger: Ledger) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    send_all(world, held.rows[:2])
    with pytest.raises(LockHeld, match="3 mails of the plan are under way"), ledger.write() as conn:
        lifecycle.close_plan(conn, world.plan_id, reason="enough", who="me", now=NOW)
    ledger.apply([EndBatch(batch_id=held.id, epoch=held.epoch)])
    with ledger.write() as conn:
        assert not lifecycle.finish_plan(conn, world.plan_id, now=NOW)
        assert lifecycle.close_plan(conn, world.plan_id, reason="enough", who="me", now=NOW) == 8
    assert sorted(world.states().values()) == [State.ACCEPTED] * 2 + [State.CLOSED] * 8
    assert world.claim() is None
    with pytest.raises(StalePlan, match="closed"), ledger.write() as conn:
        lifecycle.start_plan(conn, world.plan_id, world.batches(), world.rows(), now=NOW)
    assert not faults(ledger)


def test_a_plan_finishes_when_nothing_is_left_to_send(ledger: Ledger) -> None:
    world = World(ledger, count=5).start()
    held = world.claim()
    assert held is not None
    send_all(world, held.rows)
    ledger.apply([EndBatch(batch_id=held.id, epoch=held.epoch)])
    with ledger.write() as conn:
        assert lifecycle.finish_plan(conn, world.plan_id, now=NOW)
        assert not lifecycle.finish_plan(conn, world.plan_id, now=NOW)
        assert [item.state for item in registry.plans(conn)] == [PlanState.FINISHED]
    assert not faults(ledger)


def test_commands_are_seen_once_and_audited(ledger: Ledger) -> None:
    with ledger.write() as conn:
        first = control.post(conn, ControlKind.PAUSE, reason="smoke", who="me", now=NOW)
        control.post(conn, ControlKind.RATE, provider="p", value="1/s", reason="slow", who="me", now=NOW)
    with ledger.write() as conn:
        found = control.unseen(conn)
        assert [(item.kind, item.provider, item.value, item.who) for item in found] == [
            (ControlKind.PAUSE, "", "", "me"),
            (ControlKind.RATE, "p", "1/s", "me"),
        ]
        assert control.mark_seen(conn, [first], now=NOW) == 1
        assert control.mark_seen(conn, [first], now=NOW) == 0
        assert [item.kind for item in control.unseen(conn)] == [ControlKind.RATE]
        assert [item.what for item in decisions(conn)] == ["control_rate", "control_pause"]


def test_a_rate_goes_on_where_it_stood_and_every_change_has_its_reason(ledger: Ledger) -> None:
    with ledger.write() as conn:
        rate = control.ensure_rate(conn, egress="direct", provider="p", start=1.0, ceiling=5.0)
        assert (rate.rate, rate.ceiling, rate.tat_us, rate.paused) == (1.0, 5.0, 0, False)
    place = {"egress": "direct", "provider": "p"}
    until = NOW + timedelta(hours=2)
    changed = ledger.apply(
        [
            RateChange(**place, what="halved", reason="451 busy", at=NOW, fields={"rate": 0.5, "capped_until": until}),
            RateChange(**place, what="parked", reason="rejected > 5%", at=NOW, fields={"parked": "rejected"}),
            RateChange(egress="x", provider="p", what="halved", reason="r", at=NOW, fields={"rate": 0.5}),
            Audit(at=NOW, who="rule", what="dwelt", reason="canary"),
        ]
    )
    assert [item.ok for item in changed] == [True, True, False, True]
    with ledger.write() as conn:
        rate = control.ensure_rate(conn, **place, start=1.0, ceiling=5.0)
        assert (rate.rate, rate.tat_us, rate.capped_until, rate.parked) == (0.5, 0, until, "rejected")
        assert control.reserve(conn, **place, count=1, now=NOW) is None, "parked"
        said = [(item.what, item.reason) for item in decisions(conn, limit=2)]
        assert said == [("dwelt", "canary"), ("halved", "r")]
    with pytest.raises(ValueError, match="no speed"):
        ledger.apply([RateChange(**place, what="x", reason="r", at=NOW, fields={"speed": 1})])


def test_a_ceiling_that_the_config_changed_counts_and_what_was_said_or_learned_since_stays(ledger: Ledger) -> None:
    place = {"egress": "direct", "provider": "p"}

    def begin(ceiling: float) -> tuple[float, float]:
        with ledger.write() as conn:
            rate = control.begin_rate(conn, **place, start=ceiling / 5, ceiling=ceiling, plan_id="a" * 64, now=NOW)
        return rate.rate, rate.ceiling

    def decide(what: str, **fields: float) -> None:
        assert ledger.apply([RateChange(**place, what=what, reason="r", at=NOW, fields=fields)])[0].ok

    assert begin(5.0) == begin(5.0) == (1.0, 5.0)
    decide("raised", rate=5.0)
    assert begin(50.0) == (10.0, 50.0), "it had reached the old ceiling: on from the new start"
    decide("halved", rate=4.0, capped=4.25)
    assert begin(100.0) == (4.0, 100.0), "what was learned stays"
    assert begin(2.0) == (2.0, 2.0)
    decide("rate", rate=3.0, ceiling=3.0)
    assert begin(2.0) == (3.0, 3.0), "an operator's word holds while the config says what it said before"
    assert begin(8.0) == (3.0, 8.0), "until it says something else"
    with ledger.read() as conn:
        told = [(item.value, item.reason) for item in decisions(conn, what=control.CEILING_TOLD)]
    assert told[-2:] == [("50/s", "it was 5/s"), ("5/s", "")]


def test_a_ledger_that_does_not_know_what_the_config_said_keeps_to_an_operators_word(ledger: Ledger) -> None:
    with ledger.write() as conn:
        for provider in ("said", "not"):
            control.ensure_rate(conn, egress="direct", provider=provider, start=1.0, ceiling=5.0)
    fields = {"rate": 2.0, "ceiling": 2.0}
    ledger.apply([RateChange(egress="direct", provider="said", what="rate", reason="r", at=NOW, fields=fields)])
    with ledger.write() as conn:
        found = {
            provider: control.begin_rate(
                conn, egress="direct", provider=provider, start=1.0, ceiling=3.0, plan_id="", now=NOW
            ).ceiling
            for provider in ("said", "not")
        }
    assert found == {"said": 2.0, "not": 3.0}


def test_of_several_that_would_take_over_the_probes_one_does(ledger: Ledger) -> None:
    place = {"egress": "direct", "provider": "p"}
    ended = NOW - timedelta(minutes=1)
    with ledger.write() as conn:
        control.ensure_rate(conn, **place, start=1.0, ceiling=5.0)
        assert control.probe_next(conn, **place, before=None, now=NOW) is None, "nobody probes"
    ledger.apply([RateChange(**place, what="x", reason="r", at=NOW, fields={"half_open": 1, "cooldown_until": ended})])
    with ledger.write() as conn:
        assert control.probe_next(conn, **place, before=ended, now=NOW) == NOW
        assert control.probe_next(conn, **place, before=ended, now=NOW) is None
        assert control.probe_next(conn, **place, before=NOW, now=NOW + timedelta(minutes=1)) is not None


def test_reserved_send_times_keep_the_rate_and_never_overlap(ledger: Ledger) -> None:
    with ledger.write() as conn:
        control.ensure_rate(conn, egress="direct", provider="p", start=10.0, ceiling=10.0)
    times: list[int] = []
    for _ in range(5):
        with ledger.write() as conn:
            got = control.reserve(conn, egress="direct", provider="p", count=10, now=NOW)
            assert got is not None and got.times_us[0] >= got.now_us
            times += got.times_us
    assert len(times) == 50
    assert all(100_000 <= b - a <= 100_001 for a, b in pairwise(times))


def test_the_last_mail_of_each_provider_is_known_at_a_restart(ledger: Ledger) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    ledger.apply([arm(held.rows[0]), arm(held.rows[1], at=NOW + timedelta(seconds=3))])
    with ledger.read() as conn:
        assert control.last_mail_at(conn) == {("direct", "office365"): NOW + timedelta(seconds=3)}


def test_status_shows_every_mail_once(ledger: Ledger) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    send_all(world, held.rows[:2])
    armed = [arm(held.rows[2])]
    due = NOW + timedelta(minutes=5)
    ledger.apply([*armed, end(armed[0], TryOutcome.DEFERRED, due_at=due)])
    with ledger.write() as conn:
        vetoes.mark(conn, "collect", seen_to=NOW - timedelta(hours=2), now=NOW)
    found = status(ledger)
    assert [(mark.source, mark.seen_to) for mark in found.watermarks] == [("collect", NOW - timedelta(hours=2))]
    (provider,) = found.providers
    assert provider.states == {State.ACCEPTED: 2, State.DEFERRED: 1, State.LEASED: 2, State.PLANNED: 5}
    assert provider.fates == {"delivered": 2}
    assert provider.next_due == due
    assert [item.id for item in found.plans] == [world.plan_id]
    assert status(ledger, plan_id="x").providers == ()


def test_rows_are_exported_whole_and_in_a_stable_order(ledger: Ledger) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    send_all(world, held.rows)
    with ledger.read() as conn:
        rows = list(export_rows(conn, plan_id=world.plan_id))
        assert rows == list(export_rows(conn, incident_id="inc-1"))
        assert list(export_rows(conn, plan_id="x")) == []
    assert [row["key"] for row in rows] == sorted(row.key for row in world.rows())
    assert list(rows[0])[:8] == ["key", "release", "recipient", "provider", "state", "fate", "due_at", "tries"]


def test_a_frozen_plan_is_read_in_the_order_it_was_written_in(tmp_path: Path, ledger: Ledger) -> None:
    home = Home(tmp_path / "frozen").create()
    world = World(ledger, count=30_000, size=500)  # several row groups
    written = world.rows()
    assert write_plan(home, world.plan_id, written) == 30_000
    with PlanFile(home, world.plan_id) as frozen:
        assert [row.key for row in frozen.rows()] == [row.key for row in written]
        inside = [row.key for row in written if row.batch_seq == 41]
        assert [row.key for row in frozen.rows(batch_id=written[41 * 500].batch_id)] == inside
        some = [row.key for row in written[::701]]
        assert [row.key for row in frozen.rows(keys=some[::-1])] == some
