"""A receiver that goes away in the middle of a run and comes back; refused logins; a clock that is set back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from resend.clock import SystemClock
from resend.errors import ConnectError, Exit, StalePlan
from resend.executor import beat, reach
from resend.executor.connect import LoginRefused, SmtpConnector
from resend.executor.run import Run
from resend.executor.session import Session as Dialogue
from resend.lab.behaviour import Session
from resend.model import State
from resend.policy.routes import Route
from tests.executor.test_reactions import Make, make

__all__ = ["make"]

Open = Callable[[SmtpConnector, Route | None, str, str], Awaitable[Dialogue]]
REAL: Open = SmtpConnector.open


def opens(monkeypatch: pytest.MonkeyPatch, instead: Callable[[int], Exception | None]) -> None:
    """Connections that fail: `instead` is given how many were asked for before."""
    asked = 0

    async def fake(self: SmtpConnector, route: Route | None, domain: str, egress: str = "") -> Dialogue:
        nonlocal asked
        asked += 1
        error = instead(asked - 1)
        if error is not None:
            raise error
        return await REAL(self, route, domain, egress)

    monkeypatch.setattr(SmtpConnector, "open", fake)
    monkeypatch.setattr(reach, "_KNOCK_S", 0.05)


@pytest.mark.parametrize("relay", [True, False])
def test_a_receiver_that_is_gone_for_a_while_is_waited_for(
    make: Make, monkeypatch: pytest.MonkeyPatch, relay: bool
) -> None:
    short = {"a": {"session": Session(mails=4)}}
    stage = make({"a": 40}, pools=short, behind_relay=relay)
    opens(monkeypatch, lambda before: OSError("refused") if 3 <= before < 12 else None)
    assert stage.play().exit == Exit.DONE
    assert stage.states("a") == {State.ACCEPTED: 40}
    assert len(stage.decisions("unreachable")) == len(stage.decisions("reached_again")) == 1
    stage.sound()


def test_a_receiver_that_stays_away_ends_the_run_when_its_patience_is_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"a": {"session": Session(mails=4)}}
    stage = make({"a": 40}, pools=short, behind_relay=True, wait_s=0.5)
    opens(monkeypatch, lambda before: OSError("refused") if before >= 3 else None)
    began = time.monotonic()
    with pytest.raises(ConnectError, match="cannot reach the receiver"):
        stage.play()
    assert 0.5 <= time.monotonic() - began < 5
    assert set(stage.states("a")) <= {State.ACCEPTED, State.PLANNED, State.DEFERRED}


def test_a_refused_login_parks_its_egress_and_no_mail_has_been_tried(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make({"a": 8}, pools={}, behind_relay=True)
    opens(monkeypatch, lambda _: LoginRefused("the relay refuses the login: 535 5.7.8 no", next_step="check [relay]"))
    summary = stage.play()
    assert summary.exit == Exit.PARKED and "refuses the login" in summary.parked["a"]
    assert stage.states("a") == {State.PLANNED: 8} and not summary.counts["deferred"]


def test_a_wrong_certificate_of_one_egress_leaves_the_others_alone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make({"a": 8, "b": 8}, pools={}, behind_relay=True)

    async def fake(self: SmtpConnector, route: Route | None, domain: str, egress: str = "") -> Dialogue:
        if egress == stage.worlds["a"].egress:
            raise ConnectError("TLS fails: expired", next_step="check the certificate")
        return await REAL(self, route, domain, egress)

    monkeypatch.setattr(SmtpConnector, "open", fake)
    with pytest.raises(ConnectError, match="TLS fails"):
        stage.play()
    assert stage.states("b") == {State.ACCEPTED: 8}
    assert stage.states("a") == {State.PLANNED: 8}


def test_a_clock_that_is_set_back_an_hour_holds_nothing_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    off = timedelta(0)
    monkeypatch.setattr(SystemClock, "now", lambda self: datetime.now(UTC) + off)
    monkeypatch.setattr(beat, "CONTROL_S", 0.05)
    stage = make({"a": 60}, pools={}, profiles={"a": {"rate": 40.0, "start": 40.0}})

    async def step(run: Run) -> None:
        nonlocal off
        while run.counts["accepted"] < 15:
            await asyncio.sleep(0.01)
        off = timedelta(hours=-1)

    began = time.monotonic()
    assert stage.play(step).exit == Exit.DONE
    assert time.monotonic() - began < 6
    assert stage.states("a") == {State.ACCEPTED: 60}
    with stage.ledger.read() as conn:
        said = conn.exec_driver_sql("select reason from audit where what = 'clock_set_back'").scalars().all()
    assert len(said) == 1 and "3600" in said[0]
    stage.sound()


def test_a_started_plan_whose_mail_would_leave_by_a_relay_now_stops_before_that_mail(make: Make) -> None:
    stage = make({"a": 12, "b": 4}, pools={}, size=4, profiles={"a": {"dwell": timedelta(seconds=1)}})

    async def stop(run: Run) -> None:
        while run.counts["accepted"] < 8:  # the canary of a, and all of b
            await asyncio.sleep(0.01)
        run.stop("a test")

    assert stage.play(stop).exit is Exit.LEFT
    sent = len(stage.received())
    stage.routed["a"] = Route("127.0.0.1", 9, True, "relay:127.0.0.1:9")
    with pytest.raises(StalePlan, match=r"would leave by relay.*was planned to leave by direct"):
        stage.play()
    assert stage.states("a") == {State.ACCEPTED: 4, State.PLANNED: 8} and len(stage.received()) == sent
    del stage.routed["a"]
    assert stage.play().exit is Exit.DONE
    stage.sound()
