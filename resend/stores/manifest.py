"""The manifest of the evidence: which parts count, from which files they came, and what they hold.

A plain record with its JSON form; it opens no file and knows no lock. Times are microseconds UTC.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

_SILENCE_US = 2 * 3600 * 1_000_000  # a host with mail in its queue logs a try at least every 4,000 s (Postfix default)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartInfo:
    """Accounting of one part; first_at and last_at are None where it has no event. losses: (host, from, to)."""

    lines: int
    parsed: int
    rejected: int
    first_at: int | None
    last_at: int | None
    hosts: list[str]
    head: str  # of the block's first line: a grown tail block begins alike, another file does not
    losses: list[tuple[str, int, int]]

    @property
    def ignored(self) -> int:
        return self.lines - self.parsed - self.rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file as it was last collected: its parts in order, each with the number of its first line.

    `year` is 0 where `last_day` (ISO date, from the file's last change) dated it.
    """

    id: str
    path: str
    format: str
    zone: str
    year: int
    last_day: str
    size: int  # decompressed bytes
    mtime_us: int
    blocks: list[tuple[str, int]]  # (part id, first line)
    former: bool = False  # its name holds another file by now
    host: str = ""  # that a flag named for logs that lack it


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInfo:
    """A queue as it was at one time; its rows are in a file of their own."""

    host: str
    taken_at: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """One row of `resend sources`."""

    id: str
    path: str
    host: str
    format: str
    lines: int
    parsed: int
    ignored: int
    rejected: int
    first_at: int | None
    last_at: int | None
    gaps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that counts as evidence; what is not named here does not exist."""

    sources: dict[str, Source] = field(default_factory=dict)  # by path
    parts: dict[str, PartInfo] = field(default_factory=dict)
    snapshots: dict[str, SnapshotInfo] = field(default_factory=dict)
    packs: dict[str, list[str]] = field(default_factory=dict)  # file of a whole day -> the parts in it (compact)
    pruned: list[str] = field(default_factory=list)  # parts that stay known, and whose events were removed (prune)

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Raises ValueError, KeyError, TypeError or AttributeError for what is no manifest."""
        raw = json.loads(text)
        return Manifest(
            sources={
                key: Source(**{**item, "blocks": [(part, line) for part, line in item["blocks"]]})
                for key, item in raw["sources"].items()
            },
            parts={
                name: PartInfo(**{**item, "losses": [(host, start, end) for host, start, end in item["losses"]]})
                for name, item in raw["parts"].items()
            },
            snapshots={name: SnapshotInfo(**item) for name, item in raw["snapshots"].items()},
            packs={name: list(parts) for name, parts in raw.get("packs", {}).items()},
            pruned=list(raw.get("pruned", [])),
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    def id(self) -> str:
        """Hash of the content: the same evidence gives the same id, in whatever order it was collected or packed."""
        lines = [f"part {name}" for name in sorted(self.parts)]
        lines += [f"pruned {name}" for name in sorted(self.pruned)]
        lines += sorted(f"source {source.path} {source.blocks}" for source in self.sources.values())
        lines += [f"snapshot {name} {info.taken_at}" for name, info in sorted(self.snapshots.items())]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "backslashreplace")).hexdigest()

    def put(self, source: Source) -> None:
        """Add a file as it is now. What the same name held before is kept unless this file holds it, too."""
        before = self.sources.get(source.path)
        if before is not None and not self._continues(before, source):
            kept = replace(before, path=f"{before.path}@{before.id}", former=True)
            self.sources[kept.path] = kept
        self.sources[source.path] = source

    def _continues(self, old: Source, new: Source) -> bool:
        """Whether `new` holds all lines that `old` held: its blocks begin alike. How they were read does not matter."""
        heads = [[self.parts[part].head for part, _ in source.blocks] for source in (old, new)]
        return old.size <= new.size and heads[0] == heads[1][: len(heads[0])]

    def tidy(self) -> None:
        """Forget former files that another source holds by now, and parts that no source names."""
        for key, former in list(self.sources.items()):
            others = [other for other in self.sources.values() if other is not former]
            if former.former and any(self._continues(former, other) for other in others):
                del self.sources[key]
        used = {part for source in self.sources.values() for part, _ in source.blocks}
        for part in [name for name in self.parts if name not in used]:
            del self.parts[part]
        self.pruned[:] = [part for part in self.pruned if part in self.parts]
        for pack in [name for name, parts in self.packs.items() if not self.live(parts)]:
            del self.packs[pack]

    def live(self, parts: Iterable[str]) -> list[str]:
        """Those of `parts` that count and whose events are there."""
        gone = set(self.pruned)
        return [part for part in parts if part in self.parts and part not in gone]

    def packed(self) -> dict[str, str]:
        """The pack of each part that is in one."""
        return {part: pack for pack, parts in self.packs.items() for part in parts}

    def source_infos(self) -> list[SourceInfo]:
        return [self._info(source) for source in sorted(self.sources.values(), key=lambda item: item.path)]

    def _info(self, source: Source) -> SourceInfo:
        infos = [self.parts[part] for part, _ in source.blocks]
        firsts = [info.first_at for info in infos if info.first_at is not None]
        lasts = [info.last_at for info in infos if info.last_at is not None]
        hosts = sorted({host for info in infos for host in info.hosts})
        return SourceInfo(
            id=source.id,
            path=source.path,
            host=",".join(hosts[:3]) + (",…" if len(hosts) > 3 else ""),
            format=source.format,
            lines=sum(info.lines for info in infos),
            parsed=sum(info.parsed for info in infos),
            ignored=sum(info.ignored for info in infos),
            rejected=sum(info.rejected for info in infos),
            first_at=min(firsts, default=None),
            last_at=max(lasts, default=None),
            gaps=sum(len(info.losses) for info in infos),
        )

    def loss_windows(self) -> list[tuple[str, int, int]]:
        """Times in which lines of a host are missing: where the log says so, and where two files do not meet."""
        found = {loss for info in self.parts.values() for loss in info.losses}
        spans: dict[str, list[tuple[int, int]]] = {}
        for source in self.source_infos():
            if source.first_at is not None and source.last_at is not None:
                spans.setdefault(source.host, []).append((source.first_at, source.last_at))
        for host, pairs in spans.items():
            seen = min(pairs)[1]
            for first, last in sorted(pairs):
                if first - seen > _SILENCE_US:
                    found.add((host, seen, first))
                seen = max(seen, last)
        return sorted(found)

    def newest_snapshots(self) -> list[tuple[str, SnapshotInfo]]:
        """(name, info) of the newest snapshot of each host."""
        newest: dict[str, tuple[str, SnapshotInfo]] = {}
        for name, info in sorted(self.snapshots.items(), key=lambda item: (item[1].taken_at, item[0])):
            newest[info.host] = (name, info)
        return sorted(newest.values())

    @staticmethod
    def lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
        """Rows as JSON lines."""
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")

    @staticmethod
    def snapshot_name(host: str, data: bytes) -> str:
        return hashlib.sha256(host.encode() + b"\0" + data).hexdigest()[:16]

    def overlaps(self) -> list[str]:
        """Parts whose times overlap those of another part of the same host that never occurs in the same file."""
        together: dict[str, set[str]] = {}
        for source in self.sources.values():
            for part, _ in source.blocks:
                together.setdefault(part, set()).add(source.path)
        found: set[str] = set()
        active: dict[str, list[tuple[int, str]]] = {}
        for first, last, host, part in sorted(self._spans()):
            alive = [(end, other) for end, other in active.get(host, []) if end >= first]
            for _, other in alive:
                if not together[part] & together[other]:
                    found |= {part, other}
            active[host] = [*alive, (last, part)]
        return sorted(found)

    def _spans(self) -> Iterator[tuple[int, int, str, str]]:
        for part, info in self.parts.items():
            if info.first_at is not None and info.last_at is not None:
                for host in info.hosts:
                    yield info.first_at, info.last_at, host, part
