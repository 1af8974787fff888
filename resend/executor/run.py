"""Runs a started plan (or what is due of all plans): one lane for each (egress, provider), controls, drain, summary.

Is given a clock, a connector, a writer, rules, profiles and a renderer; opens no store itself. Stops when nothing is
due within its patience, when told to, or when a rule parks everything. Raises ConnectError and StoreError.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from resend.clock import Clock, parse_rate, to_micros
from resend.errors import Exit
from resend.executor.connect import Connector
from resend.executor.guard import Guard, RelayWatch
from resend.executor.lane import Lane
from resend.executor.pacer import Pacer
from resend.model import ControlKind
from resend.policy.classify import Rules
from resend.policy.providers import Profile
from resend.policy.routes import Route, Routes
from resend.stores import claims, control
from resend.stores.rows import Control, Delivery, Rate
from resend.stores.transitions import Audit, RateChange
from resend.stores.writer import Writer

_CONTROL_S = 0.5  # commands are obeyed within 2 s; they are looked for this often
_RENEW_S = 20.0
_LOOK_S = 1.0

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What one run did. `counts`: accepted, deferred, rejected, in_doubt, throttled, halved, raised, ..."""

    counts: Counter[str]
    parked: dict[str, str]  # provider or egress -> reason
    next_due: datetime | None
    stopped: str  # why it ended early, "" where it did not
    exit: Exit


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
    profile: Callable[[str], Profile]
    render: Render
    options: Options
    jitter: Callable[[], float] = lambda: 0.0
    progress: Callable[[Run], None] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    lanes: dict[tuple[str, str], Lane] = field(default_factory=dict)
    next_due: dict[tuple[str, str], datetime] = field(default_factory=dict)
    paused: bool = False
    stopped: str = ""
    armed: int = 0
    deadline: datetime = field(init=False)
    _watches: dict[str, RelayWatch] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.deadline = self.clock.now() + self.options.wait

    @property
    def stopping(self) -> bool:
        return bool(self.stopped)

    def stop(self, why: str) -> None:
        """Finish the open dialogues, give back the rest."""
        if not self.stopped:
            self.stopped = why
            self._wake.set()

    async def nap(self, seconds: float) -> None:
        """Sleep, but not through a stop."""
        if self.stopped:
            return
        await self.clock.sleep(seconds)

    def count(self, what: str) -> None:
        self.counts[what] += 1
        if what == "accepted":
            self.deadline = self.clock.now() + self.options.wait
        if self.progress is not None:
            self.progress(self)

    def route(self, row: Delivery) -> Route | None:
        return self.routes.of(row.provider, row.domain)

    def relay_watch(self, egress: str) -> RelayWatch:
        return self._watches.setdefault(egress, RelayWatch())

    def park(self, egress: str, reason: str) -> None:
        """An egress is at fault, not its mails: none of its lanes goes on."""
        for (name, _), lane in self.lanes.items():
            if name == egress and not lane.guard.parked:
                lane.guard.parked = reason

    async def execute(self) -> RunSummary:
        """Run to the end."""
        await self._prepare()
        ticker = asyncio.create_task(self._tick())
        try:
            async with asyncio.TaskGroup() as group:
                for lane in self.lanes.values():
                    group.create_task(lane.work())
        except* Exception as errors:
            raise _first(errors) from None
        finally:
            ticker.cancel()
        return await self._summary()

    async def _prepare(self) -> None:
        """Make a lane for each (egress, provider) with work, with the rate and pace that the ledger remembers."""
        now = self.clock.now()
        items = await self.writer.call(lambda conn: claims.work(conn, now, plan_id=self.plan_id))
        last = await self.writer.call(control.last_mail_at)
        relays = self.routes.relays()
        for item in items:
            profile = self.profile(item.provider)

            def ensure(conn: Connection, item: claims.Work = item, profile: Profile = profile) -> Rate:
                return control.ensure_rate(
                    conn,
                    egress=item.egress,
                    provider=item.provider,
                    start=min(profile.start, profile.rate),
                    ceiling=profile.rate,
                )

            rate = await self.writer.call(ensure)
            guard = Guard(
                profile=profile,
                rate=min(rate.rate, rate.ceiling),
                ceiling=rate.ceiling,
                canary_done=rate.canary_done,
                capped=rate.capped,
                capped_until=rate.capped_until,
                cooldown_until=rate.cooldown_until,
                clean_since=rate.clean_since,
            )
            pacer = Pacer(rate=guard.rate, tat_us=rate.tat_us)
            before = last.get((item.egress, item.provider))
            if before is not None:
                pacer.late(to_micros(before))
            self.lanes[item.egress, item.provider] = Lane(
                run=self,
                egress=item.egress,
                provider=item.provider,
                profile=profile,
                guard=guard,
                pacer=pacer,
                relay=item.egress in relays,
                paused=rate.paused,
            )

    async def _tick(self) -> None:
        """Commands, heartbeats, fates and clean intervals, beside the lanes."""
        began = renewed = looked = self.clock.monotonic()
        while True:
            await self.clock.sleep(_CONTROL_S)
            mono = self.clock.monotonic()
            for command in await self.writer.call(self._commands):
                await self._obey(command)
            if self.options.max_duration is not None and mono - began > self.options.max_duration.total_seconds():
                self.stop("its time is over")
            if mono - looked >= _LOOK_S:
                looked = mono
                for lane in self.lanes.values():
                    if lane.relay:
                        await lane.count_fates()
                    await lane.tick()
            if mono - renewed >= _RENEW_S:
                renewed = mono
                for lane in self.lanes.values():
                    await lane.renew()

    def _commands(self, conn: Connection) -> list[Control]:
        found = control.unseen(conn)
        if found:
            control.mark_seen(conn, [item.id for item in found], now=self.clock.now())
        return found

    async def _obey(self, command: Control) -> None:
        lanes = [lane for lane in self.lanes.values() if command.provider in ("", lane.provider)]
        match command.kind:
            case ControlKind.STOP:
                self.stop(f"stopped by {command.who}: {command.reason}")
            case ControlKind.PAUSE | ControlKind.RESUME:
                paused = command.kind is ControlKind.PAUSE
                if not command.provider:
                    self.paused = paused
                for lane in lanes:
                    lane.paused = paused
                    if not paused:
                        lane.guard.parked = ""
            case ControlKind.RATE:
                for lane in lanes:
                    await lane.set_rate(parse_rate(command.value))
        now = self.clock.now()
        for lane in lanes:
            fields: dict[str, str | int | float | datetime | None] = {
                "paused": int(lane.paused), "rate": lane.guard.rate, "ceiling": lane.guard.ceiling,
                "parked": lane.guard.parked,
            }  # fmt: skip
            await self.writer.submit(
                RateChange(
                    egress=lane.egress, provider=lane.provider, what=command.kind.value, reason=command.reason, at=now,
                    fields=fields, who=command.who, plan_id=self.plan_id,
                )
            )  # fmt: skip

    async def _summary(self) -> RunSummary:
        now = self.clock.now()
        left = await self.writer.call(lambda conn: claims.next_due(conn, plan_id=self.plan_id))
        due = min([*left.values(), *(at for at in self.next_due.values() if at > now)], default=None)
        parked = {f"{lane.provider}": lane.guard.parked for lane in self.lanes.values() if lane.guard.parked}
        await self.writer.submit(
            Audit(
                at=now, who=self.worker, what="run_ended", plan_id=self.plan_id,
                reason=self.stopped or ("parked" if parked else "nothing left that is due"),
                value=" ".join(f"{name}={count}" for name, count in sorted(self.counts.items())),
            )
        )  # fmt: skip
        if self.stopped.startswith("signal"):
            exit_ = Exit.INTERRUPTED
        elif parked:
            exit_ = Exit.PARKED
        elif (
            self.stopped
            or due is not None
            or any(self.counts[name] for name in ("in_doubt", "rejected", "quarantined", "gave_up"))
        ):
            exit_ = Exit.LEFT
        else:
            exit_ = Exit.DONE
        return RunSummary(counts=self.counts, parked=parked, next_due=due, stopped=self.stopped, exit=exit_)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error to show of several that came of the same cause."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
