"""Follows a log that is being written: each poll parses the whole lines that were appended, with the collect SQL.

The format is found out from the first lines that tell it, as `collect` does. Survives rotation: a new inode or a
shrunken file is read from its start, after the rest of the old one. A last line without its newline waits for the next
poll. Raises nothing: a log that is not there yet gives no events.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo

from resend.collect import parse
from resend.collect.detect import SAMPLE_BYTES, Detected, detect
from resend.errors import InputError

_POLL_BYTES = 8 << 20  # at most so much a poll; the rest comes with the next


class LogTail:
    """One followed log. `poll` returns events as dicts of the columns of sql/collect/postfix.sql."""

    def __init__(self, path: Path, *, tz: str, host: str = "", from_end: bool = False) -> None:
        self._path = path
        self._zone = tz
        self._host = host
        self._stream: BinaryIO | None = None
        self._from_end = from_end
        self._pending = b""
        self._seen: Detected | None = None

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def poll(self) -> list[dict[str, object]]:
        if self._stream is None and not self._open():
            return []
        assert self._stream is not None
        data = self._stream.read(_POLL_BYTES)
        if not data and self._rotated():
            self.close()
            return self.poll() if self._open() else []
        whole, newline, rest = (self._pending + data).rpartition(b"\n")
        self._pending = rest
        if not newline:
            return []
        return parse.parse_lines(whole + newline, self._reading(whole))

    def _reading(self, lines: bytes) -> parse.Reading:
        if self._seen is None and lines.strip():
            with suppress(InputError):  # nothing of a mail server yet
                self._seen = detect(lines[:SAMPLE_BYTES], where=str(self._path))
        seen = self._seen or Detected("postfix")
        today = datetime.now(ZoneInfo(self._zone))
        return parse.Reading(seen.format, self._zone, today, self._host, seen.envelope, seen.heading)

    def _open(self) -> bool:
        try:
            self._stream = self._path.open("rb")
        except OSError:
            return False
        if self._from_end:
            self._stream.seek(0, os.SEEK_END)
            self._from_end = False
        return True

    def _rotated(self) -> bool:
        assert self._stream is not None
        try:
            now = self._path.stat()
        except OSError:
            return False
        ours = os.fstat(self._stream.fileno())
        return now.st_ino != ours.st_ino or now.st_size < self._stream.tell()
