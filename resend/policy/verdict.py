"""What to do with an affected mail: a verdict from its cause, then exactly one bucket from all that is known of it.

Pure. A permanent code is not a permanent verdict, and one reply to many recipients at once is an event of the receiving
system, even when it is worded "user unknown". Raises ValueError for outcomes that are not affected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import assert_never

from resend.model import (
    REGENERABLE_STATES,
    Action,
    Bucket,
    Cause,
    CauseClass,
    Confidence,
    Fate,
    OutcomeStatus,
    State,
    Verdict,
)
from resend.policy.rules import SUPPRESSED, UNWANTED

WAVE_MIN = 15  # recipients of one wording within ten minutes: fewer dead addresses meet by chance
WAVE_SHARE = 0.20  # ... when they are this much of all that got the wording, or of all mails of the provider
WAVE_PEAK = 200  # ... or this many within ten minutes, however long it went on
_FINAL_CLAIMS = frozenset({CauseClass.MAILBOX_GONE, CauseClass.BAD_DOMAIN})  # what would become `never`
HELD = "held by the operator"  # the reason of a bucket that a veto of `hold` leads to


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """How one provider said one thing: distinct recipients, most mails in ten minutes and when (microseconds), and all
    mails of the provider (0: unknown)."""

    provider: str
    wording: str
    cause: CauseClass
    recipients: int
    peak: int
    peak_us: int = 0
    mails: int = 0


def waves(bursts: Iterable[Burst]) -> frozenset[tuple[str, str]]:
    """The (provider, wording) that are events of the provider, not of a mailbox: their rows are asked about.

    A wording is one when it hits many at once. All claims of a provider that somebody is gone are one when they are an
    unlikely share of its mails; so are wordings of few recipients each that together hit many at once: a reply may name
    in each mail something that no rule knows to leave out.
    """
    claims: dict[str, list[Burst]] = {}
    for burst in bursts:
        if burst.cause in _FINAL_CLAIMS:
            claims.setdefault(burst.provider, []).append(burst)
    found: set[tuple[str, str]] = set()
    for said in claims.values():
        found.update(_key(burst) for burst in said if _is_wave(burst))
        rare = [burst for burst in said if burst.recipients < WAVE_MIN]
        for several in (said, rare):
            together = _together(several)
            if together is not None and (_is_wave(together) if several is rare else _is_share(together)):
                found.update(map(_key, several))
    return frozenset(found)


def _key(burst: Burst) -> tuple[str, str]:
    return burst.provider, burst.wording


def _together(bursts: list[Burst]) -> Burst | None:
    """Bursts of one provider as one; the peaks that fall into the same ten minutes count together."""
    if not bursts:
        return None
    peaks: dict[int, int] = {}
    for burst in bursts:
        peaks[burst.peak_us] = peaks.get(burst.peak_us, 0) + burst.peak
    recipients = sum(burst.recipients for burst in bursts)
    return replace(bursts[0], wording="", recipients=recipients, peak=max(peaks.values()))


def _is_wave(burst: Burst) -> bool:
    if burst.recipients < WAVE_MIN:
        return False
    sudden = burst.peak >= WAVE_SHARE * burst.recipients or burst.peak >= WAVE_PEAK
    return _is_share(burst) or (burst.peak >= WAVE_MIN and sudden)


def _is_share(burst: Burst) -> bool:
    return burst.recipients >= WAVE_MIN and burst.mails > 0 and burst.recipients > WAVE_SHARE * burst.mails


def decide(cause: Cause, *, code: int = 0, wave: bool = False, confirmed: bool = False) -> Verdict:
    """The verdict of a cause. `code`: the reply's (0 none); `confirmed`: DNS was asked again and knows no such name."""
    permanent = code >= 500
    match cause.cls:
        case CauseClass.THROTTLED | CauseClass.TRANSIENT_INFRA | CauseClass.MAILBOX_TEMPORARY:
            return _verdict(Action.RESEND, cause, "it passes: try again later")
        case CauseClass.GREYLISTED:
            return _verdict(Action.WAIT, cause, "first contact: the same sender may come again after a while")
        case CauseClass.MAILBOX_GONE | CauseClass.BAD_DOMAIN if wave:
            reason = "one reply to many recipients at once: an event of the provider, not of the mailboxes"
            return Verdict(action=Action.ASK, rule="wave", reason=reason)
        case CauseClass.MAILBOX_GONE if cause.rule.startswith(SUPPRESSED):
            reason = "never sent: on the service's suppression list for an older bounce, which may be of this incident"
            return _verdict(Action.ASK, cause, reason)
        case CauseClass.MAILBOX_GONE if permanent:
            return _verdict(Action.NEVER, cause, "the mailbox does not exist")
        case CauseClass.MAILBOX_GONE:
            return _verdict(Action.ASK, cause, "said to be gone, but not by a permanent code")
        case CauseClass.BAD_DOMAIN if confirmed:
            return _verdict(Action.NEVER, cause, "the domain takes no mail, DNS confirms it")
        case CauseClass.BAD_DOMAIN:
            return _verdict(Action.ASK, cause, "the domain took no mail then: ask DNS again")
        case CauseClass.UNKNOWN if permanent:
            return _verdict(Action.ASK, cause, "a permanent refusal that no rule knows")
        case CauseClass.UNKNOWN:
            return _verdict(Action.RESEND, cause, "no rule knows it, and it is no permanent refusal: one careful try")
        case CauseClass.SENDER_BLOCKED:
            return _verdict(Action.ASK, cause, "the sender is blocked: get delisted first")
        case CauseClass.AUTH_FAILED:
            return _verdict(Action.ASK, cause, "authentication failed: fix SPF, DKIM, DMARC or DNS first")
        case CauseClass.CONTENT_REJECTED:
            return _verdict(Action.ASK, cause, "the content was refused: the same bytes will be again")
        case CauseClass.POLICY_REJECTED if cause.rule.startswith(UNWANTED):
            return _verdict(Action.NEVER, cause, "unsubscribed")
        case CauseClass.POLICY_REJECTED:
            return _verdict(Action.ASK, cause, "the recipient's side does not want it")
        case CauseClass.LOCAL_CONFIG:
            return _verdict(Action.ASK, cause, "our own set-up was at fault: fix it first")
        case _:
            assert_never(cause.cls)


