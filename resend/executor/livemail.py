"""Live mail and the pace where several hosts send: what each host's logs tell goes through the ledger, and adds up.

A host that follows no log slows down as well. Acts on the run's lanes. Raises what the ledger's writer raises.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from resend.stores import livemail

if TYPE_CHECKING:
    from resend.executor.run import Run


@dataclass(slots=True)
class LiveMail:
    """What the logs that this run follows told last, by log."""

    run: Run
    _told: dict[str, tuple[Mapping[str, float], Collection[str] | None]] = field(default_factory=dict)

    def tell(self, rates: Mapping[str, float], by: Collection[str] | None, log: str) -> None:
        """What a log tells from now on; `log` names it among all hosts."""
        self._told[log] = dict(rates), by

    async def exchange(self) -> None:
        """Tell it to the other hosts, and let each lane keep to what all of them tell."""
        seen = await self.run.writer.call(partial(livemail.exchange, told=dict(self._told)))
        for place, lane in self.run.lanes.items():
            lane.live_seen(seen.get(place, 0.0), "")
