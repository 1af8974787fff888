"""Addresses: what passes unchanged, what is refused, by which key they are known."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.policy.address import domain_of, fold, mask, needs_smtputf8, rcpt_key, validate_rcpt

SAFE = re.compile(r"[!#-';-=?-~*+\-./0-9A-Z^_`a-z{|}]+@[A-Za-z0-9.-]+")


@pytest.mark.parametrize(
    "address",
    [
        "..docomo..user.@docomo.ne.jp",
        "taro..yamada@ezweb.ne.jp",
        "taro.@docomo.ne.jp",
        "552@qq.com",
        "o'brien+tag/x=y@Example.CO.jp",
        "a" * 64 + "@example.jp",
        "a@r3---sn.example.jp",
        "a@xn--r8jz45g.jp",
        "=@example.jp",
    ],
)
def test_real_addresses_pass_as_they_are(address: str) -> None:
    assert validate_rcpt(address) == address


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "no @"),
        ("nobody", "no @"),
        ("@example.jp", "before the @"),
        ("a@", "after the @"),
        ("a@b@example.jp", "'@' in the local part"),
        ("a@example.jp\r\nRCPT TO:<x@example.jp>", "control character"),
        ("a\n@example.jp", "control character"),
        ("a\0@example.jp", "control character"),
        ("a\x85@example.jp", "control character"),
        ("a\u2028@example.jp", "control character"),
        ("a\udc80@example.jp", "control character"),
        ("a,b@example.jp", "','"),
        ("a@example.jp,b@example.jp", "'@'"),
        ("<a@example.jp>", "'<'"),
        ("a b@example.jp", "' '"),
        (" a@example.jp", "' '"),
        ('"a b"@example.jp', "quoted local part"),
        ("a;b@example.jp", "';'"),
        ("a\\b@example.jp", "in the local part"),
        ("a(b)@example.jp", r"'\('"),
        ("a" * 65 + "@example.jp", "longer than 64"),
        ("a@" + "b" * 63 + ("." + "c" * 63) * 3 + ".jp", "not a mail domain|longer"),
        ("a" * 100_000 + "@example.jp", "longer than 254"),
        ("a@[192.0.2.1]", "not a mail domain"),
        ("a@192.0.2.1", "not a mail domain"),
        ("a@localhost", "not a mail domain"),
        ("a@-example.jp", "not a mail domain"),
        ("a@example..jp", "not a mail domain"),
        ("a@example.jp.", "not a mail domain"),
        ("a@exa_mple.jp", "not a mail domain"),
        ("a@☃.jp", "IDNA"),
        ("太郎@example.jp", "SMTPUTF8"),
    ],
)
def test_what_must_not_stand_in_a_command_is_refused_with_a_reason(address: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        validate_rcpt(address)
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value) and len(str(caught.value)) < 300


def test_another_script_becomes_its_a_label_and_one_key() -> None:
    assert validate_rcpt("taro@例え.jp") == "taro@xn--r8jz45g.jp"
    assert rcpt_key("taro@例え。JP") == rcpt_key("taro@XN--R8JZ45G.jp") == "taro@xn--r8jz45g.jp"
    assert rcpt_key("taro@ｅｘａｍｐｌｅ.jp") == "taro@example.jp"
    assert rcpt_key("a@faß.de") == "a@xn--fa-hia.de"  # IDNA 2008, not transitional


def test_the_key_keeps_the_local_part_and_folding_does_not() -> None:
    assert rcpt_key("Taro@EXAMPLE.jp") == "Taro@example.jp" != rcpt_key("taro@example.jp")
    assert fold("Taro@EXAMPLE.jp") == fold("tARO@example.JP") == "taro@example.jp"
    assert rcpt_key('"a b"@icloud.com') == '"a b"@icloud.com'  # a log may name it; it is only never sent to
    assert domain_of("a@Example.JP") == "example.jp"
    assert needs_smtputf8("太郎@example.jp") and not needs_smtputf8("taro@例え.jp")


def test_masked_addresses_keep_their_domain_only() -> None:
    assert mask("taro@example.jp") == "t***@example.jp"
    assert mask("<taro@example.jp>,") == "<t***@example.jp>,"
    assert mask("no address") == "no address"
    assert "taro" not in mask("x,taro@b@example.jp")


@given(st.text(max_size=40) | st.builds("{}@{}".format, st.text(max_size=12), st.text(max_size=12)))
def test_any_text_is_refused_or_safe(text: str) -> None:
    mask(text)
    try:
        key = rcpt_key(text)
    except ValueError:
        with pytest.raises(ValueError):
            validate_rcpt(text)
        return
    assert rcpt_key(key) == key and fold(fold(key)) == fold(key)
    try:
        wire = validate_rcpt(text)
    except ValueError:
        return
    assert SAFE.fullmatch(wire) and len(wire) <= 254 and validate_rcpt(wire) == wire and rcpt_key(wire) == key
