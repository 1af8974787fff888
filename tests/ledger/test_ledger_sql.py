"""The views that a person runs by hand: each runs on both databases and says what its header promises."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import text

from resend.model import TRANSITIONS, State, TryOutcome
from resend.stores import sql
from resend.stores.ledger import Ledger
from tests.ledger.world import World, arm, end, refuse, send_all

NAMES = sql.names("ledger")
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", NAMES)
def test_a_view_runs_and_has_the_columns_of_its_header(ledger: Ledger, name: str) -> None:
    query = sql.load(name)
    head = " ".join(line.removeprefix("--").strip() for line in query.splitlines() if line.startswith("--"))
    promised = re.sub(r"\([^)]*\)", "", head.split("Columns:")[1]).strip().rstrip(".")
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    send_all(world, held.rows[:1])
    doubtful = arm(held.rows[1])
    ledger.apply([doubtful, end(doubtful, TryOutcome.IN_DOUBT), refuse(held.rows[2], TryOutcome.REJECTED)])
    with ledger.read() as conn:
        result = conn.execute(text(query))
        assert list(result.keys()) == [column.strip() for column in promised.split(",")]
        rows = result.all()
    if name == "ledger/10_plans":
        assert tuple(rows[0])[3:] == (10, 7, 0, 1, 0, 1, 1, 0)
    if name == "ledger/30_doubt":
        assert [row.key for row in rows] == [doubtful.key]


def test_the_page_of_states_shows_the_table() -> None:
    """docs/states.md and model.TRANSITIONS say the same."""
    page = (DOCS / "states.md").read_text(encoding="utf-8")
    block = page.split("\n\n    ")[1].split("\n\n")[0]
    shown: set[tuple[str, str]] = set()
    for part in re.split(r"\n|\s{3,}", block):
        steps = [[state.strip() for state in step.split("|")] for step in part.split("->")]
        for before, after in pairwise(steps):
            shown |= {(one, other) for one in before for other in after}
    assert shown == {(str(before), str(after)) for before, after in TRANSITIONS}
    described = set(re.findall(r"^\| (\w+) \|", page, re.M)) - {"state"}
    assert described == {str(state) for state in State}
