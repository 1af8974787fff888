"""A plan's file holds exactly the rows that were made, whatever stands in them; it appears whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resend.stores.home import Home
from resend.stores.plans import COLUMNS, PlanFile, PlanRow, write_plan

VALUES: dict[str, Any] = {
    "VARCHAR": "x",
    "BIGINT": 7,
    "BOOLEAN": False,
    "DOUBLE": 0.1,
}
ODD = st.text(
    st.sampled_from("ab\"\\,\t\n\r\x1d\x1e\x1f\x7f\u0085\u2028\ufeff 山%'")
    | st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    max_size=6,
)


def row(**changes: Any) -> PlanRow:
    return PlanRow(**{**{name: VALUES[kind] for name, kind in COLUMNS.items()}, **changes})


@given(
    st.lists(st.tuples(ODD, ODD, ODD, st.integers(-(2**62), 2**62), st.booleans(), st.floats(1e-9, 1e9)), max_size=30)
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(tmp_path: Path, made: list[tuple[str, str, str, int, bool, float]]) -> None:
    home = Home(tmp_path / "home").create()
    rows = [
        row(key=key, title=title, zone=zone, urgency=number, canary=canary, rate=rate)
        for key, title, zone, number, canary, rate in made
    ]
    assert write_plan(home, "p", iter(rows)) == len(rows)
    with PlanFile(home, "p") as frozen:
        assert list(frozen.rows()) == rows


@pytest.mark.parametrize("text", ["", "\x1d", "NULL", "\x1e\x1e", "\x1f", "\n", "\r\n", " x ", "#", "x" * 200_000])
def test_one_odd_text_among_many_rows(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path / "home").create()
    rows = [row(seq=number, title="t") for number in range(5_000)]
    rows[3_000] = row(seq=3_000, title=text, key=text)
    write_plan(home, "p", rows)
    with PlanFile(home, "p") as frozen:
        assert list(frozen.rows()) == rows


def test_a_file_that_is_not_whole_never_appears(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()

    def stopped() -> Iterator[PlanRow]:
        yield from (row(seq=number) for number in range(10_000))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_plan(home, "p", stopped())
    assert list(home.derived.iterdir()) == []
    assert threading.active_count() == 1


def test_a_value_of_another_type_is_an_error_and_nobody_waits_for_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    with pytest.raises(duckdb.Error):
        write_plan(home, "p", (row(seq="many" if number == 100 else number) for number in range(200_000)))
    assert list(home.derived.iterdir()) == []
    assert threading.active_count() == 1
