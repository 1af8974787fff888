"""Connections of a provider between hosts: who waits for one, and how many a host may have while somebody waits.

A host that finds all connections in use puts itself down as waiting, in rows of `provider_slot` whose numbers no
connection has; the row runs out when the host tells nothing for some seconds. PostgreSQL only, by its clock. In the
caller's write transaction.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, func, null, select, update
from sqlalchemy.dialects import postgresql

from resend.stores.setwise import pg_now
from resend.stores.tables import provider_slot

WAITING = 1_000_000  # numbers from here on are places of hosts that wait
_WAIT_S = 10.0  # a host that waits asks every second


def wait(conn: Connection, *, egress: str, provider: str, owner: str) -> None:
    """This host has mails to send and no connection, and others have all."""
    mine = (*_place(egress, provider), provider_slot.c.n >= WAITING)
    until = pg_now(_WAIT_S)
    known = update(provider_slot).where(*mine, provider_slot.c.owner == owner).values(lease_until=until)
    if conn.execute(known).rowcount:
        return
    conn.execute(delete(provider_slot).where(*mine, provider_slot.c.lease_until <= pg_now()))
    last = conn.execute(select(func.coalesce(func.max(provider_slot.c.n), WAITING - 1)).where(*mine)).scalar_one()
    row = {"egress": egress, "provider": provider, "n": int(last) + 1, "owner": owner}
    conn.execute(postgresql.insert(provider_slot).values(**row, lease_until=until).on_conflict_do_nothing())


def served(conn: Connection, *, egress: str, provider: str, owner: str) -> None:
    """This host waits no longer."""
    conn.execute(
        delete(provider_slot).where(
            *_place(egress, provider), provider_slot.c.n >= WAITING, provider_slot.c.owner == owner
        )
    )


def share(conn: Connection, *, egress: str, provider: str, connections: int) -> int:
    """How many connections one host may have: all while nobody waits, else an equal part, one at least."""
    here = _place(egress, provider)
    waiting = set(
        conn.scalars(
            select(provider_slot.c.owner).where(
                *here,
                provider_slot.c.n >= WAITING,
                provider_slot.c.owner != "",
                provider_slot.c.lease_until > pg_now(),
            )
        )
    )
    if not waiting:
        return connections
    holding = select(provider_slot.c.owner).where(*here, provider_slot.c.n < connections, provider_slot.c.owner != "")
    return max(1, connections // len(waiting | set(conn.scalars(holding))))


def give(conn: Connection, *, egress: str, provider: str, owner: str, numbers: tuple[int, ...]) -> int:
    """Connections that this host has closed are free for others; the count."""
    free = update(provider_slot).where(
        *_place(egress, provider), provider_slot.c.owner == owner, provider_slot.c.n.in_(numbers)
    )
    return conn.execute(free.values(owner="", batch_id="", lease_until=null())).rowcount


def _place(egress: str, provider: str) -> tuple[ColumnElement[bool], ...]:
    return provider_slot.c.egress == egress, provider_slot.c.provider == provider
