"""`catch-up`: sends the rows of started plans that have become due, with fresh knowledge of what must not be sent.

Safe from a timer: a second one ends with LockHeld, and a run that is going on is left alone. Takes in nothing new: the
rows are those of plans that a person confirmed. Raises what the run raises.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from resend.config import Config
from resend.errors import ConfigError
from resend.executor.run import RunSummary
from resend.flows import run as sending
from resend.flows.vetoes import project_catalog, project_evidence
from resend.stores.home import Home
from resend.stores.ledger import Ledger


def catch_up(
    home: Home,
    config: Config,
    ledger: Ledger,
    *,
    max_duration: timedelta | None,
    progress: sending.Progress | None = None,
) -> RunSummary:
    """Project late arrivals and the catalog into the ledger, then send what is due, for at most `max_duration`."""
    if config.catchup.providers or config.catchup.causes:
        raise ConfigError(
            "the standing policy is not in this version; catch-up sends the due rows of confirmed plans",
            where="[catchup]",
            next_step="take its providers and causes away",
        )
    now = datetime.now(UTC)
    project_catalog(home, ledger, now)
    project_evidence(home, config, ledger, now)
    return sending.catch_up(home, config, ledger, max_duration=max_duration, progress=progress)
