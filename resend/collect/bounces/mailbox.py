"""The mails in what an operator points at: one .eml, an mbox, a Maildir, a folder of .eml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MAIL_MAX = 32 << 20  # bytes of one mail; what is longer is cut, with a warning


def looks_like_mail(sample: bytes) -> bool:
    """Whether a file that begins with `sample` is one mail."""
    return False


def looks_like_mbox(sample: bytes) -> bool:
    """Whether a file that begins with `sample` is an mbox: mails, each after a line "From address date"."""
    return False


def mails(path: Path, warn: list[str]) -> Iterator[tuple[int, bytes]]:
    """Each mail with the line it begins at in an mbox (from 1), else with its place in the folder's order (from 1).

    What cannot be read is left out and said in `warn`, with the file's name.
    """
    yield from ()
