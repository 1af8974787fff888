"""Tells when times are read in another zone than the configured one, or than before: nothing else would say so.

A file that was collected before keeps its zone where no flag says another (resend/collect/again.py tells that).

Reads the manifest; changes nothing, refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from resend.cli.screen import Screen

if TYPE_CHECKING:
    from resend.config import Config
    from resend.stores.home import Home

_Read = Mapping[str, tuple[str, int | None]]


def as_read(home: Home) -> _Read:
    """Of each source by its path: the zone in which it was read, and its first time (microseconds UTC)."""
    from resend.stores.evidence import Evidence

    if not home.evidence.is_dir():
        return {}
    manifest = Evidence(home).manifest()
    firsts = {info.path: info.first_at for info in manifest.source_infos()}
    return {path: (source.zone, firsts.get(path)) for path, source in manifest.sources.items()}


def tell(screen: Screen, home: Home, config: Config, before: _Read, *, tz: str = "") -> None:
    """Notes about `--tz`, given (`tz`) or left out, against how the sources were read `before`.

    A log whose own times name their zone begins at the same instant in any, and is not told.
    """
    now = as_read(home)
    moved = [
        (path, old, zone)
        for path, (zone, first) in now.items()
        for old, was in (before.get(path, (zone, first)),)
        if old != zone and was != first
    ]
    if tz:
        if tz != config.tz and any(zone == tz for zone, _ in now.values()):
            screen.note(
                f"these files keep {tz} from now on, without --tz too; others are read in {config.tz}, or write"
                f' tz = "{tz}" into resend.toml'
            )
    elif moved:
        path, old, zone = moved[0]
        more = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
        screen.note(
            f"warning: {Path(path).name}{more}: its times were read in {old} before, and in {zone} now; if {old} is"
            f" right, run the same command again with --tz {old}"
        )
