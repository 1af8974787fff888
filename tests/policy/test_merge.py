"""Mail merge: what is filled without Jinja2 is what Jinja2 would have made, to the byte, errors too."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resend.policy import merge, template
from resend.policy.message import ContentError
from resend.policy.recipe import recipe_of

PLACES = [
    "{{ name }}",
    "{{name}}",
    "{{ rcpt }}",
    "{{ title }}",
    "{{ attr.outlet }}",
    "{{ attr.items }}",
    "{{ outlet }}",
    "{{ recipient }}",
    "{{ recipient.id }}",
    "{{ recipient.name }}",
    "{{ recipient.address }}",
    "{{ date }}",
    "{{ message_id }}",
    "{{ sender }}",
    "{{ envelope_from }}",
    "{{ customer }}",
    "{{ count }}",
]
NOT_PLAIN = [
    "{% if name %}{{ name }}{% endif %}",
    "{{ name|upper }}",
    "{{ attr }}",
    "{{ missing }}",
    "{{ range }}",
    "{{ name ~ title }}",
    "{# said to nobody #}",
    "\ue0000\ue001",
]
TEXTS = [
    "Good day",
    "拝啓 時下ますますご清栄のこととお慶び申し上げます。",
    "髙橋と﨑さん",
    "🎉",
    "é ü",
    "a < b & c > d",
    ".\n..\n.",
    "x" * 500,
    "y" * 997,
    "\n",
    "\n\n",
    "  ",
    "--",
    "a=b",
    "日本" * 400,
]
HEADS = [
    "From: News, Inc. <news@example.jp>",
    "From: 株式会社サンプル <news@example.jp>",
    "To: @ <{{ rcpt }}>",
    "To: {{ rcpt }}",
    'To: "@" <{{ rcpt }}>, other@example.jp',
    "To: undisclosed-recipients:;",
    "Subject: 【発表】@",
    "Subject: @ and some more words that make it long enough to be folded over two lines, @",
    "Subject: first\n\tthen @\n   ",
    "subject : plain",
    "Date: {{ date }}",
    "Message-ID: <@>",
    "X-Campaign: @/@",
    "Return-Path: <@>",
    "List-Unsubscribe: <https://example.jp/u?id={{ recipient }}>",
    "{{ name }}: text",
    "no colon at all",
    " begins with a space",
]
VALUES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["山田 太郎", "髙橋", "Taro, Jr. (PR)", 'say "hi"', "=?utf-8?q?x?=", "a\r\nb", "\r", "\u2028", "\ufdd1"]
    ),
    st.sampled_from(["\ue0000\ue001", "<b>", "🎉", "", "n" * 990, "\x00", "\ud800"]),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.just({"a": 1}),
    st.just(["a"]),
)
CHARSETS = ["UTF-8", "ISO-2022-JP", "us-ascii", "Shift_JIS", "EUC-JP", "iso-8859-1", "utf-16"]
ENCODINGS = ["", "7bit", "8bit", "base64", "quoted-printable"]


@st.composite
def variables(draw: st.DrawFn) -> dict[str, Any]:
    """As a plan freezes them, and as odd as a catalog can make them."""
    made: dict[str, Any] = {
        "recipient": draw(st.one_of(st.just("N1"), VALUES, st.just({"id": "N2", "name": "Hanako"})))
    }
    for name in ("name", "outlet", "customer", "count", "missing", "title", "range", "attr"):
        if draw(st.integers(0, 3)):
            made[name] = draw(VALUES)
    if draw(st.integers(0, 4)):
        made["attr"] = draw(st.dictionaries(st.sampled_from(["outlet", "name", "items", "count"]), VALUES))
    return made


@st.composite
def texts(draw: st.DrawFn, more: list[str]) -> str:
    return "".join(draw(st.lists(st.sampled_from([*TEXTS, *PLACES, *more]), max_size=6)))


def _field(line: str) -> str:
    return line.partition(":")[0].strip().lower()


@st.composite
def heads(draw: st.DrawFn, more: list[str]) -> str:
    once = draw(st.sampled_from([True, True, True, False]))
    lines = draw(st.lists(st.sampled_from(HEADS), max_size=6, unique_by=_field if once else None))
    return "".join(line.replace("@", draw(st.sampled_from([*PLACES, *more]))) + "\n" for line in lines)


@st.composite
def parts(draw: st.DrawFn, more: list[str]) -> str:
    """A part of a mail, with its fields: a text, an attachment, or parts."""
    kind = draw(st.sampled_from(["text/plain", "text/plain", "text/html", "application/pdf", "multipart/alternative"]))
    if kind == "multipart/alternative":
        inner = draw(st.lists(parts(more), min_size=1, max_size=2))
        return (
            f'Content-Type: {kind}; boundary="b{len(inner)}"\n\n'
            + "".join(f"--b{len(inner)}\n{one}\n" for one in inner)
            + f"--b{len(inner)}--\n"
        )
    if kind == "application/pdf":
        name = draw(st.sampled_from(["", '; name="報告.pdf"']))
        data = draw(st.sampled_from(["JVBERi0xLjcK\n", "", "{{ name }}"]))
        return f"Content-Type: {kind}{name}\nContent-Transfer-Encoding: base64\nContent-ID: <p1>\n\n{data}"
    typed = f"Content-Type: {kind}; charset={draw(st.sampled_from(CHARSETS))}"
    encoding = draw(st.sampled_from(ENCODINGS))
    return typed + (f"\nContent-Transfer-Encoding: {encoding}" if encoding else "") + f"\n\n{draw(texts(more))}"


def _said(make: Any, source: str, given: dict[str, Any], known: dict[str, str]) -> bytes | str:
    try:
        made: bytes = make(source, given, **known)
        return made
    except ContentError as error:
        return f"refused: {error}"


KNOWN = {
    "key": "k" * 64,
    "message_id": "release.R1.N1@example.jp",
    "date": "2026-11-24T08:20:32.123456Z",
    "sender": "広報 <pr@example.jp>",
    "envelope_from": "bounce@example.jp",
    "rcpt": "..a..@docomo.ne.jp",
    "title": "新製品 (title)",
}


@st.composite
def known(draw: st.DrawFn) -> dict[str, str]:
    odd = {
        "message_id": ["<a@b>", "ü@example.jp", "x" * 2_000],
        "date": ["Tue, 24 Nov 2026 08:20:32 +0900", "soon", ""],
        "sender": ["not an address", "a@例え.jp"],
        "rcpt": ["taro@example.jp", "not an address"],
        "title": ["", "a\nb", "<t>", "A title"],
        "key": ["", "0" * 64],
    }
    return {name: draw(st.sampled_from([text, text, text, *odd.get(name, [])])) for name, text in KNOWN.items()}


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_any_plain_template_gives_the_bytes_of_jinja2(data: st.DataObject) -> None:
    source = data.draw(heads([])) + data.draw(parts([]))
    for _ in range(3):
        given_, fixed = data.draw(variables()), data.draw(known())
        assert _said(merge.render, source, given_, fixed) == _said(template.render, source, given_, fixed)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_template_gives_the_bytes_of_jinja2(data: st.DataObject) -> None:
    source = data.draw(heads(NOT_PLAIN)) + data.draw(parts(NOT_PLAIN))
    given_, fixed = data.draw(variables()), data.draw(known())
    assert _said(merge.render, source, given_, fixed) == _said(template.render, source, given_, fixed)


HEAD = "From: 広報 <pr@example.jp>\nTo: {{ name }} <{{ rcpt }}>\nSubject: {{ title }}\n"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\nHello {{ name }}, {{ attr.outlet }} and {{ recipient.name }}\n", True),
        ("Content-Type: text/html\n\n<p>{{ name }}</p>", True),
        ("\nno places\n", True),
        ("\n{# a comment #}{{ name }}", True),
        *(("\n" + text, False) for text in NOT_PLAIN if text[0] == "{" and "missing" not in text and "#" not in text[:2]
          and "range" not in text),
        ("\n{{ attr.items }}", True),
        ("\n{{ attr.items() }}", False),
        ("\n{{ recipient.title }}", False),
        ("To: {{ rcpt }}\n\ntwo of them", False),
        ("{{ name }}: x\n\n", False),
        ("X-A: b\n{{ name }}\n\ntext", False),
        ("Content-Type: multipart/mixed\n\n", False),
    ],
)  # fmt: skip
def test_which_templates_have_a_recipe(text: str, plain: bool) -> None:
    """The rest is made by Jinja2; that these are not keeps the property above from comparing a thing with itself."""
    assert (recipe_of(HEAD + text) is not None) is plain


def test_a_mail_with_a_recipe_is_made_without_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    source = HEAD + "\n" + "本文です。\n" * 3 + "{{ name }} 様 {{ attr.outlet }}\n"
    given_ = {"recipient": "N1", "name": "山田, 太郎", "attr": {"outlet": "朝刊"}}
    expected = template.render(source, given_, **KNOWN)

    def never(*_: object, **__: object) -> bytes:
        raise AssertionError("the template was rendered")

    monkeypatch.setattr(template, "render", never)
    assert merge.render(source, given_, **KNOWN) == expected


@given(st.binary(max_size=400))
def test_base64_is_that_of_mime(data: bytes) -> None:
    import base64

    assert merge._base64(data) == base64.encodebytes(data).replace(b"\n", b"\r\n")
