"""A run against receivers that throttle, block, refuse, hang up: what it does, and what the ledger and receipts say."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from resend.clock import SystemClock
from resend.config import RelayConfig
from resend.errors import Exit
from resend.executor.connect import SmtpConnector
from resend.executor.ending import RunSummary
from resend.executor.run import Options, Run
from resend.lab.behaviour import Behaviour, Fault, Pool, Rate, Session
from resend.lab.mx import serve
from resend.lab.receipts import read_events, read_receipts
from resend.model import ControlKind, State
from resend.policy.classify import Rules
from resend.policy.providers import Profile
from resend.policy.routes import Route, Routes
from resend.stores import control
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.rows import Decision, Delivery
from resend.stores.status import look
from resend.stores.tables import batch
from resend.stores.writer import LedgerWriter
from tests.ledger.world import NOW, World, faults

BLOCKED = (
    "550 5.7.1 Unfortunately, messages from [127.0.0.1] weren't sent. Please contact your Internet service provider"
    " since part of their network is on our block list (S3150)."
)
LISTEN = {name: f"127.0.1.{number}:0" for number, name in enumerate("abcdef", 41)}


def profile(name: str, **changes: object) -> Profile:
    base = Profile(
        name=name,
        mx=(),
        domains=(),
        rate=500.0,
        connections=4,
        start=200.0,
        dwell=timedelta(milliseconds=50),
        cooldown=timedelta(milliseconds=300),
        floor=5.0,
        mails_per_connection=50,
        clean_for=timedelta(minutes=5),
        cap_for=timedelta(hours=2),
        canary=5,
        park=(),
        advice="",
        source="test",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@dataclass
class Stage:
    """Pools, plans for them, one run."""

    folder: Path
    ledger: Ledger
    pools: dict[str, Pool]
    profiles: dict[str, Profile]
    counts: dict[str, int]
    behind_relay: bool = False
    one_door: bool = False  # all mail goes to the first pool
    routed: dict[str, Route] = field(default_factory=dict)  # of a provider, by a config that was changed since
    wait_s: float = 6.0
    limit_s: float = 40.0
    size: int = 100
    worlds: dict[str, World] = field(default_factory=dict)
    summary: RunSummary | None = None

    def play(self, meanwhile: Callable[[Run], Awaitable[None]] | None = None) -> RunSummary:
        self.summary = asyncio.run(self._play(meanwhile))
        return self.summary

    async def _play(self, meanwhile: Callable[[Run], Awaitable[None]] | None) -> RunSummary:
        async with serve(Behaviour(pools=tuple(self.pools.values())), self.folder) as lab:
            mapped = {}
            for name in self.pools:
                host, _, port = lab.address(next(iter(self.pools)) if self.one_door else name).rpartition(":")
                egress = f"relay:{host}:{port}" if self.behind_relay else "direct"
                mapped[f"provider:{name}"] = Route(host, int(port), self.behind_relay, egress)
                mapped[f"provider:{name}"] = self.routed.get(name) or mapped[f"provider:{name}"]
                if name not in self.worlds:
                    world = World(self.ledger, count=self.counts[name], size=self.size, provider=name, egress=egress)
                    world.release, world.incident_id = f"release-{name}", f"inc-{name}"
                    self.worlds[name] = world.start()
            async with LedgerWriter(self.ledger) as writer:
                run = Run(
                    plan_id="",
                    worker="test:1",
                    writer=writer,
                    clock=SystemClock(),
                    connector=SmtpConnector(RelayConfig(), "client.example.jp"),
                    rules=Rules.load(),
                    routes=Routes(None, mapped),
                    profile=self.profiles.__getitem__,
                    render=render,
                    options=Options(
                        wait=timedelta(seconds=self.wait_s),
                        retry_after=timedelta(milliseconds=200),
                        retry_at_most=timedelta(seconds=1),
                        blind=True,
                        shared_pace=self.ledger.dialect != "sqlite",
                    ),
                )
                beside = asyncio.create_task(meanwhile(run)) if meanwhile is not None else None
                summary = await asyncio.wait_for(run.execute(), self.limit_s)
                if beside is not None:
                    await beside
                return summary

    def states(self, name: str) -> Counter[State]:
        mine = {row.key for row in self.worlds[name].rows()}
        return Counter(state for key, state in self.worlds[name].states().items() if key in mine)

    def received(self, pool: str = "*") -> Counter[tuple[str, str]]:
        return Counter((item.message_id, item.rcpt) for item in read_receipts(self.folder, pool))

    def decisions(self, what: str) -> list[Decision]:
        with self.ledger.read() as conn:
            return [item for item in look(conn).decisions if item.what == what]

    def sound(self) -> None:
        """No invariant is broken, nothing is under way, nobody got a mail twice."""
        assert faults(self.ledger) == []
        assert max(self.received().values(), default=1) == 1
        for name in self.worlds:
            assert not {State.LEASED, State.SENDING} & set(self.states(name))


def render(row: Delivery) -> tuple[bytes, str]:
    return f"Message-ID: {row.message_id}\r\nDate: {row.date}\r\nSubject: x\r\n\r\nbody\r\n".encode(), row.date


Make = Callable[..., Stage]


def maker(ledger: Ledger, folder: Path) -> Make:
    """Makes a stage: `pools` are limits and faults by name, `profiles` what differs from `profile`."""
    receipts = folder / "receipts"
    receipts.mkdir()

    def _make(counts: dict[str, int], *, pools: dict[str, dict[str, object]], **more: object) -> Stage:
        changes = more.pop("profiles", {})
        return Stage(
            receipts,
            ledger,
            {name: Pool(name=name, listen=(LISTEN[name],), **pools.get(name, {})) for name in counts},  # type: ignore[arg-type]
            {name: profile(name, **changes.get(name, {})) for name in counts},  # type: ignore[attr-defined]
            counts,
            **more,  # type: ignore[arg-type]
        )

    return _make


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A maker of stages whose ledger is SQLite."""
    with open_ledger("", Home(tmp_path / "home").create()) as ledger:
        yield maker(ledger, tmp_path)


