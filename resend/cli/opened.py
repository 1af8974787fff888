"""Opens what a command needs: the configuration, the home. Heavy imports happen here, after `--help` is out of the way.

Raises ConfigError for a wrong configuration, StoreError where the home cannot be used.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from resend.cli.screen import Screen
from resend.errors import ConfigError, StoreError, UsageError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    import typer

    from resend.config import Config, Loaded
    from resend.stores.home import Home
    from resend.stores.ledger import Ledger


def screen_of(ctx: typer.Context) -> Screen:
    """The screen of this command line."""
    screen = ctx.obj
    assert isinstance(screen, Screen)
    screen.command = ctx.command_path
    return screen


def loaded(screen: Screen) -> Loaded:
    """The configuration of the current directory, with `--home`."""
    from resend.config import load

    found = load(directory=Path.cwd(), home_flag=screen.options.home)
    try:
        _check(found.config)
    except ConfigError as error:
        raise found.located(error) from None
    return found


def _check(config: Config) -> None:
    """Parse what the configuration holds as plain text: a slip is said by every command, not first in the night."""
    from resend.policy.dressing import Dressing
    from resend.policy.hours import Hours
    from resend.policy.providers import ProviderTable
    from resend.policy.routes import routes

    Dressing.load(config)
    Hours.load(config)
    if config.egress:
        routes(config)
    if config.providers:
        ProviderTable.load(config.providers)
    _check_templates(config)


def _check_templates(config: Config) -> None:
    """Raise ConfigError for a pattern of [link] that cannot be read: it would link nothing, and say so late."""
    from resend.policy.linktemplate import LinkTemplate

    for key, text in (("message_id", config.link.message_id), ("verp", config.link.verp)):
        try:
            if text:
                LinkTemplate.parse(text)
        except ValueError as error:
            like = "release.{release}.{recipient}@mail.example.jp"
            raise ConfigError(str(error), where=f"link.{key}", next_step=f"write it like {like}") from None


def workplace(screen: Screen) -> tuple[Config, Home]:
    """Configuration and home, which need not exist yet: what writes there makes it."""
    from resend.stores.home import Home

    found = loaded(screen)
    return found.config, Home(found.home)


def existing(screen: Screen) -> tuple[Config, Home]:
    """Configuration and home; a home that is not there is an error that says how to make one."""
    config, home = workplace(screen)
    if not home.path.is_dir():
        raise StoreError(
            "there is no home yet",
            where=str(home.path),
            next_step="run 'resend collect PATH', or go where your resend.toml is, or name it with --home",
        )
    return config, home


def zone(config: Config) -> ZoneInfo:
    """The zone in which times are shown."""
    return ZoneInfo(config.tz)


def duration(text: str, option: str) -> timedelta:
    """`10m` as a timedelta; UsageError names the option."""
    from resend.clock import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}", next_step="write it like 10m, 2h or 5d") from None


def moment(text: str, option: str, config: Config) -> datetime:
    """RFC 3339, or a date and time without a zone in the configured one, as aware UTC; UsageError names the option."""
    from datetime import UTC, datetime

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option}: not a time: {text!r}", next_step="write it like 2026-11-24T09:00+09:00 or '2026-11-24 09:00'"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=zone(config))).astimezone(UTC)


def rates(texts: list[str]) -> dict[str, float]:
    """`office365=5/s` and the like, by provider, in mails per second; UsageError for any other form."""
    from resend.clock import parse_rate

    found: dict[str, float] = {}
    for text in texts:
        provider, _, rate = text.partition("=")
        try:
            found[provider] = parse_rate(rate)
        except ValueError as error:
            raise UsageError(f"rate {text!r}: {error}", next_step="write it like office365=5/s") from None
        if not provider:
            raise UsageError(f"rate {text!r} names no provider", next_step="write it like office365=5/s")
    return found


def check_provider(config: Config, name: str, option: str = "", used: Collection[str] = ()) -> None:
    """Raise UsageError for a provider that looks mistyped: not known, not in `used`, and no domain either."""
    from resend.policy.providers import ProviderTable

    known = {*ProviderTable.load(config.providers).names(), *used}
    if not name or name in known or "." in name:  # a receiver that nobody knows is called by its domain
        return
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    raise UsageError(
        " ".join(filter(None, (option and f"{option}:", f"no provider {name!r}"))),
        next_step=f"did you mean {near[0]!r}?" if near else "see 'resend providers list'",
    )


def from_us(micros: int | None) -> datetime | None:
    """Microseconds since 1970 UTC, as evidence holds them, to aware UTC."""
    from resend.clock import from_micros

    return None if micros is None else from_micros(micros)


def ledger_of(config: Config, home: Home, *, create: bool = False) -> Ledger:
    """The open ledger, to be used as a context manager. Without `create` one that is not there is an error."""
    from resend.stores.ledger import open_ledger

    return open_ledger(config.ledger.url, home, create=create)
