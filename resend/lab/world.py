"""Who is in the made-up incident: providers, customers, releases, recipients, and how the mails are spread over time.

Everything follows from a seed through `Random.random()` alone, so a seed gives the same world on every Python. It reads
its word lists and no clock. Names are invented; domains are reserved ones, but for the carriers and yahoo.co.jp, whose
addresses have traits that must be met (two dots in a row at docomo). Their local parts start with `lab.`.
"""

from __future__ import annotations

import json
from bisect import bisect
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import IntEnum
from pathlib import Path
from random import Random

JST = timezone(timedelta(hours=9))
MICROS = 1_000_000
MINUTE = 60 * MICROS
HOUR = 60 * MINUTE
DAY = 24 * HOUR

SEED_MAILS = 7_682_607  # the real incident: four days of mail
SEED_AFFECTED = 192_080  # of it delayed or failed, 2.5 %
DAYS = 4
INJECT = 10 * MINUTE  # a release is handed to the mail hosts over this time


class Net(IntEnum):
    """The receiving mail systems."""

    OFFICE365 = 0
    GOOGLE = 1
    YAHOO_JP = 2
    DOCOMO = 3
    AU = 4
    SOFTBANK = 5
    OTHER = 6


SHARES = (0.25, 0.20, 0.10, 0.08, 0.06, 0.05, 0.26)
CARRIER_DOMAIN = {
    Net.YAHOO_JP: "yahoo.co.jp",
    Net.DOCOMO: "docomo.ne.jp",
    Net.AU: "ezweb.ne.jp",
    Net.SOFTBANK: "softbank.ne.jp",
}
CARRIER_RELAY = {
    Net.YAHOO_JP: "mx{n}.mail.yahoo.co.jp",
    Net.DOCOMO: "mfsmax.docomo.ne.jp",
    Net.AU: "lsean.ezweb.ne.jp",
    Net.SOFTBANK: "mx.softbank.ne.jp",
}


class LinkBy(IntEnum):
    """What leads from a failed mail of a release back to it."""

    SENDLOG = 0
    TEMPLATE = 1
    HEADER = 2
    VERP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    id: str
    name: str
    english: bool


@dataclass(slots=True, kw_only=True)
class Release:
    number: int
    id: str
    customer: Customer
    title: str
    sender: str
    link: LinkBy
    sent_at: int  # us since 1970
    size: int  # mails
    first: int  # where its recipients start in the walk over all
    stride: int
    charset: str
    expires_at: int | None = None
    embargo_at: int | None = None
    withdrawn: bool = False
    content: bool = True


@dataclass(slots=True, kw_only=True)
class Recipient:
    id: str
    address: str
    name: str
    outlet: str
    english: bool
    net: Net
    relay: str  # host[ip]:25 as Postfix prints it
    unsubscribed_at: int | None = None


_WORDS: dict[str, list[str]] = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))


