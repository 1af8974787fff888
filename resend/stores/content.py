"""The content of mails: kept bytes, a whole mail per release, or a Jinja2 template per release, below home `content/`.

Takes over a directory after checking every file, and finds what a mail is made of. Kept bytes are stored wire-ready and
win over a template: they are the original. Renders nothing. Raises InputError for a directory that cannot be read.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path

from resend.clock import to_text
from resend.errors import InputError
from resend.policy.message import identity_of
from resend.policy.message import kept as wire_ready
from resend.stores.catalog import Catalog
from resend.stores.home import Home, private_opener

TEMPLATE, MAIL = ".eml.j2", ".eml"
_MAX_BYTES = 64 << 20  # no mail host takes a larger message
_KEPT_NAME = re.compile(r"[0-9a-f]{64}\.eml")
_SHOWN = 5  # ignored files named in a warning


@dataclass(slots=True)
class ContentLoad:
    """What one directory gave. `rejected` and `warnings` are lines for people."""

    taken: int = 0
    rejected: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Content:
    """What one mail is made of. `message_id` (with brackets) and `date` (RFC 3339) are known of kept bytes only."""

    kind: str  # template | kept | eml
    sha256: str  # of the template or of the bytes
    message_id: str = ""
    date: str = ""


def kept_name(message_id: str) -> str:
    """File name of the kept bytes of a message-id, written with or without brackets."""
    return hashlib.sha256(f"<{message_id.strip().strip('<>')}>".encode()).hexdigest() + MAIL


def load_content(home: Home, directory: Path) -> ContentLoad:
    """Check every `<release>.eml`, `<release>.eml.j2` and `kept/<sha256>.eml` below `directory` and take it over."""
    if not directory.is_dir():
        raise InputError(
            "no such directory", where=str(directory), next_step="name the directory with the mails' content"
        )
    home.create()
    found = ContentLoad()
    ignored: list[str] = []
    for path, name in _files(directory):
        if not name.endswith((TEMPLATE, MAIL)):
            ignored.append(name)
            continue
        try:
            data = _checked(path, name)
        except (InputError, ValueError) as error:
            found.rejected.append(f"{name}: {error}")
            continue
        target = home.content / (f"kept/{kept_name(identity_of(data)[0])}" if name.startswith("kept/") else name)
        _put(target, data)
        found.taken += 1
    if ignored:
        found.warnings.append(f"{directory}: {len(ignored):,} files are no content ({', '.join(ignored[:_SHOWN])})")
    return found


def _files(directory: Path) -> Iterator[tuple[Path, str]]:
    """Files below the directory with their names relative to it, in order; links to elsewhere are not followed."""
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if not name.startswith(".") and path.is_file():
                yield path, path.relative_to(directory).as_posix()


def _checked(path: Path, name: str) -> bytes:
    """The bytes to store. Raises ValueError with the reason."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}") from None
    if name.endswith(TEMPLATE):
        import jinja2

        try:
            jinja2.Environment(autoescape=False).parse(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise ValueError("not UTF-8") from None
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"line {error.lineno}: {error.message}") from None
        return data.removeprefix(b"\xef\xbb\xbf")
    data = wire_ready(data)
    if name.startswith("kept/"):
        if not _KEPT_NAME.fullmatch(name.removeprefix("kept/")):
            raise ValueError("the name is not the sha256 of a message-id")
        message_id, _ = identity_of(data)
        bare = message_id.strip("<>")
        if name not in (f"kept/{hashlib.sha256(text.encode()).hexdigest()}{MAIL}" for text in (f"<{bare}>", bare)):
            raise ValueError(f"the name is not the sha256 of its Message-ID {message_id!r}")
    return data


def _put(target: Path, data: bytes) -> None:
    """Write unless it is there already. Not synced: content can be loaded again, and a plan knows its hash."""
    try:
        if target.read_bytes() == data:
            return
    except FileNotFoundError:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with open(temporary, "wb", opener=private_opener) as handle:
            handle.write(data)
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class ContentStore:
    """Finds content by release and message-id. What it has read of a release it keeps."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._bodies: dict[str, Content | None] = {}

    def template(self, release: str) -> str | None:
        """The Jinja2 template of a release."""
        path = self._path(release, TEMPLATE)
        return None if path is None else path.read_text(encoding="utf-8")

    def release_eml(self, release: str) -> bytes | None:
        """The bytes that every recipient of a release gets, wire-ready."""
        path = self._path(release, MAIL)
        return None if path is None else path.read_bytes()

    def kept(self, message_id: str) -> bytes | None:
        """The bytes of one original mail, wire-ready."""
        if not self.has_kept(message_id):
            return None
        try:
            return (self._home.content / "kept" / kept_name(message_id)).read_bytes()
        except FileNotFoundError:
            return None

    def has_kept(self, message_id: str) -> bool:
        return bool(message_id) and bool(self._kept_names) and kept_name(message_id) in self._kept_names

    def has(self, release: str, message_id: str) -> bool:
        """Whether a mail can be made; the cheap form of `body`."""
        return self.has_kept(message_id) or self._of_release(release) is not None

    def body(self, release: str, message_id: str) -> Content | None:
        """What the mail is made of: kept bytes, else the release's template, else the release's mail."""
        if self._kept_names and (data := self.kept(message_id)) is not None:
            return _described("kept", data)
        return self._of_release(release)

    def _of_release(self, release: str) -> Content | None:
        if release not in self._bodies:
            template = self._path(release, TEMPLATE)
            mail = self._path(release, MAIL)
            if template is not None:
                self._bodies[release] = Content("template", hashlib.sha256(template.read_bytes()).hexdigest())
            else:
                self._bodies[release] = None if mail is None else _described("eml", mail.read_bytes())
        return self._bodies[release]

    def _path(self, release: str, suffix: str) -> Path | None:
        """The release's file of this kind: the one that the catalog names, else `<release><suffix>`."""
        names = [name for name in self._named.get(release, ()) if name.endswith(suffix)]
        if release and "/" not in release and not release.startswith("."):
            names.append(release + suffix)
        for name in names:
            path = self._home.content / name
            if path.is_file():
                return path
        return None

    @cached_property
    def _named(self) -> dict[str, tuple[str, ...]]:
        return Catalog(self._home).content_files()

    @cached_property
    def _kept_names(self) -> frozenset[str]:
        try:
            with os.scandir(self._home.content / "kept") as entries:
                return frozenset(entry.name for entry in entries)
        except FileNotFoundError:
            return frozenset()


def _described(kind: str, data: bytes) -> Content:
    message_id, written = identity_of(data)
    date = ""
    try:
        date = to_text(parsedate_to_datetime(written))
    except (ValueError, TypeError, OverflowError):
        pass  # no Date, or one without a zone: not known
    return Content(kind, hashlib.sha256(data).hexdigest(), message_id, date)
