"""Whether a plan can leave by the egresses it was frozen with: from this host, by this config, trusted by receivers.

A row keeps its egress over every resume. Another host may have an address that this one has not (PostgreSQL): mail of
such an egress is left to it. Sends nothing. Raises UsageError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from resend.config import Config, EgressConfig
from resend.errors import UsageError
from resend.executor.connect import missing_source
from resend.flows import preflight
from resend.flows.preflight import Finding, Standing
from resend.model import PlanState
from resend.planner import lanes
from resend.policy.egress import egresses
from resend.policy.routes import routes
from resend.stores import ceilings, registry
from resend.stores.control import note
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.plans import PlanFile
from resend.stores.rows import PlanRecord
from resend.stores.work import work

Tell = Callable[[Finding], None]


def configs(config: Config) -> dict[str, EgressConfig]:
    """`[egress]` by the names of the ledger."""
    return {one.name: one.config for one in egresses(config)}


def unusable(config: Config, names: Collection[str]) -> dict[str, str]:
    """Those of the egresses by which this host can send nothing, and why."""
    known = routes(config)
    found: dict[str, str] = {}
    for name in sorted(names):
        one = known.named(name)
        if name not in known.names():
            found[name] = "resend.toml has no such egress any more"
        elif one is not None and one.config.source and (why := missing_source(one.config.source)):
            found[name] = f"this host cannot send from {one.config.source}: {why}"
    return found


class Elsewhere:
    """The egresses by which this host can send nothing: those of the config, and every other name."""

    def __init__(self, config: Config) -> None:
        names = routes(config).names()
        self._here = names - unusable(config, names).keys()

    def __contains__(self, name: object) -> bool:
        return name not in self._here


def note_elsewhere(config: Config, ledger: Ledger, plan_id: str, *, now: datetime) -> None:
    """Say in the audit what is left ("" of all started plans) that this host cannot send, and why."""
    with ledger.read() as conn:
        left = {item.egress for item in work(conn, now, plan_id=plan_id)}
    found = unusable(config, left)
    if found:
        with ledger.write() as conn:
            for name, why in found.items():
                note(conn, "egress_not_here", plan_id=plan_id, value=name, reason=why, who="rule", now=now)


def check(config: Config, ledger: Ledger, plan: PlanRecord, names: Collection[str]) -> None:
    """Raise UsageError where a plan cannot leave as it was frozen, by any host; by this one where there is no other."""
    found = unusable(config, names)
    if found and (ledger.dialect == "sqlite" or set(found) == set(names)):
        name, why = next(iter(found.items()))
        raise UsageError(
            f"the plan sends by {name}, and {why}; nothing was sent",
            where=f"plan {plan.id[:12]}",
            next_step=f"mend [egress], or give the rest up with 'resend plan close {plan.id[:12]}' and make a new plan",
        )


def resumed(config: Config, ledger: Ledger, plan: PlanRecord, *, now: datetime) -> None:
    """Before a plan goes on: `check` of what is left of it."""
    with ledger.read() as conn:
        left = {item.egress for item in work(conn, now, plan_id=plan.id)}
    check(config, ledger, plan, left)


def starts(
    home: Home, config: Config, ledger: Ledger, plan: PlanRecord, *, anyway: str, who: str, tell: Tell, now: datetime
) -> None:
    """Before the first start: `check`, the preflight, and the ceilings that the plan was made with.

    `anyway`: why it is sent from an address that receivers will distrust; audited. `tell` gets what is not in order.
    """
    with PlanFile(home, plan.id) as frozen:
        doors = list(frozen.doors())
    check(config, ledger, plan, {door.egress for door in doors})
    found = [
        item for item in preflight.inspect(home, config, ledger, doors, now=now) if item.standing is not Standing.OK
    ]
    bad = [item for item in found if item.standing is Standing.FAILS]
    if bad and not anyway:
        raise UsageError(
            f"{bad[0].egress}: {bad[0].text}; nothing was sent",
            where=f"plan {plan.id[:12]}",
            next_step="mend the DNS, or say why it is sent all the same: --egress-not-ready REASON",
        )
    for item in found:
        tell(item)
    asked = _rates(plan)
    known = {
        (door.egress, door.provider): rate
        for door in doors
        if (rate := lanes.asked(asked, door.egress, door.provider)) is not None
    }
    with ledger.write() as conn:
        for item in bad:
            said = f"{item.egress} {item.check}: {item.text}"
            note(conn, "egress_not_ready", plan_id=plan.id, value=said, reason=anyway, who=who, now=now)
        ceilings.put(conn, known, plan_id=plan.id, who=who, now=now)


def rates(ledger: Ledger, plan_id: str) -> dict[str, float]:
    """`--rate` of a plan, of all started ones for "": the lowest where they differ. Keys as in `planner.lanes`."""
    with ledger.read() as conn:
        plans = registry.plans(conn)
    found: dict[str, float] = {}
    for plan in plans:
        if plan.id == plan_id or (not plan_id and plan.state is PlanState.STARTED):
            for key, rate in _rates(plan).items():
                found[key] = min(rate, found.get(key, rate))
    return found


def _rates(plan: PlanRecord) -> Mapping[str, float]:
    return json.loads(plan.params).get("rates", {})  # type: ignore[no-any-return]
