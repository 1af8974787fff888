"""Every error that a person may see: what happened, where, and the next step.

Raise one of these at any border to the outside. The command line catches `ResendError` once, prints one line and ends
with the class's exit code (docs/exit-codes.md). Anything else that escapes is a defect of ours.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command. Precedence when several apply: see `worst`."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    LEFT = 3  # finished, something left: rejected rows, failures, doubt, due later
    STALE = 4  # stale plan or wrong count
    LOCKED = 5  # lock held by a live process
    PARKED = 6  # parked by a rule
    WINDOW = 7  # send window closed, resumable
    ANOMALY = 20
    INTERRUPTED = 130


_PRECEDENCE = (
    Exit.INTERRUPTED,
    Exit.USAGE,
    Exit.ERROR,
    Exit.PARKED,
    Exit.STALE,
    Exit.LOCKED,
    Exit.WINDOW,
    Exit.ANOMALY,
    Exit.LEFT,
    Exit.DONE,
)


def worst(*codes: Exit) -> Exit:
    """The exit code that wins when several apply (130 > 1 > 6 > 4 > 5 > 7 > 3 > 0)."""
    return min(codes, key=_PRECEDENCE.index, default=Exit.DONE)


class ResendError(Exception):
    """What went wrong, where, and what to do next. `str()` is the one line that a person reads."""

    exit = Exit.ERROR

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        self.what = what
        self.where = where
        self.next_step = next_step
        super().__init__(self.line())

    def line(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}; {self.next_step}" if self.next_step else head


class InputError(ResendError):
    """Something read from outside cannot be used: a file, a log line, a catalog row, a reply."""


class ConfigError(ResendError):
    """resend.toml or a BULK_RESEND_ variable is wrong. Counts as usage: nothing was started."""

    exit = Exit.USAGE


class UsageError(ResendError):
    """The command line asks for something that does not exist or does not fit together."""

    exit = Exit.USAGE


class StoreError(ResendError):
    """The home, the evidence, the catalog or the ledger cannot be opened, read or written."""


class StalePlan(ResendError):
    """A plan no longer matches what it was made from; nothing was sent."""

    exit = Exit.STALE


class WrongCount(ResendError):
    """The confirmed count is not the frozen total; nothing was sent."""

    exit = Exit.STALE


class LockHeld(ResendError):
    """Another live process holds the lock."""

    exit = Exit.LOCKED


class ConnectError(ResendError):
    """A relay or receiver cannot be reached or refuses the session before any mail."""
