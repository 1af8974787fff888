"""Keeps what a catalog load rejected: counted, the first rows in memory, all of them on disk where they are many.

A file of millions of broken lines must cost no more memory than one with a thousand, and none of them may be lost.
Judges nothing. Raises OSError where the disk is full.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from resend.stores.home import private_opener, rename_durably

KEPT = 1_000  # rejected rows of a kind that memory and catalog.json keep in words
SUFFIX = ".rejected.txt"


class Rejected:
    """(place, reason) of what is no row at all, in the order of its file. `with` lets go of what is on disk."""

    def __init__(self) -> None:
        self.first: list[tuple[str, str]] = []  # at most KEPT
        self.more = 0  # besides those
        self._spool: IO[str] | None = None

    def add(self, place: str, reason: str) -> None:
        if len(self.first) < KEPT:
            self.first.append((place, reason))
            return
        if self._spool is None:
            self._spool = tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        self._spool.write(line(place, reason) + "\n")
        self.more += 1

    def rest(self) -> Iterator[str]:
        """The lines of those that are not in `first`."""
        if self._spool is not None:
            self._spool.seek(0)
            yield from self._spool

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def __enter__(self) -> Rejected:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def line(place: str, reason: str) -> str:
    return f"{place}: {reason}"


def write_all(path: Path, bad: Sequence[tuple[str, str]], rejected: Rejected) -> bool:
    """Write every rejected row to `path` where they are more than KEPT, else no file; whether there is one.

    `bad` begins with `rejected.first`; the others of `rejected` follow those, so that the lines stay in order.
    """
    if len(bad) + rejected.more <= KEPT:
        path.unlink(missing_ok=True)
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    at = len(rejected.first)
    try:
        with open(temporary, "w", opener=private_opener, encoding="utf-8", errors="backslashreplace") as handle:
            handle.writelines(line(*item) + "\n" for item in bad[:at])
            handle.writelines(rejected.rest())
            handle.writelines(line(*item) + "\n" for item in bad[at:])
            handle.flush()
            os.fsync(handle.fileno())
        rename_durably(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True
