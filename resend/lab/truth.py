"""The truth about the made-up incident: one line for each affected mail, with the bucket it belongs in, and the sums.

Only tests and the proof read it. Decides from the story alone, never from a log line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from resend.lab.maillog import Mail
from resend.lab.papers import text_of
from resend.lab.story import Turn
from resend.lab.world import Recipient, Release, World

_BY_TURN = {
    Turn.LATE: "delivered_late",
    Turn.HELD: "still_queued",
    Turn.QUEUED: "still_queued",
    Turn.MAYBE: "maybe_delivered",
    Turn.DARK: "no_evidence",
}
ASIDE = ("no_evidence", "missing")  # beside the sum of the affected


def bucket_of(turn: Turn, release: Release | None, person: Recipient, suppressed: bool, end: int) -> tuple[str, str]:
    """The bucket of a mail, and why where it is `never`; in the order of decision, first match wins."""
    if turn in _BY_TURN:
        return _BY_TURN[turn], ""
    if release is None:
        return "unlinked", ""
    never = {
        "dead": turn is Turn.GONE,
        "unsubscribed": suppressed or person.unsubscribed_at is not None,
        "withdrawn": release.withdrawn,
        "out_of_date": release.expires_at is not None and release.expires_at <= end,
    }
    for why, holds in never.items():
        if holds:
            return "never", why
    if release.embargo_at is not None and release.embargo_at > end:
        return "wait", ""
    if not release.content:
        return "content_gone", ""
    return ("ask", "") if turn in (Turn.WAVE, Turn.REFUSED) else ("resend", "")


class Truth:
    """Collects what is known about each mail that was not simply delivered."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rows: list[dict[str, Any]] = []

    def note(
        self,
        turn: Turn,
        mail: Mail,
        release: Release | None,
        person: Recipient,
        *,
        bucket: str,
        status: str,
        host: str,
        why: str = "",
        queue_id: str = "",
    ) -> None:
        self._rows.append(
            {
                "type": "mail",
                "message_id": mail.message_id,
                "recipient": mail.rcpt,
                "release": release.id if release else "",
                "recipient_id": person.id,
                "customer": release.customer.id if release else "",
                "provider": mail.net.name.lower(),
                "status": status,
                "bucket": bucket,
                "why": why,
                "turn": turn.value,
                "link": release.link.name.lower() if release else "",
                "maybe_delivered": turn is Turn.MAYBE,
                "host": host,
                "queue_id": queue_id,
                "arrived_at": text_of(mail.arrival),
            }
        )

    def write(self, path: Path, **more: Any) -> dict[str, Any]:
        """Write all lines, the summary last, and return it."""
        affected = [row for row in self._rows if row["bucket"] not in ASIDE]
        aside = {name: sum(row["bucket"] == name for row in self._rows) for name in ASIDE}
        summary = {
            "type": "summary",
            "mails": self._world.mails,
            "affected": len(affected),
            "buckets": _count(affected, "bucket"),
            "providers": _count(affected, "provider"),
            "statuses": _count(affected, "status"),
            "never": _count(affected, "why"),
            **aside,
            **more,  # lost_mails: in no line of the log; those in no send log either nobody can miss
            "start": text_of(self._world.start),
            "end": text_of(self._world.end),
        }
        with path.open("w", encoding="utf-8") as handle:
            for row in [*affected, *(row for row in self._rows if row["bucket"] in ASIDE), summary]:
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
        return summary


def _count(rows: list[dict[str, Any]], key: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        if row[key]:
            counts[row[key]] = counts.get(row[key], 0) + 1
    return dict(sorted(counts.items()))
