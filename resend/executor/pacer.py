"""When the next MAIL may leave: GCRA with a burst of one, for one (egress, provider). Pure; times in microseconds.

By hand, because the rate limiters of libraries let a whole bucket out at once, and again at every restart. Recorded
instants are <= rate x w + 1 in any window w, also over restarts: the theoretical arrival time is carried on.
"""

from __future__ import annotations

from dataclasses import dataclass

_MICRO = 1_000_000
SLACK_US = 100_000  # MAIL leaves at most so long after its recorded instant; DESIGN grants 0.25 s at the receiver


@dataclass(slots=True)
class Pacer:
    """`rate` in mails per second; `tat_us`: the earliest instant of the next MAIL, as left by whoever sent before."""

    rate: float
    tat_us: int = 0

    def reserve(self, now_us: int, since_us: int | None = None) -> int:
        """Take the next slot; the instant that is recorded, later than `now_us` where it must be waited for.

        `since_us`: from when on a mail waited for this slot. A timer that fires late then does not push back the slots
        after it: the recorded instant is the one that was due.
        """
        earliest = now_us if since_us is None else min(now_us, max(since_us, now_us - SLACK_US))
        at = max(earliest, self.tat_us)
        self.tat_us = at + self.interval_us
        return at

    @property
    def interval_us(self) -> int:
        """Microseconds between two mails, rounded up."""
        return -int(-_MICRO // self.rate)

    def late(self, at_us: int) -> None:
        """A MAIL left at `at_us`, as the ledger tells: the next one counts from there."""
        self.tat_us = max(self.tat_us, at_us + self.interval_us)

    def change(self, rate: float, now_us: int) -> None:
        """A new rate holds from now on: slower also for the slot that is waited for, faster brings that slot nearer."""
        before = self.interval_us
        self.rate = rate
        if self.interval_us >= before:
            self.tat_us = max(self.tat_us, now_us + self.interval_us)
        else:
            self.tat_us = min(self.tat_us, max(now_us, self.tat_us - before + self.interval_us))
