"""What we put on a mail of our own making besides its content: who signs it, where one unsubscribes, that it is late.

Chosen when a plan is made and frozen with the mail's variables, so that each try makes the same bytes and a plan
notices a change. Original mail under its own identity is never touched. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from resend.clock import from_text
from resend.config import Config
from resend.errors import ConfigError
from resend.policy import unsubscribe
from resend.policy.dkim import Signer
from resend.policy.message import ContentError

FROZEN = "_resend"  # beside the variables; the catalog cannot set it
_UNSUBSCRIBE, _SIGNER = "unsubscribe", "dkim"
SIGNER_PATH = f'$."{FROZEN}".{_SIGNER}'  # of Signer.name in a plan's variables, as JSON is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Dressing:
    """What the config asks for."""

    list_unsubscribe: str = ""
    delayed_line: Mapping[str, str] = field(default_factory=dict)
    delayed_after: timedelta = timedelta(hours=24)
    signer: Signer | None = None

    @classmethod
    def load(cls, config: Config, signer: Signer | None = None) -> Dressing:
        """What `[message]` says. Raises ConfigError."""
        wanted = config.message
        try:
            address = unsubscribe.parse(wanted.list_unsubscribe) if wanted.list_unsubscribe else ""
        except ValueError as error:
            raise ConfigError(
                f"message.list_unsubscribe: {error}",
                where="resend.toml",
                next_step="write it like https://example.jp/u/{recipient}/{release}",
            ) from None
        lines = {language.lower(): line for language, line in wanted.delayed_line.items()}
        return cls(list_unsubscribe=address, delayed_line=lines, delayed_after=wanted.delayed_after, signer=signer)

    def frozen(self, *, recipient: str, release: str) -> dict[str, str]:
        """What a mail's bytes depend on beside its content."""
        if not self.list_unsubscribe and self.signer is None:
            return {}  # asked for every mail of a plan
        url = ""
        if self.list_unsubscribe:
            url = unsubscribe.address(self.list_unsubscribe, recipient=recipient, release=release)
        named = {_UNSUBSCRIBE: url, _SIGNER: "" if self.signer is None else self.signer.name}
        return {name: value for name, value in named.items() if value}

    def delayed(self, *, locale: str, sent_us: int | None, now_us: int) -> str:
        """The line that says sorry, in the recipient's language, else in the first one given; "" in time."""
        if (
            not self.delayed_line
            or sent_us is None
            or now_us - sent_us <= self.delayed_after / timedelta(microseconds=1)
        ):
            return ""
        language = locale.replace("_", "-").partition("-")[0].lower()
        return self.delayed_line.get(language) or next(iter(self.delayed_line.values()))


def dress(wire: bytes, variables: Mapping[str, object], signer: Signer | None, *, date: str) -> bytes:
    """A mail of ours with what was frozen for it. `date`: the mail's own, RFC 3339 or 5322; it is also the t=.

    Raises ContentError where another key signs by now: a later try must not have other bytes than the first.
    """
    wire = unsubscribe.add(wire, unsubscribe_of(variables))
    name = _frozen(variables, _SIGNER)
    if not name:
        return wire
    if signer is None or signer.name != name:
        raise ContentError(f"it was planned with the DKIM key {name}, and [dkim] names another one or none")
    return signer.sign(wire, int(_time(date).timestamp()))


def unsubscribe_of(variables: Mapping[str, object]) -> str:
    """The frozen address for unsubscribing, "" where there is none."""
    return _frozen(variables, _UNSUBSCRIBE)


def _frozen(variables: Mapping[str, object], name: str) -> str:
    frozen = variables.get(FROZEN)
    return str(frozen.get(name, "")) if isinstance(frozen, Mapping) else ""


def _time(date: str) -> datetime:
    try:
        return from_text(date)
    except ValueError:
        return parsedate_to_datetime(date)
