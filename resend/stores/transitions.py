"""What a run asks of the ledger: one frozen record per change of state, and what it gets back.

`Ledger.apply` writes a list of these in one transaction. A transition names the states it may start from through
model.TRANSITIONS; one that finds its row elsewhere changes nothing and says so in its result. Does no IO.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from resend.model import Fate, Stage, State, TryOutcome

GIVE_UP_TRIES = 12  # a deferral that makes it the twelfth try ends in gave_up
GIVE_UP_AFTER = timedelta(hours=48)  # or one that comes this long after the first try


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """leased -> sending, durable before the final dot. Result: Armed."""

    key: str
    batch_id: str
    epoch: int
    try_id: str  # 32 hex, new for each try
    worker: str
    egress: str
    provider: str
    mail_at: datetime  # when MAIL was (or will be) sent
    armed_at: datetime  # on PostgreSQL the database's clock is written instead
    body_sha256: str
    date: str  # the Date header that goes out; frozen by the first arm where the row has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """An armed try ends. Result: Applied with the state the delivery is in now.

    accepted, rejected, in_doubt: sending -> that state. deferred: sending -> deferred (-> gave_up), `due_at` required;
    code 0 stands for a loss before the dot. disarmed: sending -> planned, no try counted. `fate` of an accepted mail:
    None takes DELIVERED for egress 'direct', else UNSEEN. A late finish (the row was taken away) is kept on the try; it
    settles the doubt where the row still waits in doubt for this very try, and never overwrites anything else.
    Raises ValueError for an ending that does not exist.
    """

    key: str
    try_id: str
    epoch: int
    outcome: TryOutcome
    stage: Stage
    ended_at: datetime
    code: int = 0
    enhanced: str = ""
    reply: str = ""
    cause: str = ""
    due_at: datetime | None = None
    remote_qid: str = ""
    fate: Fate | None = None

    def __post_init__(self) -> None:
        if self.outcome == TryOutcome.ARMED:
            raise ValueError("a try does not end as armed")
        if (self.outcome == TryOutcome.DEFERRED) != (self.due_at is not None):
            raise ValueError(f"{self.outcome} {'needs' if self.due_at is None else 'has no'} due_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """leased -> deferred (-> gave_up) | rejected: a reply before the arm. `due_at` is required for deferred."""

    key: str
    batch_id: str
    epoch: int
    try_id: str
    worker: str
    egress: str
    provider: str
    mail_at: datetime
    outcome: TryOutcome  # DEFERRED or REJECTED
    stage: Stage
    ended_at: datetime
    code: int = 0
    enhanced: str = ""
    reply: str = ""
    cause: str = ""
    due_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.outcome not in (TryOutcome.DEFERRED, TryOutcome.REJECTED):
            raise ValueError(f"a reply before the arm cannot end as {self.outcome}")
        if (self.outcome == TryOutcome.DEFERRED) != (self.due_at is not None):
            raise ValueError(f"{self.outcome} {'needs' if self.due_at is None else 'has no'} due_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """leased -> planned: not tried (drain, lost connection before the arm). Result: Applied with the count."""

    keys: tuple[str, ...]
    batch_id: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """leased -> quarantined: the body does not render or is not the one armed before."""

    key: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppress:
    """leased -> suppressed: the run itself learned that it must not be sent."""

    key: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replan:
    """rejected -> planned: the replies were about the relay, not about these mails. Counted in the audit."""

    keys: tuple[str, ...]
    plan_id: str
    reason: str
    at: datetime
    who: str = "rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """Heartbeat: the batch and its slots are held `lease_s` longer. Not ok: the lease is lost."""

    batch_id: str
    epoch: int
    lease_s: float
    now: datetime  # read on SQLite only; PostgreSQL has its own clock


@dataclass(frozen=True, slots=True, kw_only=True)
class EndBatch:
    """The holder is through with the batch: unsent rows leased -> planned, slots free, batch done or open again."""

    batch_id: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RateChange:
    """A decision on a provider: columns of provider_rate (datetimes allowed) and the audit row with its reason."""

    egress: str
    provider: str
    what: str  # halved | raised | parked | paused | resumed | canary_done | ...
    reason: str
    at: datetime
    fields: Mapping[str, str | int | float | datetime | None] = field(default_factory=dict)
    who: str = "rule"
    plan_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A decision with its reason that changes no other row."""

    at: datetime
    who: str
    what: str
    reason: str
    plan_id: str = ""
    egress: str = ""
    provider: str = ""
    subject: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FateChange:
    """What a relay's log says of an accepted mail. Monotone: delivered and returned are final."""

    key: str
    fate: Fate
    at: datetime
    reply: str = ""


Transition: TypeAlias = (
    Arm
    | Finish
    | Refuse
    | GiveBack
    | Quarantine
    | Suppress
    | Replan
    | Renew
    | EndBatch
    | RateChange
    | Audit
    | FateChange
)


@dataclass(frozen=True, slots=True)
class Armed:
    """Whether the dot may go. `why` where not: 'vetoed:REASON' | 'lost lease' | 'body changed' | 'state STATE'."""

    ok: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """Whether the change was made. `state`: of the delivery now (None where no single row is meant), `count`: rows."""

    ok: bool
    why: str = ""
    state: State | None = None
    count: int = 0


Result: TypeAlias = Armed | Applied
