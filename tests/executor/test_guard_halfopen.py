"""Parked for a time, then single mails; reactions as data; live mail first: the guard alone, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.executor.guard import Guard
from resend.executor.pacer import Pacer
from resend.model import Cause, CauseClass, Scope
from resend.policy.classify import Rules
from resend.policy.providers import Profile, ProviderTable
from resend.policy.reactions import Act, Reaction, about_provider
from tests.executor.test_guard import BUSY, START, after, cause, profile

TABLE = ProviderTable.load()
ROWS = [(name, item) for name in (*TABLE.names(), "unknown.example") for item in TABLE.profile(name).reactions]
RULES = Rules.load()


def guard(given: Profile | None = None, rate: float = 40.0, ceiling: float = 100.0) -> Guard:
    return Guard(profile=given or profile(), rate=rate, ceiling=ceiling, canary_done=True, clean_since=START)


@pytest.mark.parametrize(("name", "reaction"), ROWS, ids=lambda item: item if isinstance(item, str) else item.on)
def test_each_reaction_is_fired_by_its_sample(name: str, reaction: Reaction) -> None:
    """Through the classifier and the guard: a row that a wider one, a park or a scope hides would be dead."""
    one = guard(TABLE.profile(name), rate=1.0, ceiling=2.0)
    why = RULES.classify(reaction.sample, provider=name)
    decisions = [one.failed(after(n), "deferred", why, reaction.sample) for n in range(reaction.times)]
    last = decisions[-1]
    assert last is not None and last.reason.startswith(reaction.text) and not about_provider(why)
    match reaction.act:
        case Act.COOLDOWN:
            assert one.parked and one.cooldown_until == after(reaction.times - 1) + reaction.span
        case Act.CONNECTIONS:
            assert one.connections == reaction.most
        case Act.MAILS:
            assert one.mails_per_connection == reaction.most
        case Act.PARK:
            assert one.firm


def test_a_limit_by_reaction_ends_with_its_time() -> None:
    rows = (Reaction(on="one at a time", sample="x", act=Act.CONNECTIONS, most=1, span=timedelta(seconds=10)),)
    one = guard(replace(profile(), reactions=rows))
    assert one.failed(after(0), "deferred", BUSY, "421 One at a time please") is not None
    one.tick(after(9))
    assert one.connections == 1
    one.tick(after(10))
    assert one.connections == 0


def suspended() -> Guard:
    one = guard()
    assert one.live_seen(after(0), 5.0, "5 of 10 deferred") is not None
    return one


def answer(one: Guard, now: datetime, count: int) -> None:
    for _ in range(count):
        assert not one.waits
        one.leaves()
        one.accepted(now)


def test_half_open_lets_one_two_four_mails_out_and_then_the_halved_rate() -> None:
    one = suspended()
    assert one.parked and not one.firm and one.tick(after(59)) is None
    opened = one.tick(after(60))
    assert opened is not None and opened.what == "half_open" and not one.parked
    one.leaves()
    assert one.waits  # a single mail, until its answer
    one.accepted(after(61))
    answer(one, after(62), 2)
    assert one.half_open
    answer(one, after(63), 4)
    assert not one.half_open and one.rate == 20.0


def test_a_probe_that_fails_doubles_the_cooldown_each_time() -> None:
    one, now = suspended(), 60
    for factor in (2, 4, 8):
        one.tick(after(now))
        one.leaves()
        assert one.failed(after(now), "deferred", BUSY) is not None
        assert one.cooldown_until == after(now + 60 * factor) and one.rate == 20.0
        now += 60 * factor


def test_a_probe_without_an_answer_is_sent_again() -> None:
    one = suspended()
    one.tick(after(60))
    one.leaves()
    one.tick(after(119))
    assert one.waits
    one.tick(after(120))
    assert not one.waits


@pytest.mark.parametrize("cls", [CauseClass.SENDER_BLOCKED, CauseClass.AUTH_FAILED, CauseClass.POLICY_REJECTED])
def test_what_is_about_us_stays_parked_until_resumed_also_when_half_open(cls: CauseClass) -> None:
    one = suspended()
    one.tick(after(60))
    one.leaves()
    assert one.failed(after(61), "rejected", cause(cls)) is not None
    assert one.firm and one.tick(after(10**6)) is None
    one.resume()
    assert not one.parked and not one.waits


def test_live_mail_takes_its_part_of_the_ceiling_first() -> None:
    one = guard(rate=100.0)
    seen = one.live_seen(after(0), 60.0)
    assert seen is not None and seen.what == "live" and one.pace == pytest.approx(40.0)
    assert one.live_seen(after(1), 61.0) is None  # not worth a decision
    one.live_seen(after(2), 200.0)
    assert one.pace == one.profile.floor
    one.live_seen(after(3), 0.0)
    assert one.pace == 100.0


REPLIES = st.lists(
    st.tuples(st.sampled_from(["ok", "busy", "blocked", "gone", "live", "trouble", "tick"]), st.integers(0, 90)),
    max_size=150,
)


@given(replies=REPLIES, restart=st.integers(0, 149))
def test_recorded_instants_stay_below_the_ceiling_whatever_is_answered(
    replies: list[tuple[str, int]], restart: int
) -> None:
    """Guard and pacer together, over a restart: in every window at most ceiling x w + 1; nothing while parked."""
    one, now, instants = guard(rate=2.0, ceiling=4.0, given=profile(floor=0.1)), START, list[int]()
    pacer = Pacer(one.pace)
    for number, (what, seconds) in enumerate(replies):
        if number == restart:
            pacer = Pacer(one.pace, tat_us=pacer.tat_us)
        now += timedelta(seconds=seconds / 10)
        match what:
            case "ok":
                decision = one.accepted(now)
            case "busy":
                decision = one.failed(now, "deferred", BUSY)
            case "blocked":
                decision = one.failed(now, "rejected", cause(CauseClass.SENDER_BLOCKED))
            case "gone":
                decision = one.failed(
                    now, "rejected", Cause(cls=CauseClass.MAILBOX_GONE, rule="x", scope=Scope.RECIPIENT)
                )
            case "live" | "trouble":
                decision = one.live_seen(now, float(seconds % 4), "t" if what == "trouble" else "")
            case _:
                decision = one.tick(now)
        assert one.profile.floor <= one.pace <= one.ceiling
        micros = int((now - START) / timedelta(microseconds=1))
        if decision is not None:
            pacer.change(one.pace, micros)
        if not (one.parked or one.waits):
            one.leaves()
            instants.append(pacer.reserve(micros))
    for first, begin in enumerate(instants):
        for count, end in enumerate(instants[first:], 1):
            assert count <= 4.0 * (end - begin) / 1e6 + 1 + 1e-6
