"""The ceilings that a plan was made with, where the ledger already remembers a rate of that (egress, provider).

A rate that is new to the ledger begins with the plan's ceiling by itself. In the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, case, insert, update

from resend.clock import format_rate, to_text
from resend.stores.tables import audit, provider_rate


def put(conn: Connection, ceilings: Mapping[tuple[str, str], float], *, plan_id: str, who: str, now: datetime) -> int:
    """Set the ceilings (mails per second) by (egress, provider), audited; how many were there to be set."""
    count = 0
    for (egress, provider), rate in sorted(ceilings.items()):
        held = case((provider_rate.c.rate > rate, rate), else_=provider_rate.c.rate)
        done = conn.execute(
            update(provider_rate)
            .where(provider_rate.c.egress == egress, provider_rate.c.provider == provider)
            .values(ceiling=rate, rate=held)
        ).rowcount
        if done:
            count += 1
            conn.execute(
                insert(audit).values(
                    at=to_text(now),
                    who=who,
                    what="plan_ceiling",
                    plan_id=plan_id,
                    egress=egress,
                    provider=provider,
                    value=format_rate(rate),
                    reason="the plan was made with --rate",
                )
            )
    return count
