"""The mails in the bucket `resend`, as a plan looks at them: what was frozen, the recipient, the variables.

Reads `affected` and the catalog beside it; decides nothing. Raises StoreError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Any

from resend.config import Config
from resend.linker.buckets import Affected
from resend.planner.draft import Candidate, Standing
from resend.planner.variables import Texts
from resend.policy.dressing import Dressing
from resend.stores import sql

_CHUNK = 4_096  # rows


def candidates(
    affected: Affected,
    config: Config,
    incident_id: str,
    dressing: Dressing,
    *,
    now: datetime,
    standing: Standing | None = None,
) -> Iterator[Candidate]:
    """By outcome_id; with `standing` only those that it takes, and no more."""
    texts = Texts(sorry=bool(dressing.delayed_line))
    now_us = int(now.timestamp()) * 1_000_000
    shared: dict[str, str] = {}  # one string for each that stands in several mails: less memory by half
    share = shared.setdefault
    for (
        outcome_id, release, recipient_id, rcpt_key, rcpt, provider, customer, customer_name, title, sender,
        envelope_from, urgency, expires_at, arrived_at, sent_at, message_id, generation, name, locale, attrs, tz, *_,
    ) in _rows(affected, standing):  # fmt: skip
        text, plain = texts.of(
            (customer, customer_name, locale, name, rcpt, recipient_id, release, title),
            attrs=attrs,
            delayed=dressing.delayed(
                locale=locale, sent_us=sent_at if sent_at is not None else arrived_at, now_us=now_us
            ),
            frozen=dressing.frozen(recipient=recipient_id, release=release),
        )
        domain = rcpt_key.rpartition("@")[2]
        yield Candidate(  # by place, in the order of its fields: by keyword takes three times as long
            outcome_id,
            incident_id,
            share(release, release),
            share(recipient_id, recipient_id),
            share(rcpt_key, rcpt_key),
            share(rcpt, rcpt),
            share(domain, domain),
            share(provider, provider),
            share(customer, customer),
            share(title, title),
            share(sender, sender),
            share(envelope_from, envelope_from),
            urgency,
            expires_at,
            arrived_at,
            sent_at,
            message_id,
            text,
            plain,
            generation,
            "" if tz == config.tz else share(tz, tz),
        )


def _rows(affected: Affected, standing: Standing | None) -> Iterator[Sequence[Any]]:
    cursor = affected.con.execute(sql.load("plan/mails"))
    names = [column[0] for column in cursor.description or []]
    rows = chain.from_iterable(iter(lambda: cursor.fetchmany(_CHUNK), []))
    if standing is None:
        return rows
    return islice((row for row in rows if standing.takes(dict(zip(names, row, strict=True)))), standing.most)
