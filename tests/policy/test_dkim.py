"""Our signature holds and is the same at each try; of a kept one it is said whether it will hold, and why not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.policy.content import renew
from resend.policy.dkim import Signer, Standing, inspect
from resend.policy.dressing import FROZEN, Dressing, dress
from resend.policy.message import ContentError
from tests.support.keys import rsa_key

pytest.importorskip("dkim")
NOW = datetime(2026, 11, 24, tzinfo=UTC)
MAIL = (
    b"From: =?UTF-8?B?5pel5pys?= <pr@news.example.jp>\r\nTo: a@example.net\r\nSubject: x\r\n"
    b"Date: Tue, 24 Nov 2026 08:00:00 +0900\r\nMessage-ID: <1@example.jp>\r\n\r\nHello\r\n\r\n"
)


def signer(domain: str = "example.jp") -> Signer:
    return Signer(domain=domain, selector="s1", key=rsa_key()[0])


def signed(wire: bytes = MAIL, domain: str = "example.jp", at: int = 1_790_000_000) -> bytes:
    return signer(domain).sign(wire, at)


def known(name: str) -> str:
    return rsa_key()[1] if name == "s1._domainkey.example.jp" else ""


def standing(wire: bytes, lookup=known, done_at: datetime = NOW) -> tuple[Standing, str]:
    found = inspect(wire, done_at=done_at, lookup=lookup)
    return found.standing, found.why


def test_a_signature_of_ours_holds_and_is_the_same_at_each_try() -> None:
    assert signed() == signed()
    assert signed() != signed(at=1_790_000_001)
    assert signed().endswith(MAIL)
    assert standing(signed()) == (Standing.GOOD, "")


@pytest.mark.parametrize(
    "change",
    [
        (b"Hello", b"Hullo"),
        (b"Subject: x", b"Subject: y"),
        (b"Date: Tue, 24", b"Date: Wed, 25"),
        (b"From: =?UTF-8", b"From: evil@example.jp\r\nFrom: =?UTF-8"),  # oversigned
    ],
)
def test_what_was_changed_is_broken(change: tuple[bytes, bytes]) -> None:
    assert standing(signed().replace(*change))[0] is Standing.BROKEN


def test_white_space_that_relays_add_does_no_harm() -> None:
    assert standing(signed().replace(b"Subject: x", b"Subject:   x"))[0] is Standing.GOOD


def test_an_expiry_must_outlive_the_plan() -> None:
    at = int((NOW + timedelta(hours=5)).timestamp())
    wire = MAIL.replace(b"From:", b"DKIM-Signature: v=1; d=example.jp; s=s1; x=%d; b=AA==\r\nFrom:" % at, 1)
    assert "expires" in standing(wire, done_at=NOW + timedelta(hours=6))[1]
    assert "expires" not in standing(wire)[1]


def test_dns_is_told_apart_from_a_key_that_is_gone() -> None:
    def silent(name: str) -> str:
        raise OSError("timed out")

    assert standing(signed(), silent)[0] is Standing.UNPROVEN
    assert standing(signed(), lambda name: "")[0] is Standing.BROKEN
    assert "not in DNS" in standing(signed(), lambda name: "")[1]
    assert standing(MAIL)[0] is Standing.UNSIGNED


def test_alignment_and_the_best_of_several_signatures() -> None:
    foreign = signed(domain="esp.example")
    assert standing(foreign, lambda name: rsa_key()[1])[0] is Standing.UNALIGNED
    assert standing(signed(foreign), lambda name: rsa_key()[1])[0] is Standing.GOOD
    assert standing(signed(foreign))[0] is Standing.GOOD, "the foreign one has lost its key"


@given(value=st.binary(max_size=80).filter(lambda v: not set(v) & set(b"\r\n\0")))
def test_a_hostile_signature_never_raises(value: bytes) -> None:
    found = inspect(b"DKIM-Signature: " + value + b"\r\n" + MAIL, done_at=NOW, lookup=known)
    assert found.standing in (Standing.BROKEN, Standing.UNPROVEN)


def test_dressed_alike_at_each_try_and_refused_under_another_key() -> None:
    dressing = Dressing(list_unsubscribe="https://example.jp/u/{recipient}/{release}", signer=signer())
    frozen = {FROZEN: dressing.frozen(recipient="春 1", release="r/1")}
    old = signed(renew(MAIL, message_id="<old@x>", date="Tue, 24 Nov 2026 08:00:00 +0900"))
    wire = renew(old, message_id="<2@example.jp>", date="Wed, 25 Nov 2026 08:00:00 +0900")
    assert b"DKIM-Signature" not in wire
    first = dress(wire, frozen, signer(), date="2026-11-24T23:00:00Z")
    assert first == dress(wire, frozen, signer(), date="2026-11-24T23:00:00Z")
    assert b"List-Unsubscribe: <https://example.jp/u/%E6%98%A5%201/r%2F1>\r\n" in first
    assert b"list-unsubscribe-post" in first.partition(b"bh=")[0].replace(b"\r\n ", b"")
    assert standing(first) == (Standing.GOOD, "")
    with pytest.raises(ContentError, match="planned with the DKIM key"):
        dress(wire, frozen, signer("other.example"), date="2026-11-24T23:00:00Z")
    assert dress(wire, {}, signer(), date="2026-11-24T23:00:00Z") == wire
    own = wire.replace(b"Subject", b"List-Unsubscribe: <mailto:a@b>\r\nSubject")
    assert b"/u/" not in dress(own, frozen, signer(), date="2026-11-24T23:00:00Z")
