"""Runs a started plan (or what is due of all plans): one lane for each (egress, provider), controls, drain, summary.

Is given a clock, a connector, a writer, rules, profiles and a renderer; opens no store itself. Stops when nothing is
due within its patience, when told to, or when a rule parks everything. Raises ConnectError and StoreError.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from resend.clock import Clock, to_micros
from resend.errors import ResendError
from resend.executor.beat import beat
from resend.executor.connect import Connector
from resend.executor.ending import RunSummary, summary
from resend.executor.guard import Guard
from resend.executor.lane import Lane
from resend.executor.livemail import LiveMail
from resend.executor.orders import Orders
from resend.executor.pacer import Pacer
from resend.executor.relaywatch import RelayWatch
from resend.executor.sessions import Seats, Sessions
from resend.executor.settle import judge_fate
from resend.executor.standing import recollected, standing
from resend.executor.stay import LOOK_S, stay
from resend.model import Fate
from resend.policy.classify import Rules
from resend.policy.hours import ALWAYS, Hours
from resend.policy.providers import Profile
from resend.policy.routes import Route, Routes
from resend.stores import claims, control, fates
from resend.stores.rows import Delivery, Rate
from resend.stores.transitions import Audit, Result, Transition
from resend.stores.writer import Writer

Render = Callable[[Delivery], tuple[bytes, str]]  # wire-ready body and the Date that it carries


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the operator and the config chose for this run."""

    connections: int = 20
    wait: timedelta = timedelta(minutes=15)  # patience for rows that become due
    retry_after: timedelta = timedelta(minutes=5)
    retry_at_most: timedelta = timedelta(hours=4)
    blind: bool = False
    due_only: bool = False  # catch-up: nothing that was never tried
    max_duration: timedelta | None = None
    hours: Hours = ALWAYS  # when each provider may be fed
    shared_pace: bool = False  # several hosts may send at once (PostgreSQL): connections and times are the ledger's
    stays: bool = False  # a worker: goes on when nothing is left, with whatever comes


