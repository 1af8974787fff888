"""One SMTP session after its greeting: lines out, their replies back in order, a body. Sends nothing on its own.

aiosmtplib makes the connection (TLS, EHLO, AUTH); the dialogue is ours, because the library cannot say whether the dot
left. Several lines may be under way at once (RFC 2920); replies come in their order. Bytes that nobody asked for end
the session. Raises Lost, Silent or Garbled: what came of the last thing sent is then not known to this session, and the
caller knows what that means.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import cast

from resend.executor import replies
from resend.executor.replies import Garbage
from resend.model import Reply

# RFC 5321 4.5.3.2, seconds.
MAIL_S, RCPT_S, DATA_S, DOT_S, QUIT_S = 300.0, 300.0, 120.0, 600.0, 5.0
_BODY_S = 180.0  # for the body to leave, per RFC 5321 4.5.3.2.5
_LEADING_DOT = re.compile(rb"(?m)^\.")
_FEW = 64  # dots that are looked at one by one: far faster than a search for two bytes where a body has few of them


def stuff(wire: bytes) -> bytes:
    """A body with a dot before each line that begins with one (RFC 5321 4.5.2).

    >>> stuff(b".a\\r\\nb.\\r\\n")
    b'..a\\r\\nb.\\r\\n'
    """
    at = wire.find(b".")
    for _ in range(_FEW):
        if at < 0:
            return wire
        if at == 0 or wire[at - 1] == 0x0A:
            break
        at = wire.find(b".", at + 1)
    return _LEADING_DOT.sub(b"..", wire)


class SessionError(Exception):
    """The session is over."""


class Lost(SessionError):
    """The other side closed or reset the connection."""


class Silent(SessionError):
    """No reply within the time that RFC 5321 grants."""


class Garbled(SessionError):
    """An answer that is no SMTP reply, or bytes that nobody asked for."""


class Session(asyncio.Protocol):
    """The protocol of an open connection."""

    def __init__(self, extensions: frozenset[str] = frozenset(), size_limit: int = 0) -> None:
        self.extensions = extensions
        self.size_limit = size_limit
        self.pipelining = "PIPELINING" in extensions
        self.mails = 0  # transactions begun in this session
        self.dot_s = float("inf")  # how long the last dot waited for its reply
        self.begun: object = None  # the mail whose envelope left behind the last dot
        self.refusal: Reply | None = None  # a 4yz or 5yz that came unasked and ended the session
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._rest = b""  # of a line that is not whole yet
        self._lines: list[bytes] = []  # of a reply that is not whole yet
        self._size = 0  # octets in which they came, about
        self._due = 0  # replies that have not come yet
        self._replies: deque[Reply] = deque()  # those that came and were not taken yet
        self._waiting: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._broken: SessionError | None = None
        self._paused: asyncio.Future[None] | None = None

    @property
    def usable(self) -> bool:
        return self._broken is None and self._transport is not None and not self._transport.is_closing()

    def attach(self, transport: asyncio.Transport) -> None:
        """Take over an open transport from whoever made the connection."""
        self._transport = transport
        transport.set_protocol(self)

    def send(self, *lines: bytes, ahead: bytes = b"") -> None:
        """Send lines (without CRLF) in one piece, `ahead` of them a body that `stuff` made.

        `reply` then gives one reply for each line, in their order.
        """
        for line in lines:
            if b"\r" in line or b"\n" in line or b"\0" in line:
                raise ValueError("a line with a line end inside")
        self._write(ahead + b"\r\n".join((*lines, b"")))
        self._due += len(lines)

    async def reply(self, seconds: float) -> Reply:
        """The next reply that is due. It may have come before the session ended."""
        if not self._replies:
            self._check()
            self._waiting = self._loop.create_future()
            self._within(seconds)
            try:
                await self._waiting
            finally:
                self._waiting = None
            if not self._replies:
                self._check()
        return self._replies.popleft()

    async def command(self, line: bytes, seconds: float) -> Reply:
        """Send one line and wait for its reply."""
        self._check()
        self.send(line)
        return await self.reply(seconds)

    async def body(self, stuffed: bytes) -> None:
        """Send a body that `stuff` made, without its dot; returns when it has left for the kernel."""
        self._write(stuffed)
        if self._paused is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self._paused), _BODY_S)
            except TimeoutError:
                raise self._fail(Silent("the body did not leave in time")) from None
            self._check()  # a lost connection ends the wait as well

    def now(self) -> float:
        """The loop's clock, in seconds."""
        return self._loop.time()

    async def quit(self) -> None:
        """Say goodbye; whatever comes of it is ignored."""
        try:
            if self.usable:
                await self.command(b"QUIT", QUIT_S)
        except (SessionError, OSError):
            pass
        self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._broken is None:
            self._broken = Lost("closed by us")
        if self._transport is not None:
            self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def _within(self, seconds: float) -> None:
        """Wait no longer than this. A timer that is set already and ends sooner looks again then: timers cost."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._time_up)

    def _time_up(self) -> None:
        self._timer = None
        if self._waiting is None or self._waiting.done():
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._time_up)
        else:
            self._fail(Silent("no reply in time"))

    def _write(self, data: bytes) -> None:
        self._check()
        assert self._transport is not None
        self._transport.write(data)

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._transport is None or self._transport.is_closing():
            raise self._fail(Lost("the connection is closed"))

    def _fail(self, error: SessionError) -> SessionError:
        if self._broken is None:
            self._broken = error
        self.abort()
        return error

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        came = 0
        for line in lines:
            whole = line.rstrip(b"\r")
            self._lines.append(whole)
            if whole[3:4] != b"-" or replies.is_last(whole):
                came += self._came()
        if self._lines:  # of a reply that goes on
            self._size += len(data)
        if len(self._rest) > replies.LINE_MAX or self._size > replies.BYTES_MAX:
            self._lines = []
            self._fail(Garbled("a reply that does not end"))
        elif came and self._rest and not self._due:  # more than the replies that were due
            self._fail(Garbled("bytes that nobody asked for"))
        if came:
            self._wake()

    def _came(self) -> bool:
        """A reply is whole; whether it was due."""
        lines, self._lines = self._lines, []
        self._size = 0
        try:
            reply: Reply | None = replies.parsed(lines[0]) if len(lines) == 1 else replies.parse(lines)
        except Garbage as error:
            reply, why = None, str(error)
        if self._broken is not None:
            return False
        if not self._due:
            if reply is not None and reply.code // 100 in (4, 5):
                self.refusal = reply
            self._fail(Garbled(f"said unasked: {b' '.join(lines)[:200].decode('utf-8', 'replace')}"))
            return False
        if reply is None:
            self._fail(Garbled(why))
            return False
        self._due -= 1
        self._replies.append(reply)
        return True

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Lost(f"the connection was lost{f' ({exc})' if exc else ''}"))
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)

    def pause_writing(self) -> None:
        self._paused = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)
        self._paused = None
