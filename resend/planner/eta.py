"""How long a plan will take: the canary and its dwell, then the ramp from the start rate to the ceiling.

Where the evidence shows what the receiver took while it throttled, no more than that is counted on. The same steps as
executor/guard.py takes in clean weather: throttling makes it longer and nothing makes it shorter, so the figure is the
earliest end, and is shown as such. Pure.
"""

from __future__ import annotations

from resend.policy.providers import Profile

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
