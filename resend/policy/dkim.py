"""DKIM (RFC 6376): signs mail of ours, and says whether a kept mail's signature will still hold when it is resent.

Keys and DNS answers are handed in. Signing is pure: the same mail and time give the same bytes. Needs dkimpy, the
extra `dkim`; without it only the expiry of a signature is known. Raises ContentError for a mail that cannot be signed.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parseaddr
from enum import StrEnum
from importlib.util import find_spec
from typing import Any

from resend.policy.message import ContentError, fields

SIGNED = (
    b"from",
    b"to",
    b"cc",
    b"reply-to",
    b"subject",
    b"date",
    b"message-id",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
)
_SILENT = logging.Logger("dkim")  # dkimpy tells its logger what it also returns
_SILENT.addHandler(logging.NullHandler())

Lookup = Callable[[str], str]
"""TXT record of a name, "" where there is none. Raises OSError where DNS does not answer."""


def available() -> bool:
    return find_spec("dkim") is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs: `key` is the RSA private key in PEM. `name` tells two signers apart and shows nothing of the key."""

    domain: str
    selector: str
    key: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain} {hashlib.sha256(self.key).hexdigest()[:16]}"

    def check(self) -> None:
        """Raise ContentError where the key cannot be read."""
        self.sign(b"From: a@example.jp\r\n\r\n", 0)

    def sign(self, wire: bytes, at_s: int) -> bytes:
        """The mail with our signature before it; `at_s` (t=) in seconds since 1970. A second From breaks it."""
        import dkim
        from dkim.canonicalization import CanonicalizationPolicy
        from dkim.crypto import HASH_ALGORITHMS, UnparsableKeyError, parse_pem_private_key

        present = [name for name, _, _ in fields(wire)]
        included = (*(name for name in SIGNED for _ in range(present.count(name))), b"from")
        if b"from" not in present:
            raise ContentError("a mail without From cannot be signed")
        try:
            key = parse_pem_private_key(self.key)
            made = dkim.DKIM(wire, logger=_SILENT)
            policy = CanonicalizationPolicy.from_c_value(b"relaxed/relaxed")
            made.hasher = HASH_ALGORITHMS[made.signature_algorithm]
            digest = made.hasher(policy.canonicalize_body(made.body)).digest()
            tags = [
                (b"v", b"1"),
                (b"a", made.signature_algorithm),
                (b"c", policy.to_c_value()),
                (b"d", self.domain.encode("ascii")),
                (b"s", self.selector.encode("ascii")),
                (b"t", str(at_s).encode("ascii")),
                (b"h", b" : ".join(included)),
                (b"bh", base64.b64encode(digest)),
                (b"b", b"0" * 60),
            ]
            value: bytes = made.gen_header(tags, included, policy, b"DKIM-Signature", key)
        except (dkim.DKIMException, UnparsableKeyError, ValueError) as error:
            raise ContentError(f"cannot be signed: {error}") from None
        return b"DKIM-Signature: " + value + wire


class Standing(StrEnum):
    """How a kept mail's signature stands."""

    GOOD = "good"
    UNSIGNED = "unsigned"
    UNALIGNED = "unaligned"  # good, for a domain that is not the sender's
    UNPROVEN = "unproven"  # it could not be looked at; `why` tells what is missing
    BROKEN = "broken"  # expired before the plan is done, changed, or its key is gone


@dataclass(frozen=True, slots=True)
class Finding:
    standing: Standing
    why: str = ""


_ORDER = (Standing.GOOD, Standing.UNALIGNED, Standing.UNPROVEN, Standing.BROKEN)  # one good signature is enough


def inspect(wire: bytes, *, done_at: datetime, lookup: Lookup) -> Finding:
    """How the signatures of a wire-ready mail stand at `done_at`: the best of them counts, the sender's first."""
    spots = [(name, start, end) for name, start, end in fields(wire)]
    values = [wire[start:end].partition(b":")[2] for name, start, end in spots if name == b"dkim-signature"]
    if not values:
        return Finding(Standing.UNSIGNED, "it carries no DKIM signature")
    sender = next((wire[start:end].partition(b":")[2] for name, start, end in spots if name == b"from"), b"")
    domain = parseaddr(" ".join(sender.decode("utf-8", "replace").split()))[1].rpartition("@")[2].lower()
    found = [_one(wire, number, _tags(value), domain, done_at, lookup) for number, value in enumerate(values)]
    return min(found, key=lambda finding: _ORDER.index(finding.standing))


def _tags(value: bytes) -> dict[str, str]:
    text = value.decode("utf-8", "replace")
    pairs = (item.partition("=") for item in text.split(";"))
    return {name.strip(): "".join(content.split()) for name, _, content in pairs}


def aligned(domain: str, sender: str) -> bool:
    """Whether one of two domains is the other or below it: DMARC's relaxed alignment without a list of suffixes.

    >>> aligned("example.jp", "news.example.jp"), aligned("esp.example", "example.jp"), aligned("jp", "example.jp")
    (True, False, False)
    """
    short, long = sorted((domain.lower().rstrip("."), sender.lower().rstrip(".")), key=len)
    return "." in short and (long == short or long.endswith("." + short))


def _one(wire: bytes, number: int, tags: dict[str, str], sender: str, done_at: datetime, lookup: Lookup) -> Finding:
    domain, expiry = tags.get("d", ""), tags.get("x", "")
    if expiry.isdecimal() and expiry.isascii() and int(expiry[:12]) <= done_at.timestamp():
        at = datetime.fromtimestamp(int(expiry[:10]), UTC)
        return Finding(Standing.BROKEN, f"its signature of {domain} expires at {at:%Y-%m-%d %H:%M} UTC, before the end")
    if not available():
        return Finding(Standing.UNPROVEN, "the extra `dkim` (dkimpy) is not installed")
    whether = _proven(wire, number, domain, lookup)
    if whether is None:
        fits = aligned(domain, sender)
        why = "" if fits else f"its signature is of {domain}, the sender is at {sender or 'no domain'}"
        return Finding(Standing.GOOD if fits else Standing.UNALIGNED, why)
    return whether


def _proven(wire: bytes, number: int, domain: str, lookup: Lookup) -> Finding | None:
    """What is wrong with one signature, None for nothing."""
    import dkim

    missing: list[str] = []

    def answer(name: Any, timeout: int = 0) -> bytes:
        asked = name.decode("ascii", "replace").rstrip(".") if isinstance(name, bytes) else str(name).rstrip(".")
        record = lookup(asked)
        if not record:
            missing.append(asked)
        return record.encode("utf-8", "replace")

    try:
        if dkim.DKIM(wire, logger=_SILENT).verify(idx=number, dnsfunc=answer):
            return None
    except OSError as error:
        return Finding(Standing.UNPROVEN, f"DNS does not answer for the key of {domain}: {error}")
    except ImportError as error:
        return Finding(Standing.UNPROVEN, str(error))
    except Exception as error:  # a signature is foreign text, and dkimpy raises whatever it stumbles over
        if type(error).__name__ == "NaClNotFoundError":
            return Finding(Standing.UNPROVEN, "its signature is ed25519, which needs pynacl")
        said = "the body is not what was signed" if "body hash" in str(error) else str(error)[:120]
        return Finding(Standing.BROKEN, f"its signature of {domain} is broken: {said}")
    if missing:
        return Finding(Standing.BROKEN, f"the key of its signature, {missing[0]}, is not in DNS any more")
    return Finding(Standing.BROKEN, f"its signature of {domain} does not fit its headers or the key in DNS")
