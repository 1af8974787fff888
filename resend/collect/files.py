"""Opens what an operator points at: files, plain, .gz, .bz2, .xz or .zst, and folders of them; cuts bytes into blocks.

Text is UTF-8 from here on: UTF-16 (exports of Exchange) is known by its byte order mark, or by its zero bytes.

A block ends at the first newline after each 16 MiB of decompressed bytes from offset 0, so the same bytes always give
the same blocks, whether plain, rotated or compressed. Never extracts an archive, follows no name inside one. Raises
Unreadable for what the system does not give us and InputError for what is no file or an archive; a compressed file that
ends early gives the lines before the cut and says so.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from resend.collect.zst import Zst
from resend.errors import InputError

BLOCK_BYTES = 16 << 20
LINE_MAX = 64 << 20  # a block without a newline for this long is no log: it is cut there
_RATIO_MAX = 300  # decompressed to compressed; logs reach about 30, a bomb of gzip 1,000, of others more
_RATIO_FROM = 256 << 20  # below this a high ratio is harmless
_PACKED_MAX = 256 << 30  # decompressed bytes of one compressed file: days of the busiest relay, not a disk of zeros
_CHUNK = 1 << 20
_GZIP, _ZSTD, _BZIP2, _XZ = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zX"
_XZ_MEMORY = 256 << 20  # a dictionary can ask for 4 GiB; xz -9 asks for 64 MiB
_ARCHIVES = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}
_TAR, _TAR_AT = b"ustar", 257
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LOOK = 4 << 10  # bytes that tell UTF-16 without its mark


class Unreadable(InputError):
    """A file or folder that is there, or was a moment ago, and that the system does not let us read."""


def unreadable(error: OSError, path: Path) -> Unreadable:
    gone = isinstance(error, FileNotFoundError)
    next_step = (
        "collect it again, and what it was renamed to" if gone else "check its owner and mode, then collect again"
    )
    what = "gone since it was looked at" if gone else f"cannot read: {error.strerror}"
    return Unreadable(what, where=str(path), next_step=next_step)


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file: their place in its decompressed bytes; `data` is None where `path` holds these."""

    path: Path
    offset: int
    length: int
    data: bytes | None = None
    file: tuple[int, int] | None = None  # device and inode: a rotation gives its name to another file
    packed_to: int | None = None  # how far into the compressed file, for the progress

    def read(self) -> bytes:
        """The bytes. Of a file that is gone by now or was cut shorter, what is left of them; none of another file."""
        if self.data is not None:
            return self.data
        for path in self._places():
            with suppress(OSError), path.open("rb") as handle:
                if self.file in (None, _identity(os.fstat(handle.fileno()))):
                    handle.seek(self.offset)
                    return handle.read(self.length)
        return b""

    def _places(self) -> Iterator[Path]:
        """Its name, then what it may have been renamed to."""
        yield self.path
        if self.file is not None:
            with suppress(OSError), os.scandir(self.path.parent) as entries:
                yield from [Path(entry.path) for entry in entries if entry.inode() == self.file[1]]


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


def is_maildir(path: Path) -> bool:
    """Whether a folder is a Maildir: one source, not many files."""
    try:
        return (path / "cur").is_dir() and (path / "new").is_dir()
    except PermissionError:
        return False  # looking into it says so


def expand(paths: Sequence[Path], unread: list[InputError]) -> list[tuple[Path, bool]]:
    """Files and Maildirs to read, each with whether it was named; hidden ones in a folder are left out.

    What is not there or closed to us goes into `unread`, and the others are found all the same.
    """
    found: dict[str, tuple[Path, bool]] = {}
    for path in paths:
        try:
            if not _is_folder(path) or is_maildir(path):
                found[os.path.realpath(path)] = (path, True)
                continue
        except InputError as error:
            unread.append(error)
            continue
        before = len(unread)
        inside = sorted(_inside(path, unread))
        if not inside and len(unread) == before:
            unread.append(InputError("no file in this folder", where=str(path), next_step="name the log files"))
        for item in inside:
            found.setdefault(os.path.realpath(item), (item, False))
    return list(found.values())


