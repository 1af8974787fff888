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
from functools import cache, lru_cache
from itertools import count, repeat
from operator import itemgetter
from typing import NamedTuple, Protocol

from resend.clock import from_micros, to_text
from resend.errors import UsageError
from resend.model import Bucket, Confidence, Identity, OutcomeStatus, delivery_key
from resend.planner import lanes
from resend.planner.lanes import Lane
from resend.planner.order import Batch, Mail, Shape, place
from resend.policy.content import ContentError, content_id
from resend.policy.hours import ALWAYS, Hours
from resend.policy.providers import Profile
from resend.policy.routes import Routes
from resend.stores.content import Content
from resend.stores.plans import PlanRow

RENDERED_PER_RELEASE = 20  # a plan renders this many mails of each release in full, and checks the variables of all
_SECONDS = [f":{second // 60:02d}:{second % 60:02d}.000000Z" for second in range(3_600)]  # of an hour, as text
_BATCH_SECONDS = 60  # a batch is about a minute of work, so that a lease is short ...
_BATCH_MAX = 500  # ... and its rows few, whatever the rate


class Candidate(NamedTuple):
    """One mail in the bucket `resend`, with what the catalog knows of it. Times in microseconds UTC, None unknown.

    A tuple, because hundreds of thousands are made at once.
    """

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
    plain: frozenset[str]  # names of variables that a template may put anywhere, unseen
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
    candidates = sorted(candidates, key=itemgetter(0))  # the place of each is its number below
    pairs = [(candidate.provider, candidate.rcpt_key) for candidate in candidates]
    doors = routes.choose(pairs if routes.egresses else set(pairs))  # without weights nothing is dealt out
    mails = list(_mails(candidates, doors, profiles))
    contents, identities, troubled = _contents(candidates, bodies, options.identity)
    own = {
        (egress, name): lanes.own(egress, profiles[name], routes, options.rates)
        for egress, name in {(mail.egress, mail.provider) for mail in mails}
    }
    keys = [delivery_key(c.release, c.rcpt_key, c.generation) for c in candidates]
    batches = list(place(mails, {where: _shape(profile, options.domain_share) for where, profile in own.items()}))
    params = json.dumps(options.canonical(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    plan_id = _plan_id(batches, keys, contents, params)
    gap = int(options.recipient_gap.total_seconds())
    rows: list[PlanRow] = []
    for batch in batches:
        rate = own[batch.egress, batch.provider].rate
        rows += _rows(batch, candidates, keys, contents, plan_id=plan_id, rate=rate, after_s=batch.round * gap)
    counts: Counter[tuple[str, str, str]] = Counter()
    least: dict[tuple[str, str], float] = {}
    for batch in batches:
        counts[batch.egress, batch.provider, batch.mails[0].zone] += len(batch.mails)
        least[batch.egress, batch.provider] = max(least.get((batch.egress, batch.provider), 0.0), batch.round * gap)
    spans = lanes.spans(counts, own, accepted=accepted, hours=hours, now=now, least=least)
    return Draft(
        id=plan_id,
        rows=rows,
        batches=len(batches),
        eta_s=max((lane.eta_s for lane in spans), default=0.0),
        lanes=spans,
        params=params,
        identities=identities,
        troubled=troubled,
    )


def _mails(
    candidates: Iterable[Candidate], doors: Mapping[tuple[str, str], str], profiles: Mapping[str, Profile]
) -> Iterator[Mail]:
    """What order needs of each candidate; its `id` is the candidate's number."""
    whole: dict[tuple[str, str], bool] = {}  # (provider, domain): whether the domain is all of it
    for number, c in enumerate(candidates):
        where = c.provider, c.domain
        if where not in whole:
            whole[where] = profiles[c.provider].owns(c.domain)
        door = doors[c.provider, c.rcpt_key]
        yield Mail(  # by place, in the order of its fields
            number, door, c.provider, c.domain, c.customer, c.release, c.rcpt_key, c.urgency, c.expires_at,
            c.arrived_at, c.zone, whole[where],
        )  # fmt: skip


def _shape(profile: Profile, share: float) -> Shape:
    size = max(1, min(_BATCH_MAX, int(profile.rate * _BATCH_SECONDS)))
    return Shape(batch=size, canary=profile.canary, share=share)


class _Content(NamedTuple):
    kind: str
    content_id: str
    message_id: str
    date: str
    identity: Identity


def _contents(
    candidates: Sequence[Candidate], bodies: Bodies, wanted: Identity | None
) -> tuple[list[_Content], dict[str, Identity], Counter[str]]:
    """The content of each candidate, in their order."""
    found: dict[int, _Content] = {}
    identities: dict[str, Identity] = {}
    rendered: Counter[str] = Counter()
    troubled: Counter[str] = Counter()
    for number in sorted(range(len(candidates)), key=lambda number: candidates[number].release):
        candidate = candidates[number]  # by release: each template is taken apart once
        release = candidate.release
        body = bodies.body(release, candidate.message_id)
        if body is None:  # the bucket content_gone kept it out; gone since then
            raise UsageError(
                f"the content of release {release} is gone",
                next_step="load it with 'resend catalog load --content DIR'",
            )
        found[number] = content = _identify(candidate, body, wanted)
        identities[release] = content.identity
        full = rendered[release] < RENDERED_PER_RELEASE
        if full:
            rendered[release] += 1
        try:
            bodies.check(body, candidate, message_id=content.message_id, date=content.date, full=full)
        except ContentError as error:
            troubled[f"release {release}: {error}"] += 1
    return [found[number] for number in range(len(candidates))], identities, troubled


def _identify(candidate: Candidate, body: Content, wanted: Identity | None) -> _Content:
    """Identity is settled by the operator, or `same` where Message-ID and Date of the original are known."""
    message_id = body.message_id or candidate.message_id
    # The send log's or release's time, else when the mail host took the original: within seconds of its Date.
    known = candidate.sent_at if candidate.sent_at is not None else candidate.arrived_at
    date = body.date or ("" if known is None else _date(known))
    if wanted is Identity.NEW:
        # Kept bytes are found by the original's Message-ID, whatever they will carry.
        message_id, date, identity = candidate.message_id if body.kind == "kept" else "", "", Identity.NEW
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


def _date(micros: int) -> str:
    """A time as RFC 3339 text, in whole seconds.

    >>> _date(1_768_276_805_900_000)
    '2026-01-13T04:00:05.000000Z'
    """
    hour, second = divmod(micros // 1_000_000, 3_600)
    return _hour(hour) + _SECONDS[second]


@lru_cache(maxsize=1_024)
def _hour(hour: int) -> str:
    """The text of an hour since 1970, for the many mails of it."""
    return to_text(from_micros(hour * 3_600_000_000))[: len("2026-01-13T04")]


@lru_cache(maxsize=1_024)  # mails of a release have one
def _expiry(micros: int | None) -> str:
    return "" if micros is None else to_text(from_micros(micros))


def _rows(
    batch: Batch,
    candidates: Sequence[Candidate],
    keys: Sequence[str],
    contents: Sequence[_Content],
    *,
    plan_id: str,
    rate: float,
    after_s: int,
) -> Iterator[PlanRow]:
    """A batch's rows, made column by column: one by one, with thirty fields each, they take three times as long."""
    numbers = [mail.id for mail in batch.mails]
    mails = [candidates[number] for number in numbers]
    made = [contents[number] for number in numbers]
    batch_id = f"{plan_id[:12]}-{_door(batch.egress, batch.provider)}-{batch.number:06d}"
    columns: dict[str, Iterable[object]] = {
        "key": [keys[number] for number in numbers],
        "release": [mail.release for mail in mails],
        "recipient_id": [mail.recipient_id for mail in mails],
        "rcpt_key": [mail.rcpt_key for mail in mails],
        "rcpt": [mail.rcpt for mail in mails],
        "generation": [mail.generation for mail in mails],
        "incident_id": [mail.incident_id for mail in mails],
        "customer": [mail.customer for mail in mails],
        "domain": [mail.domain for mail in mails],
        "provider": repeat(batch.provider),
        "egress": repeat(batch.egress),
        "batch_id": repeat(batch_id),
        "batch_seq": repeat(batch.number),
        "canary": repeat(batch.canary),
        "seq": count(),
        "rate": repeat(rate),
        "after_s": repeat(after_s),
        "message_id": [content.message_id for content in made],
        "identity": [content.identity for content in made],
        "date": [content.date for content in made],
        "content_id": [content.content_id for content in made],
        "content_kind": [content.kind for content in made],
        "envelope_from": [mail.envelope_from for mail in mails],
        "sender": [mail.sender for mail in mails],
        "title": [mail.title for mail in mails],
        "urgency": [mail.urgency for mail in mails],
        "expires_at": [_expiry(mail.expires_at) for mail in mails],
        "not_before": repeat(""),
        "variables": [mail.variables for mail in mails],
        "zone": [mail.zone for mail in mails],
    }
    return map(PlanRow._make, zip(*(columns[name] for name in PlanRow._fields), strict=False))


def _plan_id(batches: Iterable[Batch], keys: Sequence[str], contents: Sequence[_Content], params: str) -> str:
    """sha256 of the canonical parameters and the sorted (key, content_id, batch, zone)."""
    lines: list[str] = []
    for batch in batches:
        place_ = f"{batch.egress} {batch.provider} {batch.number} {batch.mails[0].zone}".rstrip()
        lines += [f"{keys[mail.id]} {contents[mail.id].content_id} {place_}" for mail in batch.mails]
    lines.sort()  # by key: keys are unique, and all of one length
    return hashlib.sha256("\n".join([params, *lines]).encode()).hexdigest()


@cache
def _door(egress: str, provider: str) -> str:
    return hashlib.sha256(f"{egress} {provider}".encode()).hexdigest()[:8]
