"""How a file that was collected before is read again: as then, where no flag says otherwise, and that is told.

A flag of the first collect would else hold for that one command: the next one, `reconcile` or `triage` too, would move
the same evidence by hours, or to another host, or read it as another format. A copy that rotation made is read in its
log's zone and as its host's. Reads the manifest's entries and file dates only; raises nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from resend.collect.rotation import base_of
from resend.stores.evidence import Source


class Before:
    """What the evidence knows of files by their names. Each answer that is used is kept for `notes`."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = {name: source for name, source in sources.items() if not source.former and source.blocks}
        self._logs: dict[Path, list[Source]] = {}
        for name, source in self._sources.items():
            self._logs.setdefault(base_of(Path(name)), []).append(source)
        self._kept: dict[str, list[Path]] = {}

    def zone(self, path: Path, usual: str) -> str:
        """The zone in which it was read, or the log that it is a copy of; else `usual`."""
        zones = {source.zone for source in self._same(path)}
        if len(zones) != 1 or zones == {usual}:
            return usual
        (zone,) = zones
        self._keep(path, f"times are read in {zone}, as before, and not in {usual}; to change that: --tz {usual}")
        return zone

    def host(self, path: Path) -> str:
        """The host that a flag named for it, or for the log that it is a copy of; "" none."""
        hosts = {source.host for source in self._same(path)}
        if len(hosts) != 1 or hosts == {""}:
            return ""
        (host,) = hosts
        self._keep(path, f"a log of {host}, as before; to change that: --host NAME")
        return host

    def year(self, path: Path, state: os.stat_result) -> int:
        """The year that was given for it, 0 none. Of a file that has changed it says nothing: the last line is new."""
        source = self._unchanged(path, state)
        if source is None or not source.year:
            return 0
        of_date = datetime.fromtimestamp(state.st_mtime, UTC).year
        if source.year != of_date:
            self._keep(path, f"its last line is of {source.year}, as before; to change that: --year {of_date}")
        return source.year

    def format(self, path: Path, state: os.stat_result, seen: str) -> str:
        """The format in which it was read where its content says another (`seen`), or none that is known ("").

        A file that has changed, and whose content tells its format, may be another file by now.
        """
        source = self._unchanged(path, state) if seen else self._sources.get(str(path.resolve()))
        if source is None or source.format == seen:
            return seen
        other = f"; to change that: --format {seen}" if seen else ""
        self._keep(path, f"read as {source.format}, as before{other}")
        return source.format

    def _same(self, path: Path) -> Sequence[Source]:
        """The file as it was collected before, or the logs that it may be a copy of."""
        whole = path.resolve()
        source = self._sources.get(str(whole))
        return [source] if source is not None else self._logs.get(base_of(whole), [])

    def _unchanged(self, path: Path, state: os.stat_result) -> Source | None:
        source = self._sources.get(str(path.resolve()))
        if source is None:
            return None
        same = source.mtime_us == state.st_mtime_ns // 1000 or source.size == state.st_size
        return source if same else None

    def _keep(self, path: Path, what: str) -> None:
        self._kept.setdefault(what, []).append(path)

    def notes(self) -> Iterator[str]:
        """What was kept, a line for all files that are alike."""
        for what, paths in self._kept.items():
            yield f"{_names(paths)}: {what}"


def _names(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0].name}{more}"
