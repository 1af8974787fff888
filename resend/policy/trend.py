"""Whether a receiving system is refusing more than it usually does, and since when: the judgement behind `triage`.

Pure: counts of attempts in, a state with its reason out. A share is compared with the receiver's own quiet hours by an
exact binomial tail, so five of five failures count and one of three does not. Fresh mail is judged by itself. Retries
fail again and again, so at night a few of them are most of the attempts: with them, failures are held against as much
mail as is usual in such a time. Raises nothing.
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
_MORE = 0.02  # than twice the usual share: less is no incident
_MORE_OF_RETRIES = 0.10  # the same mail counts again and again ...
_ENOUGH_RETRIES = 20  # ... so a handful of stuck mails is none either
_AROUND = 4  # at most so many hours before or after are added, where one alone has too little mail
_PAUSE_HOURS = 12  # a night without mail is part of the incident, a longer pause ends it


class TrendState(StrEnum):
    ONGOING = "ongoing"
    EASING = "easing"  # the last hour was bad, its last quarter is not
    OVER = "over"
    UNCLEAR = "unclear"  # too little mail since to tell
    NORMAL = "normal"


@dataclass(frozen=True, slots=True)
class Span:
    """Attempts of one stretch of time, how many failed, and the same of fresh mail (None: all of it was fresh)."""

    tries: int
    failed: int
    fresh_tries: int | None = None
    fresh_failed: int | None = None

    @property
    def fresh(self) -> tuple[int, int]:
        """(tries, failed) without retries."""
        return (
            self.tries if self.fresh_tries is None else self.fresh_tries,
            self.failed if self.fresh_failed is None else self.fresh_failed,
        )

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
    typical = sorted(span.tries for span in hours)[len(hours) // 2] if hours else 0
    bad = [number for number in range(len(hours)) if _bad_hour(hours, number, usual, typical)]
    now_bad = _is_bad(quarter, usual, typical // 4)
    if now_bad and (not bad or bad[0] != 0):
        bad = [0, *bad]
    if not bad:
        return Trend(state=TrendState.NORMAL, reason="nothing out of the usual", usual=usual)
    state, reason = _state(hours, quarter, bad[0], now_bad)
    return Trend(state=state, reason=reason, usual=usual, first_bad=_first(bad), last_bad=bad[0])


def _bad_hour(hours: Sequence[Span], number: int, usual: float, typical: int) -> bool:
    """An hour that is bad by itself, or one of several with little mail that are bad together."""
    if _is_bad(hours[number], usual, typical):
        return True
    if not matters(*hours[number].fresh, usual):
        return False
    since, before = hours[max(0, number - _AROUND) : number + 1], hours[number : number + 1 + _AROUND]
    return _bad_together(list(reversed(since)), usual) or _bad_together(before, usual)


def _bad_together(hours: Sequence[Span], usual: float) -> bool:
    """Whether the first of the hours is bad with any number of those that follow: busy ones may water down the rest."""
    tries = failed = 0
    for span in hours:
        tries, failed = tries + span.fresh[0], failed + span.fresh[1]
        if is_bad(tries, failed, usual):
            return True
    return False


def _is_bad(span: Span, usual: float, typical: int) -> bool:
    if is_bad(*span.fresh, usual):
        return True
    tries = max(span.tries, typical)
    enough = max(_ENOUGH_RETRIES, (2 * usual + _MORE_OF_RETRIES) * tries)
    return span.failed >= enough and is_bad(tries, span.failed, usual)


def _state(hours: Sequence[Span], quarter: Span, latest: int, now_bad: bool) -> tuple[TrendState, str]:
    if now_bad:
        return TrendState.ONGOING, "the last 15 minutes are bad"
    if latest == 0 and quarter.tries < _ENOUGH_TRIES:
        return TrendState.ONGOING, "the last hour is bad"
    if latest == 0:
        return TrendState.EASING, "the last hour is bad, its last 15 minutes are not"
    since = sum(span.tries for span in hours[:latest])
    if since < _ENOUGH_TRIES:
        return TrendState.UNCLEAR, f"{_few(since)} since the last bad hour"
    return TrendState.OVER, "as usual since the last bad hour"


def _few(attempts: int) -> str:
    return "no attempts" if attempts == 0 else f"only {attempts} attempt{'s' if attempts > 1 else ''}"


def _first(bad: Sequence[int]) -> int:
    """The first hour of the latest run of bad hours; `bad` goes back in time."""
    first = bad[0]
    for number in bad[1:]:
        if number - first > _PAUSE_HOURS:
            break
        first = number
    return first


def usual_share(hours: Sequence[Span]) -> float:
    """The share of fresh mail that fails in the better hours of a receiver: their lower quartile, within bounds."""
    counts = [span.fresh for span in hours]
    shares = sorted(failed / tries for tries, failed in counts if tries >= _ENOUGH_TRIES)
    found = shares[len(shares) // 4] if shares else _USUAL_UNKNOWN
    return min(max(found, _USUAL_LEAST), _USUAL_MOST)


def is_bad(tries: int, failed: int, usual: float) -> bool:
    """Whether so many failures are neither chance nor too few to matter."""
    return failed >= _FEWEST_FAILURES and matters(tries, failed, usual) and tail(failed, tries, usual) < _CHANCE


def matters(tries: int, failed: int, usual: float) -> bool:
    """Twice the usual share and two points more."""
    return tries > 0 and failed / tries >= 2 * usual + _MORE


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
    if not term:  # too small for a float: far above the mean, or far below
        return 0.0 if failed > tries * share else 1.0
    for number in range(failed, tries + 1):
        total += term
        if term < total * 1e-12:  # above the mean the terms only fall
            break
        term *= (tries - number) / (number + 1) * share / (1 - share)
    return min(total, 1.0)