def _is_folder(path: Path) -> bool:
    """Whether it is a folder, else a file. Raises InputError for what is neither."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            "no such file", where=str(path), next_step="check the path; quote patterns for the shell"
        ) from None
    except OSError as error:
        raise unreadable(error, path) from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise InputError(
            "a pipe or a device is read only once, and never whole",
            where=str(path),
            next_step="write its bytes to a file, then collect that",
        )
    return stat.S_ISDIR(mode)


def _inside(folder: Path, unread: list[InputError]) -> Iterator[Path]:
    def closed(error: OSError) -> None:
        unread.append(unreadable(error, Path(error.filename)))

    for place, folders, names in os.walk(folder, onerror=closed):
        where = Path(place)
        maildirs = [name for name in folders if is_maildir(where / name) and not name.startswith(".")]
        folders[:] = [name for name in folders if name not in maildirs]
        yield from (where / name for name in maildirs)
        for name in names:
            try:
                if not name.startswith(".") and stat.S_ISREG((where / name).stat().st_mode):
                    yield where / name
            except PermissionError as error:  # its folder can be listed and not entered: no file of it can be read
                unread.append(unreadable(error, where))
                break
            except OSError as error:
                if not (where / name).is_symlink():  # one that leads nowhere is no file; one that was renamed is
                    unread.append(unreadable(error, where / name))


def text_chunks(path: Path, warn: list[str]) -> Iterator[str]:
    """The decompressed text of a file, piece by piece; bytes that are no UTF-8 are replaced."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    with _opened(path) as (stream, raw):
        for chunk in _chunks(stream, os.fstat(raw.fileno()).st_size, str(path), warn):
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Decompressed bytes of `path` by its magic number, and the file's own; the same stream where it is not packed."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise unreadable(error, path) from None
    with raw:
        head = raw.read(_LOOK)
        magic = head[:4]
        raw.seek(0)
        if magic[:2] == _GZIP:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(BinaryIO, stream), raw
        elif magic[:3] == _BZIP2:
            with bz2.BZ2File(raw) as packed:
                yield cast(BinaryIO, packed), raw
        elif magic == _XZ:
            yield cast(BinaryIO, _Xz(raw)), raw
        elif magic == _ZSTD:
            yield cast(BinaryIO, Zst(raw, path)), raw
        elif magic[:2] in _UTF16:
            yield cast(BinaryIO, _Utf16(raw, "utf-16")), raw
        elif encoding := _unmarked(head):
            yield cast(BinaryIO, _Utf16(raw, encoding)), raw
        else:
            yield raw, raw


def _unmarked(head: bytes) -> str:
    """The UTF-16 that a file without a mark begins in, "" none: one byte of most characters is zero, the other of none.

    >>> _unmarked("Dec  7 13:28:01 花".encode("utf-16-le")), _unmarked(b"cut off" + bytes(90) + b"Dec  7")
    ('utf-16-le', '')
    """
    units = len(head) // 2
    first, second = head[0 : 2 * units : 2].count(0), head[1 : 2 * units : 2].count(0)
    if first and second:
        return ""
    return "utf-16-le" if 2 * second > units else "utf-16-be" if 2 * first > units else ""


class _Utf16:
    """UTF-16, with its byte order mark or in a given order of bytes, read as UTF-8."""

    def __init__(self, raw: BinaryIO, encoding: str) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def read(self, size: int) -> bytes:
        data = self._raw.read(size)
        text = self._decoder.decode(data, final=not data)
        return text.encode("utf-8", "replace") or (self.read(size) if data else b"")