def _verdict(action: Action, cause: Cause, reason: str) -> Verdict:
    return Verdict(action=action, rule=cause.rule, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that decides the bucket of one affected mail, as things stand now."""

    status: OutcomeStatus
    confidence: Confidence
    cause: CauseClass
    action: Action
    rule: str  # of the verdict
    verdict_reason: str
    folded: bool = False  # another mail of the same release to the same recipient stands for it
    past_state: State | None = None  # of the Delivery that the ledger has for it
    past_fate: Fate | None = None  # of an accepted one, as far as it is known
    again: bool = False  # plan make --again
    arrived: bool = False  # evidence after the incident was frozen: it was delivered
    maybe_delivered: bool = False
    link_reason: str = ""  # why the link is not certain
    suppressed: bool = False  # unsubscribed, or on a suppression list in scope
    withdrawn: bool = False
    expired: bool = False  # the release is out of date
    held: bool = False  # by the operator
    embargo: bool = False
    too_early: bool = False  # the verdict's not_before, or the send window, has not come
    content: bool = True  # there is something to send


def bucket_of(facts: Facts, includes: Collection[str] = frozenset()) -> tuple[Bucket, str]:
    """The bucket and why; the first that fits, in the order of `Bucket`.

    `includes` is what the operator decided: probable, maybe_delivered, ask:CAUSE.
    """
    return _settled(facts, includes) or _forbidden(facts) or _possible(facts, includes)


def _settled(facts: Facts, includes: Collection[str]) -> tuple[Bucket, str] | None:
    """What is not ours to resend: it arrived, is under way, or is not known well enough."""
    if facts.folded:
        return Bucket.FOLDED, "another mail of this release to this recipient stands for it"
    sent_again = facts.again and facts.past_state is State.ACCEPTED  # what may still be sent is never planned twice
    if facts.past_state is not None and facts.past_state not in REGENERABLE_STATES and not sent_again:
        return Bucket.ALREADY_RESENT, _ledger_has(facts.past_state, facts.past_fate)
    match facts.status:
        case OutcomeStatus.DELIVERED_LATE:
            return Bucket.DELIVERED_LATE, "delivered late"
        case OutcomeStatus.STILL_QUEUED if not facts.arrived:
            return Bucket.STILL_QUEUED, "still in the mail host's queue"
        case OutcomeStatus.BOUNCED | OutcomeStatus.EXPIRED | OutcomeStatus.STILL_QUEUED:
            if facts.arrived:
                return Bucket.DELIVERED_LATE, "evidence since then: delivered"
        case OutcomeStatus.DELIVERED | OutcomeStatus.NO_EVIDENCE:
            raise ValueError(f"an outcome that is {facts.status} is not affected")
        case _:
            assert_never(facts.status)
    if facts.maybe_delivered and "maybe_delivered" not in includes:
        return Bucket.MAYBE_DELIVERED, "the connection was lost after the end of the mail: it may have arrived"
    match facts.confidence:
        case Confidence.NONE:
            return Bucket.UNLINKED, facts.link_reason or "no rule links it to a release"
        case Confidence.AMBIGUOUS:
            return Bucket.AMBIGUOUS, facts.link_reason or "it fits several releases or recipients"
        case Confidence.PROBABLE if "probable" not in includes:
            return Bucket.PROBABLE, facts.link_reason or "the link is probable, not certain"
        case Confidence.PROBABLE | Confidence.CERTAIN:
            return None
        case _:
            assert_never(facts.confidence)


def _ledger_has(state: State, fate: Fate | None) -> str:
    """What became of a resend so far. That somebody took it is not yet that it arrived."""
    if state is not State.ACCEPTED:
        return f"the ledger has it: {state}"
    match fate:
        case Fate.DELIVERED:
            return "it was resent, and delivered"
        case Fate.RETURNED:
            return "it was resent, and returned later: 'plan make --again' would send it once more"
        case Fate.QUEUED_AT_RELAY:
            return "it was resent: the relay has it, and tries again"
        case Fate.UNSEEN:
            return "it was resent: the relay took it, and its log has not told of it"
        case None:
            return "it was resent, its doubt was closed: the receiver may have it; 'plan make --again' sends it anew"


def _forbidden(facts: Facts) -> tuple[Bucket, str] | None:
    """What must never be sent, or not now, or cannot be."""
    if facts.action is Action.NEVER and not facts.rule.startswith(UNWANTED):
        return Bucket.NEVER, f"dead: {facts.verdict_reason}"
    if facts.suppressed or facts.action is Action.NEVER:
        return Bucket.NEVER, "unsubscribed"
    if facts.expired:
        return Bucket.NEVER, "out_of_date"
    if facts.withdrawn:
        return Bucket.NEVER, "withdrawn"
    if facts.embargo:
        return Bucket.WAIT, "under embargo"
    if facts.held:
        return Bucket.WAIT, HELD
    if facts.too_early:
        return Bucket.WAIT, facts.verdict_reason if facts.action is Action.WAIT else "its time has not come"
    if not facts.content:
        return Bucket.CONTENT_GONE, "there is nothing left to send"
    return None


def _possible(facts: Facts, includes: Collection[str]) -> tuple[Bucket, str]:
    match facts.action:
        case Action.ASK if f"ask:{facts.cause}" in includes:
            return Bucket.RESEND, f"included by the operator: {facts.cause}"
        case Action.ASK:
            return Bucket.ASK, facts.verdict_reason
        case Action.WAIT:
            return Bucket.RESEND, "the wait is over"
        case Action.RESEND:
            return Bucket.RESEND, facts.verdict_reason
        case Action.NEVER:
            return Bucket.NEVER, f"dead: {facts.verdict_reason}"
        case _:
            assert_never(facts.action)
