"""Send windows, timetable and quota through a real run: what receivers got when, by a clock that can be set."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resend.config import RelayConfig
from resend.errors import Exit
from resend.executor.connect import SmtpConnector
from resend.executor.ending import RunSummary
from resend.executor.run import Options, Run
from resend.lab.behaviour import Behaviour, Fault, Pool
from resend.lab.mx import serve
from resend.lab.receipts import read_receipts
from resend.model import State
from resend.policy.classify import Rules
from resend.policy.hours import Hours
from resend.policy.routes import Route, Routes
from resend.policy.windows import Timetable, Windows
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.plans import PlanBatch, PlanRow
from resend.stores.status import look
from resend.stores.writer import LedgerWriter
from tests.executor.test_reactions import profile, render
from tests.ledger.world import World, faults

TOKYO = "Asia/Tokyo"
HOURS = Hours(zone=TOKYO, window=Windows.parse("08:00-21:00"))


def tokyo(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-{text}").replace(tzinfo=ZoneInfo(TOKYO)).astimezone(UTC)


@dataclass
class SetClock:
    """Real seconds from a moment that is set, and set again: what receivers saw can be told in its time."""

    at: datetime
    _set: list[tuple[float, datetime]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.set(self.at)

    def set(self, at: datetime) -> None:
        self._set.append((time.time(), at))

    def of(self, real: float) -> datetime:
        since, at = [pair for pair in self._set if pair[0] <= real][-1]
        return at + timedelta(seconds=real - since)

    def now(self) -> datetime:
        return self.of(time.time())

    def monotonic(self) -> float:
        return (self.now() - self.at).total_seconds()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


@dataclass
class Zoned(World):
    """A world whose batches are for recipients of these zones, in turn."""

    zones: tuple[str, ...] = ("",)

    def _zone(self, seq: int) -> str:
        return self.zones[seq % len(self.zones)]

    def rows(self) -> list[PlanRow]:
        return [row._replace(zone=self._zone(row.batch_seq), canary=False) for row in super().rows()]

    def batches(self) -> list[PlanBatch]:
        return [replace(item, zone=self._zone(item.seq), canary=False) for item in super().batches()]


@dataclass
class Night:
    """One ledger, one receiver, runs at chosen times."""

    folder: Path
    ledger: Ledger
    clock: SetClock
    world: Zoned
    rate: float = 50.0
    pool: Pool = field(default_factory=lambda: Pool(name="p", listen=("127.0.1.44:0",)))

    def run(self, hours: Hours, *, wait_s: float = 0.0, due_only: bool = False) -> RunSummary:
        return asyncio.run(self._run(hours, wait_s, due_only))

    async def _run(self, hours: Hours, wait_s: float, due_only: bool) -> RunSummary:
        async with serve(Behaviour(pools=(self.pool,)), self.folder) as lab, LedgerWriter(self.ledger) as writer:
            host, _, port = lab.address("p").rpartition(":")
            figures = profile("p", rate=self.rate, start=self.rate, canary=0, dwell=timedelta(0), connections=2)
            run = Run(
                plan_id="",
                worker="test:1",
                writer=writer,
                clock=self.clock,
                connector=SmtpConnector(RelayConfig(), "client.example.jp"),
                rules=Rules.load(),
                routes=Routes(None, {"provider:p": Route(host, int(port), False, "direct")}),
                profile=lambda _: figures,
                render=render,
                options=Options(
                    wait=timedelta(seconds=wait_s), retry_after=timedelta(seconds=1), blind=True, due_only=due_only,
                    hours=hours,
                ),
            )  # fmt: skip
            return await asyncio.wait_for(run.execute(), 30)

    def states(self) -> Counter[State]:
        return Counter(self.world.states().values())

    def mails(self) -> list[tuple[datetime, str]]:
        """When MAIL came, by the set clock, and for which zone's recipient."""
        zones = {row.message_id.strip("<>"): row.zone for row in self.world.rows()}
        found = list(read_receipts(self.folder))
        assert max(Counter(item.message_id for item in found).values(), default=1) == 1
        return [(self.clock.of(item.mail_at / 1e9), zones[item.message_id.strip("<>")]) for item in found]

    def kept(self, hours: Hours) -> None:
        """No mail left outside of its recipient's window, nothing is under way or broken."""
        for at, zone in self.mails():
            assert any(hours.is_open("p", zone, at - timedelta(seconds=off)) for off in (0, 1)), (at, zone)
        assert faults(self.ledger) == []
        assert not {State.LEASED, State.SENDING, State.IN_DOUBT} & set(self.states())


Make = Callable[..., Night]


@contextmanager
def nights(folder: Path) -> Iterator[Make]:
    with open_ledger("", Home(folder / "home").create()) as ledger:

        def make(at: datetime, *, count: int = 40, zones: tuple[str, ...] = ("",), **more: object) -> Night:
            (folder / "receipts").mkdir()
            world = Zoned(ledger, count=count, size=10, provider="p", zones=zones)
            world.start()
            return Night(folder / "receipts", ledger, SetClock(at), world, **more)  # type: ignore[arg-type]

        yield make


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with nights(tmp_path) as made:
        yield made


