"""Queue snapshots: `postqueue -j`, one JSON object a queued mail. A log cannot prove that mail is still queued; this can.

Raises InputError for a file that holds no snapshot; a bad line inside is a warning and is not lost silently.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from resend.errors import InputError

_BYTES_MAX = 1 << 30


def read_snapshot(path: Path, *, host: str, summary_warnings: list[str]) -> tuple[str, dict[str, Any]]:
    """(name, snapshot): host, taken_at (microseconds: the file's last change) and rows (qid, sender, recipient, arrival,
    reason). The host is `host`, else the file's `hostname` field, else "" (any host)."""
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise InputError("too big for a queue snapshot", where=str(path))
        data = path.read_bytes()
        taken_at = int(path.stat().st_mtime * 1_000_000)
    except OSError as error:
        raise InputError(
            f"cannot read: {error.strerror}", where=str(path), next_step="write it with: postqueue -j > queue.json"
        ) from None
    rows: list[tuple[str, str, str, int, str]] = []
    bad = 0
    found_host = host
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            arrival = int(item["arrival_time"]) * 1_000_000
            found_host = found_host or str(item.get("hostname", ""))
            for recipient in item["recipients"]:
                rows.append(
                    (
                        str(item["queue_id"]),
                        str(item.get("sender", "")),
                        str(recipient["address"]),
                        arrival,
                        str(recipient.get("delay_reason", "")),
                    )
                )
        except (ValueError, KeyError, TypeError, RecursionError):
            bad += 1
            summary_warnings.append(f"{path}:{number}: not a line of postqueue -j")
    if bad and not rows:
        raise InputError("not a queue snapshot", where=str(path), next_step="write it with: postqueue -j > queue.json")
    name = hashlib.sha256(data).hexdigest()[:16]
    return name, {"host": found_host, "taken_at": taken_at, "messages": rows}
