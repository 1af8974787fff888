"""Reads a .zst file of one frame or many (KumoMTA's log segments, pzstd), bounded in memory, and sees where it was cut.

The reader that the package zstandard has ends a truncated file as if it were whole, so frames are fed by hand here.
Needs `zstandard` (extra `zstd`). Raises InputError without it, EOFError at the end of a file that was cut short, and
zstandard.ZstdError for what is no zstd.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from resend.errors import InputError

_FED = 4 << 10  # bytes at once: a frame that only repeats grows 32,768-fold, so at most 128 MiB come of them
_WINDOW_MAX = 1 << 27  # bytes that a frame may refer back to; zstd itself asks for --long above this, too


class Zst:
    """The decompressed bytes of a .zst file."""

    def __init__(self, raw: BinaryIO, path: Path) -> None:
        try:
            import zstandard
        except ImportError:
            raise InputError(
                "a .zst file needs the package zstandard",
                where=str(path),
                next_step="pip install 'bulk-resend[zstd]', or unzstd it",
            ) from None
        self._new = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MAX).decompressobj
        self._raw = raw
        self._frame: Any = None  # the one that is open
        self._given = b""  # read, not yet fed
        self._made = b""  # decompressed, not yet taken

    def read(self, size: int) -> bytes:
        while not self._made:
            self._given = self._given or self._raw.read(_FED)
            if not self._given:
                if self._frame is not None:
                    raise EOFError
                return b""
            if self._frame is None:
                self._frame = self._new()
            self._made = self._frame.decompress(self._given)
            self._given = b""
            if self._frame.eof:
                self._given, self._frame = self._frame.unused_data, None
        taken, self._made = self._made[:size], self._made[size:]
        return taken