def test_a_window_that_closes_lets_the_mail_under_way_finish_and_gives_back_the_rest(make: Make) -> None:
    night = make(tokyo("24T20:59:59"), rate=20.0)
    summary = night.run(HOURS)
    assert summary.exit is Exit.WINDOW and summary.shut["p"] == (tokyo("25T08:00"), "the send window is closed")
    states = night.states()
    assert 5 <= states[State.ACCEPTED] <= 25 and states[State.PLANNED] == 40 - states[State.ACCEPTED]
    assert len(night.mails()) == states[State.ACCEPTED]
    assert {night.world.row(row.key)["tries"] for row in night.world.rows()} == {0, 1}
    night.kept(HOURS)
    with night.ledger.read() as conn:
        (shown,) = look(conn, hours=HOURS, now=night.clock.now()).providers
    assert (shown.shut, shown.shut_until) == ("the send window is closed", tokyo("25T08:00"))

    again = night.run(HOURS)
    assert again.exit is Exit.WINDOW and again.counts["accepted"] == 0
    night.clock.set(tokyo("25T08:00"))
    assert night.run(HOURS).exit is Exit.DONE
    assert night.states() == {State.ACCEPTED: 40}
    night.kept(HOURS)


def test_each_zone_has_its_own_night(make: Make) -> None:
    night = make(tokyo("24T22:00"), zones=("", "America/New_York"))
    summary = night.run(HOURS)
    assert summary.exit is Exit.WINDOW and summary.next_due == tokyo("25T08:00")
    assert Counter(zone for _, zone in night.mails()) == {"America/New_York": 20}
    night.clock.set(tokyo("25T08:00"))
    assert night.run(HOURS).exit is Exit.DONE
    assert len(night.mails()) == 40
    night.kept(HOURS)


def test_a_window_that_opens_within_the_patience_is_waited_for(make: Make) -> None:
    night = make(tokyo("24T07:59:58"), count=10)
    assert night.run(HOURS, wait_s=10).exit is Exit.DONE
    assert len(night.mails()) == 10 and min(at for at, _ in night.mails()) >= tokyo("24T08:00")


def test_what_is_deferred_waits_for_the_window_too(make: Make) -> None:
    busy = Fault(do="reply", at="rcpt", name="busy", reply="450 4.2.0 try later")
    night = make(tokyo("24T20:59:58"), count=10, pool=Pool(name="p", listen=("127.0.1.44:0",), faults=(busy,)))
    assert night.run(HOURS).exit is not Exit.DONE
    assert night.states() == {State.DEFERRED: 10}
    night.clock.set(tokyo("24T21:30"))
    summary = night.run(HOURS, due_only=True)
    assert summary.exit is Exit.WINDOW and summary.next_due == tokyo("25T08:00") and not night.mails()
    night.clock.set(tokyo("25T08:00"))
    night.pool = Pool(name="p", listen=("127.0.1.44:0",))
    assert night.run(HOURS, due_only=True).exit is Exit.DONE
    assert night.states() == {State.ACCEPTED: 10}
    night.kept(HOURS)


def test_the_timetable_changes_the_ceiling_at_its_hour(make: Make) -> None:
    hours = Hours(zone=TOKYO, timetables={"p": Timetable.parse(["22:00-07:00 4/s"])})
    night = make(tokyo("24T21:59:59"), rate=20.0, count=30)
    assert night.run(hours, wait_s=2).exit is Exit.DONE
    late = sorted(at for at, _ in night.mails() if at > tokyo("24T22:00") + timedelta(seconds=0.25))
    assert len(late) >= 8
    assert all((b - a).total_seconds() > 0.15 for a, b in itertools.pairwise(late))
    with night.ledger.read() as conn:
        told = [item for item in look(conn).decisions if item.what == "timetable"]
        rate = look(conn).providers[0].rate
    assert [item.reason for item in told] == ["at most 4/s at this hour"]
    assert rate is not None and (rate.rate, rate.bound) == (20.0, 4.0)


def test_a_daily_quota_holds_over_runs_and_ends_at_midnight_of_the_config(make: Make) -> None:
    hours = Hours(zone=TOKYO, quotas={"p": 15})
    night = make(tokyo("24T12:00"), count=25, rate=200.0)
    for _ in range(2):
        summary = night.run(hours)
        assert summary.exit is Exit.WINDOW
        assert summary.shut["p"] == (tokyo("25T00:00"), "the daily quota of 15 is reached")
        assert night.states() == {State.ACCEPTED: 15, State.PLANNED: 10}
    night.clock.set(tokyo("25T00:00:01"))
    assert night.run(hours).exit is Exit.DONE
    assert len(night.mails()) == 25
    night.kept(hours)


SPANS = st.builds(
    lambda start, length: (
        f"{start // 60:02}:{start % 60:02}-{(start + length) // 60 % 24:02}:{(start + length) % 60:02}"
    ),
    st.integers(0, 1439),
    st.integers(1, 1438),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    SPANS, st.lists(st.sampled_from(["", "America/New_York", "Asia/Kolkata", "UTC"]), min_size=1, max_size=3), st.data()
)
def test_no_mail_leaves_outside_of_its_recipients_window(window: str, zones: list[str], data: st.DataObject) -> None:
    hours = Hours(zone=TOKYO, window=Windows.parse(window))
    edges = [edge for zone in zones for edge in edges_of(hours, zone)]
    at = data.draw(st.sampled_from(edges)) - timedelta(seconds=data.draw(st.sampled_from([0.2, 0.6])))
    with tempfile.TemporaryDirectory() as folder, nights(Path(folder)) as made:
        night = made(at, zones=tuple(zones), count=30, rate=30.0)
        night.run(hours, wait_s=1.0)
        night.kept(hours)


def edges_of(hours: Hours, zone: str) -> list[datetime]:
    """Minutes of a day at which the window opens or closes."""
    begin = tokyo("24T00:00")
    minutes = [begin + timedelta(minutes=n) for n in range(1440)]
    return [b for a, b in itertools.pairwise(minutes) if hours.is_open("p", zone, a) != hours.is_open("p", zone, b)]
