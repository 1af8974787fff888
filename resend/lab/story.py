"""What becomes of each mail of the made-up incident, decided before a line is written.

Most mails are delivered at once. `Story` picks those that were delayed, expired, bounced, held or lost, exactly as many
as the scale asks for, so that every special case is there at every scale. Pure: no file, no clock.
Raises InputError when the scale is too small for all cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from random import Random

from resend.errors import InputError
from resend.lab.world import DAY, HOUR, INJECT, MICROS, MINUTE, LinkBy, Net, Release, World


class Turn(Enum):
    """What happens to one mail that is not simply delivered."""

    EXPIRED = "expired"  # throttled by Office 365 until the queue gave it back
    TWICE = "twice"  # the same, and the submitter sent it a second time
    MAYBE = "maybe"  # the same, with one connection lost after the dot
    LATE = "late"  # throttled, delivered after more than an hour
    SOON = "soon"  # throttled once, delivered within the hour: not affected
    GREY = "grey"  # greylisted once, delivered within the hour: not affected
    HELD = "held"  # throttled, put on hold by the operator
    QUEUED = "queued"  # throttled, next attempt after the end of the evidence
    WAVE = "wave"  # bounced in ten minutes of false "Access denied"
    GONE = "gone"  # a real hard bounce
    REFUSED = "refused"  # bounced for its content
    YAHOO = "yahoo"  # throttled by yahoo.co.jp until it expired
    TIMEOUT = "timeout"  # never connected, expired
    DARK = "dark"  # deferred, then its lines fall into the log gap: no evidence
    MISSING = "missing"  # all its lines fall into the log gap


UNAFFECTED = frozenset({Turn.SOON, Turn.GREY, Turn.DARK, Turn.MISSING})
HOSTS = ("mta1", "mta2", "mta3")


def code_of(release: Release, k: int) -> int:
    """The number of the k-th mail of a release."""
    return release.number << 20 | k


def arrival_of(release: Release, k: int) -> int:
    """When the mail host takes it, us since 1970."""
    return release.sent_at + INJECT * k // release.size + code_of(release, k) * 7919 % 900_000


def host_of(release: Release, k: int) -> int:
    """Index into HOSTS. Releases known by a logged header all go through mta2, which logs it."""
    if release.link is LinkBy.HEADER:
        return 1
    turn = (release.number * 7 + k) % 20
    return 0 if turn < 9 else 1 if turn < 17 else 2


class Story:
    """The plan: `turn_of[code]` for each mail that is not simply delivered, and the facts around it."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self._rng = Random(f"story {seed}")
        affected = world.affected
        self.folded = max(2, affected // 1000)
        self.unlinked = max(3, affected // 500)
        world.plan_releases(world.mails - self.folded - self.unlinked)
        self.throttled_from = world.start + 9 * HOUR
        self.throttled_to = world.end - 240 * MINUTE
        self.expire_before = self.throttled_to - 25 * HOUR - 30 * MINUTE  # what arrives later cannot expire in time
        self.held_at = self.throttled_to - 20 * MINUTE
        self.turn_of: dict[int, Turn] = {}
        self.gap = (0, 0)
        self.wave = (0, 0)
        self.suppressed: set[int] = set()
        self._plan_gap()
        self._plan_wave()
        self._plan_specials()
        self._plan_rest()
        self._plan_unsubscribed()

    # who could be meant

    def _find(self, fits: Callable[[Net, int, Release, int], bool]) -> list[int]:
        """Codes of all unplanned mails that fit (net, arrival, release, k)."""
        recipients, found = self.world.recipients, []
        for release in self.world.releases:
            for k, index in enumerate(self.world.members(release)):
                if fits(recipients[index].net, arrival_of(release, k), release, k):
                    code = code_of(release, k)
                    if code not in self.turn_of:
                        found.append(code)
        return found

    def _take(self, pool: list[int], count: int, turn: Turn) -> list[int]:
        """Give `turn` to `count` mails drawn from the pool, which shrinks."""
        taken: list[int] = []
        while len(taken) < count:
            if not pool:
                raise InputError(f"no mail left for the case {turn.value!r}", next_step="choose a larger --scale")
            place = int(self._rng.random() * len(pool))
            pool[place], pool[-1] = pool[-1], pool[place]
            code = pool.pop()
            if code not in self.turn_of:
                self.turn_of[code] = turn
                taken.append(code)
        return taken

    def _releases(self, first: int, last: int, link: LinkBy) -> list[Release]:
        """Releases sent between, biggest first."""
        fit = [r for r in self.world.releases if first <= r.sent_at <= last and r.link is link]
        return sorted(fit, key=lambda release: (-release.size, release.number))

    # the plan

    def _plan_gap(self) -> None:
        start = self.world.start
        release = self._releases(start + 30 * HOUR, start + 54 * HOUR, LinkBy.SENDLOG)[0]
        begin = release.sent_at + 5 * MINUTE
        self.gap = (begin, begin + MINUTE)
        for code in self._find(lambda _n, at, r, k: begin <= at < begin + MINUTE and host_of(r, k) == 1):
            self.turn_of[code] = Turn.MISSING
        dark = self._find(
            lambda net, at, r, k: (
                net is Net.OFFICE365 and begin - 298 * MICROS <= at < begin - 245 * MICROS and host_of(r, k) == 1
            )
        )
        self._take(dark, min(len(dark), max(2, self.world.affected // 1200)), Turn.DARK)

    def _plan_wave(self) -> None:
        begin = self._releases(self.throttled_from + 40 * HOUR, self.throttled_to - 12 * HOUR, LinkBy.TEMPLATE)[
            0
        ].sent_at
        self.wave = (begin, begin + 10 * MINUTE)
        pool = self._find(lambda net, at, _r, _k: net is Net.OFFICE365 and begin <= at < begin + 10 * MINUTE)
        self._take(pool, min(max(30, self.world.affected * 3 // 100), len(pool) * 6 // 10), Turn.WAVE)

    def _plan_specials(self) -> None:
        """A withdrawn, an out-of-date, an embargoed release and one without content, each with mails that expired."""
        first, last = self.throttled_from, self.expire_before - INJECT
        busy = (self.gap[0], self.wave[0])
        sendlog, template = (
            [r for r in self._releases(first, last, link) if all(abs(r.sent_at - at) > 2 * INJECT for at in busy)]
            for link in (LinkBy.SENDLOG, LinkBy.TEMPLATE)
        )
        withdrawn, embargoed, out_of_date, gone = sendlog[1], sendlog[2], template[1], template[2]
        withdrawn.withdrawn = True
        embargoed.embargo_at = self.world.end + 2 * DAY
        out_of_date.expires_at = self.world.end - 6 * HOUR
        gone.content = False
        for release in (withdrawn, embargoed, out_of_date, gone):
            pool = self._find(lambda net, _at, r, _k, want=release: net is Net.OFFICE365 and r is want)  # type: ignore[misc]
            self._take(pool, min(max(3, self.world.affected // 125), len(pool) * 6 // 10), Turn.EXPIRED)

    def _plan_rest(self) -> None:
        affected, wave = self.world.affected, self.wave
        first, last, expire = self.throttled_from, self.throttled_to, self.expire_before
        anywhere = self._find(lambda net, at, _r, _k: net is not Net.OFFICE365 and at < expire)
        nets = {code: self._net(code) for code in anywhere}

        def of(*wanted: Net) -> list[int]:
            return [code for code in anywhere if nets[code] in wanted]

        for net in (Net.GOOGLE, Net.YAHOO_JP, Net.DOCOMO, Net.AU, Net.SOFTBANK, Net.OTHER):
            self._take(of(net), max(1, affected // 300), Turn.GONE)
        self._take(of(Net.YAHOO_JP), max(8, affected // 25), Turn.YAHOO)
        self._take(of(Net.OTHER, Net.DOCOMO, Net.AU), max(3, affected // 100), Turn.TIMEOUT)
        for net in (Net.GOOGLE, Net.OTHER):
            self._take(of(net), max(2, affected // 1000), Turn.REFUSED)
        hosted = self._find(lambda net, at, _r, _k: net is Net.OFFICE365 and not wave[0] - HOUR <= at < wave[1] + HOUR)
        at = {code: self._arrival(code) for code in hosted}
        self._take(hosted, max(4, affected * 16 // 1000), Turn.GONE)
        early = [code for code in hosted if first <= at[code] < expire]
        self._take(early, max(3, affected // 300), Turn.MAYBE)
        self._take([code for code in early if self._folds(code)], self.folded, Turn.TWICE)
        recent = [code for code in hosted if self.world.end - 22 * HOUR <= at[code] < self.held_at - 15 * MINUTE]
        recent = [code for code in recent if host_of(*self.mail(code)) == 0]
        self._take(recent, affected // 12, Turn.HELD)
        self._take(recent, affected * 4 // 100, Turn.QUEUED)
        in_time = [code for code in hosted if first <= at[code] < last - 70 * MINUTE]
        self._take(in_time, affected * 30 // 100, Turn.LATE)
        done = sum(turn not in UNAFFECTED for turn in self.turn_of.values()) + self.folded + self.unlinked
        self._take(early, affected - done, Turn.EXPIRED)
        self._take(in_time, len(in_time) // 20, Turn.SOON)
        grey = [code for code in of(Net.OTHER) if code not in self.turn_of]
        self._take(grey, len(grey) // 100, Turn.GREY)

    def _plan_unsubscribed(self) -> None:
        """Some whose mail expired have unsubscribed or complained since."""
        pool = [code for code, turn in self.turn_of.items() if turn is Turn.EXPIRED]
        for count in range(max(5, self.world.affected // 150)):
            release, k = self.mail(pool[int(self._rng.random() * len(pool))])
            index = self.world.members(release)[k]
            if count % 3 == 0:
                self.suppressed.add(index)
            else:
                self.world.recipients[index].unsubscribed_at = arrival_of(release, k) + 20 * HOUR

    def mail(self, code: int) -> tuple[Release, int]:
        return self.world.releases[code >> 20], code & 0xFFFFF

    def _net(self, code: int) -> Net:
        release, k = self.mail(code)
        index = (release.first + k * release.stride) % len(self.world.recipients)
        return self.world.recipients[index].net

    def _arrival(self, code: int) -> int:
        return arrival_of(*self.mail(code))

    def _folds(self, code: int) -> bool:
        release, k = self.mail(code)
        return release.link is LinkBy.SENDLOG and host_of(release, k) < 2 and release.content and not release.withdrawn


def attempts(arrival: int, first: int, rng: Random) -> Iterator[int]:
    """Postfix's retries without end: the wait is the age of the mail, at least 300 s and at most 4,000 s."""
    at = first + 400_000
    while True:
        yield at
        wait = min(max(at - arrival, 300 * MICROS), 4000 * MICROS)
        at += wait + int(rng.random() * 8 * MICROS)
