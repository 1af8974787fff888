"""The sender's live mail as all hosts' logs tell it: each log's rates, and what they add up to. PostgreSQL only.

In the caller's transaction, by the database's clock. Decides nothing; raises what the database raises.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql

from resend.stores.setwise import pg_now
from resend.stores.tables import live_rate, provider_rate

FRESH_S = 20.0  # whoever followed a log and has said nothing for so long is gone
Told = Mapping[str, tuple[Mapping[str, float], Collection[str] | None]]
"""By source (host and log): mails per second by provider, and the egresses that it tells of (None: all)."""


def exchange(conn: Connection, told: Told) -> dict[tuple[str, str], float]:
    """Leave what this host's logs tell, and take what all logs tell: mails per second by (egress, provider)."""
    if told:
        places = conn.execute(select(provider_rate.c.egress, provider_rate.c.provider)).all()
        rows = [
            {"source": source, "egress": egress, "provider": provider, "rate": rates.get(provider, 0.0)}
            for source, (rates, by) in sorted(told.items())
            for egress, provider in sorted(tuple(place) for place in places)
            if by is None or egress in by
        ]
        if rows:
            new = postgresql.insert(live_rate).values(at=pg_now())
            conn.execute(
                new.on_conflict_do_update(
                    index_elements=["source", "egress", "provider"], set_={"rate": new.excluded.rate, "at": pg_now()}
                ),
                rows,
            )
    total = (
        select(live_rate.c.egress, live_rate.c.provider, func.sum(live_rate.c.rate))
        .where(live_rate.c.at > pg_now(-FRESH_S))
        .group_by(live_rate.c.egress, live_rate.c.provider)
    )
    return {(egress, provider): float(rate) for egress, provider, rate in conn.execute(total)}
