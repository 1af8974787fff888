"""What the config says of the clock: when each provider may be fed, how fast at which hour, how much a day. Pure.

A window is judged by the recipient's clock, timetable and quota by the config's. A provider's own window stands in the
place of `[run] window`. Raises ConfigError that names the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from resend.config import Config
from resend.errors import ConfigError
from resend.policy.windows import Timetable, Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """The hours of all providers. `zone`: the config's; a recipient's zone "" means that one."""

    zone: str = "UTC"
    window: Windows = field(default_factory=Windows)
    windows: Mapping[str, Windows] = field(default_factory=dict)  # of providers that have their own
    timetables: Mapping[str, Timetable] = field(default_factory=dict)
    quotas: Mapping[str, int] = field(default_factory=dict)  # by provider, or EGRESS/PROVIDER for one egress

    @classmethod
    def load(cls, config: Config) -> Hours:
        windows: dict[str, Windows] = {}
        timetables: dict[str, Timetable] = {}
        for name, own in config.providers.items():
            if own.window is not None:
                windows[name] = _window(own.window, f"providers.{name}.window")
            if own.timetable:
                try:
                    timetables[name] = Timetable.parse(own.timetable)
                except ValueError as error:
                    raise _wrong(error, f"providers.{name}.timetable") from None
        return cls(
            zone=config.tz,
            window=_window(config.run.window, "run.window"),
            windows=windows,
            timetables=timetables,
            quotas={name: own.daily_quota for name, own in config.providers.items() if own.daily_quota}
            | {
                f"{egress}/{provider}": own.daily_quota
                for egress, one in config.egress.items()
                for provider, own in one.limits.items()
                if own.daily_quota
            },
        )

    def windows_of(self, provider: str) -> Windows:
        return self.windows.get(provider, self.window)

    def is_open(self, provider: str, zone: str, at: datetime) -> bool:
        """Whether mail to this provider may leave at `at` for a recipient in `zone`."""
        windows = self.windows_of(provider)
        return not windows.spans or windows.is_open(at, zone or self.zone)

    def opens(self, provider: str, zone: str, at: datetime) -> datetime:
        """The first moment, `at` or later, at which it may."""
        windows = self.windows_of(provider)
        return windows.opens(at, zone or self.zone) if windows.spans else at

    def bound(self, provider: str, at: datetime) -> float:
        """The timetable's ceiling at `at`, mails per second; 0 where it sets none."""
        timetable = self.timetables.get(provider)
        return (timetable.rate(at, self.zone) if timetable else None) or 0.0

    def quota(self, provider: str, egress: str = "") -> int:
        """Accepted mails a day by one egress (its name in the ledger), 0 unlimited."""
        return self.quotas.get(f"{egress.partition(':')[2]}/{provider}") or self.quotas.get(provider, 0)

    def day(self, at: datetime) -> tuple[datetime, datetime]:
        """Begin and end of the day of `at` by the config's clock, aware UTC."""
        where = ZoneInfo(self.zone)
        begin = at.astimezone(where).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        return begin.astimezone(UTC), (begin + timedelta(days=1)).astimezone(UTC)  # days of 23 and 25 hours, too


ALWAYS = Hours()


def _window(text: str, key: str) -> Windows:
    try:
        return Windows.parse(text)
    except ValueError as error:
        raise _wrong(error, key) from None


def _wrong(error: ValueError, key: str) -> ConfigError:
    return ConfigError(f"{key}: {error}", where="resend.toml", next_step="write it like the ones in docs/commands.md")
