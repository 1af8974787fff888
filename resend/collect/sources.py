"""What an operator points at, as sources: each with how it is read and the blocks of its bytes.

A log file is a source. So are a Maildir, an mbox, and the single mails of a folder together: a mailbox of a hundred
thousand reports is no hundred thousand parts. One bad path stops no other: what was named and is not there, closed to
us or in no known format is an InputError that is handed back, as is what may not be read in a folder; what else a
folder holds becomes warnings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from resend.clock import to_micros
from resend.collect import documents
from resend.collect.again import Before
from resend.collect.bounces.mailbox import mails as mails_in
from resend.collect.detect import SAMPLE_BYTES, Detected, detect
from resend.collect.files import BLOCK_BYTES, Block, Unreadable, blocks, expand, sample, text_chunks, unreadable
from resend.collect.formats import Input, formats
from resend.collect.parse import Reading
from resend.collect.tables import FORMAT as TABLE
from resend.collect.tables import table_blocks
from resend.collect.times import last_day
from resend.config import Config
from resend.errors import ConfigError, InputError

_MAILS_A_BLOCK = 4_000


@dataclass(slots=True)
class Given:
    """A source on its way into the evidence. `members`: of mails, the files and folders that make it up."""

    path: Path
    how: Reading
    year: int
    packed: int  # bytes to read, for the progress
    mtime_us: int
    spread: bool = False  # JSON over several lines
    opened: bool = False  # its records are in objects
    members: tuple[Path, ...] = ()
    rows: Callable[[], Iterator[bytes]] | None = None  # of a database table, instead of a file
    done: list[tuple[str, int]] = field(default_factory=list)  # (part, first line) as they are collected
    lines: int = 0
    size: int = 0
    seen: int = 0  # of `packed`, by the blocks that are done

    @property
    def name(self) -> str:
        """What it is known by: the file's whole path, or `table:NAME`."""
        return str(self.path if self.rows else self.path.resolve())

    def blocks(self, warn: list[str]) -> Iterator[Block]:
        """Its blocks in order. What ends one early goes into `warn`. Raises Unreadable for a file that is gone."""
        if self.rows is not None:
            return _given_blocks(self.path, self.rows())
        if formats()[self.how.format].input is Input.MAIL:
            return _mail_blocks(self.path, self.members or (self.path,), warn)
        if self.spread:
            return _given_blocks(self.path, documents.blocks(text_chunks(self.path, warn), opened=self.opened))
        return blocks(self.path, warn)


def find(
    paths: Sequence[Path],
    *,
    asked: str,
    zone: str,
    year: int,
    host: str,
    warn: list[str],
    unread: list[InputError],
    tz: str = "",
    before: Before | None = None,
) -> list[Given]:
    """The sources under `paths`. `asked` names the format where the operator does, `tz` the zone, else it is `zone`.

    A file that is known from `before` is read as then, where no flag says otherwise.
    Into `unread` goes what should have been a source and is none, into `warn` what a folder holds beside its logs.
    """
    asking = _Asking(asked, tz, zone, year, host, before or Before({}))
    found: list[Given] = []
    loose: dict[Path, list[Given]] = {}  # single mails, by folder
    for path, named in expand(paths, unread):
        try:
            given, seen = _given(path, asking, unread)
        except InputError as error:
            if named or isinstance(error, Unreadable):
                unread.append(error)
            else:
                warn.append(f"skipped: {error}")
            continue
        if not named and (seen.single_mail or (seen.format == "bounce" and path.suffix.lower() == ".eml")):
            loose.setdefault(path.parent, []).append(given)
        else:
            found.append(given)
    return found + [_folder(folder, each) for folder, each in loose.items()]


def tables(config: Config, environ: Mapping[str, str], *, zone: str, host: str) -> list[Given]:
    """The delivery tables of `[collect.tables]`: sources called `table:NAME`. Raises ConfigError for none."""
    if not config.collect.tables:
        raise ConfigError(
            "no delivery table is configured",
            where="[collect.tables]",
            next_step="add url_env and query under [collect.tables.NAME]; see docs/formats/table.md",
        )
    now = datetime.now(UTC)
    how = Reading(TABLE, zone, now.astimezone(ZoneInfo(zone)).date(), host)
    return [
        Given(Path(f"table:{name}"), how, 0, 0, to_micros(now), rows=partial(table_blocks, name, query, environ))
        for name, query in config.collect.tables.items()
    ]


