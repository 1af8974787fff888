"""Plans, end to end: the mails to be resent now, their bytes and places, frozen; and whether a plan still holds.

Composes linker, planner and the stores. Sends nothing. Raises UsageError, StalePlan, StoreError.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from resend.config import Config
from resend.errors import StalePlan, StoreError, UsageError
from resend.flows import preflight, proofs
from resend.flows.bodies import StoredBodies
from resend.flows.candidates import candidates
from resend.flows.ended import ended
from resend.flows.preflight import Finding
from resend.linker.buckets import rebucket
from resend.linker.incident import find_incident
from resend.model import Bucket, Identity, PlanState
from resend.planner import lanes
from resend.planner.draft import Candidate, Draft, Options, draft
from resend.planner.lanes import Lane
from resend.policy import spf
from resend.policy.dkim import Lookup
from resend.policy.dressing import Dressing
from resend.policy.hours import Hours
from resend.policy.providers import ProviderTable
from resend.policy.routes import routes
from resend.policy.verdict import HELD
from resend.report.ended import NOTHING, Ended
from resend.stores import registry
from resend.stores.filechecks import altered
from resend.stores.home import Home
from resend.stores.incidents import Mails
from resend.stores.keyfile import load_signer
from resend.stores.ledger import Ledger
from resend.stores.plans import Door, PlanFile, PlanRow, write_plan
from resend.stores.rows import IncidentRecord, PlanRecord

__all__ = [
    "DiffKind",
    "Difference",
    "MadePlan",
    "Options",
    "check_fresh",
    "differences",
    "find_plan",
    "make_plan",
    "what_if",
]

# Buckets that a frozen mail may move to without making its plan stale: it is skipped at the arm, and counted.
_REMOVALS = frozenset({Bucket.ALREADY_RESENT, Bucket.DELIVERED_LATE, Bucket.NEVER, Bucket.FOLDED, Bucket.STILL_QUEUED})


@dataclass(frozen=True, slots=True, kw_only=True)
class MadePlan:
    """A frozen plan as shown to the operator. `buckets` are those of the incident at this moment."""

    record: PlanRecord
    lanes: tuple[Lane, ...]  # mails and time of each (egress, provider)
    identities: Mapping[str, Identity]
    troubled: Mapping[str, int]
    buckets: Mapping[Bucket, int]
    accepted: Mapping[str, float]  # mails per second that a provider took while it throttled, by the evidence
    again: bool  # the same plan was there already
    mended: str = ""  # what was wrong with its file, which was written anew
    warnings: tuple[str, ...] = ()
    preflight: tuple[Finding, ...] = ()  # of the addresses that it leaves from
    ended: Ended = NOTHING  # queued when the incident was opened


def make_plan(
    home: Home,
    config: Config,
    ledger: Ledger,
    incident: str,
    *,
    options: Options,
    now: datetime,
    lookup: Lookup | None = None,
    names: spf.Lookup | None = None,
) -> MadePlan:
    """Freeze what is in the bucket `resend` now. The same input gives the same plan, which is then simply found.

    `lookup`: how DKIM keys are found, `names`: how addresses and senders are; DNS unless given.
    """
    record = find_incident(ledger, incident)
    bodies = StoredBodies(home, load_signer(config))
    with _nothing_collected():
        made, buckets, accepted, evidence, over = _draft(home, config, ledger, record, bodies, options, now)
    if not made.rows:
        raise UsageError(
            "nothing is to be resent",
            where=f"incident {record.name}",
            next_step=over.sentence() or f"see the buckets with 'resend preview {record.name}'",
        )
    warnings = proofs.warnings(
        made.rows,
        bodies,
        evidence,
        incident=record.name,
        done_at=now + timedelta(seconds=made.eta_s),
        now=now,
        lookup=lookup or (lambda name: proofs.dns_txt(name, config.dns)),
    )
    told = tuple(warnings)
    found = preflight.inspect(home, config, ledger, _doors(made.rows), now=now, lookup=names)
    bad = next((item for item in found if item.standing is preflight.Standing.FAILS), None)
    if bad is not None and options.standing is not None:  # by itself it goes on; only a person says why to send anyway
        raise UsageError(f"{bad.egress}: {bad.text}", where=f"incident {record.name}", next_step="mend the DNS")
    frozen = PlanRecord(
        id=made.id,
        incident_id=record.id,
        state=PlanState.READY,
        total=len(made.rows),
        batches=made.batches,
        params=made.params,
        eta_s=made.eta_s,
        made_at=now,
        reason=options.reason,
    )
    with ledger.read() as connection:
        known = next((plan for plan in registry.plans(connection) if plan.id == made.id), None)
    again = known is not None
    mended = _broken(home, known)
    if known is None or mended:
        write_plan(home, made.id, made.rows)
    if known is None or known.state is PlanState.CLOSED:  # closed before its first start: nothing of it was sent
        with ledger.write() as connection:
            (registry.add_plan if known is None else registry.reopen_plan)(connection, frozen)
        known = None
    served = {lane.provider for lane in made.lanes}
    return MadePlan(
        record=known or frozen,
        mended=mended,
        lanes=made.lanes,
        identities=made.identities,
        troubled=made.troubled,
        buckets=buckets,
        accepted={name: rate for name, rate in accepted.items() if name in served},
        again=again,
        warnings=told,
        preflight=tuple(found),
        ended=over,
    )


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """No garbage collector: it would look through millions of tuples, none of which ever refers to itself."""
    wanted = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wanted:
            gc.freeze()  # what was made is not new any more: the collector need not go through it now
            gc.enable()
            gc.unfreeze()


def _broken(home: Home, known: PlanRecord | None) -> str:
    """What is wrong with the file of a plan that was made before, "" nothing. Its id proves what the file must hold."""
    if known is None:
        return ""
    try:
        return altered(home, known.id, known.params)
    except StoreError as error:
        return error.what


def _doors(rows: Sequence[PlanRow]) -> Iterator[Door]:
    counts = Counter((row.egress, row.provider, row.envelope_from) for row in rows)
    for (egress, provider, sender), count in counts.items():
        yield Door(egress=egress, provider=provider, envelope_from=sender, mails=count)


def what_if(
    home: Home, config: Config, ledger: Ledger, incident: str, *, options: Options, now: datetime
) -> dict[tuple[str, str], tuple[int, dict[str, float]]]:
    """When each (egress, provider) would be done under several ceilings; writes nothing.

    (egress, provider) -> (mails, {scenario: seconds}); scenarios: "as planned", "half the rate", "twice the rate", and
    "as your log" where the evidence shows what the provider took while it throttled.
    """
    record = find_incident(ledger, incident)
    table, hours, known = ProviderTable.load(config.providers), Hours.load(config), routes(config)
    with rebucket(home, ledger, record.id, includes=options.includes, again=options.again, now=now) as affected:
        rows = affected.rows(Bucket.RESEND, columns=("provider", "rcpt_key"))
        pairs = Counter((row["provider"], row["rcpt_key"]) for row in rows)
        accepted = affected.about.accepted()
    doors = known.choose(pairs.elements())
    counts: Counter[tuple[str, str, str]] = Counter()
    least: dict[tuple[str, str], float] = {}
    for (provider, mailbox), count in pairs.items():
        door = doors[provider, mailbox]
        counts[door, provider, ""] += count  # by the config's clock
        least[door, provider] = max(
            least.get((door, provider), 0.0), (count - 1) * options.recipient_gap.total_seconds()
        )
    profiles = {
        (egress, name): lanes.own(egress, table.profile(name), known, options.rates) for egress, name, _ in counts
    }
    found: dict[tuple[str, str], tuple[int, dict[str, float]]] = {}
    for scenario, times in (("as planned", 1.0), ("half the rate", 0.5), ("twice the rate", 2.0), ("as your log", 1.0)):
        log = accepted if scenario == "as your log" else {}
        for lane in lanes.spans(counts, profiles, accepted=log, hours=hours, now=now, times=times, least=least):
            if scenario != "as your log" or accepted.get(lane.provider):
                found.setdefault((lane.egress, lane.provider), (lane.mails, {}))[1][scenario] = lane.eta_s
    return dict(sorted(found.items(), key=lambda item: (-item[1][0], item[0])))


def find_plan(ledger: Ledger, ref: str) -> PlanRecord:
    """A plan by its id or an unambiguous beginning of it."""
    with ledger.read() as connection:
        return registry.find_plan(connection, ref)


class DiffKind(StrEnum):
    """How a mail of today differs from the frozen plan."""

    REMOVED = "removed"  # delivered by now, unsubscribed, held, resent elsewhere: skipped at the arm, never stale
    CHANGED = "changed"  # its content, sender, provider or verdict: the plan is stale
    ADDED = "added"  # to be resent now and not in this plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One mail that is not as it was frozen. `what`: the bucket that it is in now, or what of it changed."""

    kind: DiffKind
    release: str
    recipient_id: str
    rcpt_key: str
    what: str
    egress: str  # by which it was to leave; "" not in this plan


