"""`worker`: sends batches of whatever plan is started, until it is told to stop. PostgreSQL only.

Starts no plan and needs no count: a person gave it with `run`. The host's home must be able to make the mails
(flows/ready.py). Raises UsageError for a ledger in SQLite, StoreError where the home lacks something.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from resend.config import Config
from resend.errors import Exit, UsageError
from resend.executor.ending import RunSummary
from resend.flows import run as sending
from resend.stores import lifecycle
from resend.stores.home import Home
from resend.stores.ledger import Ledger

_TOLD = "signal SIGTERM"


def worker(
    home: Home,
    config: Config,
    ledger: Ledger,
    options: sending.RunOptions,
    *,
    progress: sending.Progress | None = None,
) -> RunSummary:
    """Send until `resend stop` or a signal; mails under way are finished first. SIGTERM is its usual end, like `stop`:
    exit 0. SIGINT is an interruption."""
    if ledger.dialect == "sqlite":
        raise UsageError(
            "workers need a ledger in PostgreSQL; one in SQLite is sent from by one run at a time",
            where="ledger.url",
            next_step="use 'resend run PLAN --confirm N', or set ledger.url to postgresql+psycopg://HOST/NAME",
        )
    summary = sending.work(home, config, ledger, options, progress=progress)
    now = datetime.now(UTC)
    with ledger.write() as conn:
        lifecycle.finish_plans(conn, now=now)
    if summary.stopped == _TOLD or summary.exit is not Exit.INTERRUPTED:
        return replace(summary, exit=Exit.DONE)
    return summary
