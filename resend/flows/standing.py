"""The standing policy of `catch-up`: plans for mail that failed for good and that the config says to resend by itself.

Off while `[catchup] providers` is empty. Each provider is looked at alone, and passed over with its reason where a
condition does not hold: fresh evidence without a gap, two quiet hours, final outcomes, certain links, allowed causes.
Mail that is still queued is never taken. What it takes becomes an incident and a plan like any other: nothing goes
twice. Raises ConfigError for causes that no policy may resend; what opening raises.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from resend.clock import format_duration, from_micros, to_micros
from resend.config import Config
from resend.errors import ConfigError, UsageError
from resend.flows.plan import Options, make_plan
from resend.flows.recovery import unrecovered
from resend.linker.incident import open_incident, taken
from resend.model import CauseClass, Selector
from resend.planner.draft import Standing
from resend.policy.routes import unfollowed
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.registry import close_incident
from resend.stores.rows import PlanRecord

WHO = "standing policy"
CAUSES = (CauseClass.THROTTLED, CauseClass.GREYLISTED, CauseClass.TRANSIENT_INFRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One provider of the policy: its plan, or why there is none."""

    provider: str
    plan: PlanRecord | None = None
    passed_over: str = ""
    refused: bool = False  # there is mail to take, and a person must decide first


def is_standing(plan: PlanRecord) -> bool:
    """Whether the policy made a plan: by its parameters, which no operator's plan has, never by its words."""
    return "standing" in json.loads(plan.params)


def standing_plans(home: Home, config: Config, ledger: Ledger, *, now: datetime) -> Iterator[Taken]:
    """A plan for each provider that has mail to take; `now` is aware UTC."""
    policy = config.catchup
    if not policy.providers:
        if policy.causes:
            raise ConfigError(
                "causes without providers take nothing",
                where="[catchup] providers",
                next_step="name the providers, or take the causes away",
            )
        return
    causes = _causes(config)
    why = _unfit(home, config, now)
    refusing = {} if why else unrecovered(home, config, ledger, policy.providers, now=now)
    left = policy.max
    for provider in policy.providers:
        reason = why or refusing.get(provider, "") or ("the cap is reached" if left <= 0 else "")
        if reason:
            yield Taken(provider=provider, passed_over=reason)
            continue
        standing = Standing(
            causes=causes, from_us=to_micros(now - policy.age_to), to_us=to_micros(now - policy.age_from), most=left
        )
        try:
            plan = _plan(home, config, ledger, provider, standing, now)
        except UsageError as error:  # a signature that will not hold, an identity that nobody settled
            yield Taken(provider=provider, passed_over=f"a person must decide: {error.what}", refused=True)
            continue
        left -= 0 if plan is None else plan.total
        yield Taken(provider=provider, plan=plan, passed_over="" if plan else "nothing to take")


def _causes(config: Config) -> tuple[str, ...]:
    wanted = config.catchup.causes or tuple(CAUSES)
    for cause in wanted:
        if cause not in CAUSES:
            raise ConfigError(
                f"{cause!r} is not resent without a person's decision",
                where="[catchup] causes",
                next_step=f"one of {', '.join(CAUSES)}",
            )
    return tuple(wanted)


def _unfit(home: Home, config: Config, now: datetime) -> str:
    """Why the evidence carries no decision now, "" where it does."""
    if unseen := sorted(unfollowed(config)):
        return f"mail goes through a relay whose log is not followed: {unseen[0]}"
    manifest = Evidence(home).manifest()
    last = max((part.last_at for part in manifest.parts.values() if part.last_at is not None), default=None)
    if last is None:
        return "there is no evidence"
    age = now - from_micros(last)
    if age > config.run.max_evidence_age:
        return f"the evidence ends {format_duration(age)} ago; collect first"
    begin = to_micros(now - config.catchup.age_to)
    if any(end >= begin for _, _, end in manifest.loss_windows()):
        return f"the log lost lines in the last {format_duration(config.catchup.age_to)}"
    return ""


def _plan(
    home: Home, config: Config, ledger: Ledger, provider: str, standing: Standing, now: datetime
) -> PlanRecord | None:
    selector = Selector(provider=provider, from_at=from_micros(standing.from_us), to_at=from_micros(standing.to_us))
    if not taken(home, config, ledger, selector, standing.takes, now=now):
        return None
    name = _free(ledger, f"standing {provider} {now:%Y-%m-%d %H:%M:%S}")
    opened = open_incident(home, config, ledger, name, selector, now=now)
    reason = f"{WHO}: {', '.join(standing.causes)}"
    run = config.run
    options = Options(recipient_gap=run.recipient_gap, domain_share=run.domain_share, reason=reason, standing=standing)
    try:
        return make_plan(home, config, ledger, opened.record.id, options=options, now=now).record
    except UsageError:
        with ledger.write() as conn:
            close_incident(conn, opened.record.id, now=now)
        raise


def _free(ledger: Ledger, name: str) -> str:
    """The name, with a number where one of this very second has it."""
    taken_names = {record.name for record in ledger.incidents()}
    return next(free for n in itertools.count(1) if (free := name if n == 1 else f"{name} ({n})") not in taken_names)
