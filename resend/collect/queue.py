"""Queue snapshots: `postqueue -j`, one JSON object a queued mail. A log cannot prove that mail is queued; this can.

Raises InputError for a file that holds no snapshot; a bad line inside is a warning and is not lost silently.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from resend.errors import InputError

_BYTES_MAX = 1 << 30
_NEXT = "write it with: postqueue -j > queue.json"
_WARNINGS_MAX = 20

Row = tuple[str, str, str, int, str, str]  # qid, sender, recipient, arrival (us), queue name, reason


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`host` is "" where neither the caller nor the file names it. `taken_at` (us UTC) is the file's last change."""

    host: str
    taken_at: int
    rows: tuple[Row, ...]


def read_snapshot(path: Path, *, host: str, warn: list[str]) -> Snapshot:
    """One row for each recipient that is still queued; no row means that the queue was empty."""
    try:
        state = path.stat()
        if state.st_size > _BYTES_MAX:
            raise InputError("too big for a queue snapshot", where=str(path), next_step=_NEXT)
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=str(path), next_step=_NEXT) from None
    rows: list[Row] = []
    bad = 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            host = host or str(item.get("hostname", ""))
            arrival = int(item["arrival_time"]) * 1_000_000
            if not 0 < arrival < 1 << 62:
                raise ValueError(arrival)
            head = str(item["queue_id"]), str(item.get("sender", ""))
            queue = str(item.get("queue_name", ""))
            rows.extend(
                (*head, str(to["address"]), arrival, queue, str(to.get("delay_reason", "")))
                for to in item["recipients"]
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            bad += 1
            if bad <= _WARNINGS_MAX:
                warn.append(f"{path}:{number}: not a line of postqueue -j")
    if bad and not rows:
        raise InputError("not a queue snapshot", where=str(path), next_step=_NEXT)
    return Snapshot(host, int(state.st_mtime * 1_000_000), tuple(rows))
