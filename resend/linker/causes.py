"""Names the receiving system and the cause of each outcome: each distinct relay and reply once, then joined back.

Reads temp table `suspect`, leaves temp tables `provider_of` and `cause_of`. Decides nothing about a mail. Raises
ConfigError where a provider's configuration does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb

from resend.config import Config
from resend.model import Cause
from resend.policy.classify import Rules, normalise
from resend.policy.providers import ProviderTable
from resend.stores import sql

_PROVIDER_KEY = ("relay", "relay_ip", "domain")
_REPLY_KEY = ("reply", "code", "enhanced", "provider", "stage")


def providers(
    con: duckdb.DuckDBPyConnection, config: Config, source: str = "suspect", table: str = "provider_of"
) -> None:
    """Make temp table `table`(relay, relay_ip, domain, provider, way) over the distinct values of `source`."""
    known = ProviderTable.load(config.providers)
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
