"""Open sessions that wait for their next mail: used again for the same hosts only, never more than the limits allow.

`Seats` is the run's `--connections`, shared by all lanes; `Sessions` belongs to one lane. Opens through the connector,
sends no mail. Raises what the connector raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from resend.executor.connect import Connector, Hosts
from resend.executor.session import Session
from resend.policy.routes import Route

T = TypeVar("T")
_POLL_S = 0.2
_SHARE_MAILS = 10  # a lane gives its seat to one that waits after so many mails


@dataclass(slots=True)
class Seats:
    """How many connections a run may have open."""

    free: int
    waiting: int = 0
    lanes: list[Sessions] = field(default_factory=list)

    async def take(self, stopping: Callable[[], bool]) -> bool:
        """Take a seat, from an idle session of any lane if need be; False where the run stops meanwhile."""
        self.waiting += 1
        try:
            while self.free <= 0:
                if stopping():
                    return False
                idle = next((lane for lane in self.lanes if lane.idle), None)
                if idle is None:
                    await asyncio.sleep(_POLL_S / 4)
                else:
                    await idle.close_idle()
            self.free -= 1
            return True
        finally:
            self.waiting -= 1


@dataclass(slots=True)
class Sessions:
    """The sessions of one lane. `limit`: as many at once; a receiver that takes fewer lowers it."""

    connector: Connector
    seats: Seats
    stopping: Callable[[], bool]
    limit: int
    egress: str = ""
    granted: int | None = None  # by the ledger, which counts those of all hosts
    asked: int | None = None  # by the receiver's reply, for a time
    opened: int = 0
    idle: list[tuple[Hosts, Session]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seats.lanes.append(self)

    async def take(self, route: Route | None, domain: str) -> tuple[Hosts, Session] | None:
        """A session for this mail, an open one if there is one; None where the run stops meanwhile."""
        if route is not None:
            hosts: Hosts | None = ((route.host, route.port),)
        else:
            hosts = await self._unless_stopping(self.connector.hosts(route, domain))
        if hosts is None:
            return None
        for place, (known, session) in reversed(list(enumerate(self.idle))):
            if not session.usable:
                del self.idle[place]
                self._gone()
            elif known == hosts:
                return self.idle.pop(place)
        while self.opened >= min(most for most in (self.limit, self.granted, self.asked) if most is not None):
            if self.stopping():
                return None
            if self.idle:
                await self.close_idle()
            else:
                await asyncio.sleep(_POLL_S / 4)
        self.opened += 1  # before the wait for a seat: others of this lane count it
        if not await self.seats.take(self.stopping):
            self.opened -= 1
            return None
        opening: Session | None = None
        try:
            opening = await self._unless_stopping(self.connector.open(route, domain, self.egress))
        finally:
            if opening is None:
                self._gone()
        return None if opening is None else (hosts, opening)

    async def put(self, hosts: Hosts, session: Session, *, most: int, slow: bool) -> None:
        """Give a session back; one that is used up, broken or wanted by another lane is closed."""
        if session.begun is not None:
            session.abort()  # nobody goes on with what was begun
        if session.usable and not self.used_up(session, most=most, slow=slow):
            self.idle.append((hosts, session))
            return
        await session.quit()
        self._gone()

    def used_up(self, session: Session, *, most: int, slow: bool) -> bool:
        """Whether this session should take no further mail: it had enough, or another lane waits for its seat."""
        wanted = self.seats.waiting > 0 and (slow or session.mails >= _SHARE_MAILS)
        return wanted or session.mails >= most or self.stopping()

    async def close_idle(self) -> None:
        """Close the session that has waited longest."""
        _, session = self.idle.pop(0)
        await session.quit()
        self._gone()

    async def close(self) -> None:
        """Close all that wait, at once: a receiver may leave each QUIT without an answer."""
        await asyncio.gather(*(self.close_idle() for _ in list(self.idle)))

    def _gone(self) -> None:
        self.opened -= 1
        self.seats.free += 1

    async def _unless_stopping(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Nothing is under way yet: a stop need not wait for a name server or a slow greeting."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_POLL_S)
                if not task.done() and self.stopping():
                    return None
            return task.result()
        finally:
            task.cancel()
