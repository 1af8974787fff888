"""What a run does about the replies it gets: slow down, speed up, park a provider, stop for the relay. Pure.

One guard for each (egress, provider) and one RelayWatch for each egress. Every decision says what and why; the caller
writes it to the ledger. Reactions of DESIGN: throttled halves the rate and cools down; a rate that was throttled bounds
the rise to 85 % of it for a while; a clean interval adds a tenth; greylisting never counts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from resend.clock import format_rate
from resend.model import Cause, CauseClass, Scope
from resend.policy.providers import ParkRule, Profile

_RAISE, _HALVE, _CAP = 1.10, 0.5, 0.85
_PARK_MIN = 100  # replies that a park rule needs in its window
_RELAY_EQUAL = 5  # equal 5yz to as many recipients: it is about the relay
_CANARY_BAD = 5  # refusals that are not about recipients, and more than acceptances: the canary failed
_PARKING = frozenset({CauseClass.SENDER_BLOCKED, CauseClass.AUTH_FAILED, CauseClass.POLICY_REJECTED})
_WIDE = frozenset({Scope.PROVIDER, Scope.SENDER})
_OF_RECIPIENT = frozenset({CauseClass.MAILBOX_GONE, CauseClass.MAILBOX_TEMPORARY, CauseClass.BAD_DOMAIN})
_SLOWING = frozenset({CauseClass.THROTTLED, CauseClass.GREYLISTED})  # count for park rules at the floor only


def about_provider(cause: Cause) -> bool:
    """Whether a refusal is about us at this provider, and so parks it instead of failing the mail."""
    return cause.cls in _PARKING and cause.scope in _WIDE


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """halved | raised | parked | canary_done, with its reason; `rate` in mails per second after it."""

    what: str
    reason: str
    rate: float


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
    _good: int = 0  # acceptances since the last change; a rate does not rise on silence
    _canary: list[int] = field(default_factory=lambda: [0, 0])  # acceptances, and refusals not about recipients
    _windows: list[_Window] = field(init=False)

    def __post_init__(self) -> None:
        self._windows = [_Window(rule) for rule in self.profile.park]

    @property
    def pace(self) -> float:
        """The rate at which mail leaves now: what was learned, within what the timetable allows at this hour."""
        return min(self.rate, self.bound) if self.bound else self.rate

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
        return self.tick(now)

    def failed(self, now: datetime, outcome: str, cause: Cause) -> Decision | None:
        """A mail was refused: `outcome` is deferred or rejected."""
        if cause.cls not in _SLOWING or self.pace <= self.profile.floor:
            self._count(now, outcome, cause.cls)
        if about_provider(cause):
            return self._park(f"{cause.cls.value} ({cause.rule})")
        if cause.cls not in _SLOWING and cause.cls not in _OF_RECIPIENT:
            self._canary[1] += not self.canary_done
        if cause.cls is CauseClass.THROTTLED and cause.scope is not Scope.RECIPIENT:
            decision = self._halve(now, cause)
            return decision or self._rules()
        return self._rules()

    def tick(self, now: datetime) -> Decision | None:
        """Time has passed: an interval that was clean, and not idle, raises the rate."""
        if self.parked or not self.canary_done:
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
        if bad >= _CANARY_BAD and bad > good:
            parked = self._park(f"the canary failed: {bad} refused, {good} accepted")
            if parked is not None:
                return parked
        self.canary_done = True
        self.clean_since, self._good = now, 0
        return Decision(what="canary_done", reason="the canary and its dwell are over", rate=self.rate)

    def _halve(self, now: datetime, cause: Cause) -> Decision | None:
        self.clean_since = None
        if self.cooldown_until is not None and now < self.cooldown_until:
            return None  # replies to mails that were under way: the step is taken already
        before = self.pace
        self.rate = min(before, max(self.profile.floor, before * _HALVE))
        self.capped = max(self.profile.floor, before * _CAP)
        self.capped_until = now + self.profile.cap_for
        self.cooldown_until = now + self.profile.cooldown
        return Decision(what="halved", reason=f"throttled at {format_rate(before)} ({cause.rule})", rate=self.rate)

    def _park(self, reason: str) -> Decision | None:
        if self.parked:
            return None
        self.parked = reason
        return Decision(what="parked", reason=reason, rate=self.rate)

    def _count(self, now: datetime, outcome: str, cls: CauseClass | None) -> None:
        for window in self._windows:
            window.add(now, outcome, cls)

    def _rules(self) -> Decision | None:
        for window in self._windows:
            if window.broken:
                return self._park(f"{window.rule.text}: {window.hits} of {window.total}")
        return None


@dataclass(slots=True)
class RelayWatch:
    """Sees when refusals are about the relay and not about the mails: then its rows go back to planned.

    `relay`: the egress is a relay of ours. One that denies relaying does so to every recipient; said by a receiver, the
    same words mean that it does not know the domain.
    """

    relay: bool = False
    stopped: str = ""
    _last: str = ""
    _keys: dict[str, str] = field(default_factory=dict)  # recipient -> delivery key

    def refused(self, rcpt: str, key: str, code: int, wording: str, cause: Cause) -> list[str]:
        """Keys whose rejection was the relay's doing, once that is seen; empty otherwise."""
        if cause.cls is CauseClass.LOCAL_CONFIG and cause.scope is Scope.RELAY:
            self.stopped = f"{cause.cls.value} ({cause.rule})"
            keys = [*self._keys.values(), key] if code >= 500 else list(self._keys.values())
            self._keys.clear()
            return keys
        if code < 500 or (cause.cls in _OF_RECIPIENT and not (self.relay and cause.cls is CauseClass.BAD_DOMAIN)):
            return []
        if wording != self._last:
            self._last = wording
            self._keys.clear()
        elif self.stopped:
            return [key]  # it was under way when the relay was found to be at fault
        self._keys[rcpt] = key
        if len(self._keys) < _RELAY_EQUAL:
            return []
        self.stopped = f"{_RELAY_EQUAL} equal refusals in a row: {wording[:80]}"
        keys = list(self._keys.values())
        self._keys.clear()
        return keys

    def other(self) -> None:
        """Something else happened at this egress: refusals are not all there is."""
        if not self.stopped:
            self._last = ""
            self._keys.clear()


def due_at(
    now: datetime, *, tries: int, cause: Cause, first: timedelta, most: timedelta, jitter: float = 0.0
) -> datetime:
    """When a deferred mail is due: max(retry_after, first x 2^(tries-1) up to `most`); `jitter` 0..1 adds a tenth."""
    wait: timedelta = min(most, first * float(1 << min(tries - 1, 20)))
    if cause.retry_after is not None:
        wait = max(wait, timedelta(seconds=cause.retry_after))
    return now + wait * (1 + 0.1 * jitter)
