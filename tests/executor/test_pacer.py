"""The pacer's promise: never more than rate x window + 1 instants in any window, also over a restart."""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from resend.executor.pacer import Pacer

RATES = st.floats(min_value=0.05, max_value=500, allow_nan=False)
STEPS = st.lists(st.integers(min_value=0, max_value=3_000_000), min_size=2, max_size=60)
LATE = st.lists(st.integers(min_value=0, max_value=200_000), min_size=60, max_size=60)


def promise_kept(instants: list[int], rate: float) -> None:
    """Every window that begins at an instant and ends at another one."""
    for first, begin in enumerate(instants):
        for end in instants[first:]:
            inside = bisect_right(instants, end) - first
            assert inside <= Fraction(rate) * (end - begin) / 1_000_000 + 1, (begin, end, inside)


@given(rate=RATES, steps=STEPS)
def test_no_window_is_overfull(rate: float, steps: list[int]) -> None:
    pacer, now, instants = Pacer(rate), 10**15, []
    for step in steps:
        now += step
        instants.append(pacer.reserve(now))
        assert instants[-1] >= now
    promise_kept(instants, rate)


@given(rate=RATES, steps=STEPS, late=LATE, restart=st.integers(min_value=0, max_value=59))
def test_no_window_is_overfull_over_a_restart_and_late_senders(
    rate: float, steps: list[int], late: list[int], restart: int
) -> None:
    pacer, now, instants = Pacer(rate), 10**15, []
    for number, (step, delay) in enumerate(zip(steps, late, strict=False)):
        if number == restart:
            pacer = Pacer(rate, tat_us=pacer.tat_us)  # another process, with what the ledger kept
        now = max(now + step, instants[-1] if instants else 0)
        at = pacer.reserve(now) + delay
        pacer.late(at)
        instants.append(at)
    promise_kept(instants, rate)


def test_idle_time_saves_nothing_up() -> None:
    pacer = Pacer(10)
    pacer.reserve(0)
    burst = [pacer.reserve(60_000_000) for _ in range(3)]
    assert burst == [60_000_000, 60_100_000, 60_200_000]


def test_a_slower_rate_holds_for_the_slot_that_is_waited_for() -> None:
    pacer = Pacer(10)
    pacer.reserve(0)
    pacer.change(1, 50_000)
    assert pacer.reserve(50_000) == 1_050_000


def test_a_faster_rate_brings_the_next_slot_near() -> None:
    pacer = Pacer(1 / 60)
    pacer.reserve(0)
    pacer.change(10, 1_000_000)  # the operator need not wait for what is left of the minute
    assert [pacer.reserve(1_000_000), pacer.reserve(1_000_000)] == [1_000_000, 1_100_000]
    again = Pacer(1)
    again.reserve(0)
    again.change(10, 0)
    assert again.reserve(0) == 100_000


@given(steps=STEPS, rates=st.lists(RATES, min_size=60, max_size=60))
def test_rates_may_change_and_the_gap_is_that_of_the_fastest_since(steps: list[int], rates: list[float]) -> None:
    pacer, now, last = Pacer(rates[0]), 10**15, None
    for number, step in enumerate(steps):
        now += step
        fastest = max(pacer.rate, rates[number])
        pacer.change(rates[number], now)
        at = pacer.reserve(now)
        assert at >= now and (last is None or at - last >= 1_000_000 / fastest)
        last, now = at, at


@given(rate=RATES, steps=STEPS, late=LATE)
def test_late_timers_neither_overfill_nor_push_back(rate: float, steps: list[int], late: list[int]) -> None:
    """A timer fires `late` after each slot; what is recorded is the slot, at most a tenth of a second before MAIL."""
    pacer, now, instants = Pacer(rate), 10**15, []
    for step, delay in zip(steps, late, strict=False):
        came = now + step
        now = max(came, pacer.tat_us) + delay
        instants.append(pacer.reserve(now, came))
        assert now - 100_000 <= instants[-1] <= now
    promise_kept(instants, rate)


def test_a_timer_that_fires_late_moves_no_later_slot() -> None:
    """Each timer 90 ms late: the slots stay a second apart. From a tenth of a second on the slot is when it fired."""
    pacer, now, instants = Pacer(1.0), 0, []
    for _ in range(20):
        due = max(now, pacer.tat_us)
        instants.append(pacer.reserve(due + 90_000, now))
        now = due + 90_000
    assert instants == [number * 1_000_000 for number in range(20)]
    assert pacer.reserve(20_500_000, now) == 20_400_000


def test_who_did_not_wait_gets_no_slot_of_the_past() -> None:
    pacer = Pacer(1.0)
    assert pacer.reserve(5_000_000, 5_000_000) == 5_000_000
    assert Pacer(1.0).reserve(5_000_000) == 5_000_000
