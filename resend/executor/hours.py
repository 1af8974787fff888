"""What the clock allows one lane: whether a zone's window is open, the timetable's ceiling, what is left of the day.

Answers hold for a minute, for no window opens or closes between. Raises what the ledger raises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from resend.stores import openings

if TYPE_CHECKING:
    from resend.executor.run import Run


@dataclass(slots=True)
class LaneHours:
    """The hours of one (egress, provider)."""

    run: Run
    egress: str
    provider: str
    _minute: datetime | None = None
    _open: dict[str, bool] = field(default_factory=dict)
    _bound: float = 0.0

    def is_open(self, zone: str) -> bool:
        """Whether mail to recipients in `zone` may leave now."""
        hours = self.run.options.hours
        if not hours.windows_of(self.provider).spans:
            return True
        now = self._look()
        if zone not in self._open:
            self._open[zone] = hours.is_open(self.provider, zone, now)
        return self._open[zone]

    def bound(self) -> float:
        """The timetable's ceiling now, mails per second; 0 none."""
        if self.provider in self.run.options.hours.timetables:
            self._look()
        return self._bound

    def limits(self, conn: Connection) -> tuple[list[str], int | None]:
        """For a claim: zones whose windows are closed, and how many mails of today's quota are left (None: all)."""
        hours, place = self.run.options.hours, {"egress": self.egress, "provider": self.provider}
        closed = []
        if hours.windows_of(self.provider).spans:
            closed = [zone for zone in openings.zones(conn, **place) if not self.is_open(zone)]
        return closed, openings.left_today(conn, hours, **place, now=self.run.clock.now())

    def _look(self) -> datetime:
        now = self.run.clock.now()
        minute = now.replace(second=0, microsecond=0)
        if minute != self._minute:
            self._minute = minute
            self._open.clear()
            self._bound = self.run.options.hours.bound(self.provider, now)
        return now
