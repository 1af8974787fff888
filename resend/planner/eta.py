"""How long a plan will take: the canary and its dwell, then the ramp from the start rate to the ceiling.

Where the evidence shows what the receiver took while it throttled, no more than that is counted on. The same steps as
executor/guard.py takes in clean weather: throttling makes it longer and nothing makes it shorter, so the figure is the
earliest end, and is shown as such. Closed windows, timetables and quotas count. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from resend.policy.hours import Hours
from resend.policy.providers import Profile

_STEPS = 2000  # of the time under way, in which hours are looked at; never shorter than ...
_STEP_S = 60.0
_LONGEST = timedelta(days=400)  # nobody waits for that; what is still left then is not looked at
_RAISE = 1.10  # a clean interval raises the rate by a tenth (DESIGN: pace, react, stop)


def seconds(mails: int, profile: Profile, *, ceiling: float, accepted: float = 0.0) -> float:
    """Seconds to send `mails` to one provider at no more than `ceiling` mails per second.

    `accepted`: mails per second that it took while it throttled; 0 where the evidence does not tell.
    """
    if mails <= 0:
        return 0.0
    ceiling = min(ceiling, accepted) if accepted > 0 else ceiling
    rate = min(profile.start, ceiling)
    first = min(mails, profile.canary)
    spent = first / rate
    left = mails - first
    if left:
        spent += profile.dwell.total_seconds()
    step = profile.clean_for.total_seconds()
    while left > 0 and rate < ceiling and step > 0:
        if left <= rate * step:
            return spent + left / rate
        left -= int(rate * step)
        spent += step
        rate = min(ceiling, rate * _RAISE)
    return spent + left / max(rate, ceiling if step <= 0 else rate)


def until_done(
    zones: Mapping[str, int],
    profile: Profile,
    *,
    ceiling: float,
    accepted: float = 0.0,
    hours: Hours,
    now: datetime | None,
) -> float:
    """Seconds from `now` until the mails of all `zones` (counts) are sent: with the hours at which nothing may leave.

    `now` None, or a provider without hours: as if it were always open.
    """
    work = seconds(sum(zones.values()), profile, ceiling=ceiling, accepted=accepted)
    name = profile.name
    if now is None or not (hours.windows_of(name).spans or name in hours.timetables or hours.quota(name)):
        return work
    step = timedelta(seconds=max(_STEP_S, work / _STEPS))
    left = {zone: float(count) for zone, count in zones.items() if count}
    pace = _paces(profile, min(ceiling, accepted) if accepted > 0 else ceiling, step.total_seconds())
    at, day_end, today = now, now, 0.0
    while left and at - now < _LONGEST:
        if at >= day_end:
            day_end, today = hours.day(at)[1], float(hours.quota(name) or sum(left.values()))
        zone = next((zone for zone in left if hours.is_open(name, zone, at)), None)
        if today <= 0:
            at = day_end
        elif zone is None:
            at = min(hours.opens(name, other, at) for other in left)
        else:
            rate = min(next(pace), hours.bound(name, at) or ceiling)
            sent = min(left[zone], today, rate * step.total_seconds())
            left[zone] -= sent
            today -= sent
            if left[zone] <= 0:
                del left[zone]
            at += timedelta(seconds=sent / rate) if 0 < sent < rate * step.total_seconds() else step
    return (at - now).total_seconds()


def _paces(profile: Profile, ceiling: float, step: float) -> Iterator[float]:
    """Mails per second in one step of `step` seconds under way after the other."""
    rate, clean = min(profile.start, ceiling), 0.0
    canary = profile.canary / rate
    for begin in range(int(-(-canary // step))):
        yield min(profile.canary - begin * step * rate, step * rate) / step
    for _ in range(int(-(-profile.dwell.total_seconds() // step))):
        yield 0.0
    while True:
        yield rate
        clean += step
        while clean >= max(profile.clean_for.total_seconds(), 1e-9) and rate < ceiling:
            clean -= profile.clean_for.total_seconds()
            rate = min(ceiling, rate * _RAISE)
