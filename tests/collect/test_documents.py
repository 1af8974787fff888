"""JSON in any layout comes out as the values that it holds, one a line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.collect.documents import blocks, holds_list, is_spread, values

events = st.lists(
    st.dictionaries(
        st.text(max_size=6), st.one_of(st.text(max_size=20), st.integers(), st.none()), min_size=1, max_size=3
    ),
    max_size=6,
)


@given(events, st.sampled_from([None, 1, 4]), st.booleans(), st.integers(1, 50))
def test_values_come_out_whole(found: list[dict[str, object]], indent: int | None, listed: bool, size: int) -> None:
    text = (
        json.dumps(found, indent=indent, ensure_ascii=False)
        if listed
        else "\n".join(json.dumps(value, indent=indent, ensure_ascii=False) for value in found)
    )
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    lines = list(values(chunks))
    assert [json.loads(line) for line in lines] == found
    assert all("\n" not in line for line in lines)
    assert b"".join(blocks(chunks)).count(b"\n") == len(found)


@given(events, events, st.sampled_from([None, 1]), st.booleans(), st.integers(1, 50))
def test_a_list_in_an_object_is_opened(
    found: list[dict[str, object]], more: list[dict[str, object]], indent: int | None, late: bool, size: int
) -> None:
    """Pages of an export, one after the other; what stands after the list is an object of its own."""
    token: dict[str, object] = {"nextToken": "f/1=="}
    pages = [token | {"events": page} if late else {"events": page} | token for page in (found, more)]
    text = "\n".join(json.dumps(page, indent=indent, ensure_ascii=False) for page in pages)
    lines = [
        json.loads(line) for line in values([text[at : at + size] for at in range(0, len(text), size)], opened=True)
    ]
    rest = [] if late else [token]
    expected = [page + rest if page else [whole] for page, whole in zip((found, more), pages, strict=True)]
    assert lines == [line for page in expected for line in page]
    assert holds_list(text) is bool(found)


@given(st.text(alphabet='{}[]",:\\ab1 \n', max_size=60), st.integers(1, 7))
def test_any_text_ends_and_nothing_of_it_is_lost(text: str, size: int) -> None:
    list(values((text[at : at + size] for at in range(0, len(text), size)), opened=True))
    found = "".join(values(text[at : at + size] for at in range(0, len(text), size)))
    kept = [letter for letter in text if letter not in " \n,[]"]
    assert [letter for letter in found if letter not in " \n,[]"] == kept


@pytest.mark.parametrize(
    ("text", "spread"),
    [
        ('{"a": 1}\n{"a": 2}\n', False),
        ('[{"a": 1}]\n[{"a": 2}]\n', False),
        ('{"a": 1}', False),
        ('{\n  "a": 1\n}\n', True),
        ('[\n{"a": 1},\n{"a": 2}]', True),
        ('{"a": "' + "x" * 600_000 + '"}\n', True),
        ('{"cut": \n{"a": 1}\n', False),
        ("Dec  7 13:28:01 mta1 postfix", False),
    ],
)
def test_the_layout_is_known_by_its_beginning(text: str, spread: bool) -> None:
    assert is_spread(text) is spread
