"""A host that joins late waits for a part of the connections, by the ledger's word alone. PostgreSQL only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from resend.stores import sharing
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.rows import Batch
from resend.stores.tables import batch, provider_slot
from tests import postgres
from tests.ledger.world import World

pytestmark = pytest.mark.postgres
FOUR = {"connections": 4, "want": 4, "shared": True}
PLACE = {"egress": "direct", "provider": "office365"}


@pytest.fixture
def world(tmp_path: Path, postgres_server: postgres.Server, empty_ledger: str) -> Iterator[World]:
    url = postgres_server.database(template=empty_ledger)
    with open_ledger(url, Home(tmp_path / "none")) as ledger:
        made = World(ledger, count=12, size=2).start()
        with ledger.write() as conn:
            conn.execute(update(batch).values(canary=0))
        yield made
    postgres_server.drop(url)


def claimed(world: World, owner: str, held: tuple[int, ...] = ()) -> Batch | None:
    return world.claim(owner=owner, now=datetime.now(UTC), held=held, **FOUR)  # type: ignore[arg-type]


def waits(ledger: Ledger, owner: str) -> None:
    with ledger.write() as conn:
        sharing.wait(conn, owner=owner, **PLACE)


def part(ledger: Ledger) -> int:
    with ledger.write() as conn:
        return sharing.share(conn, connections=4, **PLACE)


def test_one_that_has_all_gives_a_part_to_one_that_waits(world: World) -> None:
    held: tuple[int, ...] = ()
    while len(held) < 4:
        taken = claimed(world, "first", held)
        assert taken is not None
        held = taken.slots
    assert claimed(world, "late") is None and part(world.ledger) == 4
    waits(world.ledger, "late")
    waits(world.ledger, "late")
    assert part(world.ledger) == 2, "one host waits, however often it says so"
    with world.ledger.write() as conn:
        assert sharing.give(conn, owner="first", numbers=held[2:], **PLACE) == 2
        assert sharing.give(conn, owner="other", numbers=held[:2], **PLACE) == 0, "nobody gives what is another's"
    mine = claimed(world, "first", held[:2])
    assert mine is not None and mine.slots == held[:2], "what was given is not taken back"
    late = claimed(world, "late")
    assert late is not None and late.slots == held[2:], "the whole part, not half of it"
    with world.ledger.write() as conn:
        sharing.served(conn, owner="late", **PLACE)
    assert part(world.ledger) == 4


def test_a_host_that_waits_and_tells_nothing_more_counts_no_longer(world: World) -> None:
    assert claimed(world, "first") is not None
    for owner in ("second", "third"):
        waits(world.ledger, owner)
    assert part(world.ledger) == 1
    with world.ledger.write() as conn:
        silent = provider_slot.c.owner.in_(("second", "third"))
        conn.execute(update(provider_slot).where(silent).values(lease_until="2026-01-01T00:00:00.000000Z"))
    assert part(world.ledger) == 4
    waits(world.ledger, "fourth")
    assert part(world.ledger) == 2
