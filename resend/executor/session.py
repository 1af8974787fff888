"""One SMTP session after its greeting: commands and their replies, a body and its dot. Sends nothing on its own.

aiosmtplib makes the connection (TLS, EHLO, AUTH); the dialogue is ours, because the library cannot say whether the dot
left. Bytes that nobody asked for end the session. Raises Lost, Silent or Garbled: what came of the last thing sent is
then not known to this session, and the caller knows what that means.
"""

from __future__ import annotations

import asyncio
import re
from typing import cast

from resend.executor import replies
from resend.executor.replies import Garbage
from resend.model import Reply

# RFC 5321 4.5.3.2, seconds.
MAIL_S, RCPT_S, DATA_S, DOT_S, QUIT_S = 300.0, 300.0, 120.0, 600.0, 5.0
_BODY_S = 180.0  # for the body to leave, per RFC 5321 4.5.3.2.5
_LEADING_DOT = re.compile(rb"(?m)^\.")


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
        self.mails = 0  # transactions begun in this session
        self.refusal: Reply | None = None  # a 4yz or 5yz that came unasked and ended the session
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._waiting: asyncio.Future[Reply] | None = None
        self._broken: SessionError | None = None
        self._paused: asyncio.Future[None] | None = None

    @property
    def usable(self) -> bool:
        return self._broken is None and self._transport is not None and not self._transport.is_closing()

    def attach(self, transport: asyncio.Transport) -> None:
        """Take over an open transport from whoever made the connection."""
        self._transport = transport
        transport.set_protocol(self)

    async def command(self, line: bytes, seconds: float) -> Reply:
        """Send one command line (without CRLF) and wait for its reply."""
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError("a command with a line end inside")
        return await self._exchange(line + b"\r\n", seconds)

    async def body(self, wire: bytes) -> None:
        """Send the body, dot-stuffed, without its dot; returns when it has left for the kernel."""
        stuffed = _LEADING_DOT.sub(b"..", wire) if b"\n." in wire or wire.startswith(b".") else wire
        self._write(stuffed)
        if self._paused is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self._paused), _BODY_S)
            except TimeoutError:
                raise self._fail(Silent("the body did not leave in time")) from None
            self._check()  # a lost connection ends the wait as well

    async def dot(self, seconds: float = DOT_S) -> Reply:
        """Send the final dot and wait for the word on the mail."""
        return await self._exchange(b".\r\n", seconds)

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

    async def _exchange(self, data: bytes, seconds: float) -> Reply:
        self._check()
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting = waiting
        self._write(data)
        handle = asyncio.get_running_loop().call_later(seconds, self._timed_out, waiting)
        try:
            return await waiting
        finally:
            handle.cancel()
            self._waiting = None

    def _timed_out(self, waiting: asyncio.Future[Reply]) -> None:
        if not waiting.done():
            waiting.set_exception(self._fail(Silent("no reply in time")))

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
        if self._transport is not None:
            self._transport.abort()
        return error

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            self._lines.append(line)
            if len(self._lines) > replies.LINES_MAX or replies.is_last(line):
                lines, self._lines = self._lines, []
                self._answer(lines)
        if len(self._buffer) > replies.BYTES_MAX:
            self._answer([bytes(self._buffer)])

    def _answer(self, lines: list[bytes]) -> None:
        waiting = self._waiting
        if waiting is None or waiting.done():
            self._unasked(lines)
            return
        try:
            reply = replies.parse(lines)
        except Garbage as error:
            waiting.set_exception(self._fail(Garbled(str(error))))
            return
        if self._buffer:  # more than the one reply that was due
            self._fail(Garbled("bytes that nobody asked for"))
        waiting.set_result(reply)

    def _unasked(self, lines: list[bytes]) -> None:
        try:
            reply = replies.parse(lines)
        except Garbage:
            reply = None
        if self._broken is None and reply is not None and reply.code // 100 in (4, 5):
            self.refusal = reply
        self._fail(Garbled(f"said unasked: {b' '.join(lines)[:200].decode('utf-8', 'replace')}"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        error = self._fail(Lost(f"the connection was lost{f' ({exc})' if exc else ''}"))
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)

    def pause_writing(self) -> None:
        self._paused = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)
        self._paused = None
