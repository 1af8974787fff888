"""Queries are files: each has a header, the portable ones keep to the subset that Spark shares."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

ROOT = Path(__file__).resolve().parent.parent / "sql"
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.sql"))
PORTABLE = [name for name in FILES if re.match(r"(outcome|link|impact|reconcile)/[^/]+\.sql$|outcome/closure/", name)]

FORBIDDEN = {
    r"\bqualify\b": "QUALIFY",
    r"::": "the cast ::",
    r"\[|\]": "a list",
    r"\bstruct_pack\b|\brow\(": "a struct",
    r"\barg_m(ax|in)\b|\bm(ax|in)_by\b": "arg_max",
    r"\bregexp_|\bsimilar to\b|~": "a regular expression",
    r"\bstrptime\b|\bepoch_us\b|\binterval\b|\bdate_(add|diff|trunc)\b|\bnow\(\)|\bcurrent_": "date arithmetic",
    r"\bhash\(|\bmd5\(|\bsha256\(": "a hash",
    r"\bfilter\s*\(": "FILTER",
    r"\bilike\b|\bglob\b|\bstarts_with\(|\bcontains\(|\blist_|\bunnest\b": "a DuckDB function",
    r"\banti join\b|\bsemi join\b|\bexclude\b": "DuckDB syntax",
}
RANKED = re.compile(r"\b(?:row_number|rank|dense_rank|lag|lead|first_value|last_value)\s*\([^)]*\)\s*over\s*\(", re.I)


def code(name: str) -> str:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return "\n".join(line.split("--")[0] for line in lines)


@pytest.mark.parametrize("name", FILES)
def test_a_query_says_its_purpose_parameters_and_columns(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    head = "\n".join(line for line in text.splitlines() if line.startswith("--"))
    assert text.startswith("-- Purpose:"), "a header comes first"
    if not name.startswith("catalog/setup/macros"):
        assert "Parameters:" in head and "Columns:" in head


@pytest.mark.parametrize("name", PORTABLE)
def test_a_portable_query_keeps_to_the_subset(name: str) -> None:
    found = [
        f"line {number}: {what}"
        for number, line in enumerate(code(name).splitlines(), 1)
        for pattern, what in FORBIDDEN.items()
        if re.search(pattern, re.sub(r"'[^']*'", "''", line), re.I)
    ]
    assert not found, f"{name}: {found}"


@pytest.mark.parametrize("name", PORTABLE)
def test_a_ranking_window_is_ordered(name: str) -> None:
    text = code(name)
    for match in RANKED.finditer(text):
        depth, end = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        assert re.search(r"order\s+by", text[match.end() : end], re.I), f"{name}: {match.group()} without ORDER BY"


@pytest.mark.parametrize("name", [name for name in PORTABLE if name.startswith("outcome/")])
def test_a_windows_order_says_where_nulls_go(name: str) -> None:
    """Spark and DuckDB differ in it; what runs over a whole partition needs no order."""
    text = code(name)
    for match in re.finditer(r"\bover\s*\(", text, re.I):
        depth, end = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        order = re.search(r"order\s+by(.*)", text[match.end() : end - 1], re.I | re.S)
        if order:
            keys = order[1].split("ROWS BETWEEN")[0]
            assert keys.upper().count("NULLS LAST") >= 1 + _commas(keys), f"{name}: {keys.strip()}"


def _commas(keys: str) -> int:
    """Commas between the keys of an ORDER BY, not those inside brackets."""
    depth = count = 0
    for letter in keys:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        count += letter == "," and not depth
    return count


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("ledger/")])
def test_a_query_is_one_that_duckdb_parses(name: str) -> None:
    """That each also runs is shown where it is used; sql/ledger runs on SQLite and PostgreSQL in tests/ledger."""
    assert duckdb.extract_statements((ROOT / name).read_text(encoding="utf-8"))


def test_the_lint_finds_what_it_forbids() -> None:
    for sample in (
        "SELECT a::INT",
        "QUALIFY x = 1",
        "regexp_matches(a, b)",
        "arg_max(a, b)",
        "hash(a)",
        "x FILTER (WHERE y)",
    ):
        assert any(re.search(pattern, sample, re.I) for pattern in FORBIDDEN), sample
