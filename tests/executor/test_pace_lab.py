"""Receivers with a limit that nobody told: how much of it a run uses, direct and behind a real Postfix.

The rules' times are scaled (15 minutes are 3 seconds, 2 hours are 24), rates are real. docs/pacing.md has the results.
"""

from __future__ import annotations

import asyncio
import json
import smtplib
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resend.clock import SystemClock
from resend.config import Config, RelayConfig
from resend.executor.connect import SmtpConnector
from resend.executor.run import Options, Run
from resend.flows import follow
from resend.lab.behaviour import Behaviour, Block, Pool, Rate
from resend.lab.mx import serve
from resend.lab.receipts import read_receipts
from resend.policy.classify import Rules
from resend.policy.routes import Route, Routes
from resend.stores.home import Home
from resend.stores.ledger import open_ledger
from resend.stores.writer import LedgerWriter
from tests.executor.test_reactions import profile, render
from tests.ledger.world import World
from tests.support.postfix import PREFIX, postfix, unavailable

FREE, LIVE = "free", "live@example.jp"


async def live_stream(address: str, per_second: float, log: Path) -> None:
    """The sender's own live mail, and the log that tells of it; the minute before is in it already."""
    host, _, port = address.rpartition(":")

    def send() -> bool:
        with smtplib.SMTP(host, int(port), local_hostname="live.example.jp") as client:
            try:
                client.sendmail(LIVE, ["r@corp.example.jp"], b"Message-ID: <live@x>\r\n\r\nx\r\n")
            except smtplib.SMTPException:
                return False
            return True

    def line(at: datetime, taken: bool) -> str:
        end = (
            "dsn=2.0.0, status=sent (250 ok)" if taken else "dsn=4.7.500, status=deferred (host said: 451 4.7.500 Busy)"
        )
        return (
            f"{at.isoformat()} mta1 postfix/smtp[7]: 8D0691D839: to=<r@corp.example.jp>, relay=mx.example.com[{host}]:"
            f"{port}, delay=0.9, delays=0.1/0/0.4/0.4, {end}\n"
        )

    now = datetime.now(UTC)
    before = [now - timedelta(seconds=60 - n / per_second) for n in range(int(60 * per_second))]
    log.write_text("".join(line(at, taken=True) for at in before))
    sent, loop = 0, asyncio.get_running_loop()
    began = loop.time()
    while True:
        await asyncio.sleep(max(0.0, began + sent / per_second - loop.time()))
        sent += 1
        taken = await asyncio.to_thread(send)
        with log.open("a") as stream:
            stream.write(line(datetime.now(UTC), taken))


async def gather_logs(logs: list[Path], into: Path) -> None:
    """One log of several relays, as a log host keeps it."""
    read = dict.fromkeys(logs, 0)
    while True:
        for log in logs:
            with log.open("rb") as source, into.open("ab") as target:
                source.seek(read[log])
                whole = source.read().rpartition(b"\n")
                target.write(whole[0] + whole[1])
                read[log] += len(whole[0] + whole[1])
        await asyncio.sleep(0.2)


@dataclass(frozen=True)
class Seen:
    """Of one pool: mails taken in the measured time, all 451s, all blocks."""

    per_second: float  # ours
    live: float
    throttled: int
    blocked: int


