"""Mails that no rule linked: the nearest miss of each, and what would make the link. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# By what linker/link found wanting (`doubt`), what an operator can do about it.
_NEEDED: Mapping[str, str] = {
    "its release is not in the catalog": "load that release: resend catalog load --releases FILE",
    "its recipient is not in the catalog": "load that recipient: resend catalog load --recipients FILE",
    "its recipient has another address in the catalog": "load the recipients as they were when it was sent",
}
_BY_ID = "a send log with its message-id (resend catalog load --sendlog FILE), or its pattern in [link] message_id"
_WITHOUT_ID = (
    "a send log with address and sent_at, or a log that says more: X-Release-Id by header_checks, or a VERP envelope"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlinked:
    """One mail without a link. `nearest`: what the best rule found, "" nothing."""

    evidence: str
    arrived_at: int | None  # microseconds UTC
    recipient: str
    sender: str
    message_id: str
    rule: str
    nearest: str
    doubt: str

    @property
    def needed(self) -> str:
        """What would have made the link."""
        return _NEEDED.get(self.doubt) or (_BY_ID if self.message_id.strip("<>") else _WITHOUT_ID)


def grouped(mails: Iterable[Unlinked]) -> list[tuple[str, str, int, Unlinked]]:
    """(doubt, what is needed, mails, the first of them), most frequent first."""
    groups: dict[tuple[str, str], list[Unlinked]] = {}
    for mail in mails:
        groups.setdefault((mail.doubt, mail.needed), []).append(mail)
    found = [(doubt, needed, len(each), each[0]) for (doubt, needed), each in groups.items()]
    return sorted(found, key=lambda item: (-item[2], item[0], item[1]))