@pytest.fixture
def make_both(ledger: Ledger, tmp_path: Path) -> Make:
    """The same on both databases."""
    return maker(ledger, tmp_path)


def test_throttled_halves_waits_and_delivers_each_mail_once(make_both: Make) -> None:
    stage = make_both({"a": 60}, pools={"a": {"rate": Rate(per_second=50.0)}})
    assert stage.play().exit is Exit.DONE
    assert stage.states("a") == {State.ACCEPTED: 60} and len(stage.received()) == 60
    assert stage.summary is not None and stage.summary.counts["throttled"] > 0
    halved = stage.decisions("halved")
    assert halved and all("throttled at" in item.reason for item in halved)
    stage.sound()


def test_batch_follows_batch_and_each_ends(make_both: Make) -> None:
    fast = {"rate": 5000.0, "start": 5000.0}
    stage = make_both({"a": 300}, pools={}, profiles={"a": fast}, size=20)
    assert stage.play().exit is Exit.DONE
    assert stage.states("a") == {State.ACCEPTED: 300} and len(stage.received()) == 300
    with stage.ledger.read() as conn:
        assert set(conn.scalars(select(batch.c.state))) == {"done"}
    stage.sound()


def test_a_session_that_is_ended_by_421_costs_no_mail(make: Make) -> None:
    limit = Session(mails=3, reply="421 4.4.2 closing connection")
    stage = make({"a": 30}, pools={"a": {"session": limit}})
    assert stage.play().exit is Exit.DONE
    assert stage.states("a") == {State.ACCEPTED: 30} and len(stage.received()) == 30
    assert Counter(event.event for event in read_events(stage.folder))["session_limit"] > 0
    stage.sound()


