"""A mail's variables put together from texts are the canonical JSON of the whole, and only what fits passes unseen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.flows.bodies import StoredBodies
from resend.planner.draft import Candidate
from resend.planner.variables import GIVEN, Texts
from resend.policy.content import ContentError, canonical, validate
from resend.policy.dressing import FROZEN
from resend.policy.template import placed
from resend.stores.content import Content
from resend.stores.home import Home

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", "山田　太郎", 'O"Brien', "a\\b", "50% %s", "x\ny", "bell\x07", "esc\x1b", "\x7f", "\x85", "\u2028", "\ufdd0"]
)
NAMES = st.sampled_from(
    ["outlet", "delayed", "name", "title", "attr", FROZEN, "", "%s", 'q"', "zz", "日本", "sender", "customer_name2"]
)
VALUES = TEXT | st.none() | st.booleans() | st.integers() | st.lists(TEXT, max_size=2)
DRESSED = st.sampled_from([{}, {"dkim": "k1"}, {"unsubscribe": "https://example.jp/u/%s", "dkim": "k"}])


class Made(NamedTuple):
    text: str
    plain: frozenset[str]


def one(texts: Texts, given: tuple[str, ...], *, attrs: str, delayed: str, frozen: dict[str, str]) -> Made:
    """Of one mail; that it does not hang on others is shown by giving the maker several."""
    (text,), (plain,) = texts.of([[value] for value in given], attrs=[attrs], delayed=[delayed], frozen=[frozen])
    return Made(text, plain)


def whole(given: tuple[str, ...], attrs: dict[str, Any], delayed: str, frozen: dict[str, str], sorry: bool) -> str:
    """The variables as one object: attributes under their names where none of ours hides them."""
    found = {"delayed": "", **attrs, "attr": attrs, **dict(zip(GIVEN, given, strict=True))}
    found.pop(FROZEN, None)
    if sorry:
        found["delayed"] = delayed
    if frozen:
        found[FROZEN] = frozen
    return canonical(found)


@given(
    st.lists(
        st.tuples(
            st.tuples(*[TEXT] * len(GIVEN)), st.dictionaries(NAMES, VALUES, max_size=5), TEXT, DRESSED, st.booleans()
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)
def test_the_text_is_the_canonical_json_of_the_whole(mails: list[Any], sorry: bool) -> None:
    texts = Texts(sorry=sorry)
    for given_, attrs, delayed, frozen, unsorted in mails:
        line = delayed if sorry else ""
        written = json.dumps(attrs, ensure_ascii=unsorted) if attrs or unsorted else ""
        made = one(texts, given_, attrs=written, delayed=line, frozen=frozen)
        assert made.text == whole(given_, attrs, line, frozen, sorry)


TEMPLATES = [
    "From: N <n@example.jp>\nSubject: {{ title }}\n\n{{ name }} {{ delayed }}\n",
    "From: {{ sender }}\nTo: {{ name }} <{{ rcpt }}>\n\n{{ recipient }}{{ message_id }}{{ date }}{{ envelope_from }}\n",
    "From: N <n@example.jp>\nContent-Type: text/html\n\n{{ outlet }} {{ customer_name }}\n",
    "From: N <n@example.jp>\n\n{{ attr.outlet }} {{ name|upper }}\n",
    "From: N <n@example.jp>\n\n{{ attr.outlet }}\n",
    "From: {{ recipient.name }} <n@example.jp>\n\n{{ recipient.address }} {{ recipient.id }} {{ attr.title }}\n",
    "From: N <n@example.jp>\n\n{{ attr }}\n",
    "From: N <n@example.jp>\n\n{{ _resend }}\n",
    "From: N <n@example.jp>\n\n{{ nowhere }}\n",
    "From: N <n@example.jp>\nno field\n",
]


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> StoredBodies:
    home = Home(tmp_path_factory.mktemp("home")).create()
    for number, template in enumerate(TEMPLATES):
        (Path(home.content) / f"{number}.eml.j2").write_text(template, encoding="utf-8")
    return StoredBodies(home)


def complaint(check: Any) -> str:
    try:
        check()
    except ContentError as error:
        return str(error)
    return ""


@given(
    st.integers(0, len(TEMPLATES) - 1),
    st.tuples(*[TEXT] * len(GIVEN)),
    st.dictionaries(NAMES, VALUES, max_size=4),
    TEXT,
    DRESSED,
)
def test_what_passes_unseen_would_pass_the_long_look(
    bodies: StoredBodies,
    number: int,
    given_: tuple[str, ...],
    attrs: dict[str, Any],
    sender: str,
    frozen: dict[str, str],
) -> None:
    made = one(Texts(sorry=False), given_, attrs=json.dumps(attrs), delayed="", frozen=frozen)
    known = dict(zip(GIVEN, given_, strict=True))
    candidate = Candidate(
        outcome_id=1, incident_id="i", release=str(number), recipient_id=known["recipient"], rcpt_key="a@example.jp",
        rcpt=known["rcpt"], domain="example.jp", provider="p", customer="c", title=known["title"], sender=sender,
        envelope_from="b@example.jp", urgency=5, expires_at=None, arrived_at=None, sent_at=None, message_id="<m@x>",
        variables=made.text, plain=made.plain, generation=1,
    )  # fmt: skip
    body = Content("template", "0" * 64)
    assert complaint(lambda: bodies.check(body, candidate, message_id="<m@x>", date="", full=False)) == complaint(
        lambda: validate(
            TEMPLATES[number], json.loads(made.text), rcpt=known["rcpt"], title=known["title"], sender=sender
        )
    )


def test_plain_mail_to_people_of_japan_passes_unseen() -> None:
    """Full-width spaces are in many names: such a mail must not take the long look."""
    given_ = tuple("山田　太郎" if name == "name" else "x" for name in GIVEN)
    made = one(Texts(sorry=False), given_, attrs='{"outlet":"朝日　新聞"}', delayed="", frozen={})
    assert {"name", "outlet", "title", "delayed", "attr.outlet"} <= made.plain
    assert "attr.title" not in made.plain
    assert placed("X-A: {{ attr.outlet }}\n\n{{ recipient.name }}{{ rcpt }}") == frozenset(
        {"attr.outlet", "name", "rcpt"}
    )
    assert placed("X-A: b\n\n{{ attr }}") is placed("X-A: b\n\n{{ name|upper }}") is None
    assert not one(Texts(sorry=False), given_, attrs='{"outlet":"a\\u0007"}', delayed="", frozen={}).plain
