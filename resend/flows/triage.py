"""`triage`: the first hour of an incident. What is going on, what will be lost by when, what to look at, what to do.

Composes pulse, manifest, rotation and ledger; changes nothing. Raises InputError without evidence, StoreError.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from resend.clock import format_duration, from_micros, to_micros
from resend.collect.rotation import Rotation, rotations
from resend.config import Config
from resend.errors import InputError
from resend.flows.vetoes import has_ledger
from resend.linker.incident import own_queue_ids
from resend.linker.pulse import ProviderPulse, Pulse, pulse
from resend.model import PlanState
from resend.policy.trend import TrendState
from resend.stores.catalog import Catalog
from resend.stores.evidence import Evidence, Manifest
from resend.stores.home import Home
from resend.stores.ledger import open_ledger

_FRESH = timedelta(minutes=15)  # an older newest line says little of now
_SKEW = timedelta(minutes=5)
_SNAPSHOT_FRESH = timedelta(hours=1)
_HOST_BEHIND = timedelta(hours=2)
_SOON = timedelta(hours=24)
_LOG_ENDS_SOON = timedelta(days=7)
_GAPS_SHOWN = 20
_MINUTE_US = 60_000_000
_ODD = re.compile(r"[^0-9A-Za-z_]+", re.ASCII)
_UNUSUAL = (TrendState.ONGOING, TrendState.EASING, TrendState.UNCLEAR, TrendState.OVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Evidence that is missing or will be, and what to do about it. `at`: when it began or will happen."""

    what: str  # one word: stale, loss, no_snapshot, rotates ... (docs/commands.md lists them)
    where: str
    text: str
    next_step: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """A command with its arguments filled in, and why."""

    command: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Triage:
    state: TrendState
    until: datetime  # the newest event
    pulse: Pulse
    findings: tuple[Finding, ...]
    rotations: tuple[Rotation, ...]
    advice: tuple[Advice, ...]
    expiring_soon: int  # queued mails that expire within 24 h of now

    @property
    def queued(self) -> int:
        return sum(row.mails for row in self.pulse.queued)


def triage(
    home: Home,
    config: Config,
    paths: Sequence[Path] = (),
    *,
    now: datetime,
    progress: Callable[[int, int], None] | None = None,
) -> Triage:
    """Everything known at `now` (aware UTC). `paths`: logs whose rotation is looked at, else the collected ones.

    `progress`: domains that the DNS was asked for, of how many.
    """
    manifest = Evidence(home).manifest()
    if not any(part.last_at is not None for part in manifest.parts.values()):
        raise InputError(
            "there is no evidence yet", where=str(home.path), next_step="run 'resend triage /var/log/mail.log*'"
        )
    own: list[tuple[str, int]] = []
    running = False
    incidents: list[str] = []
    if has_ledger(home, config):
        with open_ledger(config.ledger.url, home, create=False) as ledger:
            own = own_queue_ids(ledger)
            running = any(plan.state is PlanState.STARTED for plan in ledger.plans())
            incidents = [record.name for record in ledger.incidents() if record.open]
    found = pulse(home, config, own=own, now_us=to_micros(now), progress=progress)
    states = [one.trend.state for one in found.providers]
    logs = list(paths) or [Path(source.path) for source in manifest.sources.values() if not source.former]
    turning = tuple(rotations([path for path in logs if path.exists()]))
    soon = to_micros(now + _SOON)
    expiring = sum(mails for before, _, mails in found.expiry if before <= soon)
    return Triage(
        state=min(states, key=list(TrendState).index, default=TrendState.NORMAL),
        until=from_micros(found.until_us),
        pulse=found,
        findings=tuple(_findings(home, manifest, found, turning, now)),
        rotations=turning,
        advice=tuple(_advice(found, config, incidents, running=running, expiring=expiring)),
        expiring_soon=expiring,
    )


def unusual(found: Pulse) -> list[ProviderPulse]:
    """The receiving systems that something is or was the matter with."""
    return [one for one in found.providers if one.trend.state in _UNUSUAL]


def _findings(
    home: Home, manifest: Manifest, found: Pulse, turning: Sequence[Rotation], now: datetime
) -> Iterator[Finding]:
    yield from _reach(found, now)
    for host, start, end in manifest.loss_windows()[-_GAPS_SHOWN:]:
        yield Finding(
            what="loss",
            where=host or "unknown host",
            text=f"log lines are missing for {format_duration(from_micros(end) - from_micros(start))}",
            next_step="collect a copy that has them; until then mail in it counts as no_evidence",
            at=from_micros(start),
        )
    lost = sum(host.no_evidence for host in found.hosts)
    if lost:
        yield Finding(
            what="no_evidence",
            where="all hosts",
            text=f"{lost:,} mails have no last word in these logs",
            next_step="collect the logs of the hosts that they went to, or the missing files",
        )
    rejected = sum(info.rejected for info in manifest.source_infos())
    if rejected:
        yield Finding(
            what="rejected",
            where="all sources",
            text=f"{rejected:,} lines look like mail and were not understood",
            next_step="resend sources",
        )
    yield from _snapshots(manifest, found, now)
    yield from _files(manifest, turning, now)
    if "releases" not in Catalog(home).snapshots():
        yield Finding(
            what="no_catalog",
            where=str(home.catalog),
            text="no releases are loaded: failed mail cannot be linked to what it was",
            next_step="resend catalog load --releases F --recipients F",
        )


