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
from heapq import heappop, heappush, nsmallest
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple

_NEVER = 1 << 62  # sorts after every time in microseconds


class Mail(NamedTuple):
    """What order needs of one mail. Times in microseconds UTC, None where unknown. `id` is unique.

    A tuple, because hundreds of thousands are made at once; by keyword or from whole columns, never by place.
    """

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
class Batch:
    """Mails of one zone in sending order, numbered per (egress, provider). `round` 0: first mails to a mailbox."""

    egress: str
    provider: str
    number: int
    round: int
    canary: bool
    mails: list[Mail]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a provider's mails are cut: mails in a batch, mails of the canary, a domain's share of the rest (0 to 1]."""

    batch: int
    canary: int
    share: float = 1.0


_Keyed = tuple[int, int, int, int, int, str, str, int, Mail]  # round, urgency, ..., and the mail that these sort


def place(mails: Iterable[Mail], shapes: Mapping[tuple[str, str], Shape]) -> Iterator[Batch]:
    """Every mail exactly once, in the order of (egress, provider, number). `shapes` by (egress, provider)."""
    groups: dict[tuple[str, str], list[Mail]] = {}
    for mail in mails:
        groups.setdefault((mail.egress, mail.provider), []).append(mail)
    for egress, provider in sorted(groups):
        shape = shapes[egress, provider]
        for number, (round_, canary, cut) in enumerate(_cut(_keyed(groups[egress, provider]), shape)):
            yield Batch(egress, provider, number, round_, canary, cut)


def _keyed(mails: Iterable[Mail]) -> list[_Keyed]:
    """The mails in sending order: round by round, the urgent first, customers in turn."""
    aged = [
        (
            -mail.urgency,
            _NEVER if mail.expires_at is None else mail.expires_at,
            _NEVER if mail.arrived_at is None else mail.arrived_at,
            mail.release,
            mail.id,
            mail,
        )
        for mail in mails
    ]
    aged.sort()  # ids are unique: no two mails are ever compared
    seen: dict[str, int] = {}  # mails to a mailbox so far
    turns: dict[tuple[int, int, str], int] = {}
    keyed: list[_Keyed] = []
    for urgency, expires, arrived, release, id_, mail in aged:
        round_ = seen.get(mail.rcpt_key, 0)
        seen[mail.rcpt_key] = round_ + 1
        queue = (round_, urgency, mail.customer)
        turn = turns.get(queue, 0)
        turns[queue] = turn + 1
        keyed.append((round_, urgency, turn, expires, arrived, mail.customer, release, id_, mail))
    keyed.sort()
    return keyed


def _cut(keyed: list[_Keyed], shape: Shape) -> Iterator[tuple[int, bool, list[Mail]]]:
    """Round, whether it is a canary, and mails of one batch after the other."""
    zones: dict[str, list[Mail]] = {}  # of first mails
    for entry in keyed:
        if entry[0]:
            break
        zones.setdefault(entry[-1].zone, []).append(entry[-1])
    canaries: set[int] = set()
    for zone in sorted(zones, key=lambda zone: (-len(zones[zone]), zone)):  # that of most of them first
        if canary := _canary(zones[zone], shape.canary):
            yield 0, True, canary
            canaries.update(mail.id for mail in canary)
    rest = (entry for entry in keyed if entry[-2] not in canaries)
    for round_, members in groupby(rest, key=itemgetter(0)):
        spread = _spread([entry[-1] for entry in members], math.ceil(1 / shape.share))
        for cut in _cuts(spread, shape.batch):
            yield round_, False, cut


def _cuts(mails: list[Mail], size: int) -> list[list[Mail]]:
    """Batches of one zone each, in the order of their first mails.

    Where there are several zones a batch holds one urgency, or what is not urgent would go before what is elsewhere.
    """
    if len({mail.zone for mail in mails}) == 1:
        return [mails[start : start + size] for start in range(0, len(mails), size)]
    cuts: list[list[Mail]] = []
    filling: dict[tuple[int, str], list[Mail]] = {}
    for mail in mails:
        kind = (mail.urgency, mail.zone)
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
    for _, level in groupby(mails, key=attrgetter("urgency")):
        coming = enumerate(level)
        held: dict[str, deque[tuple[int, Mail]]] = {}  # passed over: before all that come, but must rest
        resting: list[tuple[int, int, str]] = []  # (until which place, its first mail's index, domain) of those
        ready: list[tuple[int, str]] = []  # the same when they have rested
        while True:
            here = len(done)
            while resting and resting[0][0] <= here:
                heappush(ready, heappop(resting)[1:])
            found = None if ready else _passing(coming, held, resting, rested, here)
            if found is None:
                if not ready and not resting:
                    break
                _, domain = heappop(ready) if ready else heappop(resting)[1:]
                found = held[domain].popleft()[1]
            domain = found.domain
            done.append(found)
            if not found.unbounded:
                rested[domain] = here + gap
            if domain in held:
                if held[domain]:
                    heappush(resting, (rested.get(domain, 0), held[domain][0][0], domain))
                else:
                    del held[domain]
    return done


def _passing(
    coming: Iterator[tuple[int, Mail]],
    held: dict[str, deque[tuple[int, Mail]]],
    resting: list[tuple[int, int, str]],
    rested: Mapping[str, int],
    here: int,
) -> Mail | None:
    """The first of those to come that may go; those before it are held. None where there is none."""
    for index, mail in coming:
        domain = mail.domain
        if domain in held:
            held[domain].append((index, mail))
        elif rested.get(domain, 0) > here:
            held[domain] = deque([(index, mail)])
            heappush(resting, (rested[domain], index, domain))
        else:
            return mail
    return None


def _canary(mails: list[Mail], size: int) -> list[Mail]:
    """The first `size` mails, taking one of each domain before a second of any; in the order given."""
    turn: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for position, mail in enumerate(mails):
        turns.append((turn[mail.domain], position))
        turn[mail.domain] += 1
    return [mails[position] for position in sorted(position for _, position in nsmallest(size, turns))]
