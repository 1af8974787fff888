"""Bytes of mails for a plan: finds a mail's content, checks it, shows a mail as it would be. A run has flows/mails.py.

Composes the content store with the pure renderer. A row's content must still be what was frozen. Raises ContentError
where a mail cannot be made: that row is quarantined.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from resend.flows.mails import made
from resend.planner.draft import Candidate
from resend.policy import unsubscribe
from resend.policy.content import ContentError, content_id, new_message_id, render, validate, whole_lines
from resend.policy.dkim import Signer
from resend.policy.dressing import unsubscribe_of
from resend.policy.template import placed
from resend.stores.content import Content, ContentStore
from resend.stores.home import Home
from resend.stores.plans import PlanRow

_EMPTY = frozenset({"message_id", "date", "envelope_from"})  # of every mail whose variables are looked at


class StoredBodies:
    """Content of one home. Keeps templates and release mails that it has read. `signer`: None where the relay signs."""

    def __init__(self, home: Home, signer: Signer | None = None) -> None:
        self.signer = signer
        self._store = ContentStore(home)
        self._templates: dict[str, str] = {}
        self._names: dict[str, frozenset[str] | None] = {}  # that a release's template puts in places, None unknown

    def body(self, release: str, message_id: str) -> Content | None:
        """What a mail is made of, None where its content is gone."""
        return self._store.body(release, message_id)

    def check(self, body: Content, candidate: Candidate, *, message_id: str, date: str, full: bool) -> None:
        """Raise ContentError where this mail cannot be made: rendered in `full`, or its variables looked at."""
        if body.kind != "template":
            return
        template = self._template(candidate.release)
        if not full and self._fits_unseen(candidate, template):
            return
        variables = json.loads(candidate.variables)
        if not full:
            validate(template, variables, rcpt=candidate.rcpt, title=candidate.title, sender=candidate.sender)
            return
        data = render(
            template,
            variables,
            key="",
            message_id=message_id or new_message_id("0" * 64, candidate.domain),
            date=date or "2000-01-01T00:00:00Z",
            sender=candidate.sender,
            envelope_from=candidate.envelope_from,
            rcpt=candidate.rcpt,
            title=candidate.title,
        )
        if not whole_lines(data):  # a defect of ours; the transaction would not let it leave either
            raise ContentError("a bare CR, a bare LF or NUL in the mail")

    def content_id(self, row: PlanRow, body: Content, variables: str) -> str:
        """The content id that a frozen row would get from the content of now."""
        return content_id(
            template_sha256=body.sha256, variables=variables, message_id=row.message_id, date=row.date, kind=body.kind
        )

    def unsigned(self, row: PlanRow) -> bytes:
        """The mail of a row as a plan may look at it: with all but our signature."""
        date = row.date or "2000-01-01T00:00:00Z"
        variables = json.loads(row.variables)
        data, ours = self._bytes(row, variables, date)
        return unsubscribe.add(data, unsubscribe_of(variables)) if ours else data

    def _bytes(self, row: PlanRow, variables: dict[str, Any], date: str) -> tuple[bytes, bool]:
        """The mail, and whether it is of our making: rendered, or under a new identity."""
        body = self._store.body(row.release, row.message_id)
        if body is None or body.kind != row.content_kind:
            raise ContentError("the content is not what was planned")
        if self.content_id(row, body, row.variables) != row.content_id:
            raise ContentError("the content has changed since it was planned")
        if body.kind == "template":
            return made(row, variables, date, template=self._template(row.release))
        data = self._store.kept(row.message_id) if body.kind == "kept" else self._store.release_eml(row.release)
        if data is None or hashlib.sha256(data).hexdigest() != body.sha256:
            raise ContentError("the content is not what was planned")
        return made(row, variables, date, data=data)

    def _fits_unseen(self, candidate: Candidate, template: str) -> bool:
        """Whether the template only puts variables in places, and all of them are plain text."""
        if candidate.release not in self._names:
            names = placed(template)
            self._names[candidate.release] = None if names is None else names - _EMPTY
        names = self._names[candidate.release]
        if names is None:
            return False
        return names <= candidate.plain or (candidate.sender.isprintable() and names <= candidate.plain | {"sender"})

    def _template(self, release: str) -> str:
        if release not in self._templates:
            text = self._store.template(release)
            if text is None:
                raise ContentError(f"the template of release {release} is gone")
            self._templates[release] = text
        return self._templates[release]