def _reach(found: Pulse, now: datetime) -> Iterator[Finding]:
    until = from_micros(found.until_us)
    newest = max((from_micros(host.last_at) for host in found.hosts), default=until)
    if newest > now + _SKEW:
        yield Finding(
            what="future",
            where="all hosts",
            text=f"the newest line is {format_duration(newest - now)} in the future: the zone of its times is wrong",
            next_step="collect it again with --tz ZONE",
            at=newest,
        )
    elif now - until > _FRESH:
        yield Finding(
            what="stale",
            where="all hosts",
            text=f"the newest line is {format_duration(now - until)} old: nothing here says how it is now",
            next_step="copy the log as it is now, then 'resend triage PATH' again",
            at=until,
        )
    for host in found.hosts:
        behind = until - from_micros(host.last_at)
        if behind > _HOST_BEHIND:
            yield Finding(
                what="host_behind",
                where=host.host,
                text=f"its log ends {format_duration(behind)} before the newest",
                next_step="collect its newer log",
                at=from_micros(host.last_at),
            )


def _snapshots(manifest: Manifest, found: Pulse, now: datetime) -> Iterator[Finding]:
    taken = {info.host: from_micros(info.taken_at) for _, info in manifest.newest_snapshots()}
    hosts = [host.host for host in found.hosts] if "" not in taken else []
    missing = [host for host in hosts if host not in taken]
    command = "postqueue -j > queue.json   # there; then: resend triage PATH --queue queue.json"
    if missing:
        yield Finding(
            what="no_snapshot",
            where=", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else ""),
            text="no queue snapshot: what is still queued is inferred from the log",
            next_step=command,
        )
    for host, at in sorted(taken.items()):
        if now - at > _SNAPSHOT_FRESH:
            yield Finding(
                what="old_snapshot",
                where=host or "unknown host",
                text=f"the queue snapshot is {format_duration(now - at)} old",
                next_step=command,
                at=at,
            )


def _files(manifest: Manifest, turning: Sequence[Rotation], now: datetime) -> Iterator[Finding]:
    paths = {source.path for source in manifest.sources.values()}
    times = {source.mtime_us for source in manifest.sources.values()}  # a rotated copy keeps it
    for one in turning:
        left = [path for path in one.files if str(path) not in paths and _mtime_us(path) not in times]
        if left:
            yield Finding(
                what="uncollected",
                where=str(one.base.parent),
                text=f"not collected: {', '.join(path.name for path in left[:4])}" + (", ..." if left[4:] else ""),
                next_step=f"resend collect {shlex.quote(str(one.base))}*",
            )
        if one.oldest in left and one.leaves_at is not None and one.leaves_at - now < _LOG_ENDS_SOON:
            said = f"by {one.rule}" if one.rule else "estimated from the files"
            yield Finding(
                what="rotates",
                where=str(one.oldest),
                text=f"not collected, deleted in about {days_left(one, now)} days ({said})",
                next_step=f"resend collect {shlex.quote(str(one.oldest))}",
                at=one.leaves_at,
            )


def days_left(one: Rotation, now: datetime) -> int:
    """Whole days until the oldest file of a rotation is deleted."""
    assert one.leaves_at is not None
    return max(0, round((one.leaves_at - now) / timedelta(days=1)))


def _mtime_us(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns // 1000
    except OSError:
        return 0


def _advice(
    found: Pulse, config: Config, incidents: Sequence[str], *, running: bool, expiring: int
) -> Iterator[Advice]:
    going_on = [one for one in unusual(found) if one.trend.state in (TrendState.ONGOING, TrendState.EASING)]
    if running and going_on:
        names = ", ".join(one.provider for one in going_on)
        yield Advice(f'resend pause --reason "{names} refuses mail"', "a resend would make it worse")
    queued = {row.provider: row for row in found.queued}
    for one in unusual(found):
        waiting = queued.get(one.provider)
        if waiting and one.trend.state is TrendState.OVER:
            until = "" if waiting.expires_at is None else f"; the first expires {_moment(waiting.expires_at, config)}"
            yield Advice(
                "resend triage LOG --queue queue.json",
                f"{one.provider}: {waiting.mails:,} queued mails drain by themselves{until}. Look again",
            )
        if one.from_us is None or one.to_us is None:
            continue
        name = _name(one, from_micros(one.from_us).astimezone(ZoneInfo(config.tz)), incidents)
        start = _moment(one.from_us // _MINUTE_US * _MINUTE_US, config)
        command = f"resend incident open {name} --provider {shlex.quote(one.provider)} --from {start}"
        if one.trend.state is TrendState.OVER:
            command += f" --to {_moment((one.to_us // _MINUTE_US + 1) * _MINUTE_US, config)}"
        yield Advice(command, f"{one.provider}: {one.failing:,} mails failed or came late since it began")
        if waiting and one.trend.state is not TrendState.OVER:
            yield Advice(
                f"resend queue {name} --hold > hold.sh",
                f"{one.provider}: stops the tries of {waiting.mails:,} queued mails; mail on hold does not expire",
            )
    if expiring:
        yield Advice(
            "postconf -e maximal_queue_lifetime=10d && postfix reload   # on the mail host",
            f"{expiring:,} queued mails expire within 24 hours",
        )


def _name(one: ProviderPulse, at: datetime, taken: Sequence[str]) -> str:
    """A name of the provider and the day, which no open incident has."""
    base = f"{_ODD.sub('-', one.provider)}-{at:%m%d}"
    return next(name for name in (base, *(f"{base}-{number}" for number in range(2, 1000))) if name not in taken)


def _moment(micros: int, config: Config) -> str:
    return from_micros(micros).astimezone(ZoneInfo(config.tz)).isoformat(timespec="minutes")
