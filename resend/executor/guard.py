"""What a run does about the replies it gets: slow down, speed up, park a provider. Pure.

One guard for each (egress, provider). Every decision says what and why; the caller writes it to the ledger, with what a
restart must know. Reactions of DESIGN: throttled halves the rate and cools down; a rate that was throttled bounds the
rise to 85 % of it for a while; a clean interval adds a tenth; greylisting never counts. A provider parked for a time
(`cooldown_until` set) is half open after it: single mails, then two, then four; a failure doubles the cool-down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from resend.clock import format_duration, format_rate
from resend.executor.dots import Dots
from resend.model import Cause, CauseClass, Scope
from resend.policy.providers import ParkRule, Profile
from resend.policy.reactions import Act, Reaction, about_provider

_RAISE, _HALVE, _CAP = 1.10, 0.5, 0.85
_PARK_MIN = 100  # replies that a park rule needs in its window
_CANARY_BAD = 5  # refusals that are not about recipients, and more than acceptances: the canary failed
OF_RECIPIENT = frozenset({CauseClass.MAILBOX_GONE, CauseClass.MAILBOX_TEMPORARY, CauseClass.BAD_DOMAIN})
_ROUNDS_END = 4  # mails of the last round of a half-open provider; the rate comes back after it
_ROUND_TIME = timedelta(seconds=60)  # a round without all its answers is begun again
_SAME = 0.15  # two throttled rates so near to each other are one limit: its cap holds twice as long
_CAP_MOST = timedelta(hours=16)
_HOUR = timedelta(hours=1)
_LIVE_STEP = 0.05  # of the ceiling: smaller changes of the live rate are not worth a decision
_SLOWING = frozenset({CauseClass.THROTTLED, CauseClass.GREYLISTED})  # count for park rules at the floor only


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """halved | at_floor | raised | parked | half_open | reopened | live | limited | canary_done ..., with its reason.

    `rate`: mails per second after it.
    """

    what: str
    reason: str
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A reply of before: when, as what it was written down, the cause of a refusal (None: accepted), its words."""

    at: datetime
    outcome: str
    cls: CauseClass | None = None
    reply: str = ""


@dataclass(slots=True)
class _Window:
    """Replies within the window of one park rule: how many, and how many of them the rule means."""

    rule: ParkRule
    total: int = 0
    hits: int = 0
    _replies: deque[tuple[datetime, bool]] = field(default_factory=deque)

    def add(self, now: datetime, outcome: str, cls: CauseClass | None) -> None:
        hit = self.rule.what in (outcome, cls)
        self._replies.append((now, hit))
        self.total += 1
        self.hits += hit
        while now - self._replies[0][0] > self.rule.window:
            self.total -= 1
            self.hits -= self._replies.popleft()[1]

    def forget(self) -> None:
        self.total = self.hits = 0
        self._replies.clear()

    @property
    def broken(self) -> bool:
        return self.total >= _PARK_MIN and self.hits / self.total > self.rule.share