def measure(
    folder: Path,
    limits: dict[str, float],
    *,
    seconds: float,
    ramp: float,
    start: float,
    relay: bool,
    live: float = 0.0,
    ceiling: float = 10.0,
) -> dict[str, Seen]:
    """Run for `seconds`; the rates are those after `ramp`. `live`: mails per second of another sender's to pool a."""
    pools = {
        name: Pool(
            name=name,
            listen=(f"127.0.1.{60 + number}:0",),
            rate=Rate(per_second=limit, burst=limit * 2) if limit else None,
            block=Block(after=200) if limit else None,
        )
        for number, (name, limit) in enumerate(limits.items())
    }

    async def play() -> dict[str, Seen]:
        with ExitStack() as stack:
            ledger = stack.enter_context(open_ledger("", Home(folder / "home").create()))
            async with serve(Behaviour(pools=tuple(pools.values())), folder / "lab") as lab:
                mapped, logs = {}, []
                for name in pools:
                    host, _, port = lab.address(name).rpartition(":")
                    egress = "direct"
                    if relay:
                        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX))) / name
                        root.mkdir()
                        running = await asyncio.to_thread(
                            stack.enter_context,
                            postfix(root, {"*": f"smtp:[{host}]:{port}"}, {"enable_long_queue_ids": "yes"}),
                        )
                        logs.append(running.log)
                        host, port = "127.0.0.1", str(running.port)
                        egress = f"relay:{host}:{port}"
                    mapped[f"provider:{name}"] = Route(host, int(port), relay, egress)
                    world = World(ledger, count=int(seconds * 12), size=20, provider=name, egress=egress)
                    world.release, world.incident_id = f"release-{name}", f"inc-{name}"
                    world.start()
                async with LedgerWriter(ledger) as writer:
                    run = Run(
                        plan_id="",
                        worker="test:1",
                        writer=writer,
                        clock=SystemClock(),
                        connector=SmtpConnector(RelayConfig(), "client.example.jp"),
                        rules=Rules.load(),
                        routes=Routes(None, mapped),
                        profile=lambda name: profile(
                            name,
                            rate=ceiling,
                            start=start,
                            floor=0.1,
                            cooldown=timedelta(seconds=3),
                            clean_for=timedelta(seconds=3),
                            cap_for=timedelta(seconds=24),
                        ),
                        render=render,
                        options=Options(retry_after=timedelta(seconds=2), retry_at_most=timedelta(seconds=8)),
                    )
                    config = Config.model_validate({"tz": "UTC", "providers": {"a": {"mx": ["127.0.1.60"]}}})
                    if live:
                        logs.append(folder / "mail.log")
                        stream = asyncio.create_task(live_stream(lab.address("a"), live, logs[0]))
                    follows = []
                    if logs:
                        follows.append(asyncio.create_task(gather_logs(logs, folder / "all.log")))
                        (told,) = follow.logs(config, folder / "all.log")
                        follows.append(asyncio.create_task(follow.follow(run, ledger, config, told, anyway=False)))
                    asyncio.get_running_loop().call_later(seconds, run.stop, "measured")
                    began = run.clock.now().timestamp()
                    await run.execute()
                    if live:
                        follows.append(stream)
                    for task in follows:
                        task.cancel()
                    await asyncio.gather(*follows, return_exceptions=True)
                found = {}
                for name in pools:
                    taken = list(read_receipts(folder / "lab", name))
                    times = [item.at / 1e9 - began for item in taken if item.sender != LIVE]
                    others = [item.at / 1e9 - began for item in taken if item.sender == LIVE]
                    counts = lab.counts(name)
                    rate = sum(ramp <= at < seconds for at in times) / (seconds - ramp)
                    beside = sum(ramp <= at < seconds for at in others) / (seconds - ramp)
                    found[name] = Seen(round(rate, 3), round(beside, 3), counts.throttled, counts.blocked)
                return found

    found = asyncio.run(play())
    print(
        json.dumps({name: [seen.per_second, seen.live, seen.throttled, seen.blocked] for name, seen in found.items()})
    )
    return found


def test_a_hidden_limit_is_found_and_kept(tmp_path: Path) -> None:
    """The short one: the limit is met within seconds, the block is far, the neighbour goes on at its own rate."""
    found = measure(tmp_path, {"a": 4.0, FREE: 0.0}, seconds=12, ramp=5, start=6.0, relay=False)
    assert found["a"].throttled and not found["a"].blocked and found["a"].per_second >= 2.4
    assert found[FREE].per_second >= 6.0 * 0.95


LONG = {"a": 2.5, "b": 5.0, FREE: 0.0}


@pytest.mark.nightly
@pytest.mark.parametrize("relay", [False, pytest.param(True, marks=pytest.mark.postfix)])
def test_of_a_hidden_limit_85_percent_are_used_after_the_ramp(tmp_path: Path, relay: bool) -> None:
    if relay and unavailable():
        pytest.skip(unavailable())
    seconds, ramp, start = (95, 60, 2.0) if relay else (240, 110, 1.0)
    found = measure(tmp_path, LONG, seconds=seconds, ramp=ramp, start=start, relay=relay)
    for name, limit in LONG.items():
        assert found[name].per_second >= 0.85 * (limit or 10.0) and not found[name].blocked


@pytest.mark.nightly
def test_while_live_mail_takes_half_of_the_limit_the_resend_takes_the_rest(tmp_path: Path) -> None:
    found = measure(tmp_path, {"a": 5.0, FREE: 0.0}, seconds=60, ramp=15, start=5.0, relay=False, live=2.5, ceiling=5.0)
    assert 0.85 * 2.5 <= found["a"].per_second <= 2.5 * 1.05 and found["a"].live >= 2.5 * 0.95
    assert not found["a"].throttled and found[FREE].per_second >= 5.0 * 0.95
