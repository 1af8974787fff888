"""The relay's sending half: one SMTP connection to one receiver, and Postfix's words for what goes wrong on it.

Keeps the connection for the next mail. Raises Failure, never anything else, for a mail that was not taken.
"""

from __future__ import annotations

import asyncio
import re

_REPLY = re.compile(r"([2-5]\d\d)([ -])(.*)")
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b")
_TIMEOUT_S = 30.0
_MAILS_PER_CONNECTION = 100


class Failure(Exception):
    """A mail that was not taken: `dsn`, the reason as Postfix logs it, for good or not, connected or not."""

    def __init__(self, dsn: str, text: str, *, permanent: bool = False, connected: bool = True) -> None:
        super().__init__(text)
        self.dsn, self.text, self.permanent, self.connected = dsn, text, permanent, connected


class Client:
    """`label` is the receiver as `name[address]`."""

    def __init__(self, host: str, port: int, label: str, hello: str) -> None:
        self._host, self._port, self._label, self._hello = host, port, label, hello
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._sent = 0

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def send(self, sender: str, rcpt: str, body: bytes) -> tuple[str, str]:
        """Deliver one mail; returns dsn and the reply."""
        if self._writer is None or self._sent >= _MAILS_PER_CONNECTION:
            self.close()
            await self._connect()
        stuffed = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:]
        end = b".\r\n" if body.endswith(b"\r\n") or not body else b"\r\n.\r\n"
        steps = (
            (f"MAIL FROM:<{sender}>\r\n".encode(), "MAIL FROM command"),
            (f"RCPT TO:<{rcpt}>\r\n".encode(), "RCPT TO command"),
            (b"DATA\r\n", "DATA command"),
            (stuffed + end, "end of DATA command"),
        )
        reply = ""
        for wire, what in steps:
            reply = await self._say(wire, what)
        self._sent += 1
        found = _ENHANCED.search(reply)
        return (found.group() if found else "2.0.0"), reply

    async def _connect(self) -> None:
        try:
            opening = asyncio.open_connection(self._host, self._port, limit=1 << 20)
            self._reader, self._writer = await asyncio.wait_for(opening, _TIMEOUT_S)
        except OSError as error:
            word = "Connection timed out" if isinstance(error, TimeoutError) else "Connection refused"
            raise Failure("4.4.1", f"connect to {self._label}:{self._port}: {word}", connected=False) from None
        self._sent = 0
        greeting = await self._reply("receiving the initial server greeting")
        if not greeting.startswith("2"):
            self.close()
            raise Failure("4.0.0", f"host {self._label} refused to talk to me: {greeting}")
        await self._say(f"EHLO {self._hello}\r\n".encode(), "EHLO command")

    async def _say(self, wire: bytes, what: str) -> str:
        assert self._writer is not None
        try:
            self._writer.write(wire)
            await self._writer.drain()
        except OSError:
            pass  # the reader says what happened
        reply = await self._reply({"end of DATA command": "sending end of data"}.get(what, f"sending {what[:-8]}"))
        if reply[0] not in "23":
            enhanced = _ENHANCED.search(reply)
            permanent = reply[0] == "5"
            if reply.startswith("421") or what == "EHLO command":
                self.close()
            else:
                await self._reset()
            dsn = enhanced.group() if enhanced else f"{reply[0]}.0.0"
            raise Failure(dsn, f"host {self._label} said: {reply} (in reply to {what})", permanent=permanent)
        return reply

    async def _reset(self) -> None:
        """Back to a clean session; a line that breaks here matters to the next mail only."""
        if self._writer is None:
            return
        try:
            self._writer.write(b"RSET\r\n")
            await self._reply("sending RSET")
        except Failure:
            self.close()

    async def _reply(self, doing: str) -> str:
        """One reply, its lines joined by spaces as Postfix does. A malformed one counts as a lost connection."""
        assert self._reader is not None
        lines = []
        while True:
            try:
                line = await asyncio.wait_for(self._reader.readline(), _TIMEOUT_S)
            except (OSError, ValueError) as error:
                self.close()
                word = f"conversation with {self._label} timed out" if isinstance(error, TimeoutError) else ""
                raise Failure(
                    "4.4.2", f"{word or f'lost connection with {self._label}'} while {_risk(doing)}"
                ) from None
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            found = _REPLY.fullmatch(text)
            if found is None:
                self.close()
                raise Failure("4.4.2", f"lost connection with {self._label} while {_risk(doing)}")
            lines.append(text)
            if found[2] == " ":
                return " ".join(lines)


def _risk(doing: str) -> str:
    return f"{doing} -- message may be sent more than once" if doing == "sending end of data" else doing
