"""A provider whose cool-down is over is tried by single mails of one host, however many hosts wait for it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from resend.clock import to_text
from resend.errors import Exit
from resend.executor import guard
from resend.lab.behaviour import Fault, Pool
from resend.model import State
from resend.policy.hours import ALWAYS
from resend.stores import control
from resend.stores.status import decisions
from resend.stores.tables import provider_rate
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
