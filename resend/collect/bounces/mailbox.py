"""The mails in what an operator points at: one mail, an mbox, a Maildir, a folder of mails, plain or gzipped.

Streamed: one mail is held at a time. What cannot be read is left out and said, with the file's name; raises nothing for
a file that vanishes, may not be read or is no mail. Looks for no more than mail: what it is, detection decides.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

MAIL_MAX = 32 << 20  # bytes of one mail; what is longer is cut, with a warning
SAMPLE = 16 << 10  # bytes that detection needs
_LINE_MAX = 1 << 20  # bytes read as one line; a longer one is read in pieces
_FILES_MAX = 10_000_000  # of one folder

_FROM = re.compile(rb"From \S{0,400}\s.{0,80}\d{1,2}:\d\d")  # an mbox line: sender, asctime; zone and more may follow
_QUOTED = re.compile(rb">+From ")
_FIELD = re.compile(rb"([!-9;-~]{1,80})[ \t]*:")
_TELLING = frozenset(
    (
        b"received",
        b"return-path",
        b"message-id",
        b"mime-version",
        b"from",
        b"subject",
        b"delivered-to",
        b"x-original-to",
    )
)
_MAIL_FIELDS = _TELLING | {b"to", b"date", b"content-type", b"sender", b"reply-to", b"cc", b"auto-submitted"}


def looks_like_mail(sample: bytes) -> bool:
    """Whether a file that begins with `sample` is one mail: its first lines are a header with fields of mail."""
    lines = sample[:SAMPLE].lstrip(b"\xef\xbb\xbf\r\n\t ").split(b"\n" if b"\n" in sample else b"\r")
    names: set[bytes] = set()
    total = 0
    for line in lines[:400]:
        bare = line.rstrip(b"\r")
        if not bare:
            break
        if bare[:1] in (b" ", b"\t") and total:
            continue
        match = _FIELD.match(bare)
        if match is None:
            if total or not bare.startswith((b"From ", b">From ")):
                return len(names & _TELLING) >= 2 and total >= 3 and len(names) * 2 >= total
            continue
        total += 1
        names.add(match.group(1).lower())
    known = names & _MAIL_FIELDS
    return bool(known & _TELLING) and len(known) >= 2


def looks_like_mbox(sample: bytes) -> bool:
    """Whether a file that begins with `sample` is an mbox: mails, each after a line "From address date"."""
    sample = sample[:SAMPLE].lstrip(b"\xef\xbb\xbf\r\n\t ")
    first, _, rest = sample.partition(b"\n")
    return _FROM.match(first) is not None and looks_like_mail(rest)


def mails(path: Path, warn: list[str]) -> Iterator[tuple[int, bytes]]:
    """Each mail with the line it begins at in an mbox (from 1), else with its place in the folder's order (from 1).

    A folder with `new` or `cur` is a Maildir, its `tmp` is left out; any other folder gives its files that are mails.
    What cannot be read is left out and said in `warn`, with the file's name.
    """
    if not path.is_dir():
        yield from _of_file(path, warn)
        return
    place = 0
    for file in files(path, warn):
        for _, mail in _of_file(file, warn, within=True):
            place += 1
            yield place, mail


def files(folder: Path, warn: list[str]) -> Iterator[Path]:
    """The files of a folder of mails in the order of their names, without a Maildir's tmp and without hidden ones."""
    maildir = is_maildir(folder)
    inside = [folder / "new", folder / "cur"] if maildir else [folder]
    for place in inside:
        try:
            items = sorted(place.iterdir())[:_FILES_MAX]
        except OSError as error:
            if not (maildir and isinstance(error, FileNotFoundError)):
                warn.append(f"{place}: cannot be read: {error.strerror}")
            continue
        for item in items:
            if item.name.startswith("."):
                continue
            if item.is_file():
                yield item
            elif item.is_dir() and not maildir:
                yield from files(item, warn)


def is_maildir(folder: Path) -> bool:
    """Whether a folder is a Maildir."""
    return (folder / "cur").is_dir() or (folder / "new").is_dir()


def _of_file(path: Path, warn: list[str], *, within: bool = False) -> Iterator[tuple[int, bytes]]:
    """The mails of one file. A file of a folder (`within`) that is no mail is passed over with a warning."""
    try:
        with _opened(path) as stream:
            head = stream.read(SAMPLE)
            if not head.strip():
                warn.append(f"{path}: empty, no mail in it")
                return
            if looks_like_mbox(head):
                yield from _of_mbox(_Lines(stream, head), str(path), warn)
                return
            if within and not looks_like_mail(head):
                warn.append(f"{path}: not a mail, left out")
                return
            mail = head + stream.read(MAIL_MAX + 1 - len(head))
            if len(mail) > MAIL_MAX:
                warn.append(f"{path}: longer than {MAIL_MAX >> 20} MiB, cut there")
            yield 1, mail[:MAIL_MAX]
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        warn.append(f"{path}: cannot be read: {reason}; check its owner and mode, then collect again")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as raw:
        magic = raw.read(2)
        raw.seek(0)
        if magic == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(BinaryIO, stream)
        else:
            yield raw


class _Lines:
    """Lines of a stream whose first bytes were read already; a line has at most _LINE_MAX bytes."""

    def __init__(self, stream: BinaryIO, head: bytes) -> None:
        self._stream = stream
        self._head = head

    def next(self) -> bytes:
        """The next line with its newline; b"" at the end."""
        if not self._head:
            return self._stream.readline(_LINE_MAX)
        line, newline, self._head = self._head.partition(b"\n")
        if newline:
            return line + newline
        return line + self._stream.readline(_LINE_MAX - len(line))


def _of_mbox(lines: _Lines, where: str, warn: list[str]) -> Iterator[tuple[int, bytes]]:
    """Mails of an mbox. Content-Length is not believed: it is wrong where a mail was edited or its line ends changed.

    A From_ line counts after a blank line (or at the start) where a header follows: a sentence that begins with
    "From " and was left unquoted is no mail. One ">" of ">From " goes (mboxrd and mboxo).
    """
    found: list[bytes] = []
    size = start = number = 0
    blank, cut = True, False
    line = lines.next()
    while line:
        number += 1
        following: bytes | None = None
        if blank and line.startswith(b"From ") and _FROM.match(line):
            following = lines.next()
            if not following or _FIELD.match(following) or following.startswith((b">From ", b"\n", b"\r\n")):
                if start:
                    yield start, _joined(found)
                found, size, start, blank, cut = [], 0, number, False, False
                line = following
                continue
        if not cut and size + len(line) > MAIL_MAX:
            cut = True
            warn.append(f"{where}:{start}: this mail is longer than {MAIL_MAX >> 20} MiB, cut there")
        if not cut:
            found.append(line[1:] if _QUOTED.match(line) else line)
            size += len(line)
        blank = line in (b"\n", b"\r\n")
        line = lines.next() if following is None else following
    if start:
        yield start, _joined(found)


def _joined(lines: list[bytes]) -> bytes:
    """A mail without the blank line that parts it from the next."""
    if lines and lines[-1] in (b"\n", b"\r\n"):
        lines.pop()
    return b"".join(lines)
