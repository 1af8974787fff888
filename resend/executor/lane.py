"""All mails of one (egress, provider): its connections, its pace, its guard. Claims batches, sends them, reports.

Connections of a lane share one pacer and one guard; the ledger is written through the run's writer only, and an outcome
is durable before the next dot on its connection. Raises ConnectError where the receiver cannot be reached at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from resend.clock import to_micros
from resend.errors import ConnectError
from resend.executor.connect import Refused
from resend.executor.guard import Decision, Guard
from resend.executor.pacer import Pacer
from resend.executor.session import Session
from resend.executor.settle import settle
from resend.executor.transaction import End, Ended, Mail, transact
from resend.model import Stage
from resend.policy.content import ContentError
from resend.policy.providers import Profile
from resend.stores import claims, fates
from resend.stores.rows import Batch, Delivery
from resend.stores.transitions import (
    Arm,
    Armed,
    EndBatch,
    GiveBack,
    Paced,
    Quarantine,
    RateChange,
    Renew,
    Transition,
)

if TYPE_CHECKING:
    from resend.executor.run import Run

LEASE_S = 60.0
_TICK_S = 0.2
_UNREACHABLE_MAX = 3  # connecting fails this often in a row (after its own retries): the run ends with the error
_FATE_CAP_S = 120.0  # accepted mails of unknown fate behind a relay: at most so many seconds of rate
_FATE_CAP_MIN = 50


@dataclass(slots=True)
class Lane:
    """One (egress, provider) of a run."""

    run: Run
    egress: str
    provider: str
    profile: Profile
    guard: Guard
    pacer: Pacer
    relay: bool
    paused: bool = False
    unreachable: int = 0
    pending_fates: int = 0
    _batch: Batch | None = None
    _rows: deque[Delivery] = field(default_factory=deque)
    _open: int = 0  # rows of the batch that are not ended
    _claiming: asyncio.Lock = field(default_factory=asyncio.Lock)
    _sessions: deque[Session] = field(default_factory=deque)
    _dwell_until: datetime | None = None

    async def work(self) -> None:
        """Send until nothing is left that is due within the run's patience, or the run stops."""
        size = min(self.profile.connections, self.run.options.connections)
        async with asyncio.TaskGroup() as group:
            for _ in range(size):
                group.create_task(self._connection())
        await self._close_batch()
        for session in self._sessions:
            await session.quit()

    async def _connection(self) -> None:
        session: Session | None = None
        try:
            while not self.run.stopping:
                row = await self._next()
                if row is None:
                    break
                session = await self._send(row, session)
        finally:
            if session is not None:
                await session.quit()

    async def _next(self) -> Delivery | None:
        """The next row to send, claiming a batch where none is open; None when this lane has no more to do."""
        while not self.run.stopping and not self.guard.parked:
            if self.paused or self.run.paused or self._over_cap():
                await self.run.nap(_TICK_S)
                continue
            if self._rows:
                return self._rows.popleft()
            async with self._claiming:
                if self._rows:
                    continue
                if self._open:  # others are still sending the last of this batch
                    pass
                elif await self._claim():
                    continue
                elif not await self._patience():
                    return None
            await self.run.nap(_TICK_S)
        return None

    async def _claim(self) -> bool:
        await self._close_batch()
        now = self.run.clock.now()
        if self._dwell_until is not None:
            if now < self._dwell_until:
                return False
            self._dwell_until = None
            await self.decide(self.guard.finish_canary(now))
        batch = await self.run.writer.call(self._claim_now)
        if batch is None:
            return False
        if not batch.canary and not self.guard.canary_done:
            await self.decide(self.guard.finish_canary(now))
        self._batch = batch
        self._rows.extend(batch.rows)
        self._open = len(batch.rows)
        return True

    def _claim_now(self, conn: Connection) -> Batch | None:
        now = self.run.clock.now()
        plan_id, owner = self.run.plan_id, self.run.worker
        found = claims.retry_batch(
            conn, egress=self.egress, provider=self.provider, owner=owner, now=now, lease_s=LEASE_S, plan_id=plan_id
        )
        if found is not None or self.run.options.due_only:
            return found
        return claims.claim_batch(
            conn, egress=self.egress, provider=self.provider, owner=owner, now=now, lease_s=LEASE_S, plan_id=plan_id
        )

    async def _patience(self) -> bool:
        """Whether something of this lane comes up within the run's patience."""
        if self._dwell_until is not None:
            return True
        now = self.run.clock.now()
        items = await self.run.writer.call(lambda conn: claims.work(conn, now, plan_id=self.run.plan_id))
        mine = [item for item in items if (item.egress, item.provider) == (self.egress, self.provider)]
        for item in mine:
            if item.due or (item.ready and not self.run.options.due_only):
                return True
            if item.next_at is not None:
                self.run.next_due[self.egress, self.provider] = item.next_at
                if item.next_at <= self.run.deadline:
                    return True
        return False

    async def _close_batch(self) -> None:
        batch, self._batch = self._batch, None
        if batch is None:
            return
        rows = [row.key for row in self._rows]
        self._rows.clear()
        changes: list[Transition] = []
        if rows:
            changes.append(GiveBack(keys=tuple(rows), batch_id=batch.id, epoch=batch.epoch))
        changes.append(EndBatch(batch_id=batch.id, epoch=batch.epoch))
        await self.run.writer.submit_many(changes)
        if batch.canary and not self.guard.canary_done and not self.run.stopping:
            self._dwell_until = self.run.clock.now() + self.profile.dwell

    def _over_cap(self) -> bool:
        if not self.relay or self.run.options.blind:
            return False
        return self.pending_fates >= max(_FATE_CAP_MIN, self.guard.rate * _FATE_CAP_S)

    async def renew(self) -> None:
        """Heartbeat of the lease of the batch in hand."""
        batch = self._batch
        if batch is not None:
            now = self.run.clock.now()
            await self.run.writer.submit(Renew(batch_id=batch.id, epoch=batch.epoch, lease_s=LEASE_S, now=now))

    async def count_fates(self) -> None:
        """Refresh how many accepted mails of this lane have no known end (behind a relay)."""
        found = await self.run.writer.call(fates.pending)
        self.pending_fates = found.get((self.egress, self.provider), 0)

    async def _send(self, row: Delivery, session: Session | None) -> Session | None:
        batch = self._batch
        assert batch is not None
        try:
            return await self._one(row, batch, session)
        finally:
            self._open -= 1

    async def _one(self, row: Delivery, batch: Batch, session: Session | None) -> Session | None:
        try:
            body, date = self.run.render(row)
        except ContentError as error:
            await self.run.writer.submit(Quarantine(key=row.key, epoch=batch.epoch, reason=str(error)))
            self.run.count("quarantined")
            return session
        digest = hashlib.sha256(body).hexdigest()
        session = await self._session(row, batch, session)
        if session is None:
            return None
        at = await self._slot(row, batch)
        if at is None:
            return session
        trial = uuid.uuid4().hex

        async def arm() -> str:
            paced = Paced(egress=self.egress, provider=self.provider, tat_us=self.pacer.tat_us)
            armed = Arm(
                key=row.key,
                batch_id=batch.id,
                epoch=batch.epoch,
                try_id=trial,
                worker=self.run.worker,
                egress=self.egress,
                provider=self.provider,
                mail_at=at,
                armed_at=self.run.clock.now(),
                body_sha256=digest,
                date=date,
            )
            result = (await self.run.writer.submit_many([paced, armed]))[1]
            if isinstance(result, Armed) and result.ok:
                self.run.armed += 1
                return ""
            return result.why or "not armed"

        mail = Mail(envelope_from=row.envelope_from, rcpt=row.rcpt, body=body)
        end = await transact(session, mail, arm)
        await settle(self, row, batch, trial, at, end)
        if not session.usable:
            return None
        if session.sent >= self.profile.mails_per_connection:
            await session.quit()
            return None
        return session

    async def _session(self, row: Delivery, batch: Batch, session: Session | None) -> Session | None:
        if session is not None and session.usable:
            return session
        try:
            opened = await self.run.connector.open(self.run.route(row), row.domain)
            self.unreachable = 0
            return opened
        except Refused as error:
            at = self.run.clock.now()
            end = End(how=Ended.REFUSED, stage=Stage.CONNECT, reply=error.reply)
            await settle(self, row, batch, uuid.uuid4().hex, at, end)
            await self.run.nap(_TICK_S)
            return None
        except OSError as error:
            self.unreachable += 1
            await self._give_back(row, batch)
            if self.unreachable >= _UNREACHABLE_MAX:
                raise ConnectError(
                    f"cannot reach the receiver: {error}",
                    where=self._door(row),
                    next_step="check the host and the network, then run the same command again; nothing is lost",
                ) from None
            await self.run.nap(_TICK_S)
            return None

    def _door(self, row: Delivery) -> str:
        route = self.run.route(row)
        return f"{route.host}:{route.port}" if route else f"MX of {row.domain}"

    async def _give_back(self, row: Delivery, batch: Batch) -> None:
        await self.run.writer.submit(GiveBack(keys=(row.key,), batch_id=batch.id, epoch=batch.epoch))

    async def _slot(self, row: Delivery, batch: Batch) -> datetime | None:
        """Wait for the pacer's slot; None (the row is given back) where the run stops or pauses meanwhile."""
        now = self.run.clock.now()
        at_us = self.pacer.reserve(to_micros(now))
        while (wait := (at_us - to_micros(self.run.clock.now())) / 1e6) > 0:
            if self.run.stopping or self.paused or self.run.paused or self.guard.parked:
                break
            await self.run.nap(min(wait, _TICK_S))
        if self.run.stopping or self.paused or self.run.paused or self.guard.parked:
            await self._give_back(row, batch)
            return None
        sent = self.run.clock.now()
        self.pacer.late(to_micros(sent))
        return sent

    async def decide(self, decision: Decision | None) -> None:
        """Obey a decision and write it down."""
        if decision is None:
            return
        now = self.run.clock.now()
        guard = self.guard
        self.pacer.change(guard.rate, to_micros(now))
        await self.run.writer.submit(
            RateChange(
                egress=self.egress,
                provider=self.provider,
                what=decision.what,
                reason=decision.reason,
                at=now,
                plan_id=self.run.plan_id,
                fields={
                    "rate": guard.rate,
                    "ceiling": guard.ceiling,
                    "capped": guard.capped,
                    "capped_until": guard.capped_until,
                    "cooldown_until": guard.cooldown_until,
                    "clean_since": guard.clean_since,
                    "canary_done": int(guard.canary_done),
                    "parked": guard.parked,
                },
            )
        )
        self.run.count(decision.what)

    async def tick(self) -> None:
        """Time has passed without replies."""
        await self.decide(self.guard.tick(self.run.clock.now()))

    async def set_rate(self, rate: float) -> None:
        """The operator's new ceiling."""
        self.guard.ceiling = rate
        self.guard.rate = min(self.guard.rate, rate) if rate < self.guard.rate else rate
        self.pacer.change(self.guard.rate, to_micros(self.run.clock.now()))
