"""Verdicts, waves and buckets: exactly one bucket for each mail, in the order of decision."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.model import Action, Bucket, Cause, CauseClass, Confidence, Fate, OutcomeStatus, Scope, State
from resend.policy.verdict import Burst, Facts, bucket_of, decide, waves


def cause(cls: CauseClass) -> Cause:
    return Cause(cls=cls, rule="a-rule", scope=Scope.RECIPIENT)


@pytest.mark.parametrize(
    ("cls", "code", "action"),
    [
        (CauseClass.THROTTLED, 451, Action.RESEND),
        (CauseClass.THROTTLED, 550, Action.RESEND),
        (CauseClass.TRANSIENT_INFRA, 0, Action.RESEND),
        (CauseClass.MAILBOX_TEMPORARY, 552, Action.RESEND),
        (CauseClass.GREYLISTED, 450, Action.WAIT),
        (CauseClass.MAILBOX_GONE, 550, Action.NEVER),
        (CauseClass.MAILBOX_GONE, 450, Action.ASK),
        (CauseClass.MAILBOX_GONE, 0, Action.ASK),
        (CauseClass.BAD_DOMAIN, 550, Action.ASK),
        (CauseClass.UNKNOWN, 450, Action.RESEND),
        (CauseClass.UNKNOWN, 0, Action.RESEND),
        (CauseClass.UNKNOWN, 550, Action.ASK),
        (CauseClass.SENDER_BLOCKED, 550, Action.ASK),
        (CauseClass.AUTH_FAILED, 421, Action.ASK),
        (CauseClass.CONTENT_REJECTED, 552, Action.ASK),
        (CauseClass.POLICY_REJECTED, 550, Action.ASK),
        (CauseClass.LOCAL_CONFIG, 503, Action.ASK),
    ],
)
def test_a_verdict_names_what_and_why(cls: CauseClass, code: int, action: Action) -> None:
    verdict = decide(cause(cls), code=code)
    assert verdict.action is action and verdict.rule == "a-rule" and verdict.reason


def test_dns_confirms_a_bad_domain_and_a_wave_is_asked_about() -> None:
    assert decide(cause(CauseClass.BAD_DOMAIN), code=550, confirmed=True).action is Action.NEVER
    for cls in (CauseClass.MAILBOX_GONE, CauseClass.BAD_DOMAIN):
        verdict = decide(cause(cls), code=550, wave=True, confirmed=True)
        assert (verdict.action, verdict.rule) == (Action.ASK, "wave")
    assert decide(cause(CauseClass.THROTTLED), code=451, wave=True).action is Action.RESEND


@pytest.mark.parametrize(
    ("recipients", "peak", "mails", "is_wave"),
    [
        (30, 15, 0, True),  # ten minutes of false "unknown", seen in two slots
        (14, 14, 0, False),  # too few to tell
        (3_000, 40, 0, False),  # dead addresses of four days
        (5_000, 400, 0, True),  # long, but sudden enough
        (300, 14, 1_000, True),  # a third of all mails of the provider
        (100, 14, 1_000, False),
    ],
)
def test_waves(recipients: int, peak: int, mails: int, is_wave: bool) -> None:
    burst = Burst(
        provider="p", wording="w", cause=CauseClass.MAILBOX_GONE, recipients=recipients, peak=peak, mails=mails
    )
    assert waves([burst]) == ({("p", "w")} if is_wave else set())
    assert waves([replace(burst, cause=CauseClass.THROTTLED)]) == set()


def test_a_wave_of_many_wordings_and_a_share_of_all_mails() -> None:
    """A reply that names something else in each mail, and all claims of one provider together (facts: 20 %)."""
    each = [
        Burst(provider="p", wording=f"w{n}", cause=CauseClass.MAILBOX_GONE, recipients=1, peak=1, peak_us=7)
        for n in range(20)
    ]
    assert len(waves(each)) == 20
    assert waves([replace(burst, peak_us=n) for n, burst in enumerate(each)]) == set()  # over days: dead addresses
    assert waves(each[:14]) == set()
    assert waves([replace(burst, provider=f"p{n % 2}") for n, burst in enumerate(each)]) == set()
    said = [
        Burst(provider="p", wording=w, cause=CauseClass.BAD_DOMAIN, recipients=120, peak=9, mails=1_000) for w in "ab"
    ]
    assert waves(said) == {("p", "a"), ("p", "b")} and waves(said[:1]) == set()


PLAIN = Facts(
    status=OutcomeStatus.EXPIRED,
    confidence=Confidence.CERTAIN,
    cause=CauseClass.THROTTLED,
    action=Action.RESEND,
    rule="a-rule",
    verdict_reason="it passes",
)
# Each line makes the facts fall one bucket earlier than all lines below it.
LADDER: list[tuple[dict[str, object], Bucket]] = [
    ({"folded": True}, Bucket.FOLDED),
    ({"past_state": State.ACCEPTED}, Bucket.ALREADY_RESENT),
    ({"status": OutcomeStatus.DELIVERED_LATE}, Bucket.DELIVERED_LATE),
    ({"status": OutcomeStatus.STILL_QUEUED}, Bucket.STILL_QUEUED),
    ({"maybe_delivered": True}, Bucket.MAYBE_DELIVERED),
    ({"confidence": Confidence.NONE}, Bucket.UNLINKED),
    ({"confidence": Confidence.AMBIGUOUS}, Bucket.AMBIGUOUS),
    ({"confidence": Confidence.PROBABLE}, Bucket.PROBABLE),
    ({"suppressed": True}, Bucket.NEVER),
    ({"embargo": True}, Bucket.WAIT),
    ({"content": False}, Bucket.CONTENT_GONE),
    ({"action": Action.ASK}, Bucket.ASK),
    ({}, Bucket.RESEND),
]


def test_the_order_of_buckets_is_that_of_the_model() -> None:
    assert [bucket for _, bucket in LADDER] == list(Bucket)
    facts = PLAIN
    for changes, bucket in reversed(LADDER):
        facts = replace(facts, **changes)  # type: ignore[arg-type]
        assert bucket_of(facts)[0] is bucket


@pytest.mark.parametrize(
    ("changes", "bucket", "reason"),
    [
        ({"action": Action.NEVER}, Bucket.NEVER, "dead"),
        ({"suppressed": True, "expired": True}, Bucket.NEVER, "unsubscribed"),
        ({"expired": True, "withdrawn": True}, Bucket.NEVER, "out_of_date"),
        ({"withdrawn": True, "embargo": True}, Bucket.NEVER, "withdrawn"),
        ({"held": True}, Bucket.WAIT, "held"),
        ({"action": Action.WAIT, "too_early": True}, Bucket.WAIT, "it passes"),
        ({"action": Action.WAIT}, Bucket.RESEND, "the wait is over"),
        ({"status": OutcomeStatus.STILL_QUEUED, "arrived": True}, Bucket.DELIVERED_LATE, "delivered"),
        ({"arrived": True}, Bucket.DELIVERED_LATE, "delivered"),
        ({"past_state": State.REJECTED}, Bucket.RESEND, ""),
        ({"past_state": State.GAVE_UP}, Bucket.RESEND, ""),
        ({"past_state": State.IN_DOUBT, "again": True}, Bucket.ALREADY_RESENT, "in_doubt"),
        ({"past_state": State.DEFERRED, "again": True}, Bucket.ALREADY_RESENT, "deferred"),
        ({"past_state": State.ACCEPTED, "past_fate": Fate.RETURNED}, Bucket.ALREADY_RESENT, "returned later"),
        ({"past_state": State.ACCEPTED, "past_fate": Fate.DELIVERED}, Bucket.ALREADY_RESENT, "and delivered"),
        ({"past_state": State.ACCEPTED, "again": True}, Bucket.RESEND, ""),
    ],
)
def test_reasons(changes: dict[str, object], bucket: Bucket, reason: str) -> None:
    found, said = bucket_of(replace(PLAIN, **changes))  # type: ignore[arg-type]
    assert found is bucket and reason in said and said


def test_what_a_person_decides_is_named() -> None:
    assert bucket_of(replace(PLAIN, maybe_delivered=True), {"maybe_delivered"})[0] is Bucket.RESEND
    assert bucket_of(replace(PLAIN, confidence=Confidence.PROBABLE), {"probable"})[0] is Bucket.RESEND
    asked = replace(PLAIN, action=Action.ASK, cause=CauseClass.MAILBOX_GONE)
    assert bucket_of(asked, {"ask:mailbox_gone"})[0] is Bucket.RESEND
    assert bucket_of(asked, {"ask:auth_failed", "ask"})[0] is Bucket.ASK
    everything = {"probable", "maybe_delivered", *(f"ask:{cls}" for cls in CauseClass)}
    for forbidden in ({"suppressed": True}, {"action": Action.NEVER}, {"confidence": Confidence.AMBIGUOUS}):
        assert bucket_of(replace(asked, **forbidden), everything)[0] in (Bucket.NEVER, Bucket.AMBIGUOUS)  # type: ignore[arg-type]


FACTS = st.builds(
    Facts,
    status=st.sampled_from([s for s in OutcomeStatus if s not in (OutcomeStatus.DELIVERED, OutcomeStatus.NO_EVIDENCE)]),
    confidence=st.sampled_from(Confidence),
    cause=st.sampled_from(CauseClass),
    action=st.sampled_from(Action),
    rule=st.just("a-rule"),
    verdict_reason=st.just("because"),
    folded=st.booleans(),
    past_state=st.none() | st.sampled_from(State),
    past_fate=st.none() | st.sampled_from(Fate),
    again=st.booleans(),
    arrived=st.booleans(),
    maybe_delivered=st.booleans(),
    suppressed=st.booleans(),
    withdrawn=st.booleans(),
    expired=st.booleans(),
    held=st.booleans(),
    embargo=st.booleans(),
    too_early=st.booleans(),
    content=st.booleans(),
)
INCLUDES = st.frozensets(st.sampled_from(["probable", "maybe_delivered", *(f"ask:{cls}" for cls in CauseClass)]))


@given(FACTS, INCLUDES)
def test_every_mail_has_exactly_one_bucket_and_including_only_moves_it_on(
    facts: Facts, includes: frozenset[str]
) -> None:
    order = list(Bucket)
    bucket, reason = bucket_of(facts, includes)
    assert reason and order.index(bucket) >= order.index(bucket_of(facts)[0])
    if bucket is Bucket.RESEND:  # what must hold of everything that is sent
        assert not (facts.folded or facts.suppressed or facts.withdrawn or facts.expired or facts.embargo or facts.held)
        assert facts.content and not facts.arrived and facts.action is not Action.NEVER
        assert facts.confidence in (Confidence.CERTAIN, Confidence.PROBABLE)
        assert facts.status in (OutcomeStatus.BOUNCED, OutcomeStatus.EXPIRED)
        assert facts.past_state in (None, State.REJECTED, State.SUPPRESSED, State.CLOSED, State.GAVE_UP) or facts.again


@pytest.mark.parametrize("status", [OutcomeStatus.DELIVERED, OutcomeStatus.NO_EVIDENCE])
def test_what_is_not_affected_has_no_bucket(status: OutcomeStatus) -> None:
    with pytest.raises(ValueError, match="not affected"):
        bucket_of(replace(PLAIN, status=status))
