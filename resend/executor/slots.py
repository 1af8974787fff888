"""When the mails of one lane may leave: slots of its own pace, or of a pace that several runs share in the ledger.

Slots are given in the order of asking. Of a shared pace those of the next 50 ms are reserved at once; what is not used
in time is lost, never made up for. Raises what the ledger's writer raises.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from resend.clock import from_micros, to_micros
from resend.executor.pacer import SLACK_US, Pacer
from resend.stores import control

if TYPE_CHECKING:
    from resend.executor.run import Run
    from resend.executor.session import Session

_POLL_S = 0.2
_SOON_US = 50_000  # a mail whose slot is no further away is made before it comes


@dataclass(slots=True)
class Slots:
    """The slots of one (egress, provider). `halted`: nothing leaves, for now or any more."""

    run: Run
    egress: str
    provider: str
    pacer: Pacer
    halted: Callable[[], bool]
    floor: float = 0.0  # mails per second that live mail leaves, however much it is
    waiting: int = 0  # connections that wait for a slot
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _reserved: deque[tuple[int, int]] = field(default_factory=deque)  # by our monotonic clock, and by the database's
    _reserving: bool = False
    _used_up: bool = False  # the last ones that were reserved, all of them in time
    _size: int = 0  # how many were

    async def take(self, session: Session | None, unless: Callable[[], bool] = lambda: False) -> datetime | None:
        """Wait for the next slot; None where the run stops or pauses, or the session ends, or `unless`, meanwhile."""
        came = self._now()
        self.waiting += 1
        try:
            async with self._turn:
                shared = await self._shared() if self.run.options.shared_pace else None
                while not (self.halted() or unless() or (session and not session.usable)):
                    now = self._now() if shared is None else self._mono()
                    due = self.pacer.tat_us if shared is None else shared[0]
                    if due <= now:
                        return from_micros(self.pacer.reserve(now, came) if shared is None else shared[1])
                    await self.run.nap(min((due - now) / 1e6, _POLL_S))
                return None
        finally:
            self.waiting -= 1

    def soon(self) -> bool:
        """Whether the next slot is near, and nobody waits for it."""
        if self.waiting or self.halted():
            return False
        if self.run.options.shared_pace:
            now = self._mono()
            return self._left(now) > 0 and self._reserved[0][0] <= now + _SOON_US
        return self.pacer.tat_us <= self._now() + _SOON_US

    def take_now(self) -> datetime | None:
        """The next slot, where it has come and nobody waits for it."""
        if self.waiting or self.halted():
            return None
        if self.run.options.shared_pace:
            now = self._mono()
            due = self._left(now) > 0 and self._reserved[0][0] <= now
            return from_micros(self._reserved.popleft()[1]) if due else None
        now = self._now()
        return from_micros(self.pacer.reserve(now)) if self.pacer.tat_us <= now else None

    def _now(self) -> int:
        return to_micros(self.run.clock.now())

    def _mono(self) -> int:
        """For slots of a shared pace: the database knows the time, and this host's clock may be set."""
        return int(self.run.clock.monotonic() * 1e6)

    async def _shared(self) -> tuple[int, int]:
        """The next reserved slot, reserved now if need be."""
        while not self.halted():
            if self._left(self._mono()):
                return self._reserved.popleft()
            if await self._reserve():
                return self._reserved.popleft()  # however long that took: another would take as long
            await self.run.nap(_POLL_S)
        return 0, 0

    def _left(self, now: int) -> int:
        """How many reserved slots may still be used; where they run low more are reserved meanwhile."""
        while self._reserved and self._reserved[0][0] < now - SLACK_US:
            self._reserved.popleft()
            self._used_up = False
        if not self._reserving and len(self._reserved) * 2 < self._at_once > 1:
            self._reserving = True
            asyncio.ensure_future(self._reserve()).add_done_callback(self._reserve_done)
        return len(self._reserved)

    @property
    def _at_once(self) -> int:
        """Twice as many as before where all were used: what lies idle here is another host's."""
        most = max(self.run.options.connections, self._size * 2 if self._used_up else 0)
        return max(1, min(int(self.pacer.rate * _SOON_US / 1e6), most))

    async def _reserve(self) -> bool:
        """Reserve slots in the ledger; False where it is paused or parked there."""
        now, asked = self.run.clock.now(), self._mono()
        count = self._at_once
        reserve = partial(
            control.reserve, egress=self.egress, provider=self.provider, count=count, now=now, floor=self.floor
        )
        reserved = await self.run.writer.call(reserve)
        if reserved is None:
            return False
        self._size, self._used_up = count, True
        ours = asked - reserved.now_us
        self._reserved.extend((at + ours, at) for at in reserved.times_us)
        return True

    def _reserve_done(self, done: asyncio.Future[bool]) -> None:
        self._reserving = False
        error = None if done.cancelled() else done.exception()
        if isinstance(error, Exception):
            self.run.fail(error)
