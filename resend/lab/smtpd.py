"""The server's half of an SMTP session on a raw transport: reads commands and bodies, asks a Desk what to answer.

Answers in order, one step at a time (pipelined commands wait while a step is open). It decides nothing, stores nothing
and knows no provider. Lines end with CRLF only; a body ends with CRLF.CRLF only.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from resend.errors import ConnectError
from resend.lab.behaviour import split_address

_MAX_LINE = 4096  # octets; RFC 5321 4.5.3.1.4 asks for 512, with extensions more
_PATH = re.compile(rb"^(FROM|TO):\s*<([^<>]*)>((?:\s+\S+)*)\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Step:
    """What happens next: `reply` text lines joined by newline ("" none, `raw` sends it without CRLF rules), then `then`
    one of go, close (after the reply), drop (at once), hang (no answer, ever)."""

    reply: str = ""
    then: str = "go"
    wait_ms: float = 0.0
    raw: bool = False


GO = Step()
Answer = Callable[[Step], None]


class Desk(Protocol):
    """Decides. A Step with a reply that does not start with 2 (3 for data) refuses what was asked."""

    max_size: int

    def opened(self, session: Session) -> Step: ...
    def ehlo(self, session: Session) -> Step: ...
    def mail(self, session: Session, sender: str, params: str) -> Step: ...
    def rcpt(self, session: Session, rcpt: str) -> Step: ...
    def data(self, session: Session) -> Step: ...
    def body_begins(self, session: Session) -> Step: ...
    def accept(self, session: Session, body: bytes, answer: Answer) -> None: ...
    def closed(self, session: Session, stage: str) -> None: ...


class Session(asyncio.Protocol):
    """One connection. `sender`, `rcpts` are of the mail under way; `number` counts connections of the desk."""

    def __init__(self, desk: Desk, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.desk, self.number, self._loop = desk, number, loop
        self.peer = self.local = self.helo = ""
        self.sender: str | None = None
        self.rcpts: list[str] = []
        self.mail_at = 0  # ns since 1970, set by the desk
        self.accepted = 0
        self.hung_up = False  # we ended the connection, not the peer
        self._buffer = bytearray()
        self._busy = self._gone = self._in_body = self._begun = False
        self._scan = 0
        self._stage = "connect"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass of it
        self.peer = host_port(transport.get_extra_info("peername"))
        self.local = host_port(transport.get_extra_info("sockname"))
        self._take("connect", self.desk.opened(self))

    def cut(self) -> None:
        """End the connection now, whatever is under way."""
        self._take(self._stage, Step("", "drop"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self.desk.closed(self, self._stage)

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._read()

    def _read(self) -> None:
        while not self._busy and not self._gone:
            if self._in_body:
                if not self._read_body():
                    return
                continue
            end = self._buffer.find(b"\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_LINE:
                    self._take(self._stage, Step("500 5.5.2 Line too long", "close"))
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            self._command(line)

    def _command(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        match verb.upper():
            case b"MAIL":
                self._take("mail", self._mail(rest))
            case b"RCPT":
                self._take("rcpt", self._rcpt(rest))
            case b"DATA":
                self._take("data", self._data())
            case b"EHLO" | b"HELO":
                self.helo = rest.decode("utf-8", "replace").strip()
                self._reset()
                self._take("ehlo", self.desk.ehlo(self))
            case b"RSET":
                self._reset()
                self._take("rset", Step("250 2.0.0 Ok"))
            case b"NOOP":
                self._take("noop", Step("250 2.0.0 Ok"))
            case b"QUIT":
                self._take("quit", Step("221 2.0.0 Bye", "close"))
            case _:
                self._take(self._stage, Step("502 5.5.2 Error: command not recognized"))

    def _mail(self, rest: bytes) -> Step:
        found = _PATH.match(rest)
        if found is None or found[1].upper() != b"FROM":
            return Step("501 5.5.4 Syntax: MAIL FROM:<address>")
        if self.sender is not None:
            return Step("503 5.5.1 Error: nested MAIL command")
        sender = found[2].decode("utf-8", "surrogateescape")
        step = self.desk.mail(self, sender, found[3].decode("ascii", "replace").upper())
        if step.reply.startswith("2"):
            self.sender = sender
        return step

    def _rcpt(self, rest: bytes) -> Step:
        found = _PATH.match(rest)
        if self.sender is None:
            return Step("503 5.5.1 Error: need MAIL command")
        if found is None or found[1].upper() != b"TO" or not found[2]:
            return Step("501 5.5.4 Syntax: RCPT TO:<address>")
        rcpt = found[2].decode("utf-8", "surrogateescape")
        step = self.desk.rcpt(self, rcpt)
        if step.reply.startswith("2"):
            self.rcpts.append(rcpt)
        return step

    def _data(self) -> Step:
        if not self.rcpts:
            return Step("554 5.5.1 Error: no valid recipients")
        step = self.desk.data(self)
        if step.reply.startswith("3"):
            self._in_body, self._begun, self._scan = True, False, 0
        return step

    def _read_body(self) -> bool:
        """Take the body if all of it is here. False: more bytes are needed."""
        buffer = self._buffer
        if not self._begun and buffer:
            self._begun = True
            step = self.desk.body_begins(self)
            if step is not GO:
                self._take("body", step)
                return True
        if buffer.startswith(b".\r\n"):
            body, used = b"", 3
        else:
            end = buffer.find(b"\r\n.\r\n", self._scan)
            if end < 0:
                self._scan = max(0, len(buffer) - 4)
                if len(buffer) > 2 * self.desk.max_size:
                    self._take("body", Step("", "drop"))
                return False
            body, used = bytes(buffer[: end + 2]), end + 5
            if b"\r\n." in body or body.startswith(b"."):
                body = (b"\r\n" + body).replace(b"\r\n.", b"\r\n")[2:]
        del buffer[:used]
        self._in_body, self._busy, self._stage = False, True, "dot"
        self.desk.accept(self, body, self._after_dot)
        return True

    def _after_dot(self, step: Step) -> None:
        self._reset()
        self._busy = False
        self._take("dot", step)
        self._read()

    def _reset(self) -> None:
        self.sender = None
        self.rcpts = []

    def _take(self, stage: str, step: Step) -> None:
        self._stage = stage
        if self._gone:
            return
        if step.then == "drop":
            self._gone = self.hung_up = True
            self._transport.abort()
        elif step.then == "hang":
            self._busy = True
        elif step.wait_ms > 0:
            self._busy = True
            self._loop.call_later(step.wait_ms / 1000, self._resume, stage, Step(step.reply, step.then, 0, step.raw))
        else:
            if step.reply:
                self._transport.write(step.reply.encode("utf-8", "surrogateescape") if step.raw else wire(step.reply))
            if step.then == "close":
                self._gone = self.hung_up = True
                self._transport.close()

    def _resume(self, stage: str, step: Step) -> None:
        self._busy = False
        self._take(stage, step)
        self._read()


class Listener:
    """The open sockets and sessions of one desk."""

    def __init__(self, desk: Desk, loop: asyncio.AbstractEventLoop) -> None:
        self._desk, self._loop = desk, loop
        self._numbers = itertools.count(1)
        self._servers: list[asyncio.Server] = []
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()

    async def listen(self, address: str) -> str:
        """Serve at a loopback HOST:PORT; returns it with the real port. Raises ConnectError if it is taken."""
        host, port = split_address(address)
        try:
            server = await self._loop.create_server(self._session, host, port, backlog=1024)
        except OSError as error:
            raise ConnectError(f"cannot listen: {error.strerror or error}", where=address) from None
        self._servers.append(server)
        return host_port(server.sockets[0].getsockname())

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for session in list(self._sessions):
            session.cut()

    def _session(self) -> Session:
        session = Session(self._desk, next(self._numbers), self._loop)
        self._sessions.add(session)
        return session


def host_port(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def wire(reply: str) -> bytes:
    """Reply lines joined by newline, each with its code, to bytes: the dash of all but the last line is set here."""
    lines = reply.split("\n")
    marked = [line[:3] + "-" + line[4:] for line in lines[:-1]] + lines[-1:]
    return ("\r\n".join(marked) + "\r\n").encode("utf-8", "surrogateescape")
