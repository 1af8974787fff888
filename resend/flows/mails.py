"""The mails of a run: from a delivery to the bytes that leave, the same for every try.

A mail's content must still be what was frozen, and is looked at for every mail; what is the same for all mails of a
release is read once. With a mail those behind it are made, some at once: one by one, between other work, each takes
twice as long. Raises ContentError where a mail cannot be made: that row is quarantined. StoreError where the
plan's file is gone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from resend.clock import from_text, to_text
from resend.model import Identity
from resend.policy.content import ContentError, content_id, new_message_id, render, renew
from resend.policy.dkim import Signer
from resend.policy.dressing import dress
from resend.stores.claims import batch_keys
from resend.stores.content import ContentStore
from resend.stores.frozen import FrozenMails, FrozenRow
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.plans import PlanRow
from resend.stores.rows import Delivery

_RELEASES = 64  # releases whose content is kept in memory
_AHEAD, _AHEAD_S, _AHEAD_BYTES = 64, 0.005, 1 << 20  # mails made at once, at most: the loop waits meanwhile
_WAITING_BYTES = 32 << 20  # of mails that were made and not asked for yet, over all lanes


@dataclass(frozen=True, slots=True)
class _Content:
    """What the mails of a release are made of: its template, or the bytes that all recipients get."""

    kind: str
    sha256: str
    template: str | None = None
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A mail that was made before it was asked for."""

    row: FrozenRow
    data: bytes


def made(
    row: FrozenRow | PlanRow, variables: Mapping[str, Any], date: str, *, template: str | None = None, data: bytes = b""
) -> tuple[bytes, bool]:
    """A mail of its template, else of `data`; and whether it is of our making: rendered, or under a new identity."""
    new = row.identity == Identity.NEW
    message_id = new_message_id(row.key, row.sender) if new else row.message_id
    if template is not None:
        rendered = render(
            template,
            variables,
            key=row.key,
            message_id=message_id,
            date=date,
            sender=row.sender,
            envelope_from=row.envelope_from,
            rcpt=row.rcpt,
            title=row.title,
        )
        return rendered, True
    if new:
        return renew(data, message_id=message_id, date=format_datetime(from_text(date))), True
    return data, False


class Mails:
    """The mails of started plans. `signer`: None where the relay signs."""

    def __init__(self, home: Home, ledger: Ledger, signer: Signer | None = None) -> None:
        self._home = home
        self._ledger = ledger
        self._signer = signer
        self._store = ContentStore(home)
        self._plans: dict[str, FrozenMails] = {}
        self._contents: dict[str, _Content | None] = {}
        self._ready: dict[str, _Ready] = {}  # by key, oldest first
        self._waiting = 0  # bytes of them

    def __call__(self, delivery: Delivery) -> tuple[bytes, str]:
        """The wire-ready bytes of a delivery, and the Date (RFC 3339 text) that they carry."""
        plan = self._plans.get(delivery.plan_id)
        if plan is None:
            plan = self._plans[delivery.plan_id] = FrozenMails(self._home, delivery.plan_id, self._batch_keys)
        if delivery.key in self._ready:
            ready = self._forget(delivery.key)
            if delivery.date in ("", ready.row.date):
                return ready.data, ready.row.date
            plan.put_back(ready.row)
        row = plan.row(delivery.key, delivery.batch_id)
        if row is None:
            raise ContentError("the mail is not in its plan's file")
        date = delivery.date or row.date or to_text(datetime.now(UTC))
        data = self._made(row, date)
        self._make_ahead(plan, row, delivery.batch_id)
        return data, date

    def _make_ahead(self, plan: FrozenMails, row: FrozenRow, batch_id: str) -> None:
        """Make those of a batch that come next, but none whose Date is that of its first try."""
        until, size = time.monotonic() + _AHEAD_S, 0
        for _ in range(_AHEAD):
            found = plan.behind(row, batch_id)
            if found is None:
                return
            try:
                data = self._made(found, found.date) if found.date else b""
            except ContentError:
                data = b""  # it is said when it is its turn
            if not data:
                plan.put_back(found)
                return
            row = found
            self._ready[row.key] = _Ready(row, data)
            size += len(data)
            self._waiting += len(data)
            while self._waiting > _WAITING_BYTES:  # what its batch left out
                plan.put_back(self._forget(next(iter(self._ready))).row)
            if size > _AHEAD_BYTES or time.monotonic() > until:
                return

    def _forget(self, key: str) -> _Ready:
        ready = self._ready.pop(key)
        self._waiting -= len(ready.data)
        return ready

    def _made(self, row: FrozenRow, date: str) -> bytes:
        variables = json.loads(row.variables)
        data, ours = self._bytes(row, variables, date)
        return dress(data, variables, self._signer, date=date) if ours else data

    def _batch_keys(self, batch_id: str) -> Sequence[str]:
        with self._ledger.read() as conn:
            return batch_keys(conn, batch_id)

    def _bytes(self, row: FrozenRow, variables: dict[str, Any], date: str) -> tuple[bytes, bool]:
        """The mail, and whether it is of our making: rendered, or under a new identity."""
        content = self._content(row)
        if content is None or content.kind != row.content_kind:
            raise ContentError("the content is not what was planned")
        frozen = content_id(
            template_sha256=content.sha256,
            variables=row.variables,
            message_id=row.message_id,
            date=row.date,
            kind=content.kind,
        )
        if frozen != row.content_id:
            raise ContentError("the content has changed since it was planned")
        return made(row, variables, date, template=content.template, data=content.data)

    def _content(self, row: FrozenRow) -> _Content | None:
        """Kept bytes, which are of one mail; else what its release has."""
        kept = self._store.kept(row.message_id)
        if kept is not None:
            return _Content("kept", hashlib.sha256(kept).hexdigest(), data=kept)
        if row.release not in self._contents:
            if len(self._contents) >= _RELEASES:
                self._contents.clear()
            self._contents[row.release] = self._of_release(row.release)
        return self._contents[row.release]

    def _of_release(self, release: str) -> _Content | None:
        body = self._store.body(release, "")
        if body is None:
            return None
        if body.kind == "template":
            template = self._store.template(release)
            if template is None:
                raise ContentError(f"the template of release {release} is gone")
            return _Content("template", body.sha256, template=template)
        data = self._store.release_eml(release)
        if data is None or hashlib.sha256(data).hexdigest() != body.sha256:
            raise ContentError("the content is not what was planned")
        return _Content(body.kind, body.sha256, data=data)
