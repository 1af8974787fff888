"""Lines of the usual shape take a shorter query: it gives what the full one gives, of any line.

The lines are those of the cases and of the benchmark, whole and damaged. Where a format has such a query, most lines of
a made-up log take it alone.
"""

from __future__ import annotations

import random
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resend.collect import parse
from resend.stores import sql
from scripts.benchmarks import formats as benchmark
from tests.collect.reading import REPOSITORY

FORMATS = sorted(name.rpartition("/")[2] for name in sql.names("collect/usual"))
MADE_UP = {case.format: case for case in benchmark.CASES}
SPLIT = ": split: count=2, ids=60F9aaaa000001, 60F9aaaa000002"
TIMEOUT = "timeout waiting for input from mx during client DATA status"
DAMAGE = (
    "", "x", " ", "  ", '"', ": ", ">", "<", "@", ",", ", ", "花", "[", "] ", " H=", ' C="', " T=", ' T="', ' DN=""',
    " QT=5s", " defer (1): ", ": clone: ", SPLIT, TIMEOUT, ", stat=", ", dsn=", ", relay=", ", size=", " [more]",
    " messages", " result=", ' stat="', "(", ")", "Jan 45", "2026-02-30",
)  # fmt: skip


def made_up(name: str, count: int) -> list[str]:
    return list(islice(MADE_UP[name].lines(random.Random(3)), count))


def lines_of(name: str) -> list[str]:
    """Of the cases, and some of the benchmark's."""
    found = made_up(name, 60)
    for case in sorted((REPOSITORY / "tests/cases" / name).iterdir()):
        for path in case.iterdir():
            if path.name != "expected.json":
                found += path.read_text(encoding="utf-8", errors="replace").splitlines()
    return found


LINES = {name: lines_of(name) for name in FORMATS}


def reading(name: str) -> parse.Reading:
    return parse.Reading(name, "Asia/Tokyo", date(2026, 3, 1), "", heading=MADE_UP[name].heading)


def written(data: bytes, how: parse.Reading, out: Path, *, usual: bool) -> tuple[parse.Parsed, list[Any], list[Any]]:
    """Accounting, columns and rows of a part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse, "USUAL_BYTES", 0 if usual else 1 << 60)
        parsed = parse.parse_block(data, how, out)
    with duckdb.connect() as con:
        relation = con.read_parquet(str(out))
        return parsed, list(zip(relation.columns, relation.types, strict=True)), sorted(relation.fetchall(), key=repr)


@pytest.mark.parametrize("name", FORMATS)
def test_most_lines_take_the_short_query_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "USUAL_BYTES", 0)
    data = "\n".join(made_up(name, 3_000)).encode() + b"\n"
    assert parse.query_of(data, reading(name)) == f"FROM collect_usual_{name}"


@pytest.mark.parametrize("name", FORMATS)
def test_whole_lines_give_the_same(name: str, tmp_path: Path) -> None:
    data = "\n".join(LINES[name] + made_up(name, 3_000)).encode() + b"\n"
    out = tmp_path / "part.parquet"
    assert written(data, reading(name), out, usual=True) == written(data, reading(name), out, usual=False)


@pytest.mark.parametrize("name", FORMATS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_lines_give_the_same(name: str, tmp_path: Path, data: st.DataObject) -> None:
    lines = []
    for line in data.draw(st.lists(st.sampled_from(LINES[name]), min_size=1, max_size=30)):
        start, end = sorted(data.draw(st.tuples(st.integers(0, len(line)), st.integers(0, len(line)))))
        put = data.draw(st.sampled_from((*DAMAGE, line[start:end])))
        lines.append(line[:start] + put + line[data.draw(st.sampled_from((start, end))) :])
    block, out = "\n".join(lines).encode() + b"\n", tmp_path / "part.parquet"
    assert written(block, reading(name), out, usual=True) == written(block, reading(name), out, usual=False)
