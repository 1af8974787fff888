"""Puts the mails of a plan into sending order and cuts them into batches, per (egress, provider).

First mails to a mailbox go before second ones, so that the recipient gap holds; then the most urgent; customers in
turn, so that none starves; then the nearest expiry and the oldest. The canary comes first: few mails, many domains.
Behind one provider stand many small systems with limits of their own: of the mails of one urgency none of their domains
gets more than its share in a row while others wait.
A batch is for recipients of one time zone, because their clock opens and closes its window; each zone has a canary, for
nobody knows whose window is open when a run begins, and the first that is sent is the one that counts.
Pure, deterministic: the same mails in any order give the same plan.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
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
    unbounded: bool = False  # its domain is the provider's own: no share bounds it


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
    """How a provider's mails are cut: mails in a batch, mails of the canary, a domain's share of the rest (0 to 1]."""

    batch: int
    canary: int
    share: float = 1.0


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
        spread = _spread([mail for _, mail in members], math.ceil(1 / shape.share))
        for cut in _cuts(spread, shape.batch):
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


def _spread(mails: list[Mail], gap: int) -> list[Mail]:
    """The mails with those of one domain `gap` places apart, zone by zone: a batch is of one zone."""
    if gap <= 1:
        return mails
    places: dict[str, list[int]] = {}
    for index, mail in enumerate(mails):
        places.setdefault(mail.zone, []).append(index)
    spread = list(mails)
    for indexes in places.values():
        for index, mail in zip(indexes, _spaced([mails[index] for index in indexes], gap), strict=True):
            spread[index] = mail
    return spread


def _spaced(mails: list[Mail], gap: int) -> list[Mail]:
    """The first that may go, again and again: of each urgency, a domain rests for `gap` places after each of its mails.

    Where all that wait must rest, the one that has rested longest goes: no place stays empty.
    """
    done: list[Mail] = []
    rested: dict[str, int] = {}  # domain -> the place from which on it may go again
    for _, level in groupby(mails, key=lambda mail: mail.urgency):
        queues: dict[str, deque[tuple[int, Mail]]] = {}
        for index, mail in enumerate(level):
            queues.setdefault(mail.domain, deque()).append((index, mail))
        ready: list[tuple[int, str]] = []  # (its first mail's index, domain)
        resting = [(rested.get(domain, 0), queue[0][0], domain) for domain, queue in queues.items()]
        heapify(resting)
        while ready or resting:
            while resting and resting[0][0] <= len(done):
                heappush(ready, heappop(resting)[1:])
            _, domain = heappop(ready) if ready else heappop(resting)[1:]
            queue = queues[domain]
            _, mail = queue.popleft()
            if not mail.unbounded:
                rested[domain] = len(done) + gap
            done.append(mail)
            if queue:
                heappush(resting, (rested.get(domain, 0), queue[0][0], domain))
    return done


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
