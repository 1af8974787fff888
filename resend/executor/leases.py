"""The batches that a lane holds: their rows in sending order, their heartbeat, their end.

A batch ends when the last of its rows is settled, or when the lane is through: what is left of it is planned again.
Raises what the ledger's writer raises.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resend.stores.transitions import EndBatch, Renew

if TYPE_CHECKING:
    from resend.executor.run import Run
    from resend.stores.rows import Batch, Delivery

LEASE_S = 60.0


@dataclass(slots=True)
class Leases:
    """Batches in hand, by id; `rows` wait to be sent."""

    run: Run
    rows: deque[Delivery] = field(default_factory=deque)
    _held: dict[str, Batch] = field(default_factory=dict)
    _left: dict[str, int] = field(default_factory=dict)  # rows that are not settled

    def take(self, batch: Batch) -> None:
        """A batch was claimed: its rows come after those that wait."""
        self._held[batch.id] = batch
        self._left[batch.id] = len(batch.rows)
        self.rows.extend(batch.rows)

    def settled(self, row: Delivery) -> None:
        """A row has its end, as the writer was told before."""
        if row.batch_id in self._left:
            self._left[row.batch_id] -= 1
            if not self._left[row.batch_id]:
                self.run.write(self._end(row.batch_id))

    async def renew(self) -> None:
        """Heartbeat. Where a lease is lost the rest of its batch is another's."""
        for batch in list(self._held.values()):
            beat = Renew(batch_id=batch.id, epoch=batch.epoch, lease_s=LEASE_S, now=self.run.clock.now())
            renewed = await self.run.writer.submit(beat)
            if not renewed.ok and self._held.get(batch.id) is batch:
                self.rows = deque(row for row in self.rows if row.batch_id != batch.id)
                self._end(batch.id)

    async def end(self) -> None:
        """Give back what is left."""
        self.rows.clear()
        for batch_id in list(self._held):
            await self.run.writer.submit(self._end(batch_id))

    def _end(self, batch_id: str) -> EndBatch:
        del self._left[batch_id]
        return EndBatch(batch_id=batch_id, epoch=self._held.pop(batch_id).epoch)
