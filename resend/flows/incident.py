"""Opens an incident and looks at one: outcomes, links, verdicts, vetoes, numbers. Decides nothing itself.

Raises what the linker, the report and the stores raise.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from resend.config import Config
from resend.flows.vetoes import project_catalog, project_evidence
from resend.linker.buckets import rebucket
from resend.linker.incident import IncidentInfo, Progress, find_incident, open_incident
from resend.model import Selector
from resend.report.impact import Impact, impact
from resend.stores.home import Home
from resend.stores.ledger import Ledger


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


def preview(home: Home, ledger: Ledger, ref: str, *, includes: Iterable[str] = (), now: datetime) -> Impact:
    """The numbers of an incident (id, name or a beginning of the id) as things stand at `now`. Changes nothing."""
    record = find_incident(ledger, ref)
    with rebucket(home, ledger, record.id, includes=includes, now=now) as affected:
        return impact(affected.con, affected.about)