@pytest.mark.parametrize("at", ["connect", "ehlo", "mail", "rcpt", "data", "body"])
@pytest.mark.parametrize("do", ["drop", "garbage"])
def test_a_line_lost_before_the_dot_is_tried_again(make: Make, do: str, at: str) -> None:
    share = 0.1 if at == "body" else 0.3  # some of these are in doubt, and more of them would park it
    fault = Fault(do=do, at=at, p=share, once=True, name="f", reply="?? what\r\n" if do == "garbage" else "")
    stage = make({"a": 20}, pools={"a": {"faults": (fault,)}})
    stage.play()
    states = stage.states("a")
    unseen = states.pop(State.IN_DOUBT, 0)  # the arm may be durable, and the dot gone, before the loss is seen
    assert states == {State.ACCEPTED: 20 - unseen} and (not unseen or at == "body")
    received = len(stage.received())  # who dropped the line has nothing; who talked into the body may have it all
    assert received == 20 - unseen if do == "drop" else 20 - unseen <= received <= 20
    stage.sound()


@pytest.mark.parametrize("do", ["drop", "garbage"])
def test_after_the_dot_a_lost_word_is_doubt_and_never_sent_again(make: Make, do: str) -> None:
    fault = Fault(do=do, at="dot", p=0.06, accepted=True, name="f", reply="?? what\r\n" if do == "garbage" else "")
    stage = make({"a": 30}, pools={"a": {"faults": (fault,)}})
    assert stage.play().exit is Exit.LEFT
    hit = Counter(event.event for event in read_events(stage.folder))[do]
    assert 0 < hit < 30 and stage.states("a") == {State.ACCEPTED: 30 - hit, State.IN_DOUBT: hit}
    stage.play()
    assert stage.states("a")[State.IN_DOUBT] == hit and len(stage.received()) == 30
    stage.sound()


def under_way(reply: str, **more: object) -> dict[str, object]:
    """A receiver that says `reply` to RCPT late enough for several dialogues to be under way."""
    said = Fault(do="reply", at="rcpt", reply=reply, name="said", **more)  # type: ignore[arg-type]
    return {"faults": (Fault(do="slow", at="mail", ms=300, name="slow"), said)}


def test_a_block_parks_its_provider_and_the_others_finish(make: Make) -> None:
    stage = make(
        {"a": 20, "b": 10},
        pools={"a": under_way(BLOCKED)},
        profiles={"a": {"connections": 10}, "b": {"start": 2.0, "connections": 1}},
    )
    summary = stage.play()
    assert summary.exit is Exit.PARKED and set(summary.parked) == {"a"}
    assert stage.states("b") == {State.ACCEPTED: 10}
    assert set(stage.states("a")) <= {State.PLANNED, State.DEFERRED}  # no mail is at fault
    stage.sound()


@pytest.mark.parametrize(
    "reply", ["550 5.2.1 Greylisted, come back later", "554 5.7.1 Too many messages, rate limited, slow down"]
)
def test_what_passes_by_itself_stops_no_egress_also_when_worded_as_5yz(make: Make, reply: str) -> None:
    stage = make({"a": 10}, pools={"a": under_way(reply, once=True)}, profiles={"a": {"connections": 10}})
    assert stage.play().parked == {}
    assert stage.states("a") == {State.ACCEPTED: 10}
    stage.sound()


@pytest.mark.parametrize(
    "reply", ["554 5.7.1 Relay access denied", "554 5.6.0 odd thing happened", "451 mail for x loops back to myself"]
)
@pytest.mark.parametrize("connections", [1, 8])
def test_what_is_about_the_relay_parks_it_and_fails_no_mail(make: Make, reply: str, connections: int) -> None:
    changes = {"a": {"connections": connections}}
    stage = make({"a": 40}, pools={"a": under_way(reply)}, behind_relay=True, profiles=changes)
    summary = stage.play()
    assert summary.exit is Exit.PARKED and summary.parked
    assert set(stage.states("a")) <= {State.PLANNED, State.DEFERRED}, stage.states("a")
    assert stage.decisions("parked")
    stage.sound()


