"""A receiver at night: retries fail again and again, and are held against as much mail as is usual."""

from __future__ import annotations

import pytest

from resend.policy.trend import Span, TrendState, judge

BUSY = Span(400, 0)  # a usual hour
DAY = [BUSY] * 12
BAD = Span(400, 200)


@pytest.mark.parametrize(
    ("hours", "quarter", "state", "first", "last"),
    [
        # twice the usual share (0.5 %) and ten points more of 400: 44 failures are an incident, 43 are not
        ([Span(50, 43, 0, 0), *DAY], Span(9, 9, 0, 0), TrendState.NORMAL, None, None),
        ([Span(50, 44, 0, 0), *DAY], Span(9, 9, 0, 0), TrendState.ONGOING, 0, 0),
        # fresh mail is judged by itself, however few retries there are
        ([Span(50, 12, 12, 12), *DAY], Span(9, 2, 2, 2), TrendState.ONGOING, 0, 0),
        # a quarter of the usual hour is what its quarter is held against: 20 failures at least
        ([Span(30, 30, 0, 0), *DAY], Span(20, 20, 0, 0), TrendState.ONGOING, 0, 0),
        ([Span(30, 30, 0, 0), *DAY], Span(19, 19, 0, 0), TrendState.NORMAL, None, None),
        # the last quarter is bad while an older hour was: it goes on, and began back then
        ([Span(400, 3), BUSY, BAD, *DAY], Span(90, 40), TrendState.ONGOING, 2, 0),
    ],
)
def test_retries_and_the_last_quarter(
    hours: list[Span], quarter: Span, state: TrendState, first: int | None, last: int | None
) -> None:
    found = judge(hours, quarter)
    assert (found.state, found.first_bad, found.last_bad) == (state, first, last), found


def test_shares_of_a_span() -> None:
    assert (Span(4, 1).share, Span(0, 0).share) == (0.25, 0.0)
    assert (Span(9, 8).fresh, Span(9, 8, 3, 0).fresh) == ((9, 8), (3, 0))


def test_no_hours_at_all_are_nothing_out_of_the_usual() -> None:
    assert judge([], Span(0, 0)).state is TrendState.NORMAL
