"""The mails in the bucket `resend`, as a plan looks at them: what was frozen, the recipient, the variables.

Reads `affected` and the catalog beside it; decides nothing. Raises StoreError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import Any

from resend.config import Config
from resend.linker.buckets import Affected
from resend.planner.draft import Candidate, Standing
from resend.planner.variables import GIVEN, Texts
from resend.policy.dressing import Dressing
from resend.stores import sql

_CHUNK = 4_096  # rows
_SHARED = ("release", "recipient_id", "rcpt_key", "rcpt", "provider", "customer", "title", "sender", "envelope_from")


def candidates(
    affected: Affected,
    config: Config,
    incident_id: str,
    dressing: Dressing,
    *,
    now: datetime,
    standing: Standing | None = None,
) -> Iterator[Candidate]:
    """By outcome_id; with `standing` only those that it takes, and no more.

    Made column by column: one by one, with twenty fields each, they take twice as long.
    """
    texts = Texts(sorry=bool(dressing.delayed_line))
    now_us = int(now.timestamp()) * 1_000_000
    shared: dict[str, str] = {}  # one string for each that stands in several mails: half the memory
    share = shared.setdefault
    for columns in _chunks(affected, standing):
        columns |= {name: list(map(share, columns[name], columns[name])) for name in _SHARED}
        domains = [key.rpartition("@")[2] for key in columns["rcpt_key"]]
        made, plain = _variables(texts, dressing, columns, now_us)
        columns |= {
            "incident_id": repeat(incident_id),
            "domain": list(map(share, domains, domains)),
            "variables": made,
            "plain": plain,
            "zone": ["" if zone == config.tz else share(zone, zone) for zone in columns["tz"]],
        }
        yield from map(Candidate._make, zip(*(columns[name] for name in Candidate._fields), strict=False))


def _variables(
    texts: Texts, dressing: Dressing, columns: Mapping[str, Sequence[Any]], now_us: int
) -> tuple[list[str], list[frozenset[str]]]:
    sent = zip(columns["sent_at"], columns["arrived_at"], strict=True)
    delayed = [
        dressing.delayed(locale=locale, sent_us=arrived if sent_at is None else sent_at, now_us=now_us)
        for locale, (sent_at, arrived) in zip(columns["locale"], sent, strict=True)
    ]
    frozen = [
        dressing.frozen(recipient=recipient, release=release)
        for recipient, release in zip(columns["recipient_id"], columns["release"], strict=True)
    ]
    named = {**columns, "recipient": columns["recipient_id"]}
    return texts.of([named[name] for name in GIVEN], attrs=columns["attrs"], delayed=delayed, frozen=frozen)


def _chunks(affected: Affected, standing: Standing | None) -> Iterator[dict[str, Any]]:
    """Columns by name, of so many rows at a time."""
    cursor = affected.con.execute(sql.load("plan/mails"))
    names = [column[0] for column in cursor.description or []]
    left = 1 if standing is None else standing.most
    while left > 0 and (chunk := cursor.fetchmany(_CHUNK)):
        if standing is not None:
            chunk = [row for row in chunk if standing.takes(dict(zip(names, row, strict=True)))][:left]
            left -= len(chunk)
        if chunk:
            yield dict(zip(names, zip(*chunk, strict=True), strict=True))
