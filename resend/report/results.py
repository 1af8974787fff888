"""What the resend of an incident came to so far, counted from the ledger's deliveries. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from resend.clock import from_text
from resend.model import Fate, State
from resend.stores.catchups import Share, share
from resend.stores.tables import delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Deliveries of one incident: `planned` is all of them, and equals the sum over `states`."""

    planned: int
    states: Mapping[State, int]
    fates: Mapping[Fate, int]  # of the accepted ones
    by_release: Mapping[str, tuple[int, int]]  # release -> (planned, accepted)
    first_at: datetime | None  # of the first and the last acceptance
    last_at: datetime | None
    catch_up: Share | None = None  # this incident's part of the last catch-up

    @property
    def accepted(self) -> int:
        return self.states.get(State.ACCEPTED, 0)


def results(conn: Connection, incident_id: str) -> Results:
    """Count one incident's deliveries over all its plans."""
    ours = delivery.c.incident_id == incident_id
    states = {
        State(state): count
        for state, count in conn.execute(select(delivery.c.state, func.count()).where(ours).group_by(delivery.c.state))
    }
    fates = {
        Fate(fate): count
        for fate, count in conn.execute(
            select(delivery.c.fate, func.count())
            .where(ours, delivery.c.state == State.ACCEPTED, delivery.c.fate != "")
            .group_by(delivery.c.fate)
        )
    }
    releases: dict[str, tuple[int, int]] = {}
    for release, state, count in conn.execute(
        select(delivery.c.release, delivery.c.state, func.count())
        .where(ours)
        .group_by(delivery.c.release, delivery.c.state)
    ):
        planned, accepted = releases.get(release, (0, 0))
        releases[release] = (planned + count, accepted + (count if state == State.ACCEPTED else 0))
    first, last = conn.execute(
        select(func.min(delivery.c.accepted_at), func.max(delivery.c.accepted_at)).where(ours)
    ).one()
    return Results(
        planned=sum(states.values()),
        states=states,
        fates=fates,
        by_release=releases,
        first_at=from_text(first) if first else None,
        last_at=from_text(last) if last else None,
        catch_up=share(conn, incident_id),
    )
