"""When refusals are about the relay and not about the mails. One for each egress. Pure; raises nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from resend.executor.dots import Dots
from resend.executor.guard import OF_RECIPIENT
from resend.model import Cause, CauseClass, Scope

_RELAY_EQUAL = 5  # equal 5yz to as many recipients: it is about the relay


@dataclass(slots=True)
class RelayWatch:
    """Sees when refusals are about the relay and not about the mails: then its rows go back to planned.

    `relay`: the egress is a relay of ours. One that denies relaying does so to every recipient; said by a receiver, the
    same words mean that it does not know the domain.
    """

    relay: bool = False
    stopped: str = ""
    dots: Dots = field(default_factory=Dots)  # of all lanes
    _last: str = ""
    _keys: dict[str, str] = field(default_factory=dict)  # recipient -> delivery key

    def refused(self, rcpt: str, key: str, code: int, wording: str, cause: Cause) -> list[str]:
        """Keys whose rejection was the relay's doing, once that is seen; empty otherwise."""
        if cause.cls is CauseClass.LOCAL_CONFIG and cause.scope is Scope.RELAY:
            self.stopped = f"{cause.cls.value} ({cause.rule})"
            keys = [*self._keys.values(), key] if code >= 500 else list(self._keys.values())
            self._keys.clear()
            return keys
        if code < 500 or (cause.cls in OF_RECIPIENT and not (self.relay and cause.cls is CauseClass.BAD_DOMAIN)):
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
