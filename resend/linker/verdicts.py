"""Judges each distinct kind of failure once: which replies are an event of the receiving system, and what to do then.

Reads temp tables `candidate_mail` and `mails`, leaves `verdict_of`. Raises nothing of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb

from resend.model import Action, Cause, CauseClass, Scope
from resend.policy.verdict import Burst, decide, waves
from resend.stores import sql

_GREYLIST_WAIT_S = 1_800  # RFC 5321 4.5.4.1: a retry interval of at least 30 minutes, where the reply names none
_KEY = ("provider", "wording", "cause", "cause_rule", "scope", "retry_after", "code")


def verdicts(con: duckdb.DuckDBPyConnection) -> None:
    """Make temp table `verdict_of`(key columns, action, verdict_rule, verdict_reason, wait_us)."""
    found = con.execute(sql.load("link/freeze/burst")).fetchall()
    mails = dict(con.execute("SELECT value, mails FROM mails WHERE dimension = 'provider'").fetchall())
    events = waves(
        Burst(
            provider=provider,
            wording=wording,
            cause=CauseClass(cause),
            recipients=recipients,
            peak=peak,
            peak_us=peak_us or 0,
            mails=int(mails.get(provider, 0)),
        )
        for provider, wording, cause, recipients, _, _, peak, peak_us in found
    )
    rows = con.execute(f"SELECT DISTINCT {', '.join(_KEY)} FROM candidate_mail").fetchall()

    def judged() -> Iterator[Sequence[object]]:
        for row in rows:
            provider, wording, cls, rule, scope, retry_after, code = row
            cause = Cause(cls=CauseClass(cls), rule=rule, scope=Scope(scope), retry_after=retry_after)
            verdict = decide(cause, code=code, wave=(provider, wording) in events)
            wait_us = None
            if verdict.action is Action.WAIT:
                wait_us = (retry_after if retry_after is not None else _GREYLIST_WAIT_S) * 1_000_000
            yield (*row, verdict.action.value, verdict.rule, verdict.reason, wait_us)

    sql.create_table(
        con,
        "verdict_of",
        {
            "provider": "VARCHAR", "wording": "VARCHAR", "cause": "VARCHAR", "cause_rule": "VARCHAR",
            "scope": "VARCHAR", "retry_after": "INTEGER", "code": "INTEGER", "action": "VARCHAR",
            "verdict_rule": "VARCHAR", "verdict_reason": "VARCHAR", "wait_us": "BIGINT",
        },
        judged(),
    )  # fmt: skip
