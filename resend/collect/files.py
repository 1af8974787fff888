"""Opens what an operator points at: plain, .gz or .zst files and folders of them, as decompressed bytes in blocks.

A block ends at the first newline after each 16 MiB from offset 0, so the same bytes always give the same blocks,
whether plain, rotated or compressed. Never extracts an archive, follows no name inside one. Raises InputError for what
cannot be read; a compressed file that ends early gives the blocks before the cut and says so.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from resend.errors import InputError

BLOCK_BYTES = 16 << 20
LINE_MAX = 64 << 20  # a block without a newline for this long is no log
_RATIO_MAX = 1000  # decompressed to compressed; logs reach about 30, a bomb 1,000
_RATIO_FROM = 256 << 20  # below this a high ratio is harmless
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file: where they start in its decompressed bytes, and the number of the first."""

    offset: int
    first_line: int
    data: bytes

    @property
    def lines(self) -> int:
        return self.data.count(b"\n") + (0 if self.data.endswith(b"\n") else 1)


def expand(paths: Sequence[Path]) -> list[Path]:
    """Files to read, folders walked in name order (hidden files left out). Raises InputError."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(item for item in path.rglob("*") if item.is_file() and not item.name.startswith("."))
            if not inside:
                raise InputError("no file in this folder", where=str(path), next_step="name the log files")
            found += inside
        else:
            found.append(path)
    unique: dict[Path, Path] = {}
    for path in found:
        if not path.exists():
            raise InputError("no such file", where=str(path), next_step="check the path; quote patterns for the shell")
        unique.setdefault(path.resolve(), path)
    return list(unique.values())


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Decompressed bytes of `path`, by its magic number. Raises InputError."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(
            f"cannot read: {error.strerror}", where=str(path), next_step="check its owner and mode, then collect again"
        ) from None
    with raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(BinaryIO, stream)
        elif magic == b"\x28\xb5\x2f\xfd":
            yield _zstd(raw, path)
        else:
            yield raw


def _zstd(raw: BinaryIO, path: Path) -> BinaryIO:
    try:
        import zstandard  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise InputError(
            "a .zst file needs the package zstandard", where=str(path), next_step="pip install zstandard, or unzstd it"
        ) from None
    return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(raw))


def blocks(path: Path, warn: list[str]) -> Iterator[Block]:
    """The file's blocks in order. What ends the file early is put into `warn`; the lines before it are kept."""
    with reading(path) as stream:
        packed = path.stat().st_size
        pending = bytearray()
        offset, line, total = 0, 1, 0
        while True:
            try:
                chunk = stream.read(_CHUNK)
            except (EOFError, zlib.error, gzip.BadGzipFile, OSError) as error:
                warn.append(f"{path}: {_why(error)} after {total:,} bytes; the lines before it are collected")
                chunk = b""
            total += len(chunk)
            if total > _RATIO_FROM and packed and total / packed > _RATIO_MAX:
                warn.append(f"{path}: expands more than {_RATIO_MAX}-fold; stopped after {total:,} bytes")
                chunk = b""
            pending += chunk
            while (end := _block_end(pending, last=not chunk)) > 0:
                block = Block(offset, line, bytes(pending[:end]))
                del pending[:end]
                offset += end
                line += block.lines
                yield block
            if not chunk:
                return


def _block_end(pending: bytearray, *, last: bool) -> int:
    """Length of the next whole block in `pending`, 0 when more bytes are needed."""
    if len(pending) >= BLOCK_BYTES:
        newline = pending.find(b"\n", BLOCK_BYTES - 1)
        if newline >= 0:
            return newline + 1
        if len(pending) >= LINE_MAX:
            return len(pending)
    return len(pending) if last else 0


def _why(error: Exception) -> str:
    return "the compressed file is cut short" if isinstance(error, EOFError) else f"unreadable ({error})"
