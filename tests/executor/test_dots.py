"""Mails in doubt: what parks a lane or a relay, what is one loss, and what a receiver's restart may cost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from resend.errors import Exit
from resend.executor.connect import SmtpConnector
from resend.executor.dots import ROW, Dots
from resend.executor.guard import Guard
from resend.executor.run import Run
from resend.executor.session import Session
from resend.lab.behaviour import Fault
from resend.model import Cause, CauseClass, Scope, State
from resend.policy.providers import ParkRule
from resend.policy.routes import Route
from tests.executor.test_guard import guard
from tests.executor.test_reactions import Make, make

__all__ = ["make"]
START = datetime(2026, 11, 25, 1, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def in_canary() -> Guard:
    one = guard()
    one.canary_done = False
    return one


def one_by_one(dots: Dots, ends: str) -> list[str]:
    """What `Dots` says to each end: `.` an answer, `x` a lost connection, `s` silence; one mail a second."""
    said = []
    for second, end in enumerate(ends):
        if end == ".":
            dots.answered()
            said.append("")
        else:
            said.append(dots.lost(after(second + 0.5), after(second), cut=end == "x"))
    return said


@pytest.mark.parametrize(
    ("ends", "parks"),
    [
        ("xxxx.x", False),
        ("....xxxxx", True),
        ("sssss", True),
        ("x.x.x.x.x.", False),
        ("x.x.x.x.x.x", True),
        ("x" + "." * 19, False),
        (("x" + "." * 19) * 6, False),
        (("x" + "." * 16) * 6, True),
        (("x" + "." * 99) * 20, False),
    ],
)
def test_five_losses_in_a_row_or_six_of_the_last_hundred_dots_are_too_many(ends: str, parks: bool) -> None:
    said = one_by_one(Dots(), ends)
    assert any(said) is parks
    assert not parks or "got no answer" in next(filter(None, said))
    assert not parks or not said[-1] or one_by_one(Dots(), ends + "xxxx")[-4:] == [""] * 4, "then it counts anew"


def test_connections_that_are_cut_together_are_one_loss_and_silence_is_one_for_each_mail() -> None:
    restart, silent = Dots(), Dots()
    for number in range(20):  # twenty mails under way, cut within two seconds
        assert restart.lost(after(10 + number / 10), after(number / 10), cut=True) == ""
    assert (restart.losses, restart.doubts) == (1, 20)
    assert restart.lost(after(13), after(12), cut=True) == "" and restart.losses == 2, "begun after it was seen"
    said = [silent.lost(after(600 + number), after(number), cut=False) for number in range(5)]
    assert said[:4] == [""] * 4 and said[4] == f"{ROW} dots in a row got no answer"


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        ("xxxx", "canary: 4 of 4 in doubt"),
        ("." * 10 + "x..x..x.x", "canary: 4 of 19 in doubt"),
        ("x.x.x..", ""),
        ("." * 40 + "x.x.x.x.", ""),
        ("xxx", ""),
        ("." * 20, ""),
    ],
)
def test_a_canary_fails_by_its_fourth_loss_where_that_is_more_than_a_tenth(ends: str, reason: str) -> None:
    one = in_canary()
    for second, end in enumerate(ends):
        if end == "x":
            one.doubted(after(second + 0.5), after(second), cut=True)
        else:
            one.dots.answered()
            one.accepted(after(second))
    if not one.parked:
        one.finish_canary(after(60))
    assert one.parked == reason and one.firm is bool(reason) and one.canary_done is not bool(reason)


def test_a_resume_begins_anew_and_a_probe_in_doubt_waits_longer() -> None:
    one = in_canary()
    for second in range(4):
        one.doubted(after(second + 0.5), after(second), cut=True)
    assert one.firm
    one.resume()
    assert one.doubted(after(11), after(10), cut=True) is None and not one.parked
    half = guard()
    half.failed(after(0), "rejected", Cause(cls=CauseClass.THROTTLED, rule="r", scope=Scope.PROVIDER))
    half.try_again(after(100))
    again = half.doubted(after(102), after(101), cut=True)
    assert again is not None and "a probe is in doubt" in again.reason and not half.firm


def test_a_park_rule_may_count_doubts() -> None:
    one = guard()
    one = Guard(
        profile=replace(one.profile, park=(ParkRule("in_doubt", 0.01, timedelta(minutes=5), "in_doubt > 1% in 5m"),)),
        rate=one.rate,
        ceiling=one.ceiling,
        canary_done=True,
    )
    for second in range(98):
        one.accepted(after(second))
    assert one.doubted(after(98), after(98), cut=False) is None
    parked = one.doubted(after(99), after(99), cut=False)
    assert parked is not None and parked.reason == "in_doubt > 1% in 5m: 2 of 100" and one.firm


@pytest.mark.parametrize("do", ["drop", "garbage"])
def test_a_receiver_that_never_answers_a_dot_is_parked_by_its_canary(make: Make, do: str) -> None:
    said = "?? what\r\n" if do == "garbage" else ""
    stage = make({"a": 60}, pools={"a": {"faults": (Fault(do=do, at="dot", name="f", reply=said),)}}, size=20)
    summary = stage.play()
    assert summary.exit is Exit.PARKED and summary.parked["a"].startswith("canary: ")
    states = stage.states("a")
    assert 4 <= states[State.IN_DOUBT] <= 20 and states[State.PLANNED] == 60 - states[State.IN_DOUBT]
    assert [item.reason for item in stage.decisions("parked")] == [summary.parked["a"]]
    assert stage.play().counts["in_doubt"] == 0, "it stays parked"
    stage.sound()


def test_a_relay_that_answers_no_dot_parks_all_that_is_behind_it_though_no_lane_sent_much(make: Make) -> None:
    odd = {"a": {"faults": (Fault(do="garbage", at="dot", name="f", reply="?? what\r\n"),)}}
    slow = {name: {"start": 2.0, "connections": 1} for name in "abcdef"}
    stage = make(dict.fromkeys("abcdef", 2), pools=odd, profiles=slow, behind_relay=True, one_door=True)
    summary = stage.play()
    assert summary.exit is Exit.PARKED and summary.parked.keys() == set("abcdef")
    assert all(f"{ROW} dots in a row got no answer at relay:" in reason for reason in summary.parked.values())
    assert sum(stage.states(name)[State.IN_DOUBT] for name in "abcdef") == 6, "the first mail of each"
    stage.sound()


def test_a_receiver_that_restarts_parks_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its connections are cut at once, with a mail under way on each of them."""
    slow = {"faults": (Fault(do="slow", at="dot", name="slow", ms=150),)}
    stage = make({"a": 60}, pools={"a": slow}, profiles={"a": {"connections": 10}}, size=20)
    opened: list[Session] = []
    real = SmtpConnector.open

    async def kept(self: SmtpConnector, route: Route | None, domain: str, egress: str = "") -> Session:
        opened.append(await real(self, route, domain, egress))
        return opened[-1]

    monkeypatch.setattr(SmtpConnector, "open", kept)

    async def restart(run: Run) -> None:
        while run.counts["accepted"] < 10:
            await asyncio.sleep(0.01)
        for session in opened:
            session.connection_lost(None)

    summary = stage.play(restart)
    assert summary.exit is Exit.LEFT and summary.parked == {} and not stage.decisions("parked")
    lost = stage.states("a")[State.IN_DOUBT]
    assert 3 < lost <= 10 and stage.states("a")[State.ACCEPTED] == 60 - lost
    stage.sound()
