"""Tables fit, whatever the script; what came from a log cannot steer the terminal."""

from __future__ import annotations

import doctest
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.cli import render
from resend.cli.options import Options
from resend.cli.screen import Screen

TITLE = "【プレスリリース】株式会社サンプル、次世代クラウド配信基盤「リセンド」の提供を2026年11月24日に開始いたします"


def test_the_examples_hold():
    assert doctest.testmod(render).failed == 0


def test_a_table_with_japanese_titles_fits_and_lines_up():
    columns = [render.fixed("release"), render.Column("title"), render.Column("customer"), render.number("mails")]
    rows = [["r-2026-000123", TITLE, "株式会社サンプルホールディングス", 192080], ["r-1", "Short", "ACME", 3]]
    lines = render.table(columns, rows)
    assert all(render.width(line) <= 80 for line in lines)
    assert lines[1].endswith("192,080")
    assert "…" in lines[1]
    assert lines[1].startswith("r-2026-000123  【プレス")
    assert {render.width(line) for line in lines} == {80}


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60), st.integers(0, 10**9)), max_size=5))
def test_any_table_fits(rows):
    columns = [render.Column("one"), render.Column("two"), render.number("n")]
    for line in render.table(columns, rows):
        assert render.width(line) <= 80
        assert not any(unicodedata.category(char).startswith("C") for char in line)


@given(st.text(), st.integers(1, 40))
def test_shortened_text_fits(text, columns):
    assert render.width(render.shorten(render.clean(text), columns)) <= columns


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x07", "\u202e", "\x9b31m", "a\rb", "\u2028"])
def test_control_characters_do_not_reach_the_terminal(evil):
    cleaned = render.clean(evil)
    assert cleaned.isprintable()
    assert evil not in cleaned


def test_sentences_are_broken_where_the_screen_ends(capsys):
    screen = Screen(Options())
    screen.prose(
        "nothing of a started plan is meant now; what comes later is held, and 'resend unhold' ends it", indent=2
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(len(line) <= 80 for line in lines) and lines[1].startswith("  ")
