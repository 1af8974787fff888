"""Words that mail services have of their own: what they mean, that a receiver's reply beside them wins, and what a
suppression list may decide."""

from __future__ import annotations

import pytest

from resend.model import Action, Bucket, Cause, Confidence, OutcomeStatus, Scope
from resend.model import CauseClass as C
from resend.policy.classify import Rules
from resend.policy.verdict import Facts, bucket_of, decide

RULES = Rules.load()


@pytest.mark.parametrize(
    ("text", "enhanced", "cls", "action"),
    [
        # not sent, because of an older bounce: perhaps one of this very incident
        ("dropped: Bounced Address", "", C.MAILBOX_GONE, Action.ASK),
        ("suppress-bounce: Not delivering to previously bounced address", "", C.MAILBOX_GONE, Action.ASK),
        ("554 5.7.1 recipient address was suppressed due to system policy", "5.7.1", C.MAILBOX_GONE, Action.ASK),
        ("550 5.1.1 Amazon SES has suppressed sending to this address", "5.1.1", C.MAILBOX_GONE, Action.ASK),
        ("Type HardBounce: sending to this address is suppressed", "", C.MAILBOX_GONE, Action.ASK),
        ("Permanent: Suppressed", "5.1.1", C.MAILBOX_GONE, Action.ASK),
        # not sent, because the recipient said no
        ("dropped: Unsubscribed Address", "", C.POLICY_REJECTED, Action.NEVER),
        ("dropped: Spam Reporting Address", "", C.POLICY_REJECTED, Action.NEVER),
        ("suppress-complaint", "", C.POLICY_REJECTED, Action.NEVER),
        # not sent, because of us
        ("dropped: Invalid SMTPAPI header", "", C.LOCAL_CONFIG, Action.ASK),
        ("rendering failure: Attribute 'user' is not present", "", C.LOCAL_CONFIG, Action.ASK),
        # categories, and what they say no more than "permanent" and "transient"
        ("Transient: MailboxFull", "4.2.2", C.MAILBOX_TEMPORARY, Action.RESEND),
        ("DeliveryDelay: TransientCommunicationFailure", "", C.TRANSIENT_INFRA, Action.RESEND),
        ("Transient: General", "", C.TRANSIENT_INFRA, Action.RESEND),
        ("Transient: General", "4.2.2", C.MAILBOX_TEMPORARY, Action.RESEND),
        ("Permanent: General", "", C.MAILBOX_GONE, Action.ASK),
        ("Permanent: General", "5.2.2", C.MAILBOX_TEMPORARY, Action.RESEND),
        ("Type HardBounce: mailbox full", "", C.MAILBOX_TEMPORARY, Action.RESEND),
        ("bounceCat: bad-mailbox", "", C.MAILBOX_GONE, Action.ASK),
        ("5.1.1 (bad destination mailbox address) bounceCat: bad-mailbox", "5.1.1", C.MAILBOX_GONE, Action.ASK),
        ("bounce_classification: SpamBlock", "", C.SENDER_BLOCKED, Action.ASK),
        ("bounce_classification Technical: dial tcp: i/o timeout", "", C.TRANSIENT_INFRA, Action.RESEND),
        ("bounce class Spam Content: rejected by filter", "", C.CONTENT_REJECTED, Action.ASK),
        ("Type DMARCPolicy", "", C.AUTH_FAILED, Action.ASK),
    ],
)
def test_a_service_s_word(text: str, enhanced: str, cls: C, action: Action) -> None:
    cause = RULES.classify(text, enhanced=enhanced)
    assert cause.cls is cls, cause.rule
    assert decide(cause, code=RULES.codes(text)[0]).action is action


def test_a_mail_that_a_service_held_for_the_recipient_is_unsubscribed_not_dead() -> None:
    verdict = decide(Cause(cls=C.POLICY_REJECTED, rule="unwanted-unsubscribed", scope=Scope.RECIPIENT), code=0)
    facts = Facts(
        status=OutcomeStatus.BOUNCED,
        confidence=Confidence.CERTAIN,
        cause=C.POLICY_REJECTED,
        action=verdict.action,
        rule=verdict.rule,
        verdict_reason=verdict.reason,
    )
    assert bucket_of(facts) == (Bucket.NEVER, "unsubscribed")