@dataclass(frozen=True, slots=True)
class _Asking:
    """What the flags say (format, tz, year, host; "" or 0 nothing), the configured zone, and what is known."""

    format: str
    tz: str
    zone: str
    year: int
    host: str
    before: Before


def _given(path: Path, asking: _Asking, unread: list[InputError]) -> tuple[Given, Detected]:
    members: tuple[Path, ...] = ()
    try:
        state = path.stat()
    except OSError as error:
        raise unreadable(error, path) from None
    if path.is_dir():
        seen = Detected("bounce")
        if asking.format not in ("", seen.format):
            raise InputError(
                f"a Maildir is no {asking.format} log",
                where=str(path),
                next_step="leave --format out, or name the log's file",
            )
        members = _open_boxes(path, unread)
    else:
        seen = _seen(path, state, asking)
    zone = asking.tz or asking.before.zone(path, asking.zone)
    year = asking.year or asking.before.year(path, state)
    try:
        day = last_day(path, zone=zone, year=year)
    except OSError as error:
        raise unreadable(error, path) from None
    host = asking.host or asking.before.host(path)
    how = Reading(seen.format, zone, day, host, seen.envelope, seen.heading)
    given = Given(
        path,
        how,
        year,
        state.st_size,
        state.st_mtime_ns // 1000,
        spread=seen.spread,
        opened=seen.opened,
        members=members,
    )
    return given, seen


def _seen(path: Path, state: os.stat_result, asking: _Asking) -> Detected:
    """What a file is. Raises InputError for what is neither known by its content nor from before."""
    data = sample(path, SAMPLE_BYTES)
    try:
        seen = detect(data, where=str(path), asked=asking.format)
    except InputError:
        kept = "" if asking.format else asking.before.format(path, state, "")
        if kept not in formats():
            raise
        return detect(data, where=str(path), asked=kept)
    if asking.format or (kept := asking.before.format(path, state, seen.format)) in (seen.format, TABLE):
        return seen
    return detect(data, where=str(path), asked=kept) if kept in formats() else seen


def _open_boxes(maildir: Path, unread: list[InputError]) -> tuple[Path, ...]:
    """The folders of a Maildir that may be listed, where not both may be. Raises Unreadable where none may."""
    closed: list[InputError] = []
    boxes = []
    for box in (maildir / "new", maildir / "cur"):
        try:
            os.scandir(box).close()
            boxes.append(box)
        except OSError as error:
            closed.append(unreadable(error, box))
    if not boxes:
        raise closed[0]
    unread += closed
    return tuple(boxes) if closed else ()


def _folder(folder: Path, each: Sequence[Given]) -> Given:
    """The single mails of a folder as one source."""
    first = each[0]
    return Given(
        folder,
        first.how,
        first.year,
        sum(given.packed for given in each),
        max(given.mtime_us for given in each),
        members=tuple(given.path for given in each),
    )


def _given_blocks(path: Path, blocks_: Iterable[bytes]) -> Iterator[Block]:
    offset = 0
    for data in blocks_:
        yield Block(path, offset, len(data), data)
        offset += len(data)


def _mail_blocks(path: Path, files: Sequence[Path], warn: list[str]) -> Iterator[Block]:
    from resend.collect.mails import packed  # with it comes all that reads reports

    offset, size = 0, 0
    group: list[bytes] = []
    for file in files:
        for _, mail in mails_in(file, warn):
            group.append(mail)
            size += len(mail)
            if size >= BLOCK_BYTES or len(group) >= _MAILS_A_BLOCK:
                data = packed(group)
                yield Block(path, offset, len(data), data)
                offset += len(data)
                group, size = [], 0
    if group:
        data = packed(group)
        yield Block(path, offset, len(data), data)