def check_fresh(home: Home, config: Config, ledger: Ledger, plan: PlanRecord, *, now: datetime) -> None:
    """Before the first start: raise StalePlan where a frozen mail's content, sender, provider or verdict has changed.

    Removals (delivered by now, unsubscribed, held, resent by another plan) never stale a plan; additions are not in it.
    """
    for found in differences(home, config, ledger, plan, now=now):
        if found.kind is DiffKind.CHANGED:
            raise StalePlan(
                f"the plan is stale: {found.release} to {found.recipient_id}: {found.what}",
                where=f"plan {plan.id[:12]}",
                next_step=f"see 'resend plan diff {plan.id[:12]}', then make a new one with"
                f" 'resend plan make {plan.incident_id}'; nothing was sent",
            )


def differences(home: Home, config: Config, ledger: Ledger, plan: PlanRecord, *, now: datetime) -> Iterator[Difference]:
    """What a plan made now would have otherwise: the frozen mails in their order, then those that came to it."""
    params = json.loads(plan.params)
    includes = tuple(params["includes"])
    with rebucket(home, ledger, plan.incident_id, includes=includes, again=params["again"], now=now) as affected:
        dressing = Dressing.load(config, load_signer(config))
        mails = {(m.release, m.rcpt_key): m for m in candidates(affected, config, plan.incident_id, dressing, now=now)}
        others = {
            (row["release"], row["rcpt_key"]): row
            for row in affected.rows(columns=("release", "rcpt_key", "bucket", "reason"))
            if row["bucket"] not in (Bucket.FOLDED, Bucket.RESEND)
        }
    bodies, known = StoredBodies(home), routes(config)
    ways = known.names()
    with PlanFile(home, plan.id) as frozen:
        for row in frozen.rows():
            candidate = mails.pop((row.release, row.rcpt_key), None)
            other = others.get((row.release, row.rcpt_key))
            kind, what = DiffKind.CHANGED, ""
            if candidate is not None:
                what = _changed(row, candidate, bodies, config.tz)
                what = what or ("" if row.egress in ways else f"its egress {row.egress} is no longer in the config")
                really = known.leaves_by(row.provider, row.domain, row.egress)
                what = what or ("" if really == row.egress else f"it would leave by {really} now, not by {row.egress}")
            elif other is None:
                kind, what = DiffKind.REMOVED, "no longer among the affected"
            else:
                gone = Bucket(other["bucket"]) in _REMOVALS or other["reason"] == HELD
                kind = DiffKind.REMOVED if gone else DiffKind.CHANGED
                what = f"now {other['bucket']} ({other['reason']})"
            if what:
                yield _difference(kind, row, what)
    for candidate in mails.values():
        yield _difference(DiffKind.ADDED, candidate, "to be resent, not in this plan")


