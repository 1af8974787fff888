"""Dots without an answer: when so many mails end in doubt that no more may leave. Pure; raises nothing.

One for each lane, and one for each relay of ours, whose lanes lose their dots together. A doubt costs the most of all
ends: it may become a duplicate, and a person must decide. A receiver that goes away cuts all its connections at once:
the mails that were under way on them are one loss, however many they are. Silence and garbage count for each mail.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

ROW = 5  # losses in a row
_LAST, _MOST = 100, 5  # dots that are looked at, and losses among them that pass
_CANARY_MOST = 3  # losses of a canary that pass, and a tenth of a large one


@dataclass(slots=True)
class Dots:
    """What came of the last dots, and of those since the beginning (of the canary)."""

    answers: int = 0
    doubts: int = 0  # mails
    losses: int = 0
    _row: int = 0
    _last: deque[bool] = field(default_factory=lambda: deque(maxlen=_LAST))  # True: a loss
    _cut_at: datetime | None = None  # when the last loss of connections was seen

    def answered(self) -> None:
        """A dot got a reply, whatever it says."""
        self.answers += 1
        self._row = 0
        self._last.append(False)

    def lost(self, now: datetime, began: datetime, *, cut: bool) -> str:
        """A dot got none: why no more may leave, "" where they may.

        `began`: when that mail's MAIL left. `cut`: the connection was lost; otherwise it was silent, or said garbage.
        """
        self.doubts += 1
        if cut and self._cut_at is not None and began <= self._cut_at:
            return ""  # it was under way when the others were cut
        if cut:
            self._cut_at = now
        self.losses += 1
        self._row += 1
        self._last.append(True)
        among = sum(self._last)
        if self._row < ROW and among <= _MOST:
            return ""
        said = f"{self._row} dots in a row" if self._row >= ROW else f"{among} of the last {len(self._last)} dots"
        self._row = 0  # when a person lets it go on, it counts anew
        self._last.clear()
        return f"{said} got no answer"

    @property
    def canary(self) -> str:
        """Why the canary failed, "" where it did not."""
        if self.losses > _CANARY_MOST and self.losses * 10 > self.losses + self.answers:
            return f"canary: {self.doubts} of {self.doubts + self.answers} in doubt"
        return ""

    def set_back(self, step: timedelta) -> None:
        """The clock was set back by -`step`."""
        if self._cut_at is not None:
            self._cut_at += step
