"""The state of things at the end of the evidence: how attempts went, what is queued, when it expires. For `triage`.

Runs sql/triage over events and outcomes; the judgement is policy/trend. Changes nothing. Raises StoreError.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import duckdb

from resend.clock import from_micros, to_micros
from resend.config import Config
from resend.linker import causes
from resend.linker.outcomes import Own, outcomes, prepare
from resend.policy.trend import Span, Trend, TrendState, judge
from resend.stores import mx, sql
from resend.stores.evidence import Evidence
from resend.stores.home import Home

_HOUR_US = 3_600_000_000
_LOOK_BACK_US = 14 * 24 * _HOUR_US
_DAY_HOURS = 24
_MICROSECOND = timedelta(microseconds=1)
Hosts = Mapping[str, Sequence[str]]  # MX hosts by domain


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPulse:
    """Attempts to one receiving system: the last 15 minutes, the last hour, the 24 hours before. Times in us UTC.

    from_us, to_us: arrival of the mail that failed since it began; None where nothing is out of the usual.
    """

    provider: str
    trend: Trend
    quarter: Span
    hour: Span
    two_hours: Span
    before: Span
    last_failed_at: int | None
    last_sent_at: int | None
    failing: int = 0  # mails that failed since it began
    from_us: int | None = None
    to_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedMail:
    """Mail of one receiving system that is still queued, by age. Times in us UTC."""

    provider: str
    mails: int
    held: int
    untried: int  # only the queue snapshot knows them
    to_1h: int
    to_6h: int
    to_24h: int
    older: int
    oldest_at: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class HostReach:
    """How far the log of one host reaches; `no_evidence`: its mails whose last word is in missing lines."""

    host: str
    first_at: int
    last_at: int
    no_evidence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    until_us: int  # the newest event: "now", as far as the evidence knows
    providers: tuple[ProviderPulse, ...]  # those out of the usual first
    queued: tuple[QueuedMail, ...]
    expiry: tuple[tuple[int, str, int], ...]  # (end of the hour, provider, mails)
    hosts: tuple[HostReach, ...]
    ways: Mapping[str, int]  # how the receiver of failed mail was found, relay | mx | domain -> mails
    mx_last: int | None  # when the DNS was last asked for those


def pulse(home: Home, config: Config, *, own: Own = (), now_us: int, progress: mx.Progress | None = None) -> Pulse:
    """Read everything once. Lines dated after `now_us` (a wrong zone) do not move the end of the evidence past it."""
    files = outcomes(home, config, own=own)
    with sql.connect(memory_limit="1500MiB", temp_dir=home.derived) as con:
        prepare(con, Evidence(home), config, own=own)
        con.execute(f"CREATE TEMP VIEW suspect AS SELECT * FROM read_parquet({sql.quote(files.suspects)})")
        hosts = tuple(HostReach(*row) for row in con.execute(sql.load("triage/70_host")).fetchall())
        until = min(max((host.last_at for host in hosts), default=now_us), now_us)
        sql.set_params(
            con,
            {
                "from_us": until - _LOOK_BACK_US,
                "until_us": until,
                "queue_lifetime": config.collect.queue_lifetime // _MICROSECOND,
            },
        )
        con.execute(f"CREATE TEMP TABLE recent AS {sql.load('triage/10_attempt')}")
        con.execute(f"CREATE TEMP TABLE queued AS {sql.load('triage/30_queued')}")
        unnamed = causes.unnamed(con, config, "queued", "suspect", "recent")
        answers = mx.find(home, config.dns, unnamed, now=from_micros(now_us), progress=progress)
        hosts_of = {domain: answer.hosts for domain, answer in answers.items()}
        providers = _providers(con, config, hosts_of, until)
        causes.providers(con, config, hosts_of, source="queued", table="provider_of_queued")
        ways = con.execute(sql.load("triage/80_way")).fetchall()
        queued = con.execute(sql.load("triage/40_queue")).fetchall()
        expiry = con.execute(sql.load("triage/50_expiry")).fetchall()
    names = tuple(QueuedMail.__dataclass_fields__)
    return Pulse(
        until_us=until,
        providers=providers,
        queued=tuple(QueuedMail(**dict(zip(names, row, strict=True))) for row in queued),
        expiry=tuple((before, provider, mails) for before, provider, mails in expiry),
        hosts=hosts,
        ways=dict(_by_way(ways)),
        mx_last=max((to_micros(answers[domain].at) for way, domain, _ in ways if way == "mx"), default=None),
    )


def _by_way(rows: Sequence[tuple[str, str, int]]) -> list[tuple[str, int]]:
    """Mails by way, most first."""
    found: Counter[str] = Counter()
    for way, _, mails in rows:
        found[way] += mails
    return found.most_common()


def trends(home: Home, config: Config, *, own: Own = (), now_us: int) -> tuple[ProviderPulse, ...]:
    """Only how attempts to each receiving system went, from the events alone; nothing where there is no evidence."""
    evidence = Evidence(home)
    ends = [part.last_at for part in evidence.manifest().parts.values() if part.last_at is not None]
    if not ends:
        return ()
    until = min(max(ends), now_us)
    with sql.connect(memory_limit="768MiB", temp_dir=home.derived) as con:
        prepare(con, evidence, config, own=own)
        sql.set_params(con, {"from_us": until - _LOOK_BACK_US, "until_us": until})
        con.execute(f"CREATE TEMP TABLE recent AS {sql.load('triage/10_attempt')}")
        return tuple(_trends(con, config, mx.kept_hosts(home, from_micros(now_us))))


def _trends(con: duckdb.DuckDBPyConnection, config: Config, hosts: Hosts) -> list[ProviderPulse]:
    causes.providers(con, config, hosts, source="recent", table="provider_of_recent")
    found: dict[str, list[Sequence[int]]] = {}
    for provider, *row in con.execute(sql.load("triage/20_hour")).fetchall():
        found.setdefault(provider, []).append(row)
    return [_judged(provider, rows) for provider, rows in found.items()]


def _providers(con: duckdb.DuckDBPyConnection, config: Config, hosts: Hosts, until: int) -> tuple[ProviderPulse, ...]:
    judged = _trends(con, config, hosts)
    begun = [
        (one.provider, until - (one.trend.first_bad + 1) * _HOUR_US, until - (one.trend.last_bad or 0) * _HOUR_US)
        for one in judged
        if one.trend.first_bad is not None
    ]
    causes.providers(con, config, hosts)
    sql.create_table(con, "begun", {"provider": "VARCHAR", "from_us": "BIGINT", "to_us": "BIGINT"}, begun)
    onsets = {provider: rest for provider, *rest in con.execute(sql.load("triage/60_onset")).fetchall()}
    whole = [_with_onset(one, *onsets[one.provider]) if one.provider in onsets else one for one in judged]
    order = list(TrendState)
    return tuple(
        sorted(
            whole, key=lambda one: (order.index(one.trend.state), -one.hour.failed, -one.before.failed, one.provider)
        )
    )


def _judged(provider: str, rows: Sequence[Sequence[int]]) -> ProviderPulse:
    """`rows`: the columns of sql/triage/20_hour after the provider, one row an hour that had attempts."""
    hours = [Span(0, 0)] * (1 + max(row[0] for row in rows))
    for hour, *counts in rows:
        hours[hour] = Span(*map(int, counts[:4]))
    last = next((row for row in rows if row[0] == 0), None)
    quarter = Span(*map(int, last[5:9])) if last else Span(0, 0)
    before = hours[1 : 1 + _DAY_HOURS]
    return ProviderPulse(
        provider=provider,
        trend=judge(hours, quarter),
        quarter=quarter,
        hour=hours[0],
        two_hours=Span(sum(span.tries for span in hours[:2]), sum(span.failed for span in hours[:2])),
        before=Span(sum(span.tries for span in before), sum(span.failed for span in before)),
        last_failed_at=max((row[9] for row in rows if row[9] is not None), default=None),
        last_sent_at=max((row[10] for row in rows if row[10] is not None), default=None),
    )


def _with_onset(one: ProviderPulse, mails: int, first_at: int, last_at: int) -> ProviderPulse:
    return replace(one, failing=mails, from_us=first_at, to_us=last_at)
