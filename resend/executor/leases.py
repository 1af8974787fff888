"""The batches that a lane holds: their rows in sending order, their heartbeat, their end.

A batch ends when the last of its rows is settled, or when the lane is through: what is left of it is planned again.
Where connections are slots of the ledger, the newest batch holds them, and ends last. Raises what the ledger's writer
raises.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resend.stores.failpoints import number
from resend.stores.transitions import EndBatch, Renew

if TYPE_CHECKING:
    from resend.executor.run import Run
    from resend.stores.rows import Batch, Delivery

LEASE_S = number("lease_s", 60.0)


@dataclass(slots=True)
class Leases:
    """Batches in hand, by id; `rows` wait to be sent."""

    run: Run
    rows: deque[Delivery] = field(default_factory=deque)
    slots: tuple[int, ...] = ()  # connections that the ledger grants, where it keeps them
    giving: tuple[int, ...] = ()  # of them those that go to another host when their connections are closed
    lost: bool = False  # they are another's by now: the connections must end
    _holder: str = ""  # id of the batch that holds the slots
    _held: dict[str, Batch] = field(default_factory=dict)
    _left: dict[str, int] = field(default_factory=dict)  # rows that are not settled
    _returned: set[str] = field(default_factory=set)  # batches of which rows were given back before they were sent

    def take(self, batch: Batch) -> None:
        """A batch was claimed: its rows come after those that wait."""
        before = self._holder
        if batch.slots:
            self.slots = tuple(number for number in batch.slots if number not in self.giving)
            self._holder, self.lost = batch.id, False
        self._held[batch.id] = batch
        self._left[batch.id] = len(batch.rows)
        self.rows.extend(batch.rows)
        if before in self._left and not self._left[before]:
            self.run.write(self._end(before))

    def settled(self, row: Delivery) -> None:
        """A row has its end, as the writer was told before."""
        if row.batch_id in self._left:
            self._left[row.batch_id] -= 1
            if not self._left[row.batch_id] and row.batch_id != self._holder:
                self.run.write(self._end(row.batch_id))

    def zone(self, row: Delivery) -> str:
        """The recipient's zone, by its batch."""
        batch = self._held.get(row.batch_id)
        return batch.zone if batch is not None else ""

    def give_back(self, batch_id: str) -> None:
        """What waits of a batch is not sent now: it is planned again when the mails under way have their end."""
        kept = deque(row for row in self.rows if row.batch_id != batch_id)
        self._returned.add(batch_id)
        if batch_id in self._left:
            self._left[batch_id] -= len(self.rows) - len(kept)
        self.rows = kept
        if self._left.get(batch_id) == 0 and batch_id != self._holder:
            self.run.write(self._end(batch_id))

    def whole(self, batch_id: str) -> bool:
        """Whether nothing of a batch was given back."""
        return batch_id not in self._returned

    async def renew(self) -> None:
        """Heartbeat. Where a lease is lost the rest of its batch is another's."""
        for batch in list(self._held.values()):
            beat = Renew(batch_id=batch.id, epoch=batch.epoch, lease_s=LEASE_S, now=self.run.clock.now())
            renewed = await self.run.writer.submit(beat)
            if not renewed.ok and self._held.get(batch.id) is batch:
                self.rows = deque(row for row in self.rows if row.batch_id != batch.id)
                self.lost = self.lost or batch.id == self._holder
                self._end(batch.id)

    async def end(self) -> None:
        """Give back what is left, the slots too."""
        self.rows.clear()
        for batch_id in list(self._held):
            await self.run.writer.submit(self._end(batch_id))
        self.slots, self.giving, self._holder, self.lost = (), (), "", False
        self._returned.clear()

    def _end(self, batch_id: str) -> EndBatch:
        del self._left[batch_id]
        return EndBatch(batch_id=batch_id, epoch=self._held.pop(batch_id).epoch)
