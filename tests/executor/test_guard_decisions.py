"""What a guard decides at its edges: each bound by itself, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from resend.executor.guard import Guard, Heard
from resend.model import CauseClass, Scope
from resend.policy.reactions import Act, Reaction
from tests.executor.test_guard import BUSY, after, cause, guard, profile

GONE = cause(CauseClass.MAILBOX_GONE, Scope.RECIPIENT)
SPAM = cause(CauseClass.CONTENT_REJECTED, Scope.MESSAGE)


def half_open(one: Guard) -> Guard:
    """Parked for its cool-down of a minute by live mail, then tried."""
    assert one.live_seen(after(0), 0.0, "deferrals rise") is not None
    opened = one.tick(after(60))
    assert opened is not None and opened.what == "half_open"
    return one


def in_canary() -> Guard:
    one = guard()
    one.canary_done = False
    return one


def test_a_new_guard_keeps_to_nothing_but_its_rate() -> None:
    one = guard(rate=100.0)
    assert (one.pace, one.connections, one.mails_per_connection) == (100.0, 0, 0)
    assert one.cap_for == one.profile.cap_for


@pytest.mark.parametrize(("bad", "good", "parked"), [(4, 0, False), (5, 4, True), (5, 5, False), (20, 19, True)])
def test_a_canary_fails_by_more_refusals_than_acceptances_and_at_least_five(bad: int, good: int, parked: bool) -> None:
    one = in_canary()
    for _ in range(bad):
        one.failed(after(0), "rejected", SPAM)
    for _ in range(good):
        one.accepted(after(1))
    assert one.finish_canary(after(2)).what == ("parked" if parked else "canary_done")
    assert one.canary_done is not parked and one.firm is parked


def test_what_was_refused_after_the_canary_is_not_its_failure() -> None:
    one = guard()
    for _ in range(20):
        one.failed(after(0), "rejected", SPAM)
    assert one.finish_canary(after(1)).what == "canary_done"


def test_the_ramp_counts_from_the_end_of_the_canary() -> None:
    one = in_canary()
    for second in range(50):
        one.accepted(after(second))
    one.finish_canary(after(50))
    assert one.tick(after(51)) is None, "clean time before it does not count"
    assert one.tick(after(90)) is None, "nor do its acceptances"
    assert one.accepted(after(91)) is not None and one.rate == pytest.approx(44.0)


def test_a_cooldown_raises_nothing_and_each_throttling_in_it_begins_the_clean_time_anew() -> None:
    one = guard()
    one.failed(after(0), "deferred", BUSY)
    assert one.accepted(after(45)) is None, "clean for long enough, but in the cool-down"
    one.failed(after(59), "deferred", BUSY)
    assert [one.accepted(after(s)) for s in (60, 88)] == [None, None]
    assert one.accepted(after(89)) is not None and one.rate == pytest.approx(22.0)


def test_silence_after_a_throttling_raises_nothing() -> None:
    one = guard()
    one.accepted(after(1))
    one.failed(after(2), "deferred", BUSY)
    assert one.tick(after(200)) is None and one.rate == 20.0


def test_clean_time_begins_at_the_first_look_where_none_is_known() -> None:
    one = guard()
    one.clean_since = None
    one.accepted(after(0))
    assert one.tick(after(31)) is None, "accepted before the clean time began"
    assert one.accepted(after(32)) is not None


def test_the_hour_bounds_the_pace_and_the_rise_and_what_was_learned_stays() -> None:
    one = guard()
    bound = one.at_this_hour(10.0)
    assert bound is not None and (bound.what, bound.rate, one.pace, one.rate) == ("timetable", 10.0, 10.0, 40.0)
    assert one.at_this_hour(10.0) is None
    assert one.accepted(after(40)) is None, "not above the hour's bound"
    assert one.at_this_hour(42.0) is not None and one.pace == 40.0
    one.accepted(after(80))
    assert one.rate == 42.0
    free = one.at_this_hour(0.0)
    assert free is not None and free.reason == "no bound at this hour" and one.pace == 42.0


def test_live_mail_that_ends_gives_all_of_the_ceiling_back_however_little_it_was() -> None:
    one = guard(rate=100.0)
    one.live_seen(after(0), 60.0)
    one.live_seen(after(1), 4.0)
    assert one.pace == pytest.approx(96.0)
    one.live_seen(after(2), 0.0)
    assert one.pace == 100.0


def test_only_a_limit_that_is_met_again_holds_longer() -> None:
    one = guard()
    minutes = []
    for number, rate in enumerate((40.0, 10.0, 10.5, 9.5, 40.0)):
        one.rate = rate
        one.failed(after(number * 1000), "deferred", BUSY)
        assert one.capped_until is not None
        minutes.append((one.capped_until - after(number * 1000)) / timedelta(minutes=1))
    assert minutes == [10, 10, 20, 40, 10]


@pytest.mark.parametrize(("hours", "most"), [(1, 16), (24, 24)])
def test_a_limit_holds_longer_up_to_a_bound_and_never_shorter_than_the_profile_says(hours: int, most: int) -> None:
    one = Guard(profile=replace(profile(), cap_for=timedelta(hours=hours)), rate=40.0, ceiling=100.0, canary_done=True)
    for number in range(8):
        one.rate = 40.0
        one.failed(after(number * 1000), "deferred", BUSY)
    assert one.cap_for == timedelta(hours=most)


def test_after_a_park_for_a_time_the_rate_of_before_is_a_limit_too() -> None:
    one = half_open(guard())
    for _ in range(7):
        one.leaves()
        one.accepted(after(61))
    for seconds in range(100, 600, 20):
        one.accepted(after(seconds))
    assert one.rate == pytest.approx(34.0)  # 85 % of 40, for ten minutes
    for seconds in range(600, 660, 20):
        one.accepted(after(seconds))
    assert one.rate > 34.0


def test_a_round_ends_with_its_last_answer_whatever_it_says_of_the_mailbox_or_the_mail() -> None:
    one = half_open(guard())
    one.leaves()
    assert one.failed(after(61), "rejected", GONE) is None and not one.waits
    one.leaves()
    one.leaves()
    one.failed(after(62), "rejected", SPAM)
    assert one.waits, "one of two answers"
    one.accepted(after(62))
    assert not one.waits and one.half_open
    for _ in range(4):
        one.leaves()
    assert [one.failed(after(63), "deferred", cause(CauseClass.THROTTLED, Scope.RECIPIENT)) for _ in range(3)] == [
        None
    ] * 3
    over = one.accepted(after(63))
    assert over is not None and (over.what, over.rate) == ("reopened", 20.0) and not one.half_open


def test_the_probes_raise_nothing_after_they_are_taken() -> None:
    one = half_open(guard())
    for _ in range(7):
        one.leaves()
        one.accepted(after(61))
    assert [one.tick(after(s)) for s in (62, 95, 200)] == [None] * 3
    assert one.accepted(after(201)) is not None


def test_a_round_whose_mails_are_not_all_out_goes_on() -> None:
    one = half_open(guard())
    one.leaves()
    one.accepted(after(61))
    one.leaves()
    one.accepted(after(61))
    assert not one.silent(after(200))
    one.tick(after(200))
    one.leaves()
    one.accepted(after(200))
    for _ in range(4):
        assert not one.waits, "a round of four follows"
        one.leaves()


@pytest.mark.parametrize(("rule", "firm"), [("deferred > 5% in 5m", False), ("rejected > 5% in 5m", True)])
def test_what_passes_parks_for_a_time_and_what_does_not_until_a_person_resumes(rule: str, firm: bool) -> None:
    one = guard(rule)
    for number in range(95):
        one.accepted(after(number / 10))
    odd = cause(CauseClass.UNKNOWN, Scope.MESSAGE)
    decisions = [one.failed(after(10), rule.split()[0], odd) for _ in range(6)]
    assert decisions[:5] == [None] * 5
    last = decisions[5]
    assert last is not None and last.what == "parked" and one.firm is firm
    assert (one.tick(after(70)) is not None) is not firm


def test_what_parked_a_provider_does_not_park_it_again_at_the_first_reply() -> None:
    one = guard("deferred > 5% in 5m")
    odd = cause(CauseClass.UNKNOWN, Scope.MESSAGE)
    for _ in range(100):
        one.failed(after(0), "deferred", odd)
    assert one.parked and one.tick(after(60)) is not None
    one.leaves()
    assert one.failed(after(61), "deferred", odd) is None and not one.parked


def test_after_a_park_the_window_begins_empty() -> None:
    one = guard("deferred > 5% in 5m")
    odd = cause(CauseClass.UNKNOWN, Scope.MESSAGE)
    for _ in range(100):
        one.failed(after(0), "deferred", odd)
    one.tick(after(60))
    for _ in range(7):
        one.leaves()
        one.accepted(after(61))
    for _ in range(94):
        one.accepted(after(400))  # when what parked it has left the window
    decisions = [one.failed(after(400), "deferred", odd) for _ in range(6)]
    assert decisions[-1] is not None and "6 of 100" in decisions[-1].reason and decisions[:-1] == [None] * 5


def test_hits_leave_the_window_of_a_park_rule_with_their_replies() -> None:
    one = guard("rejected > 5% in 5m")
    for number in range(90):
        one.failed(after(number / 10), "rejected", GONE)
    for number in range(120):
        one.accepted(after(400 + number / 10))
    assert [one.failed(after(420), "rejected", GONE) for _ in range(6)] == [None] * 6  # 6 of 126
    parked = one.failed(after(420), "rejected", GONE)
    assert parked is not None and "7 of 127" in parked.reason


def test_a_reaction_counts_within_an_hour() -> None:
    often = Reaction(on="slow down", sample="x", act=Act.COOLDOWN, span=timedelta(minutes=5), times=3)
    one = Guard(profile=replace(profile(), reactions=(often,)), rate=40.0, ceiling=100.0, canary_done=True)
    infra = cause(CauseClass.TRANSIENT_INFRA)
    for minutes in (0, 50, 100, 150):
        assert one.failed(after(minutes * 60), "deferred", infra, "450 slow down") is None
    assert one.failed(after(151 * 60), "deferred", infra, "450 slow down") is not None
    assert one.parked


def told(cls: CauseClass | None, second: float = 1.0, reply: str = "") -> Heard:
    outcome = "accepted" if cls is None else "deferred" if cls is CauseClass.THROTTLED else "rejected"
    return Heard(at=after(second), outcome=outcome, cls=cls, reply=reply)


def test_replies_of_before_fill_the_windows_but_decide_nothing() -> None:
    one = guard("rejected > 5% in 5m")
    one.recall([told(None)] * 90 + [told(CauseClass.MAILBOX_GONE)] * 20 + [told(CauseClass.THROTTLED)] * 40)
    assert not one.parked
    parked = one.failed(after(2), "rejected", GONE)
    assert parked is not None and "21 of 111" in parked.reason, "what slows down counts at the floor only"
    slow = guard("throttled > 50% in 5m", rate=2.0)
    slow.recall([told(CauseClass.THROTTLED)] * 98)
    slow.failed(after(2), "deferred", BUSY)
    assert not slow.parked
    slow.failed(after(2), "deferred", BUSY)
    assert slow.parked


def test_replies_of_before_count_for_the_canary_and_the_rise() -> None:
    refused, taken = in_canary(), in_canary()
    refused.recall([told(CauseClass.CONTENT_REJECTED)] * 5 + [told(CauseClass.MAILBOX_GONE), told(None)])
    taken.recall([told(CauseClass.CONTENT_REJECTED)] * 5 + [told(None)] * 5 + [told(CauseClass.THROTTLED)] * 9)
    assert refused.finish_canary(after(2)).what == "parked"
    assert taken.finish_canary(after(2)).what == "canary_done"
    for second, rises in ((-1.0, False), (0.0, True)):
        one = guard()  # clean since 0
        one.recall([told(None, second)])
        assert (one.tick(after(30)) is not None) is rises
    over = guard()
    over.recall([told(CauseClass.CONTENT_REJECTED)] * 9)
    assert over.finish_canary(after(2)).what == "canary_done", "the canary was over"


def test_whoever_takes_over_the_probes_begins_with_one() -> None:
    one = guard()
    one.probes_elsewhere(after(0))
    assert one.waits and not one.silent(after(59)) and one.silent(after(60))
    one.try_again(after(60))
    assert not one.waits
    one.leaves()
    assert one.waits