def test_a_dead_mailbox_fails_alone(make: Make) -> None:
    world = World(None, count=20, provider="a")  # type: ignore[arg-type]
    gone = {row.rcpt: "550 5.1.1 no such user" for row in world.rows()[:7]}
    stage = make({"a": 20}, pools={"a": {"reject": gone}})
    assert stage.play().exit is Exit.LEFT
    assert stage.states("a") == {State.REJECTED: 7, State.ACCEPTED: 13}
    assert not {rcpt for _, rcpt in stage.received()} & set(gone)
    stage.sound()


def post(stage: Stage, kind: ControlKind, value: str = "") -> None:
    with stage.ledger.write() as conn:
        control.post(conn, kind, value=value, reason="because", who="tester", now=NOW)


def test_stop_finishes_what_is_under_way_and_the_next_run_the_rest(make_both: Make) -> None:
    stage = make_both({"a": 40}, pools={}, profiles={"a": {"start": 10.0}})

    async def stop(run: Run) -> None:
        while run.counts["accepted"] < 5:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(post, stage, ControlKind.STOP)

    summary = stage.play(stop)
    assert summary.exit is Exit.LEFT and "tester" in summary.stopped
    sent = stage.states("a")[State.ACCEPTED]
    assert 5 <= sent <= 25  # within two seconds at 10/s
    assert stage.states("a")[State.PLANNED] == 40 - sent and len(stage.received()) == sent
    stage.sound()
    stage.profiles["a"] = profile("a")
    post(stage, ControlKind.RATE, "200/s")
    assert stage.play().exit is Exit.DONE
    assert stage.states("a") == {State.ACCEPTED: 40} and len(stage.received()) == 40
    stage.sound()


def test_pause_holds_and_resume_goes_on(make: Make) -> None:
    stage = make({"a": 30}, pools={}, profiles={"a": {"start": 10.0}})
    seen: list[int] = []

    async def steer(run: Run) -> None:
        while run.counts["accepted"] < 3:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(post, stage, ControlKind.PAUSE)
        while not run.paused:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        seen.append(len(stage.received()))
        await asyncio.sleep(1.0)
        seen.append(len(stage.received()))
        await asyncio.to_thread(post, stage, ControlKind.RESUME)
        await asyncio.to_thread(post, stage, ControlKind.RATE, "100/s")

    assert stage.play(steer).exit is Exit.DONE
    assert seen[0] == seen[1] < 30
    assert stage.states("a") == {State.ACCEPTED: 30}
    stage.sound()


def test_the_receiver_sees_the_pace_that_was_promised(make_both: Make) -> None:
    stage = make_both({"a": 60}, pools={}, profiles={"a": {"start": 40.0, "rate": 40.0}}, size=60)
    stage.play()
    at = sorted(item.mail_at / 1e9 for item in read_receipts(stage.folder))
    assert len(at) == 60
    for first in range(60):
        for last in range(first, 60):
            assert last - first + 1 <= 40 * (at[last] - at[first] + 0.25) + 1


def test_the_pace_holds_for_half_a_minute(make: Make) -> None:
    mails, rate = 640, 20.0
    stage = make({"a": mails}, pools={}, profiles={"a": {"start": rate, "rate": rate}}, size=100)
    stage.play()
    at = sorted(item.mail_at / 1e9 for item in read_receipts(stage.folder))
    assert len(at) == mails
    assert at[-1] - at[0] >= 30
    assert mails / (at[-1] - at[0]) >= 0.9 * rate, "not slower than it need be either"
    for first in range(mails):
        for last in range(first, mails):
            assert last - first + 1 <= rate * (at[last] - at[first] + 0.25) + 1
