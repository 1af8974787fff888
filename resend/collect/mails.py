"""Mails in a block, and as lines of JSON for sql/collect/bounce.sql: one line for each mail, in their order.

A block of mails is their bytes, each after its length (four bytes, big-endian): mail has no separator that it cannot
contain. Raises nothing for bad mails: what cannot be read as a report is a line that says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

_LENGTH = struct.Struct(">I")


def packed(mails: Iterable[bytes]) -> bytes:
    """The block of these mails."""
    return b"".join(_LENGTH.pack(len(mail)) + mail for mail in mails)


def unpacked(block: bytes) -> Iterator[bytes]:
    """The mails of a block."""
    at = 0
    while at + _LENGTH.size <= len(block):
        (length,) = _LENGTH.unpack_from(block, at)
        at += _LENGTH.size
        yield block[at : at + length]
        at += length


def as_lines(block: bytes) -> bytes:
    """A line of JSON for each mail: the fields of its report."""
    raise NotImplementedError
