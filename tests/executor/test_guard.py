"""What a run does about replies: slow down once, speed up, park, stop for the relay, wait before the next try."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from resend.executor.guard import Guard, due_at
from resend.executor.relaywatch import RelayWatch
from resend.model import Cause, CauseClass, Scope
from resend.policy.providers import ParkRule, Profile

START = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def profile(*park: str, floor: float = 2.0) -> Profile:
    return Profile(
        name="p",
        mx=(),
        domains=(),
        rate=100.0,
        connections=4,
        start=40.0,
        dwell=timedelta(seconds=1),
        cooldown=timedelta(seconds=60),
        floor=floor,
        mails_per_connection=50,
        clean_for=timedelta(seconds=30),
        cap_for=timedelta(minutes=10),
        canary=1,
        park=tuple(ParkRule.parse(text) for text in park),
        advice="",
        source="test",
    )


def guard(*park: str, rate: float = 40.0, floor: float = 2.0) -> Guard:
    return Guard(profile=profile(*park, floor=floor), rate=rate, ceiling=100.0, canary_done=True, clean_since=START)


def cause(cls: CauseClass, scope: Scope = Scope.PROVIDER, retry_after: int | None = None) -> Cause:
    return Cause(cls=cls, rule=f"test.{cls.value}", scope=scope, retry_after=retry_after)


BUSY = cause(CauseClass.THROTTLED)


def test_throttled_halves_once_in_a_cooldown() -> None:
    one = guard()
    first = one.failed(after(0), "deferred", BUSY)
    assert first is not None and (first.what, first.rate) == ("halved", 20.0)
    assert [one.failed(after(s), "deferred", BUSY) for s in (0, 1, 59.9)] == [None, None, None]
    assert one.rate == 20.0
    again = one.failed(after(60), "deferred", BUSY)
    assert again is not None and one.rate == 10.0


def test_never_below_the_floor() -> None:
    one = guard(rate=3.0, floor=2.0)
    said = [one.failed(after(minute * 60), "deferred", BUSY) for minute in range(3)]
    assert [item and item.what for item in said] == ["halved", "at_floor", "at_floor"]
    assert one.rate == 2.0 and one.cooldown_until == after(180)


def test_a_full_mailbox_of_one_recipient_slows_nothing_down() -> None:
    one = guard()
    assert one.failed(START, "deferred", cause(CauseClass.THROTTLED, Scope.RECIPIENT)) is None
    assert one.rate == 40.0


def test_a_clean_interval_raises_by_a_tenth_up_to_the_ceiling() -> None:
    one = guard()
    assert one.accepted(after(29)) is None
    raised = one.tick(after(30))
    assert raised is not None and raised.what == "raised" and one.rate == pytest.approx(44.0)
    assert one.accepted(after(59)) is None
    for number in range(2, 40):
        one.accepted(after(30 * number))
    assert one.rate == 100.0


def test_silence_raises_nothing() -> None:
    one = guard()
    assert [one.tick(after(30 * number)) for number in range(1, 20)] == [None] * 19
    assert one.accepted(after(600)) is not None and one.rate == pytest.approx(44.0)


def test_a_canary_that_is_refused_parks() -> None:
    odd = cause(CauseClass.CONTENT_REJECTED, Scope.MESSAGE)
    gone = cause(CauseClass.MAILBOX_GONE, Scope.RECIPIENT)
    failed, mixed = guard(), guard()
    for one, good in ((failed, 4), (mixed, 6)):
        one.canary_done = False
        for number in range(5):
            one.failed(after(number), "rejected", odd)
            one.failed(after(number), "rejected", gone)  # says nothing about us
        for number in range(good):
            one.accepted(after(number))
    decision = failed.finish_canary(after(10))
    assert decision.what == "parked" and "5 refused, 4 accepted" in failed.parked and not failed.canary_done
    assert mixed.finish_canary(after(10)).what == "canary_done"


def test_what_slows_down_neither_counts_nor_dilutes_above_the_floor() -> None:
    one = guard("rejected > 5% in 5m")
    gone = cause(CauseClass.MAILBOX_GONE, Scope.RECIPIENT)
    for number in range(1000):
        one.failed(after(number / 10), "deferred", BUSY if number % 2 else cause(CauseClass.GREYLISTED))
    one.rate = 40.0
    for number in range(90):
        one.accepted(after(100 + number / 10))
    assert [one.failed(after(110), "rejected", gone) for _ in range(9)] == [None] * 9
    parked = one.failed(after(110), "rejected", gone)
    assert parked is not None and "10 of 100" in parked.reason


def test_nothing_rises_before_the_canary_is_over_or_in_a_cooldown() -> None:
    one = guard()
    one.canary_done = False
    assert one.tick(after(3600)) is None
    assert one.finish_canary(after(3600)).what == "canary_done"
    one.failed(after(3601), "deferred", BUSY)
    assert one.tick(after(3660)) is None and one.rate == 20.0


def test_a_rate_that_was_throttled_caps_the_rise_for_a_while() -> None:
    one = guard()
    one.failed(START, "deferred", BUSY)
    for seconds in range(60, 600, 15):
        one.accepted(after(seconds))
    assert one.rate == pytest.approx(34.0)  # 85 % of 40
    for seconds in range(600, 700, 15):
        one.accepted(after(seconds))
    assert one.rate > 34.0


def test_greylisting_never_counts() -> None:
    one = guard("deferred > 1% in 5m", "throttled > 1% in 5m")
    for number in range(500):
        assert one.failed(after(number / 10), "deferred", cause(CauseClass.GREYLISTED)) is None
    assert (one.rate, one.parked) == (40.0, "")


@pytest.mark.parametrize("cls", [CauseClass.SENDER_BLOCKED, CauseClass.AUTH_FAILED, CauseClass.POLICY_REJECTED])
def test_a_block_of_the_sender_parks_at_once_and_once(cls: CauseClass) -> None:
    one = guard()
    parked = one.failed(START, "rejected", cause(cls, Scope.SENDER))
    assert parked is not None and parked.what == "parked" and one.parked
    assert one.failed(START, "rejected", cause(cls, Scope.SENDER)) is None
    assert one.tick(after(3600)) is None
    assert guard().failed(START, "rejected", cause(cls, Scope.RECIPIENT)) is None


def test_a_park_rule_needs_a_hundred_replies_and_more_than_its_share() -> None:
    gone = cause(CauseClass.MAILBOX_GONE, Scope.RECIPIENT)
    few = guard("rejected > 5% in 5m")
    assert all(few.failed(after(n / 10), "rejected", gone) is None for n in range(99))
    share = guard("rejected > 5% in 5m")
    for number in range(95):
        share.accepted(after(number / 10))
    assert all(share.failed(after(10 + n / 10), "rejected", gone) is None for n in range(5))  # 5 of 100
    parked = share.failed(after(11), "rejected", gone)  # 6 of 101
    assert parked is not None and parked.what == "parked" and "6 of 101" in parked.reason


def test_replies_leave_the_window_of_a_park_rule() -> None:
    gone = cause(CauseClass.MAILBOX_GONE, Scope.RECIPIENT)
    one = guard("rejected > 5% in 5m")
    for number in range(90):
        one.failed(after(number / 10), "rejected", gone)
    assert all(one.failed(after(400 + n / 10), "rejected", gone) is None for n in range(20))
    assert not one.parked


def test_throttling_parks_at_the_floor_only() -> None:
    high, low = guard("throttled > 50% in 5m"), guard("throttled > 50% in 5m", rate=2.0)
    for number in range(110):
        high.failed(after(number / 100), "deferred", BUSY)
        low.failed(after(number / 100), "deferred", BUSY)
    assert not high.parked and low.parked


def refuse(watch: RelayWatch, number: int, wording: str = "relay access denied", code: int = 554) -> list[str]:
    odd = cause(CauseClass.UNKNOWN, Scope.MESSAGE)
    return watch.refused(f"r{number}@example.jp", f"k{number}", code, wording, odd)


def test_five_equal_refusals_are_the_relays_doing() -> None:
    watch = RelayWatch()
    assert [refuse(watch, n) for n in range(4)] == [[]] * 4
    assert refuse(watch, 3) == []  # the same recipient again is no fifth
    assert refuse(watch, 4) == [f"k{n}" for n in range(5)]
    assert watch.stopped


def test_other_wordings_other_ends_and_4yz_begin_anew() -> None:
    watch = RelayWatch()
    for number in range(4):
        refuse(watch, number)
    refuse(watch, 4, "another")
    for number in range(5, 8):
        refuse(watch, number, "another")
    watch.other()
    assert refuse(watch, 8, "another") == []
    assert all(refuse(watch, n, "busy", 451) == [] for n in range(10, 20))
    assert not watch.stopped


def test_refusals_about_recipients_never_stop_the_relay() -> None:
    watch = RelayWatch()
    gone = cause(CauseClass.MAILBOX_GONE, Scope.RECIPIENT)
    assert all(watch.refused(f"r{n}@example.jp", f"k{n}", 550, "unknown user", gone) == [] for n in range(20))
    assert not watch.stopped


def test_a_relay_that_denies_relaying_is_at_fault_and_a_receiver_is_not() -> None:
    denied = cause(CauseClass.BAD_DOMAIN, Scope.RECIPIENT)
    ours, receiver = RelayWatch(relay=True), RelayWatch()
    said = [
        [watch.refused(f"r{n}@x.jp", f"k{n}", 554, "denied", denied) for n in range(7)] for watch in (ours, receiver)
    ]
    assert said[0] == [[], [], [], [], [f"k{n}" for n in range(5)], ["k5"], ["k6"]]  # those under way as well
    assert said[1] == [[]] * 7
    assert ours.stopped and not receiver.stopped


def test_a_misconfigured_relay_stops_at_its_first_refusal() -> None:
    watch = RelayWatch()
    broken = cause(CauseClass.LOCAL_CONFIG, Scope.RELAY)
    assert watch.refused("r@example.jp", "k", 554, "loops back", broken) == ["k"]
    assert watch.stopped


@pytest.mark.parametrize(("tries", "minutes"), [(1, 5), (2, 10), (3, 20), (6, 160), (7, 240), (1000, 240)])
def test_waits_double_up_to_the_most(tries: int, minutes: int) -> None:
    first, most = timedelta(minutes=5), timedelta(hours=4)
    infra = cause(CauseClass.TRANSIENT_INFRA)
    assert due_at(START, tries=tries, cause=infra, first=first, most=most) == START + timedelta(minutes=minutes)
    late = due_at(START, tries=tries, cause=infra, first=first, most=most, jitter=1.0)
    assert late == START + timedelta(minutes=minutes) * 1.1


def test_the_time_that_the_reply_names_is_kept() -> None:
    first, most = timedelta(minutes=5), timedelta(hours=4)
    named = cause(CauseClass.GREYLISTED, retry_after=36_000)
    assert due_at(START, tries=1, cause=named, first=first, most=most) == START + timedelta(hours=10)
    soon = cause(CauseClass.GREYLISTED, retry_after=10)
    assert due_at(START, tries=1, cause=soon, first=first, most=most) == START + first
