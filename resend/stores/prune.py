"""`prune`: removes the events of parts that end before a moment. What was removed stays known and is never read again.

Accounting keeps its lines; where a removed part overlaps in time with one that stays, its time counts as a loss, so
that nothing is concluded from lines that are gone. Queue snapshots of before go, too, but for the newest of each host.
Commit like collect: the manifest first, then the files; what lies in a pack with parts that stay goes with the next
compact. Raises StoreError; WrongCount where the evidence has moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from resend.errors import WrongCount
from resend.stores.evidence import Evidence
from resend.stores.failpoints import failpoint
from resend.stores.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Prunable:
    """What ends before a moment. `lines` is what the person confirms. Times in microseconds UTC, None for nothing."""

    parts: tuple[str, ...]
    snapshots: tuple[str, ...]
    lines: int
    events_from: int | None
    events_to: int | None


def prunable(manifest: Manifest, *, before_us: int) -> Prunable:
    """Parts whose last event, and snapshots that were taken, before `before_us`."""
    parts = [
        part
        for part in manifest.live(manifest.parts)
        if (last := manifest.parts[part].last_at) is not None and last < before_us
    ]
    newest = {name for name, _ in manifest.newest_snapshots()}
    infos = [manifest.parts[part] for part in parts]
    return Prunable(
        parts=tuple(parts),
        snapshots=tuple(
            name for name, info in manifest.snapshots.items() if info.taken_at < before_us and name not in newest
        ),
        lines=sum(info.lines for info in infos),
        events_from=min((info.first_at for info in infos if info.first_at is not None), default=None),
        events_to=max((info.last_at for info in infos if info.last_at is not None), default=None),
    )


def prune(evidence: Evidence, *, before_us: int, confirm: int) -> Prunable:
    """Remove it; refused unless it is exactly `confirm` lines at the moment of removal."""
    with evidence.writing() as manifest:
        found = prunable(manifest, before_us=before_us)
        if found.lines != confirm:
            raise WrongCount(
                f"{confirm:,} lines were confirmed, it would be {found.lines:,}; nothing was removed",
                where=str(evidence.home.evidence),
                next_step="run it without --confirm to see what it would remove",
            )
        _forget(manifest, found)
        evidence.commit(manifest)
        failpoint("prune.manifest")
        for part in found.parts:
            evidence.part_path(part).unlink(missing_ok=True)
        for name in found.snapshots:
            evidence.snapshot_path(name).unlink(missing_ok=True)
    return found


def _forget(manifest: Manifest, found: Prunable) -> None:
    gone = set(found.parts)
    stays: dict[str, int] = {}
    for part in manifest.live(manifest.parts):
        first = manifest.parts[part].first_at
        if part not in gone and first is not None:
            for host in manifest.parts[part].hosts:
                stays[host] = min(first, stays.get(host, first))
    for part in found.parts:
        info = manifest.parts[part]
        start, end = info.first_at, info.last_at
        losses = [
            (host, start, end)
            for host in info.hosts
            if start is not None and end is not None and stays.get(host, end + 1) <= end
        ]
        manifest.parts[part] = replace(info, first_at=None, last_at=None, losses=losses)
        manifest.pruned.append(part)
    for name in found.snapshots:
        del manifest.snapshots[name]
    for path, source in list(manifest.sources.items()):
        # A file that is still there would be collected again: its parts stay known.
        if not manifest.live(part for part, _ in source.blocks) and (source.former or not Path(source.path).exists()):
            del manifest.sources[path]
