"""A provider whose cool-down is over is tried by single mails of one host, however many hosts wait for it."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import insert, update

from resend.clock import to_text
from resend.errors import Exit
from resend.executor import guard, standing
from resend.executor.run import Options
from resend.lab.behaviour import Fault, Pool
from resend.model import PlanState, State
from resend.policy.hours import ALWAYS
from resend.stores import claims, control
from resend.stores.status import decisions
from resend.stores.tables import plan, provider_rate, provider_slot
from tests.executor.test_hosts_hours import Make, make
from tests.executor.test_run_hours import tokyo

__all__ = ["make"]
pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("hosts")]


def test_one_of_two_hosts_sends_one_mail_then_two_then_four(make: Make) -> None:
    hosts = make(tokyo("24T12:00"), count=30)
    slow = Fault(do="slow", at="dot", name="slow", ms=600)
    hosts.pool = Pool(name="p", listen=("127.0.1.45:0",), faults=(slow,))
    with hosts.ledger.write() as conn:
        control.ensure_rate(conn, egress="direct", provider="p", start=100.0, ceiling=100.0)
        conn.execute(
            update(provider_rate).values(
                parked="busy; tried again after 1m",
                cooldown_until=to_text(hosts.clock.now() - timedelta(seconds=1)),
                next_cooldown_s=120.0,
                canary_done=1,
            )
        )
    assert {summary.exit for summary in hosts.together(ALWAYS, wait_s=5)} == {Exit.DONE}
    assert hosts.states() == {State.ACCEPTED: 30}
    at = sorted(when for when, _ in hosts.mails())
    for first, size in ((0, 1), (1, 2), (3, 4)):
        answered = at[first] + timedelta(seconds=0.55)
        assert sum(at[first] <= when < answered for when in at) <= size, at[:8]
    with hosts.ledger.read() as conn:
        said = [item.what for item in decisions(conn) if item.provider == "p"]
        (rate,) = control.rates(conn)
    assert said.count("half_open") == said.count("reopened") == 1
    assert not rate.half_open and not rate.parked and rate.next_cooldown_s == 0


def test_where_the_probing_host_died_one_of_the_others_takes_over(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both others wait a round for its word, and then only one of them sends a mail."""
    monkeypatch.setattr(guard, "_ROUND_TIME", timedelta(seconds=2))
    hosts = make(tokyo("24T12:00"), count=30)
    slow = Fault(do="slow", at="dot", name="slow", ms=1_500)
    hosts.pool = Pool(name="p", listen=("127.0.1.46:0",), faults=(slow,))
    with hosts.ledger.write() as conn:
        control.ensure_rate(conn, egress="direct", provider="p", start=100.0, ceiling=100.0)
        over = to_text(hosts.clock.now() - timedelta(seconds=9))
        conn.execute(update(provider_rate).values(half_open=1, cooldown_until=over, canary_done=1))
    assert {summary.exit for summary in hosts.together(ALWAYS, wait_s=8)} == {Exit.DONE}
    assert hosts.states() == {State.ACCEPTED: 30}
    at = sorted(when for when, _ in hosts.mails())
    answered = at[0] + timedelta(seconds=1.4)
    assert sum(when < answered for when in at) == 1, at[:8]


def test_a_host_that_finds_all_connections_in_use_says_who_has_them(make: Make) -> None:
    hosts = make(tokyo("24T12:00"), count=30)
    profile = SimpleNamespace(connections=2)
    run = SimpleNamespace(worker="late:1", plan_id="", clock=hosts.clock, options=Options(shared_pace=True))
    lane: Any = SimpleNamespace(run=run, egress="direct", provider="p", profile=profile)
    lane.hours = SimpleNamespace(limits=lambda conn: ([], None))
    lane.leases = SimpleNamespace(slots=(), giving=())
    until = to_text(hosts.clock.now() + timedelta(minutes=1))

    def look() -> list[str]:
        with hosts.ledger.write() as conn:
            assert standing.claim(lane, conn) is None
            return [item.reason for item in decisions(conn, what=standing.WAITS, who="late:1")]

    with hosts.ledger.write() as conn:
        for number in range(2):
            slot = {"egress": "direct", "provider": "p", "n": number, "owner": f"first:{number}", "lease_until": until}
            conn.execute(insert(provider_slot).values(**slot))
    said = "all 2 connections are in use: first:0 has 1, first:1 has 1; a part of them is given to this host soon"
    assert look() == look() == [said]
    hosts.clock.set(hosts.clock.now() + timedelta(minutes=6))
    with hosts.ledger.write() as conn:
        conn.execute(update(provider_slot).values(lease_until=to_text(hosts.clock.now() + timedelta(minutes=1))))
    assert look() == [said, said]
    with hosts.ledger.write() as conn:
        conn.execute(update(plan).values(state=PlanState.FINISHED))
        assert standing.claim(lane, conn) is None
        held = claims.held_elsewhere(conn, egress="direct", provider="p", owner="late:1", connections=2)
    assert held == {}, "nothing waits"