def _difference(kind: DiffKind, mail: PlanRow | Candidate, what: str) -> Difference:
    return Difference(
        kind=kind,
        release=mail.release,
        recipient_id=mail.recipient_id,
        rcpt_key=mail.rcpt_key,
        what=what,
        egress=mail.egress if isinstance(mail, PlanRow) else "",
    )


def _changed(row: PlanRow, candidate: Candidate, bodies: StoredBodies, own_zone: str) -> str:
    """What of a frozen mail is another now, "" nothing."""
    if row.sender != candidate.sender:
        return "its sender changed"
    if row.provider != candidate.provider:
        return f"its provider changed, {row.provider} to {candidate.provider}"
    if row.zone != candidate.zone:
        return f"its recipient's time zone changed to {candidate.zone or own_zone}"
    body = bodies.body(candidate.release, candidate.message_id)
    if body is None or bodies.content_id(row, body, candidate.variables) != row.content_id:
        return "its content changed"
    return ""


def _draft(
    home: Home,
    config: Config,
    ledger: Ledger,
    record: IncidentRecord,
    bodies: StoredBodies,
    options: Options,
    now: datetime,
) -> tuple[Draft, Mapping[Bucket, int], Mapping[str, float], tuple[Mails, ...], Ended]:
    table, dressing = ProviderTable.load(config.providers), Dressing.load(config, load_signer(config))
    with rebucket(home, ledger, record.id, includes=options.includes, again=options.again, now=now) as affected:
        # The standing policy opens its incident with the evidence of this moment.
        over = NOTHING if options.standing is not None else ended(affected, home, config, ledger, record, now=now)
        buckets, accepted, evidence = affected.counts(), affected.about.accepted(), affected.about.mails
        mails = list(candidates(affected, config, record.id, dressing, now=now, standing=options.standing))
    profiles = {name: table.profile(name) for name in {mail.provider for mail in mails}}
    made = draft(
        mails,
        bodies=bodies,
        profiles=profiles,
        routes=routes(config),
        options=options,
        accepted=accepted,
        hours=Hours.load(config),
        now=now,
    )
    unknown = lanes.unknown_rates(options.rates, ((lane.egress, lane.provider) for lane in made.lanes))
    if unknown and mails:
        raise UsageError(
            f"--rate names a provider that gets no mail: {', '.join(unknown)}",
            next_step=f"providers here: {', '.join(sorted(profiles))}",
        )
    return made, buckets, accepted, evidence, over
