"""What a resent mail is made of: link templates, kept bytes, identities."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.policy.content import (
    ContentError,
    canonical,
    content_id,
    identity_of,
    kept,
    new_message_id,
    renew,
)
from resend.policy.linktemplate import LinkTemplate

MESSAGE_ID = LinkTemplate.parse("<release.{release}.{recipient}@mail.example.jp>")
VERP = LinkTemplate.parse("bounce+{release}.{recipient}@example.jp")


def test_the_pieces_are_what_sql_needs() -> None:
    assert (MESSAGE_ID.prefix, MESSAGE_ID.infix, MESSAGE_ID.suffix) == ("release.", ".", "@mail.example.jp")
    assert MESSAGE_ID.parts == ("release", "recipient")
    assert LinkTemplate.parse("{release}@example.jp").parts == ("release",)
    assert LinkTemplate.parse("{recipient}-of-{release}@example.jp").match("<n1-of-R1@example.jp>") == ("R1", "n1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<release.R-1.n_2@mail.example.jp>", ("R-1", "n_2")),
        ("release.R-1.n_2@mail.example.jp", ("R-1", "n_2")),
        ("release.R1.n.2@mail.example.jp", ("R1", "n.2")),  # the first id ends at the first separator
        ("release..n2@mail.example.jp", None),
        ("release.R1.@mail.example.jp", None),
        ("release.R1@mail.example.jp", None),
        ("release.R1.n2@mail.example.jp.evil", None),
        ("xrelease.R1.n2@mail.example.jp", None),
        ("release.R 1.n2@mail.example.jp", None),
        ("release.R1.n2@other@mail.example.jp", None),
        ("release.R1.n2\n@mail.example.jp", None),
        ("release." + "R" * 201 + ".n2@mail.example.jp", None),
        ("release.@mail.example.jp", None),
        ("", None),
    ],
)
def test_matching(text: str, expected: tuple[str, str] | None) -> None:
    assert MESSAGE_ID.match(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "{recipient}@x",
        "{release}{recipient}@x",
        "{release}.{release}@x",
        "{release}.{who}@x",
        "{release@x",
        "{release} {recipient}@x",
        "<{release}>@x",
        "{release}}.x",
    ],
)
def test_a_template_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=" in '"):
        LinkTemplate.parse(text)


IDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=20)


@given(IDS, IDS)
def test_what_is_written_is_read_back_or_refused(release: str, recipient: str) -> None:
    for template in (MESSAGE_ID, VERP):
        try:
            text = template.write(release, recipient)
        except ValueError:
            assert any(letter in release + recipient for letter in "<>@.")
            continue
        assert template.match(f"<{text}>") == (release, recipient)


MAIL = (
    b"Message-ID: <1@x>\r\nDate: Tue, 24 Nov 2026 08:20:32 +0000\r\nDKIM-Signature: v=1;\r\n a=b\r\nSubject: x\r\n"
    b"\r\n.\r\nbody\r\n"
)


def test_kept_bytes_go_on_the_wire_as_they_are() -> None:
    assert kept(MAIL) == MAIL
    assert kept(MAIL.replace(b"\r\n", b"\n")) == MAIL  # a file of a Unix host
    assert kept(MAIL[:-2]) == MAIL
    assert kept(b"Subject: x\r\n") == b"Subject: x\r\n"  # a mail without a body is a mail
    assert kept(b"A: " + b"x" * 995 + b"\r\n\r\n")
    assert identity_of(MAIL) == ("<1@x>", "Tue, 24 Nov 2026 08:20:32 +0000")
    assert identity_of(b"message-id:\r\n <1@x>\r\n\r\n") == ("<1@x>", "")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (MAIL + b"\0", "NUL in line 9"),
        (MAIL + b"a\n", "LF without CR"),
        (MAIL + b"a\r", "CR without LF"),
        (MAIL + b"\n.\r\n", "LF without CR"),
        (MAIL + b"\r.\r\n", "CR without LF"),
        (MAIL + b"x" * 999 + b"\r\n", "line 9 is longer than 998"),
        (b"From a@b Tue\r\nSubject: x\r\n\r\n", "mbox"),
        (b"just text\r\n", "no header field"),
        (b" folded\r\nSubject: x\r\n\r\n", "no header field"),
        (b"\r\nbody\r\n", "no header"),
    ],
)
def test_bytes_that_two_receivers_would_read_differently_are_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(ContentError, match=reason):
        kept(raw)


@given(st.binary(max_size=200) | st.text("\r\nA: x.", max_size=40).map(str.encode))
def test_any_bytes_are_refused_or_safe(raw: bytes) -> None:
    try:
        wire = kept(raw)
    except ContentError:
        return
    assert b"\0" not in wire and wire.endswith(b"\r\n") and kept(wire) == wire
    assert wire.count(b"\r") == wire.count(b"\n") == wire.count(b"\r\n")
    assert wire.replace(b"\r\n", b"\n").rstrip(b"\n") == raw.replace(b"\r\n", b"\n").rstrip(b"\n")


def test_a_new_identity_takes_the_old_signature_away_and_nothing_else() -> None:
    new = renew(MAIL, message_id="<2@y>", date="Wed, 25 Nov 2026 00:00:00 +0000")
    assert new == (b"Subject: x\r\nMessage-ID: <2@y>\r\nDate: Wed, 25 Nov 2026 00:00:00 +0000\r\n\r\n.\r\nbody\r\n")
    with pytest.raises(ContentError):
        renew(MAIL, message_id="<2@y>\r\nBcc: x@y", date="x")


def test_the_content_id_depends_on_everything_that_the_bytes_depend_on() -> None:
    base = {"template_sha256": "t", "variables": "{}", "message_id": "<1@x>", "date": "d", "kind": "template"}
    ids = {content_id(**base)} | {content_id(**{**base, key: "other"}) for key in base}
    assert len(ids) == 6 and all(len(each) == 64 for each in ids)
    digest = hashlib.sha256(MAIL).hexdigest()
    assert content_id(**{**base, "kind": "kept", "template_sha256": digest}) == digest
    assert content_id(**{**base, "kind": "kept", "template_sha256": digest, "message_id": ""}) != digest
    assert canonical({"b": 1, "a": "山"}) == '{"a":"山","b":1}' == canonical({"a": "山", "b": 1})
    assert new_message_id("k", "example.jp") == new_message_id("k", "example.jp") != new_message_id("l", "example.jp")