class _Xz:
    """The decompressed bytes of an .xz file, with a limit on the memory that its header can ask for."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._decoder = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)

    def read(self, size: int) -> bytes:
        while True:
            given = b""
            if self._decoder.eof:
                given = self._decoder.unused_data.lstrip(b"\0") or self._raw.read(_CHUNK).lstrip(b"\0")
                if not given:
                    return b""
                self._decoder = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            elif self._decoder.needs_input:
                given = self._raw.read(_CHUNK)
                if not given:
                    raise EOFError
            if data := self._decoder.decompress(given, size):
                return data


def _chunks(stream: BinaryIO, packed: int, where: str, warn: list[str]) -> Iterator[bytes]:
    """Decompressed bytes until the end; what ends them early goes into `warn`."""
    read = getattr(stream, "read1", stream.read)  # read1: an error in the middle loses nothing that came before it
    total = 0
    while True:
        try:
            chunk = read(_CHUNK)
        except EOFError:
            warn.append(
                f"{where}: the compressed file is cut short after {total:,} bytes; what came before is collected"
            )
            return
        except Exception as error:  # zlib, gzip and zstandard each raise their own
            if (
                not isinstance(error, OSError | zlib.error | lzma.LZMAError)
                and type(error).__module__.split(".")[0] != "zstandard"
            ):
                raise
            warn.append(f"{where}: unreadable after {total:,} bytes ({error}); what came before is collected")
            return
        if not chunk:
            return
        total += len(chunk)
        if total > _RATIO_FROM and total > _RATIO_MAX * max(packed, 1):
            warn.append(f"{where}: expands more than {_RATIO_MAX}-fold; stopped after {total:,} bytes")
            return
        if total > _PACKED_MAX and total > packed:
            warn.append(
                f"{where}: a compressed file is read up to {_PACKED_MAX:,} bytes; the first {total - len(chunk):,} are"
                " collected, the rest is not: unpack it to read it all"
            )
            return
        yield chunk


def sample(path: Path, size: int) -> bytes:
    """The first `size` decompressed bytes, or as many as can be read."""
    found = bytearray()
    with _opened(path) as (stream, raw):
        for chunk in _chunks(stream, os.fstat(raw.fileno()).st_size, str(path), []):
            found += chunk
            if len(found) >= size:
                break
    _refuse_archive(found, path)
    return bytes(found[:size])


def _refuse_archive(found: bytearray, path: Path) -> None:
    """Archives are never opened: their names can lead anywhere, and their sizes are what they like."""
    kind = _ARCHIVES.get(bytes(found[:4]), "tar" if found[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR else "")
    if kind:
        raise InputError(
            f"an archive ({kind}): archives are not opened", where=str(path), next_step="extract it, collect the folder"
        )


def last_bytes(path: Path, size: int) -> bytes:
    """The last `size` decompressed bytes. A compressed file is read to its end for them."""
    with _opened(path) as (stream, raw):
        if stream is raw:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - size))
            return stream.read(size)
        kept = b""
        for chunk in _chunks(stream, os.fstat(raw.fileno()).st_size, str(path), []):
            kept = (kept + chunk)[-size:]
        return kept


def blocks(path: Path, warn: list[str]) -> Iterator[Block]:
    """The file's blocks in order, as long as it was when opened. What ends it early is put into `warn`."""
    with _opened(path) as (stream, raw):
        state = os.fstat(raw.fileno())
        if stream is raw:
            yield from _plain_blocks(path, raw, state)
        else:
            yield from _packed_blocks(path, stream, raw, state.st_size, warn)


def _plain_blocks(path: Path, stream: BinaryIO, state: os.stat_result) -> Iterator[Block]:
    offset, size = 0, state.st_size
    while offset < size:
        end = offset + BLOCK_BYTES
        if end < size:
            stream.seek(end - 1)
            rest = stream.readline(LINE_MAX - BLOCK_BYTES + 1)
            end += len(rest) - 1
        end = min(end, size)
        yield Block(path, offset, end - offset, file=_identity(state))
        offset = end


def _packed_blocks(path: Path, stream: BinaryIO, raw: BinaryIO, size: int, warn: list[str]) -> Iterator[Block]:
    pending = bytearray()
    offset = 0
    for chunk in _chunks(stream, size, str(path), warn):
        pending += chunk
        while (end := _block_end(pending)) > 0:
            yield Block(path, offset, end, bytes(pending[:end]), packed_to=raw.tell())
            del pending[:end]
            offset += end
    if pending:
        yield Block(path, offset, len(pending), bytes(pending), packed_to=size)


def _block_end(pending: bytearray) -> int:
    """Length of the next whole block in `pending`, 0 when more bytes are needed."""
    if len(pending) < BLOCK_BYTES:
        return 0
    newline = pending.find(b"\n", BLOCK_BYTES - 1, LINE_MAX)
    if newline >= 0:
        return newline + 1
    return LINE_MAX if len(pending) >= LINE_MAX else 0
