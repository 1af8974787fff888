"""`why ADDRESS`: every mail to one address, from the log line to our own tries. Changes nothing.

Raises UsageError for what is no address or an incident that is not there, StoreError.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from resend.config import Config
from resend.errors import UsageError
from resend.flows.ended import ended
from resend.linker.buckets import rebucket
from resend.linker.incident import find_incident, own_queue_ids
from resend.linker.outcomes import find
from resend.policy.address import domain_of, fold, in_unicode
from resend.report.why import WhyMail, WhyVerdict, link_of, verdict_of
from resend.stores.history import DeliveryHistory, deliveries_to
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.registry import incidents


def why(
    home: Home, config: Config, ledger: Ledger | None, address: str, *, incident: str = "", now: datetime
) -> list[WhyMail]:
    """All mails to an address in the order of the log; of one incident where it is named. `now` is aware UTC.

    Without a ledger there are no incidents yet: then the log lines alone.
    """
    address = address.strip()
    try:
        folded, logged = fold(address), _logged_as(address)
    except ValueError as error:
        raise UsageError(f"not an address: {error}", next_step="write it like taro@example.jp") from None
    judged: dict[tuple[str, str, str], list[tuple[dict[str, Any], WhyVerdict]]] = {}
    deliveries: list[DeliveryHistory] = []
    if ledger is not None:
        with ledger.read() as connection:
            known = incidents(connection)
        records = [find_incident(ledger, incident)] if incident else known
        for record in records:
            with rebucket(home, ledger, record.id, now=now) as affected:
                ended(affected, home, config, ledger, record, now=now)  # as every other view of an incident tells it
                for row in affected.to(folded, logged):
                    verdict = verdict_of(row, incident_id=record.id, incident=record.name)
                    judged.setdefault(_place(row["message_id"], row["host"], row["qid"]), []).append((row, verdict))
        with ledger.read() as connection:
            deliveries = deliveries_to(connection, folded)
    ours = {item.remote_qid for mail in deliveries for item in mail.tries if item.remote_qid}
    found = []
    own = own_queue_ids(ledger) if ledger is not None else ()
    outcomes = [outcome for text in sorted(logged) for outcome in find(home, config, recipient=text, own=own)]
    for outcome in sorted(outcomes, key=lambda outcome: outcome["at"] or ""):
        place = _place(outcome["message_id"], outcome["host"], outcome["queue_id"])
        rows = judged.get(place, [])
        if incident and not rows:
            continue
        releases = {row["release"] for row, _ in rows if row["release"]}
        found.append(
            WhyMail(
                outcome=outcome,
                own=outcome["queue_id"] in ours,
                link=link_of(rows[0][0]) if rows else None,
                verdicts=tuple(verdict for _, verdict in rows),
                deliveries=tuple(mail for mail in deliveries if mail.release in releases),
            )
        )
    return found


def as_json(mail: WhyMail) -> dict[str, Any]:
    """One mail as a JSON row; datetimes stay datetimes."""
    return dataclasses.asdict(mail)


def _logged_as(address: str) -> set[str]:
    """How a log may write an address, in lower case. Raises ValueError.

    The domain in Unicode (SMTPUTF8) or as A-label; Postfix puts quotes around a local part with dots in odd places.
    """
    local, _, domain = address.lower().rpartition("@")
    odd = ".." in local or local.startswith(".") or local.endswith(".")
    return {
        f"{part}@{name}"
        for part in ([local, f'"{local}"'] if odd else [local])
        for name in (domain, domain_of(address), in_unicode(domain_of(address)))
    }


def _place(message_id: str, host: str, qid: str) -> tuple[str, str, str]:
    return message_id, host, qid
