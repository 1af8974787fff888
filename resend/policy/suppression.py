"""Whether an address that failed in an incident belongs on a suppression list: keep or lift, and why.

A bounce proves an address dead only if it is about that mailbox alone. Pure; raises ValueError for an unknown cause.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from resend.model import Action, CauseClass
from resend.policy.rules import SUPPRESSED


class Advice(StrEnum):
    KEEP = "keep"  # or put on the list, where it is not
    LIFT = "lift"  # or leave off the list


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What is known of one address. Times in microseconds UTC, None unknown or never."""

    cause: CauseClass
    action: Action
    rule: str  # of the verdict
    code: int
    first_us: int | None
    last_us: int | None
    unsubscribed: bool
    listed: str  # the list's reason, "" not listed
    listed_at: int | None
    last_sent_at: int | None


# What a list calls an entry that a failed delivery made; anything else is a person's decision, not ours to undo.
_MADE_BY_FAILURE = re.compile(
    r"bounc|undeliver|unknown|invalid|not exist|dead|gone|fail|error|expired|\bhard\b|\bsoft\b|\b[45]\d\d\b"
    r"|不達|エラー|バウンス|無効|配信不能|宛先不明|存在しな",
    re.IGNORECASE,
)
_BY_A_PERSON = re.compile(
    r"complain|spam|abuse|unsub|opt.?out|asked|request|manual|legal|苦情|解除|停止|退会|配信拒否|希望", re.IGNORECASE
)


def advise(one: Failed) -> tuple[Advice, str]:
    """Keep or lift, and why; the first that fits."""
    if one.unsubscribed:
        return Advice.KEEP, "unsubscribed"
    if one.listed and (_BY_A_PERSON.search(one.listed) or not _MADE_BY_FAILURE.search(one.listed)):
        return Advice.KEEP, "listed for another reason"
    if one.listed_at is not None and one.first_us is not None and one.listed_at < one.first_us:
        return Advice.KEEP, "listed before the incident"
    if one.last_sent_at is not None and one.last_us is not None and one.last_sent_at > one.last_us:
        return Advice.LIFT, "took mail since"
    if one.rule == "wave":
        return Advice.LIFT, "refused in a wave: one reply to many at once"
    if one.rule.startswith(SUPPRESSED):
        return Advice.KEEP, "on the sending service's list for an older bounce: look that up"
    return _by_cause(one)


def _by_cause(one: Failed) -> tuple[Advice, str]:
    match one.cause:
        case CauseClass.MAILBOX_GONE if one.action is Action.NEVER:
            return Advice.KEEP, "really gone"
        case CauseClass.MAILBOX_GONE:
            return Advice.KEEP, "said to be gone, though not for good"
        case CauseClass.BAD_DOMAIN:
            return Advice.KEEP, "its domain took no mail: ask DNS again before lifting"
        case CauseClass.POLICY_REJECTED:
            return Advice.KEEP, "not dead, but its side does not want the mail"
        case CauseClass.UNKNOWN if one.code >= 500:
            return Advice.KEEP, "a permanent refusal that no rule knows: read the reply"
        case CauseClass.SENDER_BLOCKED | CauseClass.AUTH_FAILED | CauseClass.LOCAL_CONFIG:
            return Advice.LIFT, "the refusal was about the sender"
        case CauseClass.CONTENT_REJECTED:
            return Advice.LIFT, "the refusal was about the content"
        case CauseClass.MAILBOX_TEMPORARY:
            return Advice.LIFT, "full or locked, not gone"
        case CauseClass.THROTTLED | CauseClass.GREYLISTED | CauseClass.TRANSIENT_INFRA | CauseClass.UNKNOWN:
            return Advice.LIFT, "only put off, until the mail host gave up"
        case _:
            assert_never(one.cause)
