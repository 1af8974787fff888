"""A mail log as Postfix writes it, line by line as things happen, so that it can be followed."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path

from resend.lab.world import JST

_PIDS = {"smtpd": 4101, "cleanup": 4102, "qmgr": 4100, "smtp": 4105, "bounce": 4107, "local": 4108}


class LiveLog:
    """Appends to one file; each line is written at once. Times are Japanese, RFC 3339 or BSD."""

    def __init__(self, path: Path, host: str, *, bsd: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._host, self._bsd = host, bsd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def say(self, program: str, text: str) -> None:
        if self._fd < 0:
            return
        now = datetime.now(JST)
        stamp = f"{now:%b} {now.day:2d} {now:%H:%M:%S}" if self._bsd else now.isoformat(timespec="microseconds")
        line = f"{stamp} {self._host} postfix/{program}[{_PIDS[program]}]: {text}\n"
        os.write(self._fd, line.encode("ascii", "replace"))  # Postfix prints ? for what it cannot

    def queued(self, qid: str, helo: str, peer: str, message_id: str, sender: str, size: int) -> None:
        self.say("smtpd", f"{qid}: client={helo}[{peer}]")
        self.say("cleanup", f"{qid}: message-id={message_id}")
        self.say("qmgr", f"{qid}: from=<{sender}>, size={size}, nrcpt=1 (queue active)")

    def attempt(
        self, qid: str, rcpt: str, relay: str, arrival: float, began: float, dsn: str, status: str, text: str
    ) -> None:
        now = time.time()
        waited, spent = max(0.0, began - arrival), max(0.0, now - began)
        self.say(
            "smtp",
            f"{qid}: to=<{rcpt}>, relay={relay}, delay={now - arrival:.2g}, delays={waited:.2g}/0/{spent / 2:.2g}/"
            f"{spent / 2:.2g}, dsn={dsn}, status={status} ({text})",
        )

    def notified(self, qid: str, note: str, sender: str) -> None:
        """The bounce of a mail to its sender, who has a mailbox here."""
        self.say("cleanup", f"{note}: message-id=<{note}@{self._host}.mail.example.jp>")
        self.say("bounce", f"{qid}: sender non-delivery notification: {note}")
        self.say("qmgr", f"{note}: from=<>, size=3120, nrcpt=1 (queue active)")
        self.say(
            "local",
            f"{note}: to=<{sender}>, relay=local, delay=0.01, delays=0/0/0/0.01, dsn=2.0.0, status=sent (delivered to"
            " mailbox)",
        )
        self.say("qmgr", f"{note}: removed")
