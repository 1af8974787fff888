"""The receiving side: pools of fault-injecting SMTP servers on 127.0.1.x that write a receipt for each accepted body.

Run as `python -m resend.lab.mx --behaviour FILE --receipts DIR` (one JSON line when ready, SIGTERM stops cleanly), or
in process with `async with serve(behaviour, directory) as lab`. The 250 after the dot is sent only when the receipt is
on disk. Never listens outside 127.0.0.0/8, never relays. Raises InputError for a bad behaviour, ConnectError for a port
that is taken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from resend.errors import ResendError
from resend.lab.behaviour import Behaviour, Fault, Pool
from resend.lab.receipts import Journal
from resend.lab.smtpd import GO, Answer, Listener, Session, Step


@dataclass(slots=True)
class Counts:
    """What one pool did so far."""

    connections: int = 0
    open: int = 0
    peak: int = 0
    mails: int = 0  # MAIL commands
    accepted: int = 0  # receipts
    refused: int = 0
    throttled: int = 0
    blocked: int = 0
    dropped: int = 0


class PoolDesk:
    """Decides for all sessions of one pool."""

    def __init__(self, pool: Pool, seed: int, journal: Journal, bodies: Path | None = None) -> None:
        self.pool, self.counts = pool, Counts()
        self._seed, self._journal, self._bodies = seed, journal, bodies
        self.max_size = next((int(word[5:]) for word in pool.announce if word.startswith("SIZE ")), 1 << 30)
        self._tokens = pool.rate.burst if pool.rate else 0.0
        self._refilled = time.monotonic()
        self._ignored, self._last_busy, self._blocked_until = 0, 0.0, 0.0
        self._seen: dict[tuple[str, str], float] = {}
        self._hit: set[tuple[str, str]] = set()
        self._faults = {stage: [f for f in pool.faults if f.at == stage] for stage in {f.at for f in pool.faults}}
        self._counted: set[int] = set()

    def close(self) -> None:
        self._journal.close()

    # what a session asks

    def opened(self, session: Session) -> Step:
        self.counts.connections += 1
        limit = self.pool.connections
        if limit is not None and self.counts.open >= limit.limit:
            return self._refuse(session, "connection_limit", "connect", "", limit.reply, close=True)
        self.counts.open += 1
        self._counted.add(session.number)
        self.counts.peak = max(self.counts.peak, self.counts.open)
        self._event(session, "connect", "connect", "", "")
        hello = Step(f"220 {self.pool.hostname} ESMTP ready")
        return self._with_faults(session, "connect", f"#{session.number}", hello)

    def ehlo(self, session: Session) -> Step:
        lines = [f"250 {self.pool.hostname}", *(f"250 {word}" for word in self.pool.announce)]
        return self._with_faults(session, "ehlo", f"#{session.number}", Step("\n".join(lines)))

    def mail(self, session: Session, sender: str, params: str) -> Step:
        self.counts.mails += 1
        session.mail_at = time.time_ns()
        limit = self.pool.session
        if limit is not None and session.accepted >= limit.mails:
            return self._refuse(session, "session_limit", "mail", "", limit.reply)
        if refused := self._over_rate(session, "mail", ""):
            return refused
        for word in params.split():
            if word.startswith("SIZE=") and word[5:].isdecimal() and int(word[5:]) > self.max_size:
                return self._refuse(session, "size", "mail", "", "552 5.3.4 Message size exceeds fixed limit")
        return self._with_faults(session, "mail", f"#{self.counts.mails}", Step("250 2.1.0 Ok"))

    def rcpt(self, session: Session, rcpt: str) -> Step:
        if refused := self._over_rate(session, "rcpt", rcpt):
            return refused
        if not rcpt.isascii() and "SMTPUTF8" not in self.pool.announce:
            return self._refuse(session, "rejected", "rcpt", rcpt, "553 5.6.7 Address requires SMTPUTF8")
        if reply := self.pool.reject.get(rcpt):
            return self._refuse(session, "rejected", "rcpt", rcpt, reply)
        grey = self.pool.greylist
        if grey is not None:
            now = time.monotonic()
            first = self._seen.setdefault((session.sender or "", rcpt), now)
            if now - first < grey.seconds:
                return self._refuse(session, "greylisted", "rcpt", rcpt, grey.reply, seconds=f"{grey.seconds:g}")
        return self._with_faults(session, "rcpt", rcpt, Step("250 2.1.5 Ok"))

    def data(self, session: Session) -> Step:
        return self._with_faults(session, "data", session.rcpts[0], Step("354 End data with <CR><LF>.<CR><LF>"))

    def body_begins(self, session: Session) -> Step:
        return self._with_faults(session, "body", session.rcpts[0], GO)

    def accept(self, session: Session, body: bytes, answer: Answer) -> None:
        rcpt = session.rcpts[0]
        refused = self._over_rate(session, "dot", rcpt)
        if len(body) > self.max_size:
            refused = self._refuse(session, "size", "dot", rcpt, "552 5.3.4 Message too big")
        fault = None if refused else self._fault("dot", rcpt)
        if fault is not None and fault.do != "slow" and not fault.accepted:
            refused = self._planted(session, fault, rcpt)
        if refused is not None:
            answer(refused)
            return
        session.accepted += 1
        self.counts.accepted += len(session.rcpts)
        wait = fault.ms if fault is not None and fault.do == "slow" else 0.0
        planted = self._planted(session, fault, rcpt) if fault is not None and fault.do != "slow" else None
        self.store(
            session, body, lambda reply: answer(planted or Step(reply, "go", wait)), dropped_reply=planted is not None
        )

    def store(self, session: Session, body: bytes, stored: Callable[[str], None], *, dropped_reply: bool) -> None:
        """Make the body durable for all its recipients, then call `stored` with the reply."""
        digest = sha256(body).hexdigest()
        if self._bodies is not None:
            self._keep(digest, body)
        lines = b"".join(self._receipt(session, rcpt, digest, body, dropped_reply) for rcpt in session.rcpts)
        self._journal.add(lines, lambda: stored(f"250 2.0.0 Ok: queued as {digest[:12].upper()}"))

    def closed(self, session: Session, stage: str) -> None:
        if session.number in self._counted:
            self._counted.discard(session.number)
            self.counts.open -= 1
        self._event(session, "close" if session.hung_up else "lost", stage, "", "")

    # how it decides

    def _over_rate(self, session: Session, stage: str, rcpt: str) -> Step | None:
        rate, block = self.pool.rate, self.pool.block
        if rate is None or rate.at != stage:
            return None
        now = time.monotonic()
        if block is not None and now < self._blocked_until:
            self.counts.blocked += 1
            return self._refuse(session, "blocked", stage, rcpt, block.reply)
        self._tokens = min(max(rate.burst, 1.0), self._tokens + (now - self._refilled) * rate.per_second)
        self._refilled = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return None
        self.counts.throttled += 1
        if block is not None:
            self._ignored = 1 if now - self._last_busy > block.reset_s else self._ignored + 1
            if self._ignored > block.after:
                self._blocked_until = now + block.for_s
                self._ignored = 0
        self._last_busy = now
        return self._refuse(session, "throttled", stage, rcpt, rate.reply)

    def _fault(self, stage: str, key: str) -> Fault | None:
        for fault in self._faults.get(stage, ()):
            if fault.chosen(self._seed, key):
                if fault.once:
                    if (fault.name, key) in self._hit:
                        continue
                    self._hit.add((fault.name, key))
                return fault
        return None

    def _with_faults(self, session: Session, stage: str, key: str, normal: Step) -> Step:
        fault = self._fault(stage, key)
        if fault is None:
            return normal
        if fault.do == "slow":
            return Step(normal.reply, normal.then, fault.ms)
        return self._planted(session, fault, "" if key.startswith("#") else key)

    def _planted(self, session: Session, fault: Fault, rcpt: str) -> Step:
        reply = _fill(fault.reply, session, rcpt)
        self._event(session, fault.do, fault.at, rcpt, reply)
        match fault.do:
            case "drop":
                self.counts.dropped += 1
                return Step("", "drop")
            case "silence":
                return Step("", "hang")
            case "garbage":
                return Step(reply or "\x00\x01 not a reply\r\n", "go", 0, raw=True)
            case _:
                self.counts.refused += 1
                return Step(reply, "close" if reply.startswith("421") else "go", fault.ms)

    def _refuse(
        self, session: Session, event: str, stage: str, rcpt: str, reply: str, *, close: bool = False, seconds: str = ""
    ) -> Step:
        self.counts.refused += 1
        reply = _fill(reply, session, rcpt, seconds)
        self._event(session, event, stage, rcpt, reply)
        return Step(reply, "close" if close or reply.startswith("421") else "go")

    # what it writes

    def _event(self, session: Session, event: str, stage: str, rcpt: str, reply: str) -> None:
        line = {
            "at": time.time_ns(),
            "pool": self.pool.name,
            "connection": session.number,
            "event": event,
            "stage": stage,
            "sender": session.sender or "",
            "rcpt": rcpt,
            "reply": reply,
        }
        self._journal.note(json.dumps(line).encode() + b"\n")

    def _receipt(self, session: Session, rcpt: str, digest: str, body: bytes, dropped: bool) -> bytes:
        line = {
            "at": time.time_ns(),
            "mail_at": session.mail_at,
            "pool": self.pool.name,
            "local": session.local,
            "peer": session.peer,
            "connection": session.number,
            "sender": session.sender or "",
            "rcpt": rcpt,
            "sha256": digest,
            "message_id": message_id(body),
            "size": len(body),
            "clean": b"\0" not in body and body.count(b"\r\n") == body.count(b"\n") == body.count(b"\r"),
            "dropped_reply": dropped,
        }
        return json.dumps(line).encode() + b"\n"

    def _keep(self, digest: str, body: bytes) -> None:
        assert self._bodies is not None
        path = self._bodies / f"{digest}.eml"
        if not path.exists():
            path.write_bytes(body)


def message_id(body: bytes) -> str:
    """The Message-ID of the header block as it stands there, unfolded; "" if there is none."""
    head = b"\r\n" + body[: body.find(b"\r\n\r\n") + 2 if b"\r\n\r\n" in body else len(body)]
    start = head.lower().find(b"\r\nmessage-id:")
    if start < 0:
        return ""
    start += len(b"\r\nmessage-id:")
    end = head.find(b"\r\n", start)
    while end >= 0 and head[end + 2 : end + 3] in (b" ", b"\t"):
        end = head.find(b"\r\n", end + 2)
    return head[start : end if end >= 0 else len(head)].replace(b"\r\n", b"").strip().decode("utf-8", "replace")


def _fill(reply: str, session: Session, rcpt: str, seconds: str = "") -> str:
    if "{" not in reply:
        return reply
    peer = session.peer.rpartition(":")[0]
    return reply.replace("{peer}", peer).replace("{rcpt}", rcpt).replace("{seconds}", seconds)


class Lab:
    """A running lab: where its pools listen and what they counted."""

    def __init__(self, directory: Path, desks: dict[str, PoolDesk]) -> None:
        self.directory = directory
        self._desks = desks
        self.addresses: dict[str, list[str]] = {name: [] for name in desks}

    def counts(self, pool: str) -> Counts:
        return self._desks[pool].counts

    def address(self, pool: str) -> str:
        """The first HOST:PORT of a pool."""
        return self.addresses[pool][0]


@asynccontextmanager
async def serve(behaviour: Behaviour, directory: Path) -> AsyncIterator[Lab]:
    """Serve all pools until the block ends; receipts and events go to files in `directory`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if behaviour.keep_bodies:
        (directory / "bodies").mkdir(mode=0o700, exist_ok=True)
    loop = asyncio.get_running_loop()
    bodies = directory / "bodies" if behaviour.keep_bodies else None
    desks = {}
    for pool in behaviour.pools:
        notes = directory / f"{pool.name}.events.jsonl"
        journal = Journal(directory / f"{pool.name}.receipts.jsonl", loop, notes=notes)
        desks[pool.name] = PoolDesk(pool, behaviour.seed, journal, bodies)
    listeners = {name: Listener(desk, loop) for name, desk in desks.items()}
    lab = Lab(directory, desks)
    try:
        for pool in behaviour.pools:
            for address in pool.listen:
                lab.addresses[pool.name].append(await listeners[pool.name].listen(address))
        yield lab
    finally:
        for listener in listeners.values():
            listener.close()
        for desk in desks.values():
            desk.close()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run a lab server on the fastest loop there is; its exit code. What it may not do is one line on stderr."""
    try:
        try:
            import uvloop
        except ImportError:
            asyncio.run(main())
        else:
            uvloop.run(main())
    except ResendError as error:
        print(error.line(), file=sys.stderr)
        return int(error.exit)
    return 0


async def until_stopped() -> None:
    """Wait for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m resend.lab.mx", description="fault-injecting SMTP receivers")
    parser.add_argument("--behaviour", type=Path, required=True, metavar="FILE")
    parser.add_argument("--receipts", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()

    async def main() -> None:
        async with serve(Behaviour.load(options.behaviour), options.receipts) as lab:
            print(json.dumps({"type": "ready", "v": 1, "pid": os.getpid(), "pools": lab.addresses}), flush=True)
            await until_stopped()

    return run(main)


if __name__ == "__main__":
    raise SystemExit(_main())
