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
from resend.policy.providers import Profile

_RAISE, _HALVE, _CAP = 1.10, 0.5, 0.85
_PARK_MIN = 100  # replies that a park rule needs in its window
_RELAY_EQUAL = 5  # equal 5yz to as many recipients: it is about the relay
_PARKING = frozenset({CauseClass.SENDER_BLOCKED, CauseClass.AUTH_FAILED, CauseClass.POLICY_REJECTED})
_WIDE = frozenset({Scope.PROVIDER, Scope.SENDER})
_OF_RECIPIENT = frozenset({CauseClass.MAILBOX_GONE, CauseClass.MAILBOX_TEMPORARY, CauseClass.BAD_DOMAIN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """halved | raised | parked | canary_done, with its reason; `rate` in mails per second after it."""

    what: str
    reason: str
    rate: float


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
    halvings: int = 0
    _replies: deque[tuple[datetime, str, CauseClass | None]] = field(default_factory=deque)

    def accepted(self, now: datetime) -> Decision | None:
        """A mail was accepted (behind a relay: delivered)."""
        self._count(now, "accepted", None)
        return self.tick(now)

    def failed(self, now: datetime, outcome: str, cause: Cause) -> Decision | None:
        """A mail was refused: `outcome` is deferred or rejected."""
        if cause.cls is CauseClass.GREYLISTED:
            self._count(now, "greylisted", cause.cls)
            return None
        self._count(now, outcome, cause.cls)
        if cause.cls in _PARKING and cause.scope in _WIDE:
            return self._park(f"{cause.cls.value} ({cause.rule})")
        if cause.cls is CauseClass.THROTTLED and cause.scope is not Scope.RECIPIENT:
            decision = self._halve(now, cause)
            return decision or self._rules(now)
        return self._rules(now)

    def tick(self, now: datetime) -> Decision | None:
        """Time has passed: a clean interval raises the rate."""
        if self.parked or not self.canary_done:
            return None
        if self.cooldown_until is not None and now < self.cooldown_until:
            return None
        if self.clean_since is None:
            self.clean_since = now
            return None
        if now - self.clean_since < self.profile.clean_for:
            return None
        top = self.ceiling
        if self.capped and self.capped_until is not None and now < self.capped_until:
            top = min(top, self.capped)
        raised = min(top, self.rate * _RAISE)
        if raised <= self.rate:
            return None
        self.rate = raised
        self.clean_since = now
        return Decision(what="raised", reason="clean since the last change", rate=raised)

    def finish_canary(self, now: datetime) -> Decision:
        """The canary and its dwell are over: the ramp begins."""
        self.canary_done = True
        self.clean_since = now
        return Decision(what="canary_done", reason="the canary and its dwell are over", rate=self.rate)

    def _halve(self, now: datetime, cause: Cause) -> Decision | None:
        self.clean_since = None
        if self.cooldown_until is not None and now < self.cooldown_until:
            return None  # replies to mails that were under way: the step is taken already
        before = self.rate
        self.rate = max(self.profile.floor, before * _HALVE)
        self.capped = max(self.profile.floor, before * _CAP)
        self.capped_until = now + self.profile.cap_for
        self.cooldown_until = now + self.profile.cooldown
        self.halvings += 1
        return Decision(what="halved", reason=f"throttled at {format_rate(before)} ({cause.rule})", rate=self.rate)

    def _park(self, reason: str) -> Decision | None:
        if self.parked:
            return None
        self.parked = reason
        return Decision(what="parked", reason=reason, rate=self.rate)

    def _count(self, now: datetime, outcome: str, cls: CauseClass | None) -> None:
        self._replies.append((now, outcome, cls))
        longest = max((rule.window for rule in self.profile.park), default=timedelta(0))
        while self._replies and now - self._replies[0][0] > longest:
            self._replies.popleft()

    def _rules(self, now: datetime) -> Decision | None:
        at_floor = self.rate <= self.profile.floor
        for rule in self.profile.park:
            seen = [item for item in self._replies if now - item[0] <= rule.window]
            if len(seen) < _PARK_MIN:
                continue
            hits = sum(
                1
                for _, outcome, cls in seen
                if (outcome == rule.what or (cls is not None and cls.value == rule.what))
                and (at_floor or cls not in (CauseClass.THROTTLED, CauseClass.GREYLISTED))
            )
            if hits / len(seen) > rule.share:
                return self._park(f"{rule.text}: {hits} of {len(seen)}")
        return None


@dataclass(slots=True)
class RelayWatch:
    """Sees when refusals are about the relay and not about the mails: then its rows go back to planned."""

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
        if code < 500 or cause.cls in _OF_RECIPIENT:
            return []
        if wording != self._last:
            self._last = wording
            self._keys.clear()
        self._keys[rcpt] = key
        if len(self._keys) < _RELAY_EQUAL:
            return []
        self.stopped = f"{_RELAY_EQUAL} equal refusals in a row: {wording[:80]}"
        keys = list(self._keys.values())
        self._keys.clear()
        return keys

    def other(self) -> None:
        """Something else happened at this egress: refusals are not all there is."""
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
