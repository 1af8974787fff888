"""All mails of one (egress, provider): claims batches and sends them, paced and guarded, over its own sessions.

The connections of a lane share one pacer and one guard. The ledger is written through the run's writer only, in order:
an outcome is durable before the next dot, because the arm of the next mail stands behind it. An error ends the run, but
never a dialogue that is under way. Raises nothing: what goes wrong is told to the run.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from resend.clock import to_micros
from resend.errors import ConnectError
from resend.executor.connect import Hosts
from resend.executor.dialogue import Dialogue, Made
from resend.executor.guard import Decision, Guard
from resend.executor.hours import LaneHours
from resend.executor.leases import Leases
from resend.executor.pacer import Pacer
from resend.executor.reach import astray, session_for
from resend.executor.session import Session
from resend.executor.sessions import Sessions
from resend.executor.settle import settle
from resend.executor.slots import Slots
from resend.executor.standing import claim, reopen, standing
from resend.executor.transaction import End
from resend.policy.content import ContentError
from resend.policy.providers import Profile
from resend.stores.rows import Batch, Delivery, Rate
from resend.stores.transitions import EndBatch, Quarantine

if TYPE_CHECKING:
    from resend.executor.run import Run

_TICK_S = 0.2
_SLOT_S = 1.0  # a connection that another host has is asked for this often
_CLAIM_S, _CLAIM_AHEAD = 0.2, 500  # rows of so many seconds, at most so many, are left when the next batch is claimed
_AHEAD_S = 1.0  # connections whose slots are further away than this wait without a session
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
    at_work: bool = False
    decisions: int = 0  # written down by this lane so far
    known: Rate | None = None  # what the ledger said last
    failures: int = 0  # to connect, in a row
    reached: bool = False  # its receiver took a connection in this run
    away_since: float | None = None  # it does not any more, since (monotonic)
    _crew: asyncio.TaskGroup | None = None  # the connections that send a batch
    _manned: int = 0
    slots: Slots = field(init=False)
    leases: Leases = field(init=False)
    hours: LaneHours = field(init=False)
    _goes_on: bool = False  # the next batch may be claimed before the last one is through
    _more: asyncio.Future[None] | None = None  # a claim under way
    _over_cap_since: float | None = None
    _ready: dict[str, Made] = field(default_factory=dict)  # made, and put back

    def __post_init__(self) -> None:
        self.leases = Leases(self.run)
        self.hours = LaneHours(self.run, self.egress, self.provider)
        place = (self.run, self.egress, self.provider, self.pacer)
        self.slots = Slots(*place, lambda: self.over or self._held_up, self.profile.floor)

    @property
    def feedback(self) -> bool:
        """Whether acceptance is only a hand-over, and the relay's log tells the fate."""
        return self.relay and not self.run.options.blind

    @property
    def _held_up(self) -> bool:
        """Nothing leaves for now: by the operator's word, or because what is known of vetoes is too old."""
        return self.paused or self.run.paused or bool(self.run.stale) or bool(self.guard.parked)

    @property
    def over(self) -> bool:
        return self.run.stopping or self._parked or self.unreachable is not None

    @property
    def _parked(self) -> bool:
        """Parked until a person resumes it, or for longer than the run is patient."""
        if not self.guard.parked or self.guard.cooldown_until is None:
            return bool(self.guard.parked)
        return self.run.options.due_only or self.guard.cooldown_until > self.run.clock.now() + self.run.options.wait

    async def work(self) -> None:
        """Send until nothing is left that is due within the run's patience, or the run stops."""
        self.at_work = True
        await self.tick()  # a cool-down that ended between two runs is over
        try:
            while (batch := await self._next_batch()) is not None:
                await self._send(batch)
        except Exception as error:
            self.run.fail(error)
        self.at_work = False
        await self.sessions.close()

    async def _next_batch(self) -> Batch | None:
        """The next batch; None when this lane has no more to do."""
        while not self.over:
            nap = _TICK_S
            if self._held_up:
                if self.run.options.due_only:
                    return None  # a timer starts it again
            elif self.dwell_until is not None and self.run.clock.now() < self.dwell_until:
                pass
            elif (batch := await self._claim()) is not None:
                return batch
            elif not await self._patience():
                return None
            elif self.run.options.shared_pace:
                nap = _SLOT_S
            await self.run.nap(nap)
        return None

    async def _claim(self) -> Batch | None:
        if self.dwell_until is not None:
            self.dwell_until = None
            self.decide(self.guard.finish_canary(self.run.clock.now()))
            if self.guard.parked:
                return None
        batch: Batch | None = await self.run.writer.call(partial(claim, self))
        if batch is not None and (error := await self.run.unable(batch.plan_id) or astray(self.run, batch)) is not None:
            await self.run.writer.submit(EndBatch(batch_id=batch.id, epoch=batch.epoch))
            self.run.fail(error)
            return None
        if batch is not None and not (batch.canary or batch.retry or self.guard.canary_done):
            self.decide(self.guard.finish_canary(self.run.clock.now()))
        return batch

    async def _patience(self) -> bool:
        """Wait until something of this lane may be claimed; False where that is beyond the run's patience."""
        asked = self.run.clock.monotonic()
        while not self.over and not self._held_up:
            left = (await self.run.look(asked)).get((self.egress, self.provider))
            if left is None or not (left.next_at or left.due or left.ready or left.leased):
                return False
            if left.due or (left.ready and not self.run.options.due_only):
                return True
            if left.leased and not self.run.options.due_only:
                pass  # another host has it; should that die, this one goes on
            elif left.next_at is None or left.next_at > self.run.deadline:
                return False
            if left.next_at is not None and left.next_at <= self.run.clock.now():
                return True
            await self.run.nap(_TICK_S)
            asked = max(asked, self.run.clock.monotonic() - _SLOT_S)
        return True

    async def _send(self, batch: Batch) -> None:
        """Send a batch, and those that can be claimed while it is under way."""
        self._take(batch)
        self._goes_on = self.guard.canary_done and (self._most <= len(batch.rows) or self.run.options.shared_pace)
        try:
            async with asyncio.TaskGroup() as self._crew:
                self._man(len(batch.rows))
            self._goes_on = False
            if self._more is not None:
                await self._more
            whole = self.leases.whole(batch.id)  # else the rest of the canary goes when its window opens again
            if batch.canary and whole and not self.guard.canary_done and not self.over:
                self.dwell_until = self.run.clock.now() + self.profile.dwell
                self.record("canary_sent", "waits for the final outcomes")
        finally:
            self._crew = None
            self._ready.clear()
            if self.leases.slots:
                await self.sessions.close()  # what waits open would count for a slot that is given back
            await self.leases.end()

    @property
    def _most(self) -> int:
        """Connections that may send at once: by the profile, and by the slots that this host has of it."""
        most = min(self.profile.connections, self.run.options.connections)
        return min(most, len(self.leases.slots)) if self.leases.slots else most

    def _take(self, batch: Batch) -> None:
        self.leases.take(batch)
        self.sessions.granted = len(self.leases.slots) or None

    def _man(self, rows: int) -> None:
        """Send over as many connections as are allowed by now, and useful for `rows` more mails."""
        for _ in range(min(self._most - self._manned, rows)):
            if self._crew is not None and not self.over:
                self._manned += 1
                self._crew.create_task(self._connection())

    async def _connection(self) -> None:
        try:
            while (row := await self._next_row()) is not None:
                await self._one(row)
        except Exception as error:
            self.run.fail(error)
        finally:
            self._manned -= 1

    async def _next_row(self) -> Delivery | None:
        while not (self.over or self.leases.lost or self._manned > self._most):
            if self.leases.rows:
                if self._shut(self.leases.rows[0]):
                    self.leases.give_back(self.leases.rows[0].batch_id)
                    continue
                waits = self.slots.waiting and self.slots.waiting * self.pacer.interval_us >= _AHEAD_S * 1e6
                if not (waits or self._held_up or self._over_cap() or self.guard.waits):
                    self.guard.leaves()
                    return self._pop()
                await self.run.nap(_TICK_S)
            elif self._more is not None:
                await asyncio.shield(self._more)
            else:
                break
        return None

    def _pop(self) -> Delivery:
        """The next row. Where few are left, the next batch is claimed meanwhile."""
        row = self.leases.rows.popleft()
        enough = self.profile.connections + min(self.pacer.rate * _CLAIM_S, _CLAIM_AHEAD)
        if self._goes_on and self._more is None and len(self.leases.rows) < enough:
            self._more = asyncio.ensure_future(self._claim_more())
        return row

    async def _claim_more(self) -> None:
        try:
            batch = None if self.over or self._held_up or self.leases.lost else await self._claim()
            if batch is None:
                self._goes_on = False
            else:
                self._take(batch)
                self._man(len(batch.rows))
        except Exception as error:
            self.run.fail(error)
        finally:
            self._more = None

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

    async def _one(self, row: Delivery) -> None:
        made = self._make(row)
        if made is None:
            return
        taken = await session_for(self, row)
        if taken is None:
            return
        hosts, session = taken
        try:
            at = await self.slots.take(session, lambda: self._shut(row))
            if at is None:
                self.put_back(made)
            else:
                await Dialogue(self, hosts, session).send(made, at)
        except BaseException:
            session.abort()  # whatever had left, its dot does not
            raise
        finally:
            await self.sessions.put(hosts, session, most=self._mails, slow=self._slow)

    @property
    def _mails(self) -> int:
        return self.guard.mails_per_connection or self.profile.mails_per_connection

    @property
    def _slow(self) -> bool:
        return self.pacer.interval_us > 1_000_000

    def _make(self, row: Delivery) -> Made | None:
        """The mail of a row; None where it cannot be made, and the row is quarantined."""
        made = self._ready.pop(row.key, None)
        if made is not None:
            return made
        try:
            return Made.of(row, *self.run.render(row))
        except ContentError as error:
            self.run.write(Quarantine(key=row.key, epoch=row.epoch, reason=str(error)))
            self.run.count("quarantined")
            self.leases.settled(row)
            return None

    def put_back(self, made: Made) -> None:
        """A mail that was not tried after all: the next connection that is free takes it."""
        self._ready[made.row.key] = made
        self.leases.rows.appendleft(made.row)

    def next_for(self, hosts: Hosts, session: Session, domain: str) -> Made | None:
        """The next mail, where it may go over this session, soon."""
        if not self.leases.rows or self.leases.lost or not self.slots.soon() or self._over_cap():
            return None
        if self.guard.half_open or self._held_up:
            return None
        if self.sessions.used_up(session, most=self._mails, slow=self._slow):
            return None
        row = self.leases.rows[0]
        if self._shut(row):
            return None
        route = self.run.route(row)
        if row.domain != domain if route is None else ((route.host, route.port),) != hosts:
            return None
        return self._make(self._pop())

    def take_now(self, row: Delivery) -> datetime | None:
        """The slot of a mail that is to follow at once, where it has come and the recipient's window is open."""
        return None if self._shut(row) else self.slots.take_now()

    def _shut(self, row: Delivery) -> bool:
        return not self.hours.is_open(self.leases.zone(row))

    def settled(self, row: Delivery, trial: str, at: datetime, end: End) -> None:
        """A mail has its end."""
        settle(self, row, trial, at, end)
        self.leases.settled(row)

    def decide(self, decision: Decision | None) -> None:
        """Obey a decision and write it down."""
        if decision is None:
            return
        self.pacer.change(self.guard.pace, to_micros(self.run.clock.now()))
        self.sessions.asked = self.guard.connections or None
        self.record(decision.what, decision.reason)
        self.run.count(decision.what)

    def record(self, what: str, reason: str) -> None:
        """Write a decision down, with what holds for this lane from now on."""
        self.run.write(standing(self, what, reason, who="rule"))

    async def tick(self) -> None:
        """Time has passed without replies."""
        self.keep_time()
        if not self.guard.parked:
            self.decide(self.guard.tick(self.run.clock.now()))
        elif self.at_work or self.run.options.stays:  # else nobody would send the probes
            await reopen(self)
        self.sessions.asked = self.guard.connections or None

    def live_seen(self, rate: float, trouble: str) -> None:
        """What the followed log tells of the sender's own live mail at this provider."""
        self.decide(self.guard.live_seen(self.run.clock.now(), rate, trouble))

    def set_rate(self, rate: float) -> None:
        """The operator's new ceiling, and the rate from now on."""
        self.guard.ceiling = self.guard.rate = rate
        self.pacer.change(self.guard.pace, to_micros(self.run.clock.now()))

    def set_back(self, step: timedelta) -> None:
        """The clock was set back by -`step`."""
        self.pacer.tat_us += step // timedelta(microseconds=1)
        self.guard.set_back(step)
        if self.dwell_until is not None:
            self.dwell_until += step

    def keep_time(self) -> None:
        """The timetable's ceiling of this hour holds from now on."""
        self.decide(self.guard.at_this_hour(self.hours.bound()))
