"""Opens an incident and looks at one: outcomes, links, verdicts, vetoes, numbers. Decides nothing itself.

Raises what the linker, the report and the stores raise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime

from resend.config import Config
from resend.flows.ended import ended
from resend.flows.vetoes import project_catalog, project_evidence
from resend.linker.buckets import rebucket
from resend.linker.incident import IncidentInfo, Progress, find_incident, open_incident
from resend.model import Bucket, Selector
from resend.report.ended import NOTHING, Ended
from resend.report.impact import Impact, impact
from resend.report.postmaster import Postmaster, told
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.rows import IncidentRecord


def open_(
    home: Home,
    config: Config,
    ledger: Ledger,
    name: str,
    selector: Selector,
    *,
    now: datetime,
    progress: Progress | None = None,
) -> IncidentInfo:
    """Project what must not be sent, then link, judge and freeze. `now` is aware UTC."""
    project_catalog(home, ledger, now)
    project_evidence(home, config, ledger, now)
    return open_incident(home, config, ledger, name, selector, now=now, progress=progress)


def preview(
    home: Home,
    ledger: Ledger,
    ref: str,
    *,
    includes: Iterable[str] = (),
    config: Config | None = None,
    now: datetime,
) -> Impact:
    """The numbers of an incident (id, name or a beginning of the id) as things stand at `now`. Changes nothing.

    With a `config` the outcomes of today say what of the queued mail has ended since.
    """
    record = find_incident(ledger, ref)
    with rebucket(home, ledger, record.id, includes=includes, now=now) as affected:
        over = NOTHING if config is None else ended(affected, home, config, ledger, record, now=now)
        return dataclasses.replace(impact(affected.con, affected.about), ended=over)


def for_provider(home: Home, ledger: Ledger, ref: str, provider: str, *, now: datetime) -> Postmaster:
    """What an incident has to say to the postmaster of one receiving system."""
    record = find_incident(ledger, ref)
    with rebucket(home, ledger, record.id, now=now) as affected:
        return told(affected.con, affected.about, provider)


def ended_since(home: Home, config: Config, ledger: Ledger, record: IncidentRecord, *, now: datetime) -> Ended:
    """What of an incident's queued mail has bounced or expired since it was opened."""
    buckets = record.counts.get("buckets")
    if not isinstance(buckets, dict) or not buckets.get(Bucket.STILL_QUEUED):
        return NOTHING  # as of most: no need to look
    with rebucket(home, ledger, record.id, now=now) as affected:
        return ended(affected, home, config, ledger, record, now=now)
