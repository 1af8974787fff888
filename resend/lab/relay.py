"""A lab relay: takes mail into its own fsynced queue, answers `250 2.0.0 Ok: queued as QID`, and relays it to pools.

It logs what Postfix would log, to a file that can be followed. Its receiving side is a pool like any other, with the
same faults; a line dropped after an accepted dot leaves the mail in the queue. Run as `python -m resend.lab.relay
--relay FILE --queue DIR --log FILE`, or in process with `serve_relay`. A queue survives a restart. Relays to loopback
only. Raises InputError for a bad description, ConnectError for a port that is taken.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import heapq
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resend.errors import InputError
from resend.lab.behaviour import Behaviour, Pool, split_address
from resend.lab.client import Client, Failure
from resend.lab.livelog import LiveLog
from resend.lab.mx import PoolDesk, message_id, run, until_stopped
from resend.lab.receipts import Journal
from resend.lab.smtpd import Listener, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayBehaviour:
    """The relay as data. `routes`: domain or "*" to HOST:PORT; `names`: HOST:PORT to the name it is logged with."""

    seed: int
    smtpd: Pool
    routes: dict[str, str]
    names: dict[str, str]
    host: str = "relay1"
    bsd_times: bool = False
    connections: int = 4
    backoff_s: float = 0.5  # doubles up to max_backoff_s
    max_backoff_s: float = 4.0
    lifetime_s: float = 60.0

    @classmethod
    def from_json(cls, document: Any, *, where: str = "relay") -> RelayBehaviour:
        """`{"seed", "smtpd": {...Pool...}, "routes": {}, "names": {}, "host", "bsd_times", "connections", ...}`."""
        if not isinstance(document, dict) or "smtpd" not in document or "routes" not in document:
            raise InputError("a relay needs smtpd and routes", where=where)
        values: dict[str, Any] = {"seed": 1, "names": {}} | document
        values["smtpd"] = Behaviour.from_json({"pools": {"relay": document["smtpd"]}}, where=where).pools[0]
        for address in (*values["routes"].values(), *values["names"]):
            split_address(address, where)
        unknown = values.keys() - set(cls.__slots__)
        if unknown:
            raise InputError(
                f"unknown key {min(unknown)!r}", where=where, next_step=f"known: {', '.join(cls.__slots__)}"
            )
        return cls(**values)

    @classmethod
    def load(cls, path: Path) -> RelayBehaviour:
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")), where=str(path))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"cannot read the relay: {error}", where=str(path)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """One mail in the relay's queue, for one recipient. Times in seconds since 1970."""

    qid: str
    arrival: float
    sender: str
    rcpt: str
    message_id: str
    body: bytes
    tries: int = 0


