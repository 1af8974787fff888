"""The guarded script for a mail host: holds, releases or deletes exactly the listed mails of its queue, or refuses.

Renders templates/queue.sh; what comes from logs enters only as lines of a quoted list, checked letter by letter. Never
runs anything. Raises nothing: a mail that cannot be named safely is left out, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from resend.clock import to_text

_TOLERANCE_US = 30_000_000  # lines of one mail name its arrival to the second; the script allows as much
_QUEUE_ID = re.compile(r"[0-9A-Za-z]{4,64}", re.ASCII)
_HOST = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,252}", re.ASCII)
_ODD = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class QueuedCopy:
    """One recipient of a mail that waits: where, since when (us UTC), from whom, to whom. `row` is its outcome_id."""

    row: int
    host: str
    qid: str
    arrived_us: int
    sender: str
    mailbox: str


@dataclass(frozen=True, slots=True)
class Script:
    """`left_out`: copies that cannot be named safely in a script. `mails`: queue files, each with its recipients."""

    text: str
    hosts: tuple[str, ...]
    mails: int
    rows: tuple[int, ...]
    left_out: int


def script(copies: Iterable[QueuedCopy], *, incident: str, action: str, now: datetime) -> Script:
    """The script of one action for all mail hosts of an incident; each host takes the lines that are its own."""
    groups: dict[tuple[str, str], list[QueuedCopy]] = {}
    left_out = 0
    for copy in copies:
        if _safe(copy):
            groups.setdefault((copy.host, copy.qid), []).append(copy)
        else:
            left_out += 1
    lines: list[str] = []
    rows: list[int] = []
    mails = 0
    for (host, qid), group in sorted(groups.items()):
        for life in _lives(group):
            mails += 1
            arrived = min(copy.arrived_us for copy in life) // 1_000_000
            for copy in life:
                rows.append(copy.row)
                lines.append(f"{host}\t{qid}\t{arrived}\t{copy.sender}\t{copy.mailbox}\t{copy.row}")
    template = files("resend.report").joinpath("templates/queue.sh").read_text(encoding="utf-8")
    head, tail = template.split("@LIST@")
    for name, value in (("@INCIDENT@", incident), ("@ACTION@", action), ("@MADE@", to_text(now)[:19] + "Z")):
        head, tail = head.replace(name, value), tail.replace(name, value)
    hosts = tuple(sorted({host for host, _ in groups}))
    return Script(head + "\n".join(lines) + tail, hosts, mails, tuple(rows), left_out)


def _safe(copy: QueuedCopy) -> bool:
    """Whether it can be a line of the list: no separator, no control character, nothing that is no name."""
    return bool(
        _QUEUE_ID.fullmatch(copy.qid)
        and _HOST.fullmatch(copy.host)
        and copy.arrived_us > 0
        and not _ODD.search(copy.sender + copy.mailbox)
        and "@" in copy.mailbox
        and copy.sender
    )


def _lives(group: Sequence[QueuedCopy]) -> Iterable[list[QueuedCopy]]:
    """Copies of one queue id, apart where it was used again: their arrivals lie further apart than one mail's can."""
    life: list[QueuedCopy] = []
    for copy in sorted(group, key=lambda one: (one.arrived_us, one.row)):
        if life and copy.arrived_us - life[0].arrived_us > _TOLERANCE_US:
            yield life
            life = []
        life.append(copy)
    yield life
