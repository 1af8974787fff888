"""Makes a plan's rows: which mail, which bytes, through which door, in which batch. Freezes nothing and sends nothing.

Pure: what it needs of content, profiles and routes is handed in. Raises UsageError where a release's identity is not
settled, with the flag that settles it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter, itemgetter
from typing import Protocol

from resend.clock import from_micros, to_text
from resend.errors import UsageError
from resend.model import Bucket, Confidence, Identity, OutcomeStatus, delivery_key
from resend.planner import lanes
from resend.planner.lanes import Lane
from resend.planner.order import Mail, Place, Shape, place
from resend.policy.content import ContentError, content_id
from resend.policy.hours import ALWAYS, Hours
from resend.policy.providers import Profile
from resend.policy.routes import Routes
from resend.stores.content import Content
from resend.stores.plans import PlanRow

RENDERED_PER_RELEASE = 20  # a plan renders this many mails of each release in full, and checks the variables of all
_BATCH_SECONDS = 60  # a batch is about a minute of work, so that a lease is short ...
_BATCH_MAX = 500  # ... and its rows few, whatever the rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One mail in the bucket `resend`, with what the catalog knows of it. Times in microseconds UTC, None unknown."""

    outcome_id: int
    incident_id: str
    release: str
    recipient_id: str
    rcpt_key: str
    rcpt: str
    domain: str
    provider: str
    customer: str
    title: str
    sender: str
    envelope_from: str
    urgency: int
    expires_at: int | None
    arrived_at: int | None
    sent_at: int | None
    message_id: str
    variables: str  # canonical JSON
    generation: int
    zone: str = ""  # the recipient's time zone; "" the config's