class Relay(PoolDesk):
    """The desk that queues, and the deliverers behind it."""

    def __init__(self, behaviour: RelayBehaviour, queue: Path, log: Path, loop: asyncio.AbstractEventLoop) -> None:
        queue.mkdir(mode=0o700, parents=True, exist_ok=True)
        waiting, lines = _read_queue(queue / "queue.jsonl")
        journal = Journal(queue / "queue.jsonl", loop, notes=queue / "relay.events.jsonl")
        super().__init__(behaviour.smtpd, behaviour.seed, journal)
        self.behaviour, self.address = behaviour, ""
        self._log = LiveLog(log, behaviour.host, bsd=behaviour.bsd_times)
        self._heap: list[tuple[float, int, Queued]] = []
        self._order = lines
        self._more = asyncio.Event()
        self._pending = 0
        for mail in waiting:
            self._schedule(mail, time.time())
        self._workers = [loop.create_task(self._work()) for _ in range(behaviour.connections)]

    @property
    def pending(self) -> int:
        """Mails that are neither delivered nor returned."""
        return self._pending

    def store(self, session: Session, body: bytes, stored: Callable[[str], None], *, dropped_reply: bool) -> None:
        now = time.time()
        mails = [self._queued(session.sender or "", rcpt, body, now) for rcpt in session.rcpts]
        lines = b"".join(_add_line(mail) for mail in mails)

        def durable() -> None:
            peer = session.peer.rpartition(":")[0]
            for mail in mails:
                self._log.queued(
                    mail.qid, session.helo or "unknown", peer, mail.message_id, mail.sender, len(mail.body)
                )
                self._schedule(mail, now)
            stored(f"250 2.0.0 Ok: queued as {mails[0].qid}")

        self._journal.add(lines, durable)

    def opened(self, session: Session) -> Any:
        self._log.say("smtpd", f"connect from localhost[{session.peer.rpartition(':')[0]}]")
        return super().opened(session)

    def closed(self, session: Session, stage: str) -> None:
        peer = session.peer.rpartition(":")[0]
        if not session.hung_up:
            self._log.say("smtpd", f"lost connection after {stage.upper()} from localhost[{peer}]")
        self._log.say("smtpd", f"disconnect from localhost[{peer}]")
        super().closed(session, stage)

    async def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self.close()
        self._log.close()

    def _queued(self, sender: str, rcpt: str, body: bytes, now: float) -> Queued:
        self._order += 1
        qid = f"{int(now * 1e6) % (1 << 20):05X}{self._order % (1 << 20):05X}"
        return Queued(qid=qid, arrival=now, sender=sender, rcpt=rcpt, message_id=message_id(body), body=body)

    def _schedule(self, mail: Queued, due: float) -> None:
        if mail.tries == 0:
            self._pending += 1
        self._order += 1
        heapq.heappush(self._heap, (due, self._order, mail))
        self._more.set()

    async def _next(self) -> Queued:
        while True:
            now = time.time()
            if self._heap and self._heap[0][0] <= now:
                return heapq.heappop(self._heap)[2]
            self._more.clear()
            wait = self._heap[0][0] - now if self._heap else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), wait)

    async def _work(self) -> None:
        clients: dict[str, Client] = {}
        try:
            while True:
                mail = await self._next()
                await self._deliver(mail, clients)
        finally:
            for client in clients.values():
                client.close()

    async def _deliver(self, mail: Queued, clients: dict[str, Client]) -> None:
        domain = mail.rcpt.rpartition("@")[2].lower()
        target = self.behaviour.routes.get(domain) or self.behaviour.routes.get("*", "")
        if not target:
            failure = Failure("5.4.4", f"unable to look up host {domain}: no route", permanent=True, connected=False)
            self._failed(mail, "none", failure)
            return
        host, port = split_address(target)
        name = self.behaviour.names.get(target, host)
        relay = f"{name}[{host}]:{port}"
        client = clients.setdefault(target, Client(host, port, f"{name}[{host}]", self.behaviour.smtpd.hostname))
        began = time.time()
        try:
            dsn, text = await client.send(mail.sender, mail.rcpt, mail.body)
        except Failure as failure:
            self._failed(mail, relay if failure.connected else "none", failure)
        else:
            self._log.attempt(mail.qid, mail.rcpt, relay, mail.arrival, began, dsn, "sent", text)
            self._done(mail, "sent")

    def _failed(self, mail: Queued, relay: str, failure: Failure) -> None:
        status = "bounced" if failure.permanent else "deferred"
        self._log.attempt(mail.qid, mail.rcpt, relay, mail.arrival, time.time(), failure.dsn, status, failure.text)
        if failure.permanent:
            self._give_back(mail, "bounced")
        elif time.time() - mail.arrival >= self.behaviour.lifetime_s:
            self._log.say("qmgr", f"{mail.qid}: from=<{mail.sender}>, status=expired, returned to sender")
            self._give_back(mail, "expired")
        else:
            wait = min(self.behaviour.max_backoff_s, self.behaviour.backoff_s * 2**mail.tries)
            self._schedule(replace(mail, tries=mail.tries + 1), time.time() + wait)

    def _give_back(self, mail: Queued, how: str) -> None:
        if mail.sender:
            self._order += 1
            note = f"{int(time.time() * 1e6) % (1 << 20):05X}{self._order % (1 << 20):05X}"
            self._log.notified(mail.qid, note, mail.sender)
        self._done(mail, how)

    def _done(self, mail: Queued, how: str) -> None:
        self._pending -= 1
        self._log.say("qmgr", f"{mail.qid}: removed")
        self._journal.add(json.dumps({"op": "done", "qid": mail.qid, "how": how}).encode() + b"\n", lambda: None)


def _add_line(mail: Queued) -> bytes:
    row = {"op": "add", "qid": mail.qid, "arrival": mail.arrival, "sender": mail.sender, "rcpt": mail.rcpt}
    row |= {"message_id": mail.message_id, "body": base64.b64encode(mail.body).decode()}
    return json.dumps(row).encode() + b"\n"


def _read_queue(path: Path) -> tuple[list[Queued], int]:
    """What is still queued, and how many lines the queue file has."""
    waiting: dict[str, Queued] = {}
    lines = 0
    if path.exists():
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            lines += 1
            row = json.loads(line)
            if row.pop("op") == "add":
                waiting[row["qid"]] = Queued(**row | {"body": base64.b64decode(row["body"])})
            else:
                waiting.pop(row["qid"], None)
    return list(waiting.values()), lines


@asynccontextmanager
async def serve_relay(behaviour: RelayBehaviour, queue: Path, log: Path) -> AsyncIterator[Relay]:
    """Run a relay until the block ends. Its `address` is HOST:PORT."""
    loop = asyncio.get_running_loop()
    relay = Relay(behaviour, queue, log, loop)
    listener = Listener(relay, loop)
    try:
        relay.address = await listener.listen(behaviour.smtpd.listen[0])
        yield relay
    finally:
        listener.close()
        await relay.stop()


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m resend.lab.relay", description="a lab relay with a Postfix-like log"
    )
    parser.add_argument("--relay", type=Path, required=True, metavar="FILE")
    parser.add_argument("--queue", type=Path, required=True, metavar="DIR")
    parser.add_argument("--log", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()

    async def main() -> None:
        async with serve_relay(RelayBehaviour.load(options.relay), options.queue, options.log) as relay:
            ready = {"type": "ready", "v": 1, "pid": os.getpid(), "address": relay.address, "log": str(options.log)}
            print(json.dumps(ready), flush=True)
            await until_stopped()

    return run(main)


if __name__ == "__main__":
    raise SystemExit(_main())
