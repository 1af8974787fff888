"""The sender's own live mail in a followed log: how fast it goes to each provider, and whether its deferrals rise.

Everything that the log's host hands to a receiver and that is not a try of ours. Pure: time and what is ours are
arguments; decides nothing. An attempt is held for some seconds, until it is known whose it is. Raises nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_SECOND_US = 1_000_000
_RATE_US = 60 * _SECOND_US  # the rate is that of the last minute
_WINDOW_US = 300 * _SECOND_US  # deferrals of so long are compared ...
_BEFORE_US = 1800 * _SECOND_US  # ... with those of so long before
_MIN = 20  # attempts without which a share says nothing
_SHARE, _TIMES = 0.2, 2.0  # deferrals rise: a fifth of all, and twice the share of before
Whose = Callable[[str], bool]  # whether a queue id is of a try of ours
Receiver = Callable[[str, str, str], tuple[str, str]]  # ProviderTable.of: relay, its address, the recipient's domain


@dataclass(slots=True)
class LiveTraffic:
    """Live attempts of the last half hour by provider."""

    receiver: Receiver
    ours: frozenset[str]  # hosts of our own: a hop to them is no delivery
    hold_us: int = 0
    _held: deque[tuple[int, str, str, bool]] = field(default_factory=deque)  # at, queue id, provider, deferred
    _seen: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)

    def feed(self, events: Iterable[Mapping[str, Any]], now_us: int) -> None:
        """Events of the log; what is too old to matter is passed over."""
        for event in events:
            relay, address = str(event["relay"] or ""), str(event["relay_ip"] or "")
            if event["kind"] != "attempt" or event["status"] not in ("sent", "deferred", "bounced"):
                continue
            at = int(event["at_us"])
            if not address or {relay, address} & self.ours or now_us - at > _WINDOW_US + _BEFORE_US:
                continue  # nobody was reached, or it is only a hop
            provider, _ = self.receiver(relay, address, str(event["recipient"] or "").rpartition("@")[2])
            self._held.append((at, str(event["qid"] or ""), provider, event["status"] == "deferred"))

    def now(self, now_us: int, own: Whose) -> dict[str, tuple[float, str]]:
        """By provider: live mails per second, and how its deferrals rise ("" they do not)."""
        until = now_us - self.hold_us
        later: deque[tuple[int, str, str, bool]] = deque()
        for held in self._held:
            at, qid, provider, deferred = held
            if at > until:
                later.append(held)
            elif not own(qid):
                self._seen.setdefault(provider, []).append((at, deferred))
        self._held = later
        found = {}
        for provider, seen in list(self._seen.items()):
            seen[:] = [item for item in seen if until - item[0] <= _WINDOW_US + _BEFORE_US]
            if not seen:
                del self._seen[provider]
                continue
            recent = sum(until - at < _RATE_US for at, _ in seen)
            found[provider] = (recent * _SECOND_US / _RATE_US, _trouble(seen, until))
        return found


def _trouble(seen: list[tuple[int, bool]], until: int) -> str:
    last = [deferred for at, deferred in seen if until - at < _WINDOW_US]
    before = [deferred for at, deferred in seen if until - at >= _WINDOW_US]
    if len(last) < _MIN or sum(last) < _SHARE * len(last):
        return ""
    if len(before) >= _MIN and sum(last) / len(last) < _TIMES * sum(before) / len(before):
        return ""
    return f"{sum(last)} of {len(last)} deferred in 5m, {sum(before)} of {len(before)} before"
