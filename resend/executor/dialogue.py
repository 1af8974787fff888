"""The mails that go over one session, one after the other.

The next mail is made while the arm of the one before becomes durable. Where its slot has come when that one's dot
leaves, its envelope leaves behind the dot, and the answer to the dot brings the answers to the envelope with it: the
outcome of the one and the arm of the other then ride in one commit. Otherwise it waits for its slot like any other.
Raises what the ledger's writer raises.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resend.clock import to_micros
from resend.executor.leases import LEASE_S
from resend.executor.session import Session
from resend.executor.transaction import QUICK_S, Ended, Mail, TooLate, transact
from resend.model import Stage
from resend.stores.transitions import Arm, Armed

if TYPE_CHECKING:
    from datetime import datetime

    from resend.executor.connect import Hosts
    from resend.executor.lane import Lane
    from resend.stores.rows import Delivery


@dataclass(frozen=True, slots=True)
class Made:
    """A mail that is ready to leave, and the Date that it carries."""

    row: Delivery
    mail: Mail
    date: str
    digest: str

    @classmethod
    def of(cls, row: Delivery, body: bytes, date: str) -> Made:
        mail = Mail(envelope_from=row.envelope_from, rcpt=row.rcpt, body=body)
        return cls(row, mail, date, hashlib.sha256(body).hexdigest())


_THIS_RUN = os.urandom(5).hex()
_COUNTED = itertools.count()


def new_try(now: datetime) -> str:
    """The id of a new try, 32 hex. Time comes first: an index of ids then grows at its end, and commits stay small."""
    return f"{to_micros(now):014x}{_THIS_RUN}{next(_COUNTED) & 0xFFFFFFFF:08x}"


class Dialogue:
    """One session in use."""

    def __init__(self, lane: Lane, hosts: Hosts, session: Session) -> None:
        self._lane = lane
        self._hosts = hosts
        self._session = session
        self._made: Made
        self._at: datetime
        self._try = ""
        self._next: Made | None = None
        self._next_at: datetime | None = None

    async def send(self, made: Made, at: datetime) -> None:
        """Send a mail at its slot, and those that may follow it at once."""
        session, lane = self._session, self._lane
        while True:
            self._begin(made, at)
            fresh = session.mails == 0
            end = await transact(session, made.mail, self._arm, self._following)
            if end.how is Ended.LOST and end.stage is Stage.MAIL and not fresh:
                lane.put_back(made)  # a session that had died before its MAIL says nothing about this mail
            else:
                lane.settled(made.row, self._try, at, end)
            if self._next is None:
                return
            if self._next_at is None:
                lane.put_back(self._next)
                return
            made, at = self._next, self._next_at

    def _begin(self, made: Made, at: datetime) -> None:
        self._made, self._at, self._try = made, at, new_try(self._lane.run.clock.now())
        self._next = self._next_at = None

    async def _arm(self) -> str:
        """Make it durable that the dot may leave; "" or the reason why it may not."""
        lane, made = self._lane, self._made
        run = lane.run
        began = run.clock.monotonic()
        written = run.writer.submit(
            Arm(
                key=made.row.key,
                batch_id=made.row.batch_id,
                epoch=made.row.epoch,
                try_id=self._try,
                worker=run.worker,
                egress=lane.egress,
                provider=lane.provider,
                mail_at=self._at,  # the paced instant: a restart paces on from there
                armed_at=run.clock.now(),
                body_sha256=made.digest,
                date=made.date,
            )
        )
        if self._session.pipelining and self._session.dot_s <= QUICK_S:
            self._next = lane.next_for(self._hosts, self._session, made.row.domain)
        result = await written
        run.check()
        if not isinstance(result, Armed) or not result.ok:
            return result.why or "not armed"
        run.armed += 1
        if run.clock.monotonic() - began > LEASE_S / 2:
            raise TooLate("the arm came too late for its lease")
        return ""

    def _following(self) -> Mail | None:
        """The mail whose envelope leaves behind the dot: its slot is taken now, or it does not."""
        if self._next is None:
            return None
        self._next_at = self._lane.take_now(self._next.row)
        return None if self._next_at is None else self._next.mail