class World:
    """All of it. `mails` and `affected` are exact for the scale."""

    def __init__(self, *, scale: float, seed: int, end: datetime) -> None:
        self.rng = Random(f"world {seed}")
        self.mails = round(SEED_MAILS * scale)
        self.affected = round(SEED_AFFECTED * scale)
        self.end = int(end.timestamp()) * MICROS
        self.start = self.end - DAYS * DAY
        self.customers = self._customers(max(8, round(60 * min(1.0, scale * 20))))
        self.recipients = self._recipients(max(1200, self.mails // 12))
        self.releases: list[Release] = []

    def pick(self, kind: str) -> str:
        words = _WORDS[kind]
        return words[int(self.rng.random() * len(words))]

    def plan_releases(self, mails: int) -> None:
        """Spread exactly `mails` mails over releases, in order of `sent_at`."""
        count = max(24, self.mails // 400)
        weights = [0.25 + 1.5 * self.rng.random() for _ in range(count)]
        total = sum(weights)
        sizes = [max(60, int(mails * weight / total)) for weight in weights]
        sizes[0] += mails - sum(sizes)  # rounding; the first release is the biggest anyway
        times = self._times(count)
        population = len(self.recipients)
        for number in range(count):
            customer = self.customers[int(self.rng.random() * len(self.customers))]
            link = _link(number)
            stride = 1 + int(self.rng.random() * (population - 1))
            while _gcd(stride, population) != 1:
                stride = stride % population + 1
            self.releases.append(
                Release(
                    number=number,
                    id=f"R{10001 + number}",
                    customer=customer,
                    title=self._title(customer, number),
                    sender=f"press-{customer.id.lower()}@example.jp",
                    link=link,
                    sent_at=times[number],
                    size=min(sizes[number], population),
                    first=int(self.rng.random() * population),
                    stride=stride,
                    charset="utf-8" if customer.english or number % 3 == 0 else "iso-2022-jp",
                )
            )

    def members(self, release: Release) -> list[int]:
        """Indexes of the recipients of a release, each once."""
        count, first, stride = len(self.recipients), release.first, release.stride
        return [(first + k * stride) % count for k in range(release.size)]

    def _title(self, customer: Customer, number: int) -> str:
        if customer.english:
            return f"{customer.name} {self.pick('what_en').format(w=self.pick('word_en'))}"
        title = f"{customer.name}、{self.pick('what').format(w=self.pick('word'))}"
        return f"{title}{_WORDS['long'][0]}" if number % 17 == 5 else title

    def _customers(self, count: int) -> list[Customer]:
        made = []
        for number in range(count):
            english = number % 6 == 5
            firm = self.pick("firm_en") if english else f"株式会社{self.pick('firm')}"
            suffix = f" {number + 1}" if english else f"第{number + 1}事業部" if number >= len(_WORDS["firm"]) else ""
            made.append(Customer(id=f"C{number + 1:03d}", name=firm + suffix, english=english))
        return made

    def _recipients(self, count: int) -> list[Recipient]:
        bounds, total = [], 0.0
        for share in SHARES:
            total += share
            bounds.append(total)
        hosted = max(200, int(count * SHARES[0] * 0.6))
        others = max(80, int(count * SHARES[6] * 0.3))
        made = []
        for number in range(count):
            net = Net(min(bisect(bounds, self.rng.random()), 6))
            draw = self.rng.random()
            roman = _WORDS["roman"][number % len(_WORDS["roman"])]
            english = number % 9 == 4
            name = self.pick("english") if english else f"{self.pick('family')} {self.pick('given')}"
            if net in CARRIER_DOMAIN:
                dots = ".." if net is Net.DOCOMO and number % 3 == 0 else "."
                address = f"lab.{roman}{dots}{number}@{CARRIER_DOMAIN[net]}"
                relay = f"{CARRIER_RELAY[net].format(n=1 + number % 4)}[203.0.113.{16 * int(net) + number % 8}]:25"
            else:
                site = int(draw * (others if net is Net.OTHER else hosted))
                domain = _domain(net, site)
                address = f"{roman}.{number}@{domain}"
                relay = _relay(net, site, domain)
            made.append(
                Recipient(
                    id=f"N{number + 1:06d}",
                    address=address,
                    name=name,
                    outlet=self.pick("outlet"),
                    english=english,
                    net=net,
                    relay=relay,
                )
            )
        return made

    def _times(self, count: int) -> list[int]:
        """When releases are sent: mostly in the Japanese working day, never quite silent."""
        edges, total = [], 0.0
        for hour in range(DAYS * 24):
            at = datetime.fromtimestamp((self.start + hour * HOUR) // MICROS, JST)
            total += 1.0 if 8 <= at.hour < 19 else 0.4 if 6 <= at.hour < 23 else 0.15
            edges.append(total)
        times = []
        for number in range(count):
            wanted = total * (number + self.rng.random()) / count
            hour = min(bisect(edges, wanted), len(edges) - 1)
            low = edges[hour - 1] if hour else 0.0
            inside = (wanted - low) / (edges[hour] - low)
            times.append(self.start + hour * HOUR + int(inside * HOUR))
        last = self.end - INJECT - 2 * MINUTE
        return sorted(min(time, last - number) for number, time in enumerate(times))


def _link(number: int) -> LinkBy:
    """Half of the releases are in the send log; of the others most carry their id in the message-id."""
    turn = number % 20
    if turn % 2 == 0:
        return LinkBy.SENDLOG
    return {7: LinkBy.HEADER, 13: LinkBy.HEADER, 19: LinkBy.VERP}.get(turn, LinkBy.TEMPLATE)


def _domain(net: Net, site: int) -> str:
    place, paper = (
        _WORDS["place"][site % len(_WORDS["place"])],
        _WORDS["paper"][site // len(_WORDS["place"]) % len(_WORDS["paper"])],
    )
    zone = ("example.jp", "example.com", "example.co.jp", "example.net")[site % 4]
    return f"{place}-{paper}{int(net)}{site:04d}.{zone}"


def _relay(net: Net, site: int, domain: str) -> str:
    match net:
        case Net.OFFICE365:
            return f"{domain.replace('.', '-')}.mail.protection.outlook.com[198.51.100.{site % 40}]:25"
        case Net.GOOGLE:
            return f"aspmx.l.google.com[198.51.100.{100 + site % 10}]:25"
        case _:
            return f"mx1.{domain}[192.0.2.{site % 250}]:25"


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a
