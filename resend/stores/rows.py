"""What the ledger hands out: frozen rows with real times. Nothing here reads or writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from resend.model import CatchUpEnd, ControlKind, PlanState, Selector, State, VetoKind, VetoReason


class Delivery(NamedTuple):
    """One mail of a claimed batch, as a sender needs it. A tuple: a claim makes hundreds at once."""

    key: str
    plan_id: str
    batch_id: str
    seq: int
    epoch: int
    release: str
    recipient_id: str
    rcpt_key: str
    rcpt: str
    customer: str
    domain: str
    egress: str
    provider: str
    envelope_from: str
    identity: str
    message_id: str
    date: str  # "" until the first arm where the identity is new
    content_id: str
    body_sha256: str  # "" until the first arm
    expires_at: datetime | None
    tries: int
    first_try_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A claimed batch. `slots`: the connections it may use (numbers of provider_slot); () where slots are not kept."""

    id: str
    plan_id: str
    egress: str
    provider: str
    seq: int
    epoch: int
    rate: float
    canary: bool
    retry: bool
    lease_until: datetime
    slots: tuple[int, ...]
    rows: tuple[Delivery, ...]
    zone: str = ""  # of the recipients; "" the config's


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """A plan's ledger row."""

    id: str
    incident_id: str
    state: PlanState
    total: int
    batches: int
    params: str
    eta_s: float
    made_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str = ""
    rehearsal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentRecord:
    """An incident's ledger row. `counts`: affected, mails, buckets {}."""

    id: str
    name: str
    selector: Selector
    open: bool
    counts: Mapping[str, object]
    evidence_id: str
    opened_at: datetime
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Veto:
    """What must not be sent. `scope` of an address: "" | all | customer:ID | release:ID."""

    kind: VetoKind
    subject: str
    reason: VetoReason
    scope: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """How fresh a source of vetoes is: it was read at `refreshed_at` and held everything up to `seen_to`."""

    source: str
    seen_to: datetime
    refreshed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A command to a running run. `provider`: "" all, PROVIDER, EGRESS/PROVIDER, or EGRESS/ for all by that egress."""

    id: int
    kind: ControlKind
    provider: str
    value: str
    reason: str
    who: str
    at: datetime

    def meets(self, egress: str, provider: str) -> bool:
        """Whether it is for this (egress, provider)."""
        return meets(self.provider, egress, provider)


def meets(place: str, egress: str, provider: str) -> bool:
    """Whether a place of a `Control` means this (egress, provider)."""
    by, slash, to = place.rpartition("/")
    return (not slash or by in (egress, egress.partition(":")[2])) and to in ("", provider)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The pacer's state of one (egress, provider). Rates are mails per second."""

    egress: str
    provider: str
    tat_us: int
    rate: float
    ceiling: float
    capped: float
    capped_until: datetime | None
    cooldown_until: datetime | None
    clean_since: datetime | None
    canary_done: bool
    dwell_until: datetime | None
    paused: bool
    parked: str
    bound: float = 0.0  # what the timetable allows at this hour; 0 no bound
    half_open: bool = False  # single mails try whether it takes mail again
    next_cooldown_s: float = 0.0  # how long it is left alone when a probe fails; 0 as usual
    cap_for_s: float = 0.0  # how long `capped` holds since it was last met; 0 as usual
    connections: int = 0  # by a reaction, until `connections_until`; 0 as the profile says
    connections_until: datetime | None = None
    mails_per_connection: int = 0
    mails_until: datetime | None = None
    live: float = 0.0  # live mails per second, which go first


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Send times reserved at (egress, provider), microseconds UTC by the clock whose reading is `now_us`."""

    times_us: tuple[int, ...]
    now_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A mail of which nobody knows whether the receiver has it."""

    key: str
    plan_id: str
    provider: str
    egress: str
    release: str
    rcpt: str
    message_id: str
    try_id: str
    armed_at: datetime | None
    stage: str
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One row of the audit."""

    at: datetime
    who: str
    what: str
    plan_id: str
    egress: str
    provider: str
    subject: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """Where the mails of one (egress, provider) stand."""

    egress: str
    provider: str
    states: Mapping[State, int]
    fates: Mapping[str, int]
    rate: Rate | None
    next_due: datetime | None
    shut: str = ""  # what keeps mails that are due from being sent at this hour
    shut_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who sends a batch, until when without a further word, and how many of its mails wait or are under way."""

    owner: str  # host:process, and a mark of that process where hosts share the ledger
    egress: str
    provider: str
    batch_id: str
    lease_until: datetime
    over: bool  # the lease has run out: what is not under way is another's to take
    leased: int
    under_way: int
    connections: int  # slots of the ledger, 0 where none are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUp:
    """One catch-up. `taken`: provider, plan, mails and passed_over, for each provider of the policy.

    `remains`: by state, or `pending` (not told of by the relay's log) and `returned`. None of `ended_at`: it is under
    way, or was killed.
    """

    worker: str
    began_at: datetime
    ended_at: datetime | None
    due: int
    taken: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    remains: Mapping[str, int]
    ending: CatchUpEnd | None
    reason: str
    exit: int | None
    next_due: datetime | None

    @property
    def by_policy(self) -> int:
        return sum(int(item["mails"]) for item in self.taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One consistent look at the ledger."""

    plans: tuple[PlanRecord, ...]
    providers: tuple[ProviderStatus, ...]
    decisions: tuple[Decision, ...] = field(default=())  # newest first
    unseen_controls: int = 0
    watermarks: tuple[Watermark, ...] = ()  # by source
    holders: tuple[Holder, ...] = ()  # by owner
    catch_up: CatchUp | None = None  # the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One invariant: holds or not, with what was found."""

    invariant: str
    ok: bool
    detail: str
