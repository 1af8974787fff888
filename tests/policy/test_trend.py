"""Ongoing or over: judged by shares against a receiver's own usual, with as little mail as there is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.policy.trend import Span, TrendState, judge, tail, usual_share

GOOD, BAD = Span(200, 2), Span(200, 120)
NONE = Span(0, 0)
QUIET = [GOOD] * 12
BUSY = [Span(1600, 2)] * 12


@pytest.mark.parametrize(
    ("hours", "quarter", "state", "first", "last"),
    [
        ([GOOD, *QUIET], Span(50, 1), TrendState.NORMAL, None, None),
        ([BAD, BAD, *QUIET], Span(50, 30), TrendState.ONGOING, 1, 0),
        ([BAD, GOOD, BAD, *QUIET], Span(50, 0), TrendState.EASING, 2, 0),
        ([BAD, *QUIET], Span(3, 0), TrendState.ONGOING, 0, 0),  # too few attempts to call it better
        ([GOOD, BAD, BAD, *QUIET], Span(50, 0), TrendState.OVER, 2, 1),
        ([Span(4, 0), BAD, *QUIET], Span(1, 0), TrendState.UNCLEAR, 1, 1),  # nobody sent since
        ([Span(0, 0)] * 5 + [BAD, *QUIET], Span(0, 0), TrendState.UNCLEAR, 5, 5),
        ([GOOD, *QUIET], Span(20, 18), TrendState.ONGOING, 0, 0),  # began minutes ago
        ([GOOD, BAD, *[GOOD] * 20, BAD, *QUIET], Span(50, 0), TrendState.OVER, 1, 1),  # another one, the day before
        ([BAD] * 30, Span(50, 30), TrendState.ONGOING, 29, 0),  # the log holds nothing else
        ([Span(6, 3)] * 6 + QUIET, Span(2, 1), TrendState.ONGOING, 5, 0),  # hardly any mail, for hours
        ([Span(3, 1), *QUIET], Span(3, 1), TrendState.NORMAL, None, None),
        ([Span(4, 3)] * 2 + BUSY, Span(1, 1), TrendState.ONGOING, 1, 0),  # few mails, many good ones before them
        ([*BUSY[:5], *[Span(4, 3)] * 2, *BUSY], Span(400, 0), TrendState.OVER, 6, 5),  # and after them
        ([Span(3, 3), *[NONE] * 3, Span(2, 2), *BUSY], Span(1, 1), TrendState.ONGOING, 4, 0),  # four hours apart
        ([Span(3, 3), *[NONE] * 4, Span(2, 2), *BUSY], Span(1, 1), TrendState.NORMAL, None, None),  # five
    ],
)
def test_the_state_and_where_it_began(
    hours: list[Span], quarter: Span, state: TrendState, first: int | None, last: int | None
) -> None:
    found = judge(hours, quarter)
    assert (found.state, found.first_bad, found.last_bad) == (state, first, last), found


@given(st.integers(0, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.005, 0.3))
def test_the_tail_is_the_exact_sum(counts: tuple[int, int], share: float) -> None:
    failed, tries = counts
    exact = math.fsum(math.comb(tries, k) * share**k * (1 - share) ** (tries - k) for k in range(failed, tries + 1))
    assert tail(failed, tries, share) == pytest.approx(exact, rel=1e-6, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1)), max_size=400), st.integers(0, 10**6))
def test_any_counts_are_judged(raw: list[tuple[int, float]], tries: int) -> None:
    hours = [Span(tried, round(tried * share)) for tried, share in raw] or [Span(0, 0)]
    found = judge(hours, Span(tries, tries // 2))
    assert 0 < usual_share(hours) <= 0.1 and (found.state is TrendState.NORMAL) == (found.first_bad is None)
