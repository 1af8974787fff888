"""Named points at which a test may kill the process, to prove that a crash there loses and doubles nothing.

Inert unless BULK_RESEND_FAILPOINTS is set: `name=kill@3,other=count`. `kill@N` sends SIGKILL to this process at the
Nth passage; `count` only counts; `name=2.5` is for `number`. With BULK_RESEND_FAILPOINT_LOG each passage is appended
there as one line.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_spec = os.environ.get("BULK_RESEND_FAILPOINTS", "")
_log = os.environ.get("BULK_RESEND_FAILPOINT_LOG", "")
_actions = dict(item.split("=", 1) for item in _spec.split(",") if "=" in item)
_passed: Counter[str] = Counter()


def number(name: str, default: float) -> float:
    """A time or a size that a test makes small, to see what happens when it is over; else `default`."""
    return float(_actions.get(name, default))


def failpoint(name: str) -> None:
    """Mark a point of no return. `name` is `part.point`, for example `run.armed`."""
    if not _actions:
        return
    action = _actions.get(name)
    if action is None:
        return
    _passed[name] += 1
    if _log:
        descriptor = os.open(_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{name} {_passed[name]} {os.getpid()}\n".encode())
        finally:
            os.close(descriptor)
    if action.startswith("kill@") and _passed[name] == int(action.removeprefix("kill@")):
        os.kill(os.getpid(), signal.SIGKILL)
