"""Puts the mails of a plan into sending order and cuts them into batches, per (egress, provider).

First mails to a mailbox go before second ones, so that the recipient gap holds; then the most urgent; customers in
turn, so that none starves; then the nearest expiry and the oldest. The canary comes first: few mails, many domains.
A batch is for recipients of one time zone, because their clock opens and closes its window; each zone has a canary, for
nobody knows whose window is open when a run begins, and the first that is sent is the one that counts.
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
    zone: str = ""  # of the recipient


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


_Keyed = tuple[
    tuple[int, int, int, int, int, str, str, int], Mail
]  # in sending order by the first: round, urgency, ...


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
    keyed: list[_Keyed] = []
    for mail in mails:
        round_ = seen[mail.rcpt_key]
        seen[mail.rcpt_key] += 1
        queue = (round_, mail.urgency, mail.customer)
        keyed.append(((round_, -mail.urgency, turns[queue], *_age(mail), mail.customer, mail.release, mail.id), mail))
        turns[queue] += 1
    keyed.sort(key=lambda pair: pair[0])
    batch = 0
    canaries: set[int] = set()
    for zone in _zones(keyed):
        canary = _canary([pair for pair in keyed if pair[1].zone == zone], shape.canary)
        for seq, (_, mail) in enumerate(pair for pair in keyed if pair[1].id in canary):
            yield Place(mail, batch, seq, 0, True)
        batch += bool(canary)
        canaries |= canary
    for round_, members in groupby((pair for pair in keyed if pair[1].id not in canaries), key=lambda pair: pair[0][0]):
        for cut in _cuts([mail for _, mail in members], shape.batch):
            for seq, mail in enumerate(cut):
                yield Place(mail, batch, seq, round_, False)
            batch += 1


def _zones(keyed: list[_Keyed]) -> list[str]:
    """The zones of first mails, that of most of them first."""
    counted = Counter(mail.zone for key, mail in keyed if not key[0])
    return sorted(counted, key=lambda zone: (-counted[zone], zone))


def _cuts(mails: list[Mail], size: int) -> list[list[Mail]]:
    """Batches of one zone each, in the order of their first mails.

    Where there are several zones a batch holds one urgency, or what is not urgent would go before what is elsewhere.
    """
    several = len({mail.zone for mail in mails}) > 1
    cuts: list[list[Mail]] = []
    filling: dict[tuple[int, str], list[Mail]] = {}
    for mail in mails:
        kind = (mail.urgency if several else 0, mail.zone)
        cut = filling.get(kind)
        if cut is None or len(cut) == size:
            cut = filling[kind] = []
            cuts.append(cut)
        cut.append(mail)
    return cuts


def _canary(keyed: list[_Keyed], size: int) -> frozenset[int]:
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