@dataclass(slots=True)
class Guard:
    """The state of one (egress, provider); all times aware UTC."""

    profile: Profile
    rate: float
    ceiling: float
    canary_done: bool = False
    capped: float = 0.0
    capped_until: datetime | None = None
    cooldown_until: datetime | None = None
    clean_since: datetime | None = None
    parked: str = ""
    bound: float = 0.0  # the timetable's ceiling at this hour; 0 none
    live: float = 0.0  # mails per second of the sender's own live traffic, which goes first
    half_open: bool = False
    next_cooldown: timedelta = timedelta(0)  # if a probe fails
    cap_for: timedelta = timedelta(0)  # how long `capped` holds when it is met; 0 as the profile says
    limits: dict[Act, tuple[int, datetime]] = field(default_factory=dict)  # by reactions: at most so many, until when
    probes_left: int = 0  # mails of this round that may still leave
    dots: Dots = field(default_factory=Dots)
    _fired: dict[str, deque[datetime]] = field(default_factory=dict)  # of a reaction: its replies within the hour
    _round: int = 1
    _answers: int = 0
    _round_at: datetime | None = None
    _good: int = 0  # acceptances since the last change; a rate does not rise on silence
    _canary: list[int] = field(default_factory=lambda: [0, 0])  # acceptances, and refusals not about recipients
    _windows: list[_Window] = field(init=False)

    def __post_init__(self) -> None:
        self.cap_for = self.cap_for or self.profile.cap_for
        self._windows = [_Window(rule) for rule in self.profile.park]

    @property
    def pace(self) -> float:
        """The rate at which mail leaves now: what was learned, within the hour's bound and what live mail leaves."""
        rate = min(self.rate, self.bound) if self.bound else self.rate
        return min(rate, max(self.profile.floor, self.ceiling - self.live)) if self.live else rate

    @property
    def connections(self) -> int:
        """What a reaction allows, 0 where the profile does."""
        return self.limits[Act.CONNECTIONS][0] if Act.CONNECTIONS in self.limits else 0

    @property
    def mails_per_connection(self) -> int:
        return self.limits[Act.MAILS][0] if Act.MAILS in self.limits else 0

    @property
    def waits(self) -> bool:
        """Whether nothing may leave until probes are answered."""
        return self.half_open and self.probes_left <= 0

    @property
    def firm(self) -> bool:
        """Parked until a person resumes it."""
        return bool(self.parked) and self.cooldown_until is None

    def silent(self, now: datetime) -> bool:
        """Whether nobody told for a whole round what came of the probes."""
        return self.waits and self._round_at is not None and now - self._round_at >= _ROUND_TIME

    def leaves(self) -> None:
        """A mail is on its way."""
        if self.half_open:
            self.probes_left -= 1

    def probes_elsewhere(self, now: datetime) -> None:
        """Another host sends the probes; should it die, one of the others begins again."""
        self.half_open, self.probes_left, self._round_at = True, 0, now

    def try_again(self, now: datetime) -> None:
        """Whoever sent the probes is gone: a single mail tries it."""
        self.half_open = True
        self._begin_round(now, 1)

    def recall(self, heard: Iterable[Heard]) -> None:
        """Replies of before this run, oldest first: what counts them goes on counting. Decides nothing."""
        for item in heard:
            if item.cls is None:
                self._count(item.at, item.outcome, None)
                self._good += self.clean_since is not None and item.at >= self.clean_since
                self._canary[0] += not self.canary_done
                continue
            if item.cls not in _SLOWING or self.pace <= self.profile.floor:
                self._count(item.at, item.outcome, item.cls)
            if item.cls not in _SLOWING and item.cls not in OF_RECIPIENT:
                self._canary[1] += not self.canary_done
            if (reaction := self.profile.reaction(item.cls, item.reply)) is not None:
                self._fires(item.at, reaction)

    def resume(self) -> None:
        """A person says that it goes on."""
        self.parked, self.half_open, self.next_cooldown = "", False, timedelta(0)
        self.dots = Dots()

    def set_back(self, step: timedelta) -> None:
        """The clock was set back by -`step`: what waits for a time waits for it no longer than before."""
        for name in ("capped_until", "cooldown_until", "clean_since", "_round_at"):
            at = getattr(self, name)
            setattr(self, name, None if at is None else at + step)
        self.dots.set_back(step)
        self.limits = {act: (most, until + step) for act, (most, until) in self.limits.items()}

    def live_seen(self, now: datetime, rate: float, trouble: str = "") -> Decision | None:
        """What the sender's own log tells of live mail at this provider; `trouble`: its deferrals rise, and how."""
        if trouble and not self.parked:
            return self._suspend(now, f"live mail goes first: {trouble}", self.profile.cooldown)
        before, changed = self.pace, abs(rate - self.live) >= _LIVE_STEP * self.ceiling
        if changed or (not rate and self.live):
            self.live = rate
        if self.pace == before:
            return None
        reason = f"live mail takes {format_rate(rate)} of {format_rate(self.ceiling)}" if rate else "no live mail"
        return Decision(what="live", reason=reason, rate=self.pace)

    def at_this_hour(self, bound: float) -> Decision | None:
        """The timetable's ceiling changes; what was learned of the receiver stays."""
        if bound == self.bound:
            return None
        self.bound = bound
        reason = f"at most {format_rate(bound)} at this hour" if bound else "no bound at this hour"
        return Decision(what="timetable", reason=reason, rate=self.pace)

    def accepted(self, now: datetime) -> Decision | None:
        """A mail was accepted (behind a relay whose log is followed: delivered)."""
        self._count(now, "accepted", None)
        self._good += 1
        self._canary[0] += not self.canary_done
        return self._answered(now) if self.half_open else self.tick(now)

    def failed(self, now: datetime, outcome: str, cause: Cause, reply: str = "") -> Decision | None:
        """A mail was refused: `outcome` is deferred or rejected."""
        if cause.cls not in _SLOWING or self.pace <= self.profile.floor:
            self._count(now, outcome, cause.cls)
        if about_provider(cause):
            return self._park(f"{cause.cls.value} ({cause.rule})")
        if self.parked:
            return None  # to a mail that was under way
        if cause.cls not in _SLOWING and cause.cls not in OF_RECIPIENT:
            self._canary[1] += not self.canary_done
        if (reaction := self.profile.reaction(cause.cls, reply)) is not None:
            decision = self._react(now, reaction, cause)
            if decision is not None:
                return decision
        if self.half_open:
            if cause.cls in (CauseClass.THROTTLED, CauseClass.TRANSIENT_INFRA) and cause.scope is not Scope.RECIPIENT:
                return self._suspend(now, f"a probe failed: {cause.cls.value} ({cause.rule})", self.profile.cooldown)
            return self._answered(now) or self._rules(now)
        if cause.cls is CauseClass.THROTTLED and cause.scope is not Scope.RECIPIENT:
            decision = self._halve(now, cause)
            return decision or self._rules(now)
        return self._rules(now)

    def doubted(self, now: datetime, began: datetime, *, cut: bool) -> Decision | None:
        """A mail's dot got no answer that can be read; `began`, `cut` as `Dots.lost` takes them."""
        self._count(now, "in_doubt", None)
        why = self.dots.lost(now, began, cut=cut)
        canary = "" if self.canary_done else self.dots.canary
        if canary or why:
            return self._park(canary or why)
        if self.half_open:
            return self._suspend(now, "a probe is in doubt", self.profile.cooldown)
        return self._rules(now)

    def tick(self, now: datetime) -> Decision | None:
        """Time has passed: an interval that was clean, and not idle, raises the rate."""
        self._lift(now)
        if self.parked:
            return self._reopen(now)
        if self.half_open:
            if self.silent(now):
                self._begin_round(now, 1)
            return None
        if not self.canary_done:
            return None
        if self.cooldown_until is not None and now < self.cooldown_until:
            return None
        if self.clean_since is None:
            self.clean_since, self._good = now, 0
            return None
        if now - self.clean_since < self.profile.clean_for or not self._good:
            return None
        top = min(self.ceiling, self.bound) if self.bound else self.ceiling
        if self.capped and self.capped_until is not None and now < self.capped_until:
            top = min(top, self.capped)
        raised = min(top, self.rate * _RAISE)
        if raised <= self.rate:
            return None
        self.rate = raised
        self.clean_since, self._good = now, 0
        return Decision(what="raised", reason="clean since the last change", rate=raised)

    def finish_canary(self, now: datetime) -> Decision:
        """The canary and its dwell are over: the ramp begins, unless the canary was refused."""
        good, bad = self._canary
        refused = f"the canary failed: {bad} refused, {good} accepted" if bad >= _CANARY_BAD and bad > good else ""
        failed = self.dots.canary or refused
        if failed and (parked := self._park(failed)) is not None:
            return parked
        self.canary_done = True
        self.clean_since, self._good = now, 0
        return Decision(what="canary_done", reason="the canary and its dwell are over", rate=self.rate)

    def _halve(self, now: datetime, cause: Cause) -> Decision | None:
        self.clean_since, self._good = now, 0  # a cool-down without another such reply is clean time
        if self.cooldown_until is not None and now < self.cooldown_until:
            return None  # replies to mails that were under way: the step is taken already
        before = self.pace
        self.rate = min(before, max(self.profile.floor, before * _HALVE))
        again = self.capped and abs(before * _CAP - self.capped) <= _SAME * self.capped
        self.cap_for = min(self.cap_for * 2, max(_CAP_MOST, self.profile.cap_for)) if again else self.profile.cap_for
        self.capped = max(self.profile.floor, before * _CAP)
        self.capped_until = now + self.cap_for
        self.cooldown_until = now + self.profile.cooldown
        what = "halved" if self.rate < before else "at_floor"
        return Decision(what=what, reason=f"throttled at {format_rate(before)} ({cause.rule})", rate=self.rate)

    def _react(self, now: datetime, reaction: Reaction, cause: Cause) -> Decision | None:
        if not self._fires(now, reaction):
            return None
        match reaction.act:
            case Act.PARK:
                return self._park(f"{reaction.text} ({cause.rule})")
            case Act.COOLDOWN:
                return self._suspend(now, f"{reaction.text} ({cause.rule})", reaction.span)
            case Act.CONNECTIONS | Act.MAILS:
                new = reaction.act not in self.limits
                self.limits[reaction.act] = reaction.most, now + reaction.span
        if not new:
            return None  # it lasts longer; the halving is not kept from happening
        return Decision(what="limited", reason=f"{reaction.text} ({cause.rule})", rate=self.rate)

    def _fires(self, now: datetime, reaction: Reaction) -> bool:
        """Count a reply that a reaction means; whether it came often enough within the hour."""
        fired = self._fired.setdefault(reaction.on, deque())
        fired.append(now)
        while now - fired[0] > _HOUR:
            fired.popleft()
        if len(fired) < reaction.times:
            return False
        fired.clear()
        return True

    def _lift(self, now: datetime) -> None:
        for act, (_, until) in list(self.limits.items()):
            if now >= until:
                del self.limits[act]

    def _suspend(self, now: datetime, reason: str, span: timedelta) -> Decision | None:
        """Park for a time; the rate that comes back after the probes is that after a throttling."""
        if self.parked:
            return None
        if self.half_open:
            span = max(span, self.next_cooldown)
        else:
            before = self.pace
            self.rate = min(before, max(self.profile.floor, before * _HALVE))
            self.capped, self.capped_until = max(self.profile.floor, before * _CAP), now + self.profile.cap_for
        self.half_open, self.next_cooldown = False, span * 2
        self.clean_since, self.cooldown_until = None, now + span
        self.parked = f"{reason}; tried again after {format_duration(span)}"
        return Decision(what="parked", reason=self.parked, rate=self.rate)

    def _reopen(self, now: datetime) -> Decision | None:
        if self.cooldown_until is None or now < self.cooldown_until:
            return None
        reason, self.parked, self.half_open = self.parked, "", True
        self._begin_round(now, 1)
        for window in self._windows:
            window.forget()  # what parked it must not park it again at the first reply
        return Decision(what="half_open", reason=f"single mails try it; it was parked: {reason}", rate=self.pace)

    def _begin_round(self, now: datetime, size: int) -> None:
        self._round = self.probes_left = size
        self._answers, self._round_at = 0, now

    def _answered(self, now: datetime) -> Decision | None:
        self._answers += 1
        if self._answers < self._round:
            return None
        if self._round < _ROUNDS_END:
            self._begin_round(now, self._round * 2)
            return None
        self.half_open, self.next_cooldown = False, timedelta(0)
        self.clean_since, self._good = now, 0
        return Decision(what="reopened", reason="the probes were taken", rate=self.pace)

    def _park(self, reason: str) -> Decision | None:
        if self.firm:
            return None
        self.parked, self.half_open, self.cooldown_until = reason, False, None
        return Decision(what="parked", reason=reason, rate=self.rate)

    def _count(self, now: datetime, outcome: str, cls: CauseClass | None) -> None:
        for window in self._windows:
            window.add(now, outcome, cls)

    def _rules(self, now: datetime) -> Decision | None:
        for window in self._windows:
            if window.broken and not self.parked:
                reason = f"{window.rule.text}: {window.hits} of {window.total}"
                passes = window.rule.what in ("deferred", *_SLOWING, CauseClass.TRANSIENT_INFRA)
                return self._suspend(now, reason, self.profile.cooldown) if passes else self._park(reason)
        return None


def due_at(
    now: datetime, *, tries: int, cause: Cause, first: timedelta, most: timedelta, jitter: float = 0.0
) -> datetime:
    """When a deferred mail is due: max(retry_after, first x 2^(tries-1) up to `most`); `jitter` 0..1 adds a tenth."""
    wait: timedelta = min(most, first * float(1 << min(tries - 1, 20)))
    if cause.retry_after is not None:
        wait = max(wait, timedelta(seconds=cause.retry_after))
    return now + wait * (1 + 0.1 * jitter)
