"""The logs that a run follows: what relays of ours say of the mail they took, and the sender's own live mail.

Each log tells of certain egresses: tries of others are not looked for in it, and its live mail slows down no other.
Writes fates through the run's writer. Raises nothing: what breaks ends the run.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resend.clock import format_duration, from_micros, to_micros
from resend.collect.tail import LogTail
from resend.config import Config
from resend.executor.run import Run
from resend.linker.live import LiveTraffic
from resend.linker.reconcile import FateTracker
from resend.policy.providers import ProviderTable
from resend.policy.routes import relay_log, routes
from resend.stores import fates
from resend.stores.ledger import Ledger
from resend.stores.transitions import FateChange
from resend.stores.unsettled import Unsettled, unsettled

_FOLLOW_S = 0.5
_LAST_WORD_S = 5.0  # what the relay's log says this soon after the last mail still belongs to the run
_LIVE_S = 1.0
_RACE_S = 10.0  # a 250 is durable within this time of the relay's own log line
_READS = threading.Lock()  # logs are read with what a process has once (collect/parse)


@dataclass(frozen=True, slots=True)
class Log:
    """One log and the egresses that it tells of. `rest`: of those too that are no longer in the config."""

    path: Path
    egresses: frozenset[str]
    known: frozenset[str]  # all of the config
    rest: bool

    def tells_of(self, egress: str) -> bool:
        return egress in self.egresses or (self.rest and egress not in self.known)


def logs(config: Config, follow: Path | None) -> list[Log]:
    """What is to be followed; `follow` stands in the place of `[relay] log`."""
    known, rest = routes(config), follow or relay_log(config)
    return [Log(path, names, known.names(), path == rest) for path, names in known.logs(rest).items()]


async def follow(running: Run, ledger: Ledger, config: Config, log: Log, *, anyway: bool) -> None:
    """Read a log as it grows, move fates on, and let live mail go first. A lost log pauses the run.

    `anyway`: a person has said why it is sent though the provider still refuses; live deferrals park nothing then.
    """
    tail = LogTail(log.path, tz=config.tz)
    tracker = FateTracker(config.collect.own_relays)
    live = LiveTraffic(
        ProviderTable.load(config.providers).of,
        frozenset({"127.0.0.1", "::1", *config.collect.own_relays}),
        hold_us=int(_RACE_S * 1e6) if routes(config).relays() & log.egresses else 0,
    )
    source = f"{socket.gethostname()}:{log.path.resolve()}"  # two runs of one host that follow it tell it once
    waiting: dict[str, float] = {}  # queue ids that the relay named before our 250 was durable
    read = told = running.clock.monotonic()
    most = config.run.max_evidence_age
    try:
        while True:
            events = await asyncio.to_thread(_poll, tail)
            now = running.clock.monotonic()
            if log.path.exists():
                read = now
            old = now - read > most.total_seconds()
            running.knows(f"{log.path} was not there for {format_duration(most)}" if old else "", f"log {log.path}")
            found = tracker.feed(events)
            waiting = {qid: until for qid, until in waiting.items() if until > now}
            waiting |= {str(event["qid"]): now + _RACE_S for event in events if event["qid"]}
            if waiting:
                tries = await asyncio.to_thread(_tries, ledger, log, sorted(waiting))
                found += tracker.watch(tries)
                for known in tries:
                    waiting.pop(known.remote_qid, None)
            for item in found:
                change = FateChange(key=item.key, fate=item.fate, at=from_micros(item.at_us), reply=item.reply)
                running.write(change)
                running.fated(item.key, item.fate, item.reply)
            clock = to_micros(running.clock.now())
            live.feed(events, clock)
            if now - told >= _LIVE_S:
                told = now
                seen = live.now(clock, tracker.followed)
                rates = {name: (rate, "" if anyway else why) for name, (rate, why) in seen.items()}
                running.live(rates, log.egresses, log=source)
            if not events:
                await asyncio.sleep(_FOLLOW_S)
    except Exception as error:
        running.fail(error)


async def last_word(running: Run, plan_id: str) -> None:
    """Give the relays' logs a moment to tell of the last mails; what they keep is for `reconcile`."""
    if not (running.counts["accepted"] and any(lane.feedback for lane in running.lanes.values())):
        return
    until = running.clock.monotonic() + _LAST_WORD_S
    while running.clock.monotonic() < until and running.error is None and not running.stopped:
        if not await running.writer.call(lambda conn: fates.unheard(conn, plan_id=plan_id)):
            return
        await asyncio.sleep(_FOLLOW_S / 2)


def _poll(tail: LogTail) -> list[dict[str, Any]]:
    with _READS:
        return tail.poll()


def _tries(ledger: Ledger, log: Log, qids: list[str]) -> list[Unsettled]:
    with ledger.read() as conn:
        return [item for item in unsettled(conn, qids=qids) if log.tells_of(item.egress)]
