"""Whether a receiving system is refusing more than it usually does, and since when: the judgement behind `triage`.

Pure: counts of attempts in, a state with its reason out. A share is compared with the receiver's own quiet hours by an
exact binomial tail, so five of five failures count and one of three does not. Raises nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

_CHANCE = 1e-6  # a receiver and hour in a million looks bad by luck: 50 receivers over 4 days are 5,000
_FEWEST_FAILURES = 5
_ENOUGH_TRIES = 20  # fewer attempts show neither a usual share nor that all is well
_USUAL_LEAST = 0.005  # a receiver that never failed may fail once in 200
_USUAL_MOST = 0.10  # a log that holds nothing but the incident must not make it usual
_USUAL_UNKNOWN = 0.05
_AROUND = 4  # hours before or after, where one alone has too little mail
_PAUSE_HOURS = 12  # a night without mail is part of the incident, a longer pause ends it


class TrendState(StrEnum):
    ONGOING = "ongoing"
    EASING = "easing"  # the last hour was bad, its last quarter is not
    OVER = "over"
    UNCLEAR = "unclear"  # too little mail since to tell
    NORMAL = "normal"


@dataclass(frozen=True, slots=True)
class Span:
    """Attempts of one stretch of time, and how many of them failed."""

    tries: int
    failed: int

    @property
    def share(self) -> float:
        return self.failed / self.tries if self.tries else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A judgement. Hours count back from the end of the evidence: 0 is the last; None where no hour was bad."""

    state: TrendState
    reason: str
    usual: float
    first_bad: int | None = None
    last_bad: int | None = None


def judge(hours: Sequence[Span], quarter: Span) -> Trend:
    """`hours`: hour 0 is the last one; `quarter`: the last 15 minutes, which hour 0 includes.

    >>> judge([Span(100, 90), Span(100, 1)] + [Span(100, 0)] * 6, Span(25, 24)).state
    <TrendState.ONGOING: 'ongoing'>
    >>> judge([Span(100, 1), Span(100, 90)] + [Span(100, 0)] * 6, Span(25, 0)).state
    <TrendState.OVER: 'over'>
    """
    usual = usual_share(hours)
    bad = [number for number in range(len(hours)) if _bad_hour(hours, number, usual)]
    now_bad = is_bad(quarter, usual)
    if now_bad and (not bad or bad[0] != 0):
        bad = [0, *bad]
    if not bad:
        return Trend(state=TrendState.NORMAL, reason="nothing out of the usual", usual=usual)
    state, reason = _state(hours, quarter, bad[0], now_bad)
    return Trend(state=state, reason=reason, usual=usual, first_bad=_first(bad), last_bad=bad[0])


def _bad_hour(hours: Sequence[Span], number: int, usual: float) -> bool:
    """An hour that is bad by itself, or one of several with little mail that are bad together."""
    if is_bad(hours[number], usual):
        return True
    if not _matters(hours[number].share, usual):
        return False
    return any(
        is_bad(Span(sum(span.tries for span in around), sum(span.failed for span in around)), usual)
        for around in (hours[max(0, number - _AROUND) : number + 1], hours[number : number + 1 + _AROUND])
    )


def _state(hours: Sequence[Span], quarter: Span, latest: int, now_bad: bool) -> tuple[TrendState, str]:
    if now_bad:
        return TrendState.ONGOING, "the last 15 minutes are bad"
    if latest == 0 and quarter.tries < _ENOUGH_TRIES:
        return TrendState.ONGOING, "the last hour is bad"
    if latest == 0:
        return TrendState.EASING, "the last hour is bad, its last 15 minutes are not"
    since = sum(span.tries for span in hours[:latest])
    if since < _ENOUGH_TRIES:
        return TrendState.UNCLEAR, f"only {since} attempts since the last bad hour"
    return TrendState.OVER, "as usual since the last bad hour"


def _first(bad: Sequence[int]) -> int:
    """The first hour of the latest run of bad hours; `bad` goes back in time."""
    first = bad[0]
    for number in bad[1:]:
        if number - first > _PAUSE_HOURS:
            break
        first = number
    return first


def usual_share(hours: Sequence[Span]) -> float:
    """The share of failures in the better hours of a receiver: their lower quartile, within bounds."""
    shares = sorted(span.share for span in hours if span.tries >= _ENOUGH_TRIES)
    found = shares[len(shares) // 4] if shares else _USUAL_UNKNOWN
    return min(max(found, _USUAL_LEAST), _USUAL_MOST)


def is_bad(span: Span, usual: float) -> bool:
    """Whether so many failures are neither chance nor too few to matter: twice the usual share and a point."""
    if span.failed < _FEWEST_FAILURES or not _matters(span.share, usual):
        return False
    return tail(span.failed, span.tries, usual) < _CHANCE


def _matters(share: float, usual: float) -> bool:
    return share >= 2 * usual + 0.01


def tail(failed: int, tries: int, share: float) -> float:
    """The chance of at least `failed` failures in `tries` attempts that fail with `share` each (exact binomial).

    >>> round(tail(1, 3, 0.5), 3)
    0.875
    """
    if failed <= 0:
        return 1.0
    if share <= 0:
        return 0.0
    total = 0.0
    term = math.exp(
        math.lgamma(tries + 1)
        - math.lgamma(failed + 1)
        - math.lgamma(tries - failed + 1)
        + failed * math.log(share)
        + (tries - failed) * math.log1p(-share)
    )
    for number in range(failed, tries + 1):
        total += term
        if term < total * 1e-12:  # above the mean the terms only fall
            break
        term *= (tries - number) / (number + 1) * share / (1 - share)
    return min(total, 1.0)
