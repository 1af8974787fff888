"""What a guard learned holds after a restart: the ledger's row and the tries of the last hour bring it back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from resend.clock import from_text, to_text
from resend.executor.guard import Guard, Heard
from resend.executor.lane import Lane
from resend.executor.pacer import Pacer
from resend.executor.standing import adopt, heard, restored, standing
from resend.model import CauseClass, Fate
from resend.policy.classify import Rules
from resend.policy.reactions import Act, Reaction
from resend.stores import control
from resend.stores.apply import one_by_one
from resend.stores.ledger import Ledger
from resend.stores.rows import Rate
from resend.stores.tables import delivery
from tests.executor.test_guard import BUSY, START, after, cause, profile
from tests.ledger.world import World

LIMITED = Reaction(on="one at a time", sample="x", act=Act.CONNECTIONS, most=1, span=timedelta(hours=1))
OFTEN = Reaction(on="slow down", sample="x", act=Act.COOLDOWN, span=timedelta(minutes=5), times=3)
FIGURES = replace(profile(), reactions=(LIMITED, OFTEN))


def new() -> Guard:
    return Guard(profile=FIGURES, rate=40.0, ceiling=100.0, canary_done=True, clean_since=START)


def lane_of(guard: Guard, now: datetime) -> Lane:
    run = SimpleNamespace(clock=SimpleNamespace(now=lambda: now), plan_id="")
    lane = SimpleNamespace(
        guard=guard, run=run, egress="direct", provider="x", decisions=0, dwell_until=None, paused=False, known=None,
        pacer=Pacer(guard.pace),
    )  # fmt: skip
    return cast(Lane, lane)


def rate_of(guard: Guard, now: datetime) -> Rate:
    """The ledger's row after a decision."""
    fields = dict(standing(lane_of(guard, now), "x", "x", who="rule").fields)
    fields |= {name: bool(fields[name]) for name in ("canary_done", "paused", "half_open")}
    return Rate(egress="direct", provider="x", tat_us=0, **fields)  # type: ignore[arg-type]


def restarted(guard: Guard, now: datetime, before: list[Heard] | None = None) -> Guard:
    """The guard of the next run, by way of the fields that a decision writes down."""
    return restored(rate_of(guard, now), guard.profile, before or [], last=now, now=now)


@given(
    replies=st.lists(
        st.tuples(st.sampled_from(["ok", "busy", "limited", "trouble", "tick"]), st.integers(1, 400)), max_size=60
    )
)
def test_a_restart_at_any_moment_forgets_no_limit_and_no_cooldown(replies: list[tuple[str, int]]) -> None:
    one, now = new(), START
    for what, seconds in replies:
        now += timedelta(seconds=seconds)
        match what:
            case "ok":
                one.accepted(now)
            case "busy":
                one.failed(now, "deferred", BUSY)
            case "limited":
                one.failed(now, "deferred", cause(CauseClass.TRANSIENT_INFRA), "421 one at a time")
            case "trouble":
                one.live_seen(now, 0.0, "deferrals rise")
            case _:
                one.tick(now)
        two = restarted(one, now)
        for name in (
            "rate",
            "capped",
            "capped_until",
            "cooldown_until",
            "parked",
            "half_open",
            "next_cooldown",
            "limits",
        ):
            assert getattr(two, name) == getattr(one, name), name
        assert two.cap_for == one.cap_for and two.pace == one.pace
        assert not two.half_open or two.probes_left == 1


def test_a_limit_met_again_after_a_restart_holds_twice_as_long() -> None:
    one = new()
    one.failed(after(0), "deferred", BUSY)
    two = restarted(one, after(10))
    two.rate = 40.0  # risen back to it
    two.failed(after(3600), "deferred", BUSY)
    assert two.capped_until == after(3600) + 2 * FIGURES.cap_for


