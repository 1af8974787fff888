"""When the next MAIL may leave: GCRA with a burst of one, for one (egress, provider). Pure; times in microseconds.

By hand, because the rate limiters of libraries let a whole bucket out at once, and again at every restart. Recorded
instants are <= rate x w + 1 in any window w, also over restarts: the theoretical arrival time is carried on.
"""

from __future__ import annotations

from dataclasses import dataclass

_MICRO = 1_000_000


@dataclass(slots=True)
class Pacer:
    """`rate` in mails per second; `tat_us`: the earliest instant of the next MAIL, as left by whoever sent before."""

    rate: float
    tat_us: int = 0

    def reserve(self, now_us: int) -> int:
        """Take the next slot; the instant at which MAIL may be sent, never before `now_us`."""
        at = max(now_us, self.tat_us)
        self.tat_us = at + self.interval_us
        return at

    @property
    def interval_us(self) -> int:
        """Microseconds between two mails, rounded up."""
        return -int(-_MICRO // self.rate)

    def late(self, at_us: int) -> None:
        """MAIL left later than reserved: the next one counts from there, so that no window is ever overfull."""
        self.tat_us = max(self.tat_us, at_us + self.interval_us)

    def change(self, rate: float, now_us: int) -> None:
        """A new rate holds from now on; a slower one also for the slot that is waited for."""
        if rate < self.rate:
            self.rate = rate
            self.tat_us = max(self.tat_us, now_us + self.interval_us)
        else:
            self.rate = rate