@dataclass(slots=True)
class Run:
    """One run in progress; what its lanes share."""

    plan_id: str  # "" all started plans
    worker: str
    writer: Writer
    clock: Clock
    connector: Connector
    rules: Rules
    routes: Routes
    profile: Callable[[str], Profile]  # of a provider; `own` makes it that of an (egress, provider)
    render: Render
    options: Options
    jitter: Callable[[], float] = lambda: 0.0
    own: Callable[[str, Profile], Profile] = lambda _, profile: profile
    elsewhere: Container[str] = ()  # egresses that this host does not have: their mail is for another host or time
    progress: Callable[[Run], None] | None = None
    lacks: Callable[[str], ResendError | None] | None = None  # why this host cannot make the mails of a plan
    counts: Counter[str] = field(default_factory=Counter)
    lanes: dict[tuple[str, str], Lane] = field(default_factory=dict)
    paused: bool = False  # by the operator, everything
    stale: dict[str, str] = field(default_factory=dict)  # sources of vetoes that are too old, and why
    stopped: str = ""
    error: Exception | None = None
    reached: set[str] = field(default_factory=set)  # egresses by which some receiver took a connection
    armed: int = 0
    deadline: datetime = field(init=False)
    seats: Seats = field(init=False)
    orders: Orders = field(init=False)
    live_mail: LiveMail = field(init=False)
    _able: set[str] = field(default_factory=set)  # plans whose mails this host can make
    _watches: dict[str, RelayWatch] = field(default_factory=dict)
    _handed: dict[str, Lane] = field(default_factory=dict)  # accepted by a relay in this run, by key: no fate yet
    _work: dict[tuple[str, str], claims.Work] = field(default_factory=dict)
    _looked: float = float("-inf")
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.deadline = self.clock.now() + self.options.wait
        self.seats = Seats(self.options.connections)
        self.orders = Orders(self)
        self.live_mail = LiveMail(self)

    @property
    def stopping(self) -> bool:
        return bool(self.stopped)

    def stop(self, why: str) -> None:
        """Finish the open dialogues, give back the rest."""
        if not self.stopped:
            self.stopped = why

    def fail(self, error: Exception) -> None:
        """Something broke: the same, and `execute` raises it when the dialogues are over."""
        if self.error is None:
            self.error = error
        self.stop(str(error))

    def check(self) -> None:
        """Raise what broke: no dot leaves after an outcome that could not be written."""
        if self.error is not None:
            raise self.error

    async def nap(self, seconds: float) -> None:
        """Sleep, but not through a stop."""
        if not self.stopped:
            await self.clock.sleep(seconds)

    def write(self, transition: Transition, durable: Callable[[Result], None] | None = None) -> None:
        """Hand a transition to the writer, which keeps the order. A failure ends the run."""

        def done(result: Result | Exception) -> None:
            if isinstance(result, Exception):
                self.fail(result)
            elif durable is not None:
                try:
                    durable(result)
                except Exception as error:
                    self.fail(error)

        self.writer.tell(transition, done)

    def count(self, what: str) -> None:
        self.counts[what] += 1
        if what == "accepted":
            self.deadline = self.clock.now() + self.options.wait
        if self.progress is not None:
            self.progress(self)

    async def look(self, since: float) -> dict[tuple[str, str], claims.Work]:
        """What is left in the ledger, as of `since` (monotonic) or later; asked for once a second for all lanes."""
        async with self._looking:
            mono = self.clock.monotonic()
            if self._looked < max(since, mono - LOOK_S):
                now = self.clock.now()
                items = await self.writer.call(
                    partial(claims.work, now=now, plan_id=self.plan_id, hours=self.options.hours)
                )
                self._work = {(item.egress, item.provider): item for item in items if item.egress not in self.elsewhere}
                self._looked = mono
            return self._work

    async def unable(self, plan_id: str) -> ResendError | None:
        """Why the mails of a plan cannot be made here; None where they can. Looked at once for each plan."""
        if self.lacks is None or plan_id in self._able:
            return None
        error = await asyncio.to_thread(self.lacks, plan_id)
        if error is None:
            self._able.add(plan_id)
        return error

    def handed_over(self, key: str, lane: Lane) -> None:
        """A relay took a mail; its log will tell the fate."""
        self._handed[key] = lane
        lane.pending_fates += 1

    def fated(self, key: str, fate: Fate, reply: str) -> None:
        """A relay's log told of a mail: the guard judges by it."""
        lane = self._handed.get(key)
        if lane is None:
            return
        if fate in (Fate.DELIVERED, Fate.RETURNED):
            del self._handed[key]
            lane.pending_fates -= 1
        judge_fate(lane, fate, reply)

    def route(self, row: Delivery) -> Route | None:
        return self.routes.of(row.provider, row.domain, row.egress)

    def relay_watch(self, egress: str) -> RelayWatch:
        if egress not in self._watches:
            self._watches[egress] = RelayWatch(relay=egress in self.routes.relays())
        return self._watches[egress]

    def park(self, egress: str, reason: str) -> None:
        """An egress is at fault, not its mails: none of its lanes goes on."""
        for (name, _), lane in self.lanes.items():
            if name == egress and not lane.guard.firm:
                lane.guard.parked, lane.guard.cooldown_until = reason, None
                self.write(standing(lane, "parked", reason, who="rule"))

    def live(self, rates: Mapping[str, tuple[float, str]], by: Collection[str] | None = None, *, log: str = "") -> None:
        """The sender's own live mail, by provider: mails per second, and how its deferrals rise ("" they do not).

        `by`: the egresses that it leaves by; all of them unless given. `log`: which tells it, among all hosts.
        """
        if self.options.shared_pace:
            self.live_mail.tell({name: rate for name, (rate, _) in rates.items()}, by, log)
        for (egress, provider), lane in self.lanes.items():
            rate, trouble = rates.get(provider, (0.0, ""))
            if (by is None or egress in by) and (trouble or not self.options.shared_pace):
                lane.live_seen(lane.guard.live if self.options.shared_pace else rate, trouble)

    def knows(self, why_not: str, source: str) -> None:
        """Whether `source` is fresh (""), or why not: what must not be sent is then unknown, and nothing leaves."""
        if why_not and source not in self.stale:
            self.write(Audit(at=self.clock.now(), who="rule", what="stale", reason=why_not, plan_id=self.plan_id))
        if why_not:
            self.stale[source] = why_not
        else:
            self.stale.pop(source, None)

    async def execute(self) -> RunSummary:
        """Run to the end. Raises what ended it when the open dialogues are finished."""
        await self._prepare()
        gc.freeze()  # what is there by now stays: looking at it again and again took a tenth of the time
        ticker = asyncio.create_task(beat(self))
        try:
            if self.options.stays:
                await stay(self)
            else:
                await asyncio.gather(*(lane.work() for lane in self.lanes.values()))
        finally:
            gc.unfreeze()
            ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)
        self.check()
        away = [lane.unreachable for lane in self.lanes.values() if lane.unreachable is not None]
        if (
            away
            and not self.options.stays
            and (not self.reached or any(lane.relay and lane.unreachable for lane in self.lanes.values()))
        ):
            raise away[0]
        return await summary(self, away)

    async def _prepare(self) -> None:
        """Make a lane for each (egress, provider) with work, and obey what was said before."""
        now = self.clock.now()
        items = await self.writer.call(lambda conn: claims.work(conn, now, plan_id=self.plan_id))
        await self.orders.begin()
        await self.prepare_lanes(items)
        await self.orders.obey()

    async def prepare_lanes(self, items: list[claims.Work]) -> None:
        """Lanes with the rate and pace that the ledger remembers."""
        items = [item for item in items if item.egress not in self.elsewhere]
        profiles = {(item.egress, item.provider): self.own(item.egress, self.profile(item.provider)) for item in items}

        def remembered(conn: Connection) -> dict[tuple[str, str], Rate]:
            found = {}
            for item in items:
                place = (item.egress, item.provider)
                profile = profiles[place]
                start, top = min(profile.start, profile.rate), profile.rate
                found[place] = control.begin_rate(
                    conn, egress=item.egress, provider=item.provider, start=start, ceiling=top,
                    plan_id=self.plan_id, now=self.clock.now(),
                )  # fmt: skip
            return found

        rates = await self.writer.call(remembered)
        last = await self.writer.call(control.last_mail_at)
        waiting = await self.writer.call(fates.pending)
        for place, rate in rates.items():
            profile, now = profiles[place], self.clock.now()
            rules = self.rules if rate.egress in self.routes.relays() and not self.options.blind else None
            kept = partial(recollected, rate=rate, profile=profile, last=last.get(place), now=now, rules=rules)
            guard = await self.writer.call(kept)
            if guard.half_open and self.options.shared_pace:
                guard.probes_elsewhere(now)  # by a host that may be at it
            self._lane(rate, guard, last.get(place), waiting.get(place, 0))

    def _lane(self, rate: Rate, guard: Guard, last: datetime | None, waiting: int) -> None:
        profile = guard.profile
        pacer = Pacer(rate=guard.pace, tat_us=rate.tat_us)
        if last is not None:  # in the future by a clock that was set back since
            pacer.late(to_micros(min(last, self.clock.now())))
        self.lanes[rate.egress, rate.provider] = Lane(
            run=self,
            egress=rate.egress,
            provider=rate.provider,
            profile=profile,
            guard=guard,
            pacer=pacer,
            relay=rate.egress in self.routes.relays(),
            sessions=Sessions(self.connector, self.seats, lambda: self.stopping, profile.connections, rate.egress),
            paused=rate.paused,
            dwell_until=None if guard.canary_done else rate.dwell_until,
            pending_fates=waiting,
        )
        self.lanes[rate.egress, rate.provider].keep_time()
