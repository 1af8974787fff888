"""Carries into the ledger what must not be sent: from the catalog after a load, from the evidence after a collect.

Only where there is a ledger: before the first incident nothing can be sent. Decides nothing itself; takes nothing back
that is under way. Lets go only what no plan has. Raises StoreError.
"""

from __future__ import annotations

from datetime import UTC, datetime

from resend.clock import from_micros
from resend.config import Config
from resend.flows.ended import let_go
from resend.linker.arrivals import arrivals
from resend.linker.complaints import complaints
from resend.linker.incident import own_queue_ids
from resend.linker.outcomes import outcomes
from resend.stores import vetoes
from resend.stores.catalog import Catalog, veto_rows
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.registry import incidents

CATALOG, EVIDENCE = "catalog", "collect"  # sources, as `veto.source` and `watermark.source` name them


def refresh_catalog_vetoes(home: Home, config: Config) -> int | None:
    """Suppressed, unsubscribed, withdrawn and out of date, as the catalog is now; new ones, None without a ledger."""
    if not has_ledger(home, config):
        return None
    with open_ledger(config.ledger.url, home) as ledger:
        return project_catalog(home, ledger, datetime.now(UTC))


def refresh_evidence_vetoes(home: Home, config: Config) -> int:
    """Originals of open incidents that arrived after all, and complaints; new vetoes, 0 without a ledger."""
    if not has_ledger(home, config):
        return 0
    with open_ledger(config.ledger.url, home) as ledger:
        return project_evidence(home, config, ledger, datetime.now(UTC))


def project_catalog(home: Home, ledger: Ledger, now: datetime) -> int:
    """The catalog as it is loaded, read whole: vetoes that it no longer names go. `now` is aware UTC."""
    seen_to = Catalog(home).loaded_at()
    if seen_to is None:
        return 0
    with ledger.write() as connection:
        return vetoes.project(connection, veto_rows(home, now), source=CATALOG, seen_to=seen_to, now=now, replace=True)


def project_evidence(home: Home, config: Config, ledger: Ledger, now: datetime) -> int:
    """Veto the deliveries of every open incident whose original the evidence of today shows as delivered, and all mail
    to those who complained; what ended in the queue after a printed release is kept from a resend no more.

    The watermark says up to when the logs reach: the age of the evidence is measured by it. `now` is aware UTC.
    """
    last = max((part.last_at for part in Evidence(home).manifest().parts.values() if part.last_at), default=None)
    if last is None:
        return 0
    with ledger.read() as connection:
        known = incidents(connection)
    found = [*arrivals(home, ledger, outcomes(home, config, own=own_queue_ids(ledger)), known), *complaints(home)]
    with ledger.write() as connection:
        new = vetoes.project(connection, found, source=EVIDENCE, seen_to=min(now, from_micros(last)), now=now)
    for record in known:
        let_go(home, config, ledger, record, who=EVIDENCE, now=now)
    return new


def has_ledger(home: Home, config: Config) -> bool:
    """Whether an incident was ever opened here; a configured database counts as one."""
    return bool(config.ledger.url) or home.ledger_db.exists()
