"""All mails of one (egress, provider): claims batches and sends them, paced and guarded, over its own sessions.

The connections of a lane share one pacer and one guard. The ledger is written through the run's writer only, in order:
an outcome is durable before the next dot, because the arm of the next mail stands behind it. An error ends the run, but
never a dialogue that is under way. Raises nothing: what goes wrong is told to the run.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from resend.clock import from_micros, to_micros
from resend.errors import ConnectError
from resend.executor.connect import Hosts, Refused
from resend.executor.guard import Decision, Guard
from resend.executor.pacer import Pacer
from resend.executor.session import Session
from resend.executor.sessions import Sessions
from resend.executor.settle import settle
from resend.executor.transaction import End, Ended, Mail, TooLate, transact
from resend.model import Stage
from resend.policy.content import ContentError
from resend.policy.providers import Profile
from resend.stores import claims, control
from resend.stores.rows import Batch, Delivery, Reserved
from resend.stores.transitions import Arm, Armed, EndBatch, Quarantine, RateChange, Renew

if TYPE_CHECKING:
    from resend.executor.run import Run

LEASE_S = 60.0
_TICK_S = 0.2
_AHEAD_S = 1.0  # connections whose slots are further away than this wait without a session
_UNREACHABLE_MAX = 3  # connecting fails this often in a row (after its own retries): the lane ends
_FATE_CAP_S = 120.0  # accepted mails of unknown fate behind a relay: at most so many seconds of rate
_FATE_CAP_MIN = 50  # or so many, so that a few that stay in the relay's queue do not hold up the rest


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
    sessions: Sessions
    paused: bool = False
    dwell_until: datetime | None = None
    unreachable: ConnectError | None = None
    pending_fates: int = 0
    _failures: int = 0  # to connect, in a row
    _batch: Batch | None = None
    _rows: deque[Delivery] = field(default_factory=deque)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # slots are given in the order of asking
    _ahead: int = 0  # connections that wait for a slot
    _over_cap_since: float | None = None

    @property
    def feedback(self) -> bool:
        """Whether acceptance is only a hand-over, and the relay's log tells the fate."""
        return self.relay and not self.run.options.blind

    @property
    def _held_up(self) -> bool:
        """Nothing leaves for now: by the operator's word, or because what is known of vetoes is too old."""
        return self.paused or self.run.paused or bool(self.run.stale)

    @property
    def _over(self) -> bool:
        return self.run.stopping or bool(self.guard.parked) or self.unreachable is not None

    async def work(self) -> None:
        """Send until nothing is left that is due within the run's patience, or the run stops."""
        try:
            while (batch := await self._next_batch()) is not None:
                await self._send_batch(batch)
        except Exception as error:
            self.run.fail(error)
        await self.sessions.close()

    async def _next_batch(self) -> Batch | None:
        """The next batch; None when this lane has no more to do."""
        while not self._over:
            if self._held_up:
                if self.run.options.due_only:
                    return None  # a timer starts it again
            elif self.dwell_until is not None and self.run.clock.now() < self.dwell_until:
                pass
            elif (batch := await self._claim()) is not None:
                return batch
            elif not await self._patience():
                return None
            await self.run.nap(_TICK_S)
        return None

    async def _claim(self) -> Batch | None:
        if self.dwell_until is not None:
            self.dwell_until = None
            self.decide(self.guard.finish_canary(self.run.clock.now()))
            if self.guard.parked:
                return None
        batch: Batch | None = await self.run.writer.call(self._claim_now)
        if batch is not None and not (batch.canary or batch.retry or self.guard.canary_done):
            self.decide(self.guard.finish_canary(self.run.clock.now()))
        return batch

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
        """Wait until something of this lane may be claimed; False where that is beyond the run's patience."""
        asked = self.run.clock.monotonic()
        while not self._over and not self._held_up:
            left = (await self.run.look(asked)).get((self.egress, self.provider))
            if left is None or (left.next_at is None and not left.due and not left.ready):
                return False
            if left.due or (left.ready and not self.run.options.due_only):
                return True
            if left.next_at is None or left.next_at > self.run.deadline:
                return False
            if left.next_at <= self.run.clock.now():
                return True
            await self.run.nap(_TICK_S)
        return True

    async def _send_batch(self, batch: Batch) -> None:
        self._batch = batch
        self._rows = deque(batch.rows)
        size = min(self.profile.connections, self.run.options.connections, len(batch.rows))
        await asyncio.gather(*(self._connection(batch) for _ in range(size)))
        self._batch = None
        await self.run.writer.submit(EndBatch(batch_id=batch.id, epoch=batch.epoch))
        if batch.canary and not self.guard.canary_done and not self._over:
            self.dwell_until = self.run.clock.now() + self.profile.dwell
            self._record("canary_sent", "waits for the final outcomes")

    async def _connection(self, batch: Batch) -> None:
        try:
            while (row := await self._next_row()) is not None:
                await self._one(row, batch)
        except Exception as error:
            self.run.fail(error)

    async def _next_row(self) -> Delivery | None:
        while self._rows and not self._over:
            waits = self._ahead and self._ahead * self.pacer.interval_us >= _AHEAD_S * 1e6
            if not (waits or self._held_up or self._over_cap()):
                return self._rows.popleft()
            await self.run.nap(_TICK_S)
        return None

    def _over_cap(self) -> bool:
        """Whether the relay holds as many as it may; so for longer than the run's patience, the run ends."""
        if not self.feedback or self.pending_fates < max(_FATE_CAP_MIN, self.guard.rate * _FATE_CAP_S):
            self._over_cap_since = None
            return False
        now = self.run.clock.monotonic()
        if self._over_cap_since is None:
            self._over_cap_since = now
        elif now - self._over_cap_since > self.run.options.wait.total_seconds():
            self.run.stop(f"{self.pending_fates} mails of {self.provider} wait at the relay; its log tells no end")
        return True

    async def renew(self) -> None:
        """Heartbeat of the lease of the batch in hand; where it is lost, the rest of the batch is another's."""
        batch = self._batch
        if batch is not None:
            now = self.run.clock.now()
            renewed = await self.run.writer.submit(
                Renew(batch_id=batch.id, epoch=batch.epoch, lease_s=LEASE_S, now=now)
            )
            if not renewed.ok and self._batch is batch:
                self._rows.clear()

    async def _one(self, row: Delivery, batch: Batch) -> None:
        try:
            body, date = self.run.render(row)
        except ContentError as error:
            self.run.write(Quarantine(key=row.key, epoch=batch.epoch, reason=str(error)))
            self.run.count("quarantined")
            return
        taken = await self._session(row, batch)
        if taken is None:
            return
        hosts, session = taken
        try:
            again = await self._over_session(row, batch, body, date, session)
        except BaseException:
            session.abort()  # whatever had left, its dot does not
            raise
        finally:
            await self.sessions.put(
                hosts, session, most=self.profile.mails_per_connection, slow=self.pacer.interval_us > 1_000_000
            )
        if again:
            self._rows.appendleft(row)

    async def _over_session(self, row: Delivery, batch: Batch, body: bytes, date: str, session: Session) -> bool:
        """Send one mail at its slot. True where nothing was tried and the row is still to be sent."""
        at = await self._slot(session)
        if at is None:
            return True
        fresh = session.mails == 0
        digest = hashlib.sha256(body).hexdigest()
        trial = uuid.uuid4().hex

        async def arm() -> str:
            began = self.run.clock.monotonic()
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
            result = await self.run.writer.submit(armed)  # with its paced instant: a restart paces on from there
            self.run.check()
            if not isinstance(result, Armed) or not result.ok:
                return result.why or "not armed"
            self.run.armed += 1
            if self.run.clock.monotonic() - began > LEASE_S / 2:
                raise TooLate("the arm came too late for its lease")
            return ""

        end = await transact(session, Mail(envelope_from=row.envelope_from, rcpt=row.rcpt, body=body), arm)
        if end.how is Ended.LOST and end.stage is Stage.MAIL and not fresh:
            return True  # a session that had died while it was idle says nothing about this mail
        settle(self, row, batch, trial, at, end)
        return False

    async def _session(self, row: Delivery, batch: Batch) -> tuple[Hosts, Session] | None:
        """A session to the row's receiver. None: the row was settled, or put back."""
        route = self.run.route(row)
        try:
            taken = await self.sessions.take(route, row.domain)
        except Refused as error:
            others = self.sessions.opened
            if error.reply.code < 500 and others and others < self.sessions.limit:
                self.sessions.limit = others  # not about the mail: the receiver takes no more connections
                self._rows.appendleft(row)
                self._record("fewer_connections", f"{error.reply.code} {error.reply.text[:200]}")
                return None
            await self._ended_early(row, batch, End(how=Ended.REFUSED, stage=Stage.CONNECT, reply=error.reply))
            return None
        except OSError as error:
            await self._unreached(row, batch, error)
            return None
        if taken is None:
            self._rows.appendleft(row)
        else:
            self._failures = 0
            self.run.reached = True
        return taken

    async def _unreached(self, row: Delivery, batch: Batch, error: OSError) -> None:
        """No connection. Where others could be reached it is this receiver's failure, and the mail is deferred."""
        self._failures += 1
        if self.run.reached and not self.relay:
            await self._ended_early(row, batch, End(how=Ended.LOST, stage=Stage.CONNECT, why=str(error)))
        else:
            self._rows.appendleft(row)
        if self._failures >= _UNREACHABLE_MAX and self.unreachable is None:
            route = self.run.route(row)
            self.unreachable = ConnectError(
                f"cannot reach the receiver: {error}",
                where=f"{route.host}:{route.port}" if route else f"MX of {row.domain}",
                next_step="check the host and the network, then run the same command again; nothing is lost",
            )
            self._record("unreachable", str(error))
        await self.run.nap(_TICK_S)

    async def _ended_early(self, row: Delivery, batch: Batch, end: End) -> None:
        """Settle a mail whose session did not open. It takes a slot, or a closed door would be knocked at unpaced."""
        at = await self._slot(None)
        if at is None:
            self._rows.appendleft(row)
        else:
            settle(self, row, batch, uuid.uuid4().hex, at, end)

    async def _slot(self, session: Session | None) -> datetime | None:
        """Wait for the next slot; None where the run stops or pauses, or the session ends, meanwhile."""
        came = to_micros(self.run.clock.now())
        self._ahead += 1
        try:
            async with self._turn:
                shared = await self._shared_slot() if self.run.options.shared_pace else None
                while not (self._over or self._held_up or (session and not session.usable)):
                    now = to_micros(self.run.clock.now())
                    due = self.pacer.tat_us if shared is None else shared[0]
                    if due <= now:
                        return from_micros(self.pacer.reserve(now, came) if shared is None else shared[1])
                    await self.run.nap(min((due - now) / 1e6, _TICK_S))
                return None
        finally:
            self._ahead -= 1

    async def _shared_slot(self) -> tuple[int, int]:
        """A slot of the pace that several runs share: when it is by our clock, and by the database's."""
        while not self._over:
            now = self.run.clock.now()
            reserved = await self.run.writer.call(partial(self._reserve, now=now))
            if reserved is not None:
                at = reserved.times_us[0]
                return to_micros(now) + at - reserved.now_us, at
            await self.run.nap(_TICK_S)
        return 0, 0

    def _reserve(self, conn: Connection, now: datetime) -> Reserved | None:
        return control.reserve(conn, egress=self.egress, provider=self.provider, count=1, now=now)

    def decide(self, decision: Decision | None) -> None:
        """Obey a decision and write it down."""
        if decision is None:
            return
        self.pacer.change(self.guard.rate, to_micros(self.run.clock.now()))
        self._record(decision.what, decision.reason)
        self.run.count(decision.what)

    def _record(self, what: str, reason: str) -> None:
        self.run.write(self.standing(what, reason, who="rule"))

    def standing(self, what: str, reason: str, *, who: str) -> RateChange:
        """A decision as a ledger row, with what holds for this lane from now on."""
        guard = self.guard
        return RateChange(
            egress=self.egress,
            provider=self.provider,
            what=what,
            reason=reason,
            at=self.run.clock.now(),
            plan_id=self.run.plan_id,
            who=who,
            fields={
                "rate": guard.rate,
                "ceiling": guard.ceiling,
                "capped": guard.capped,
                "capped_until": guard.capped_until,
                "cooldown_until": guard.cooldown_until,
                "clean_since": guard.clean_since,
                "canary_done": int(guard.canary_done),
                "dwell_until": self.dwell_until,
                "paused": int(self.paused),
                "parked": guard.parked,
            },
        )

    def tick(self) -> None:
        """Time has passed without replies."""
        self.decide(self.guard.tick(self.run.clock.now()))

    def set_rate(self, rate: float) -> None:
        """The operator's new ceiling, and the rate from now on."""
        self.guard.ceiling = self.guard.rate = rate
        self.pacer.change(rate, to_micros(self.run.clock.now()))
