"""Puts the mails of a plan into sending order and cuts them into batches, per (egress, provider).

First mails to a mailbox go before second ones, so that the recipient gap holds; then the most urgent; customers in
turn, so that none starves; then the nearest expiry and the oldest. The canary comes first: few mails, many domains.
Pure, deterministic: the same mails in any order give the same plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

_NEVER = 1 << 62  # sorts after every time in microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What order needs of one mail. Times in microseconds UTC, None where unknown. `id` is unique."""

    id: int
    egress: str
    provider: str
    domain: str
    customer: str
    release: str
    rcpt_key: str
    urgency: int
    expires_at: int | None
    arrived_at: int | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mail stands: its batch (numbered per egress and provider), its place there, its round (0: first mail)."""

    mail: Mail
    batch: int
    seq: int
    round: int
    canary: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """How a provider's mails are cut: mails in a batch, mails of the canary, domains that it should spread over."""

    batch: int
    canary: int


def place(mails: Iterable[Mail], shapes: Mapping[str, Shape]) -> Iterator[Place]:
    """Every mail exactly once, in the order of (egress, provider, batch, seq). `shapes` by provider."""
    ordered = sorted(mails, key=lambda mail: (mail.egress, mail.provider))
    for (_, provider), group in groupby(ordered, key=lambda mail: (mail.egress, mail.provider)):
        yield from _place_group(list(group), shapes[provider])


def _age(mail: Mail) -> tuple[int, int]:
    return (
        _NEVER if mail.expires_at is None else mail.expires_at,
        _NEVER if mail.arrived_at is None else mail.arrived_at,
    )


def _place_group(mails: list[Mail], shape: Shape) -> Iterator[Place]:
    mails.sort(key=lambda mail: (-mail.urgency, *_age(mail), mail.release, mail.id))
    seen: Counter[str] = Counter()
    turns: Counter[tuple[int, int, str]] = Counter()
    keyed: list[tuple[tuple[int, int, int, int, int, str, str, int], Mail]] = []
    for mail in mails:
        round_ = seen[mail.rcpt_key]
        seen[mail.rcpt_key] += 1
        queue = (round_, mail.urgency, mail.customer)
        keyed.append(((round_, -mail.urgency, turns[queue], *_age(mail), mail.customer, mail.release, mail.id), mail))
        turns[queue] += 1
    keyed.sort(key=lambda pair: pair[0])
    canary = _canary(keyed, shape.canary)
    batch = 0
    if canary:
        for seq, (_, mail) in enumerate(pair for pair in keyed if pair[1].id in canary):
            yield Place(mail, batch, seq, 0, True)
        batch = 1
    for round_, members in groupby((pair for pair in keyed if pair[1].id not in canary), key=lambda pair: pair[0][0]):
        last = -1
        for n, (_, mail) in enumerate(members):
            last = n // shape.batch
            yield Place(mail, batch + last, n % shape.batch, round_, False)
        batch += last + 1


def _canary(keyed: list[tuple[tuple[int, int, int, int, int, str, str, int], Mail]], size: int) -> frozenset[int]:
    """Ids of the first `size` mails of round 0, taking one of each domain before a second of any."""
    if size <= 0:
        return frozenset()
    turn: Counter[str] = Counter()
    chosen: list[tuple[int, int, int]] = []
    for position, (key, mail) in enumerate(keyed):
        if key[0]:
            break
        chosen.append((turn[mail.domain], position, mail.id))
        turn[mail.domain] += 1
    chosen.sort()
    return frozenset(id_ for _, _, id_ in chosen[:size])