class Bodies(Protocol):
    """Content as the planner may see it; stores/content.py behind it."""

    def body(self, release: str, message_id: str) -> Content | None: ...
    def check(self, body: Content, candidate: Candidate, *, message_id: str, date: str, full: bool) -> None:
        """Raise ContentError where this mail cannot be made (`full`: render it, else check its variables)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a standing policy takes: final outcomes of these causes that came in between two times, at most so many."""

    causes: tuple[str, ...]
    from_us: int
    to_us: int
    most: int

    def takes(self, row: Mapping[str, object]) -> bool:
        """Whether a row of `affected` (linker/buckets) is one of them; only certain links are."""
        arrived = row["arrived_at"]
        return (
            row["bucket"] == Bucket.RESEND
            and row["confidence"] == Confidence.CERTAIN
            and row["status"] in (OutcomeStatus.EXPIRED, OutcomeStatus.BOUNCED)
            and row["cause"] in self.causes
            and isinstance(arrived, int)
            and self.from_us <= arrived < self.to_us
        )

    def canonical(self) -> dict[str, object]:
        return {"causes": sorted(self.causes), "from_us": self.from_us, "to_us": self.to_us, "most": self.most}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the operator chose; part of the plan's identity."""

    rates: Mapping[str, float] = field(default_factory=dict)  # PROVIDER or EGRESS/PROVIDER -> mails per second
    identity: Identity | None = None
    includes: Sequence[str] = ()
    recipient_gap: timedelta = timedelta(minutes=10)
    domain_share: float = 1.0  # of the mails to a provider, while others wait (planner/order)
    again: bool = False
    reason: str = ""
    standing: Standing | None = None

    def canonical(self) -> dict[str, object]:
        return {
            "rates": dict(sorted(self.rates.items())),
            "identity": self.identity or "",
            "includes": sorted(self.includes),
            "recipient_gap_s": int(self.recipient_gap.total_seconds()),
            "domain_share": self.domain_share,
            "again": self.again,
            "reason": self.reason,
        } | ({} if self.standing is None else {"standing": self.standing.canonical()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A plan ready to be frozen. `troubled`: reason -> count of mails that a run will quarantine."""

    id: str
    rows: list[PlanRow]
    batches: int
    eta_s: float
    lanes: tuple[Lane, ...]
    params: str
    identities: Mapping[str, Identity]
    troubled: Mapping[str, int]


def draft(
    candidates: Sequence[Candidate],
    *,
    bodies: Bodies,
    profiles: Mapping[str, Profile],
    routes: Routes,
    options: Options,
    accepted: Mapping[str, float],
    hours: Hours = ALWAYS,
    now: datetime | None = None,
) -> Draft:
    """All rows of a plan over `candidates`. `profiles` by provider name, one for each that occurs.

    `accepted`: mails per second that a provider took while it throttled, where the evidence tells; for the time only,
    like `hours` and `now`.
    """
    by_id = {candidate.outcome_id: candidate for candidate in candidates}
    doors = routes.choose((candidate.provider, candidate.rcpt_key) for candidate in candidates)
    mails: dict[str, list[Mail]] = {}
    whole: dict[tuple[str, str], bool] = {}  # (provider, domain): whether the domain is all of it
    for candidate in candidates:
        door = doors[candidate.provider, candidate.rcpt_key]
        place_ = candidate.provider, candidate.domain
        if place_ not in whole:
            whole[place_] = profiles[candidate.provider].owns(candidate.domain)
        mails.setdefault(door, []).append(_mail(candidate, door, unbounded=whole[place_]))
    frozen, identities, troubled = _contents(candidates, bodies, options.identity)
    own = {
        (egress, name): lanes.own(egress, profiles[name], routes, options.rates)
        for egress, name in {(mail.egress, mail.provider) for group in mails.values() for mail in group}
    }
    keys = {c.outcome_id: delivery_key(c.release, c.rcpt_key, c.generation) for c in candidates}
    spots = list(_placed(mails, own, options.domain_share))
    params = json.dumps(options.canonical(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    plan_id = _plan_id(spots, keys, frozen, params)
    gap = int(options.recipient_gap.total_seconds())
    rows: list[PlanRow] = []
    for spot in spots:
        candidate = by_id[spot.mail.id]
        content = frozen[spot.mail.id]
        rows.append(
            PlanRow(
                key=keys[spot.mail.id],
                release=candidate.release,
                recipient_id=candidate.recipient_id,
                rcpt_key=candidate.rcpt_key,
                rcpt=candidate.rcpt,
                generation=candidate.generation,
                incident_id=candidate.incident_id,
                customer=candidate.customer,
                domain=candidate.domain,
                provider=candidate.provider,
                egress=spot.mail.egress,
                batch_id=f"{plan_id[:12]}-{_door(spot.mail.egress, candidate.provider)}-{spot.batch:06d}",
                batch_seq=spot.batch,
                canary=spot.canary,
                seq=spot.seq,
                rate=own[spot.mail.egress, candidate.provider].rate,
                after_s=spot.round * gap,
                message_id=content.message_id,
                identity=content.identity,
                date=content.date,
                content_id=content.content_id,
                content_kind=content.kind,
                envelope_from=candidate.envelope_from,
                sender=candidate.sender,
                title=candidate.title,
                urgency=candidate.urgency,
                expires_at="" if candidate.expires_at is None else to_text(from_micros(candidate.expires_at)),
                not_before="",
                variables=candidate.variables,
                zone=candidate.zone,
            )
        )
    spans = lanes.spans(
        Counter((row.egress, row.provider, row.zone) for row in rows), own, accepted=accepted, hours=hours, now=now
    )
    return Draft(
        id=plan_id,
        rows=rows,
        batches=len({row.batch_id for row in rows}),
        eta_s=max((lane.eta_s for lane in spans), default=0.0),
        lanes=spans,
        params=params,
        identities=identities,
        troubled=troubled,
    )


@dataclass(frozen=True, slots=True)
class _Content:
    kind: str
    content_id: str
    message_id: str
    date: str
    identity: Identity


def _contents(
    candidates: Sequence[Candidate], bodies: Bodies, wanted: Identity | None
) -> tuple[dict[int, _Content], dict[str, Identity], Counter[str]]:
    found: dict[int, _Content] = {}
    identities: dict[str, Identity] = {}
    rendered: Counter[str] = Counter()
    troubled: Counter[str] = Counter()
    for candidate in sorted(candidates, key=attrgetter("release")):  # each template is taken apart once
        body = bodies.body(candidate.release, candidate.message_id)
        if body is None:  # the bucket content_gone kept it out; gone since then
            raise UsageError(
                f"the content of release {candidate.release} is gone",
                next_step="load it with 'resend catalog load --content DIR'",
            )
        content = _identify(candidate, body, wanted)
        identities[candidate.release] = content.identity
        full = rendered[candidate.release] < RENDERED_PER_RELEASE
        rendered[candidate.release] += full
        try:
            bodies.check(body, candidate, message_id=content.message_id, date=content.date, full=full)
        except ContentError as error:
            troubled[f"release {candidate.release}: {error}"] += 1
        found[candidate.outcome_id] = content
    return found, identities, troubled


def _identify(candidate: Candidate, body: Content, wanted: Identity | None) -> _Content:
    """Identity is settled by the operator, or `same` where Message-ID and Date of the original are known."""
    message_id = body.message_id or candidate.message_id
    # The send log's or release's time, else when the mail host took the original: within seconds of its Date.
    known = candidate.sent_at if candidate.sent_at is not None else candidate.arrived_at
    date = body.date or ("" if known is None else to_text(from_micros(known - known % 1_000_000)))
    if wanted is Identity.NEW:
        message_id, date, identity = "", "", Identity.NEW
    elif message_id and date:
        identity = Identity.SAME
    else:
        lacking = "Message-ID" if not message_id else "Date"
        raise UsageError(
            f"the {lacking} of release {candidate.release}'s original mail is not known",
            next_step="choose --identity same (where the log knows both) or --identity new",
        )
    hashed = content_id(
        template_sha256=body.sha256, variables=candidate.variables, message_id=message_id, date=date, kind=body.kind
    )
    return _Content(body.kind, hashed, message_id, date, identity)


def _placed(mails: Mapping[str, list[Mail]], own: Mapping[tuple[str, str], Profile], share: float) -> Iterator[Place]:
    """All mails in sending order, egress by egress: each has its own batches, canary and rounds."""
    for egress in sorted(mails):
        shapes = {
            name: Shape(
                batch=max(1, min(_BATCH_MAX, int(profile.rate * _BATCH_SECONDS))), canary=profile.canary, share=share
            )
            for (by, name), profile in own.items()
            if by == egress
        }
        yield from place(mails[egress], shapes)


def _mail(candidate: Candidate, egress: str, *, unbounded: bool) -> Mail:
    return Mail(
        id=candidate.outcome_id,
        egress=egress,
        provider=candidate.provider,
        domain=candidate.domain,
        customer=candidate.customer,
        release=candidate.release,
        rcpt_key=candidate.rcpt_key,
        urgency=candidate.urgency,
        expires_at=candidate.expires_at,
        arrived_at=candidate.arrived_at,
        zone=candidate.zone,
        unbounded=unbounded,
    )


def _plan_id(spots: Iterable[Place], keys: Mapping[int, str], frozen: Mapping[int, _Content], params: str) -> str:
    """sha256 of the sorted (key, content_id, batch, zone) and the canonical parameters."""
    lines = [params]
    for key, spot in sorted(((keys[spot.mail.id], spot) for spot in spots), key=itemgetter(0)):
        mail, content = spot.mail, frozen[spot.mail.id].content_id
        lines.append(f"{key} {content} {mail.egress} {mail.provider} {spot.batch} {mail.zone}".rstrip())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@cache
def _door(egress: str, provider: str) -> str:
    return hashlib.sha256(f"{egress} {provider}".encode()).hexdigest()[:8]