def test_replies_of_before_go_on_counting() -> None:
    before = [Heard(at=after(n), outcome="deferred", cls=CauseClass.THROTTLED, reply="450 slow down") for n in (0, 60)]
    two = restarted(new(), after(61), before)
    assert not two.parked
    assert two.failed(after(62), "deferred", BUSY, "450 slow down") is not None and two.parked
    alone = restarted(new(), after(61))
    alone.failed(after(62), "deferred", BUSY, "450 slow down")
    assert not alone.parked


def test_the_ledger_keeps_each_field(ledger: Ledger) -> None:
    one = new()
    one.failed(START, "deferred", cause(CauseClass.TRANSIENT_INFRA), "421 one at a time")
    one.live_seen(START, 30.0, "deferrals rise")
    one.tick(START + timedelta(hours=5))
    assert one.half_open
    change = standing(lane_of(one, START), "half_open", "x", who="rule")
    with ledger.write() as conn:
        control.ensure_rate(conn, egress="direct", provider="x", start=1.0, ceiling=100.0)
        one_by_one(conn, [change])
    with ledger.read() as conn:
        (kept,) = control.rates(conn)
    assert kept.half_open and kept.next_cooldown_s == one.next_cooldown.total_seconds() > 0
    assert from_text(to_text(START)) == START
    assert restored(kept, FIGURES, [], last=START, now=START).next_cooldown == one.next_cooldown


def test_while_one_host_sends_the_probes_the_others_wait() -> None:
    """Another host takes over what the ledger says of a half-open provider, and begins again where nobody ends it."""
    one = new()
    one.live_seen(START, 0.0, "deferrals rise")
    parked = rate_of(one, START)
    two = restarted(one, START)
    lane = lane_of(two, after(5 * 3600))
    adopt(lane, parked)  # the first look only tells what is known
    one.tick(after(5 * 3600))
    adopt(lane, rate_of(one, after(5 * 3600)))
    assert not two.parked and two.half_open and two.waits
    two.tick(after(5 * 3600 + 61))
    assert two.half_open and not two.waits
    for _ in range(7):
        one.accepted(after(5 * 3600 + 62))
    adopt(lane, rate_of(one, after(5 * 3600 + 62)))
    assert not two.half_open and not two.waits


def test_behind_a_relay_what_its_log_told_is_what_was_heard(ledger: Ledger) -> None:
    world = World(ledger, count=4, egress="relay:mta").start()
    told = [
        {"fate": Fate.DELIVERED, "fate_at": to_text(after(1))},
        {"fate": Fate.QUEUED_AT_RELAY, "fate_at": to_text(after(2)), "fate_reply": "451 4.7.500 Server busy"},
        {"fate": Fate.RETURNED, "fate_at": to_text(after(3)), "fate_reply": "550 5.1.1 User unknown"},
        {"fate": Fate.UNSEEN},
    ]
    with ledger.write() as conn:
        for row, values in zip(world.rows(), told, strict=True):
            conn.execute(update(delivery).where(delivery.c.key == row.key).values(**values))
        rate = control.ensure_rate(conn, egress="relay:mta", provider="office365", start=1.0, ceiling=1.0)
        found = heard(conn, rate, FIGURES, after(60), Rules.load())
        assert heard(conn, rate, FIGURES, after(60)) == []  # its 250 says nothing of the provider
    assert [(item.outcome, item.cls) for item in found] == [
        ("accepted", None), ("deferred", CauseClass.THROTTLED), ("rejected", CauseClass.MAILBOX_GONE),
    ]  # fmt: skip


@pytest.mark.parametrize("gone", [timedelta(minutes=1), timedelta(hours=3)])
def test_what_was_heard_long_ago_counts_no_more(gone: timedelta) -> None:
    before = [Heard(at=after(n), outcome="deferred", cls=CauseClass.THROTTLED, reply="450 slow down") for n in (0, 1)]
    now = after(1) + gone
    two = restarted(new(), now, before)
    two.failed(now, "deferred", BUSY, "450 slow down")
    assert bool(two.parked) is (gone < timedelta(hours=1))
