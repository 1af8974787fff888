"""Names the receiving system and the cause of each outcome: each distinct relay and reply once, then joined back.

Reads temp table `suspect`, leaves temp tables `provider_of` and `cause_of`. Where the log names no receiver the DNS
does, by the answers that it is given. Decides nothing about a mail. Raises ConfigError where a provider's configuration
does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import duckdb

from resend.config import Config
from resend.model import Cause
from resend.policy.classify import Rules, normalise
from resend.policy.providers import ProviderTable
from resend.stores import sql

_PROVIDER_KEY = ("relay", "relay_ip", "domain")
_REPLY_KEY = ("reply", "code", "enhanced", "provider", "stage")


def unnamed(con: duckdb.DuckDBPyConnection, config: Config, *sources: str) -> list[str]:
    """Domains with mail for which the log names no receiver; those of the first of `sources` first, then by mails."""
    known = ProviderTable.load(config.providers)
    parts = (
        f"SELECT {', '.join(_PROVIDER_KEY)}, {rank} AS rank, count(*) AS mails FROM {source} GROUP BY ALL"
        for rank, source in enumerate(sources)
    )
    rows = con.execute(f"FROM ({' UNION ALL '.join(parts)}) ORDER BY rank, mails DESC, domain").fetchall()
    named = {key: known.of(*key, "")[1] == "relay" for key in {(relay, relay_ip) for relay, relay_ip, *_ in rows}}
    return list(dict.fromkeys(domain for relay, relay_ip, domain, *_ in rows if not named[relay, relay_ip]))


def providers(
    con: duckdb.DuckDBPyConnection,
    config: Config,
    mx: Mapping[str, Sequence[str]],
    source: str = "suspect",
    table: str = "provider_of",
) -> None:
    """Make temp table `table`(relay, relay_ip, domain, provider, way) over the distinct values of `source`.

    `mx`: the MX hosts of domains, best first, as far as they are known.
    """
    known = ProviderTable.load(config.providers, mx)
    rows = con.execute(f"SELECT DISTINCT {', '.join(_PROVIDER_KEY)} FROM {source}").fetchall()

    def named() -> Iterator[Sequence[str]]:
        for relay, relay_ip, domain in rows:
            provider, way = known.of(relay, relay_ip, domain)
            yield relay, relay_ip, domain, provider, way

    sql.create_table(con, table, dict.fromkeys((*_PROVIDER_KEY, "provider", "way"), "VARCHAR"), named())


def causes(con: duckdb.DuckDBPyConnection) -> None:
    """Make temp table `cause_of`(reply key, cause, rule, scope, retry_after, maybe, wording); needs `provider_of`.

    `wording` is the reply without what differs from mail to mail: equal wordings are one event.
    """
    rules = Rules.load()
    rows = con.execute(
        f"SELECT DISTINCT {', '.join(_REPLY_KEY)} FROM suspect JOIN provider_of USING ({', '.join(_PROVIDER_KEY)})"
    ).fetchall()

    known: dict[tuple[str, int, str, str, str], Cause] = {}

    def judged() -> Iterator[Sequence[object]]:
        for reply, code, enhanced, provider, stage in rows:
            wording = normalise(reply)
            key = (wording, code, enhanced, provider, stage)
            cause = known.get(key)
            if cause is None or cause.retry_after is not None:  # the time to wait differs within one wording
                cause = known[key] = rules.classify(reply, code=code, enhanced=enhanced, provider=provider, stage=stage)
            head = (reply, code, enhanced, provider, stage)
            tail = (cause.cls, cause.rule, cause.scope, cause.retry_after, cause.maybe_delivered)
            yield (*head, *tail, f"{code} {enhanced} {wording}")

    sql.create_table(
        con,
        "cause_of",
        {
            "reply": "VARCHAR", "code": "INTEGER", "enhanced": "VARCHAR", "provider": "VARCHAR", "stage": "VARCHAR",
            "cause": "VARCHAR", "rule": "VARCHAR", "scope": "VARCHAR", "retry_after": "INTEGER", "maybe": "BOOLEAN",
            "wording": "VARCHAR",
        },
        judged(),
    )  # fmt: skip
