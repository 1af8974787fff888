"""Why one mail is where it is: from its log line over link, cause and bucket to our own tries.

Shapes only; reads nothing, raises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resend.stores.history import DeliveryHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyLink:
    """Which release and recipient a mail was linked to, by which rule and on what evidence."""

    rule: str  # "" none
    confidence: str
    release: str
    title: str
    customer: str
    recipient_id: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyVerdict:
    """How an incident judges a mail, as things stand now."""

    incident_id: str
    incident: str
    provider: str
    provider_way: str
    cause: str
    cause_rule: str
    action: str
    verdict_rule: str
    bucket: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyMail:
    """One mail to an address. `outcome`: the JSON row of `resend outcomes`; `own`: it is a resend of ours."""

    outcome: Mapping[str, Any]
    own: bool
    link: WhyLink | None  # None: in no incident
    verdicts: tuple[WhyVerdict, ...]
    deliveries: tuple[DeliveryHistory, ...]


def link_of(row: Mapping[str, Any]) -> WhyLink:
    """The link in a row of `affected`."""
    return WhyLink(
        rule=row["link_rule"],
        confidence=row["confidence"],
        release=row["release"],
        title=row["title"],
        customer=row["customer_name"] or row["customer"],
        recipient_id=row["recipient_id"],
        evidence=row["link_evidence"],
    )


def verdict_of(row: Mapping[str, Any], *, incident_id: str, incident: str) -> WhyVerdict:
    """The verdict in a row of `affected`."""
    names = ("provider", "provider_way", "cause", "cause_rule", "action", "verdict_rule", "bucket", "reason")
    return WhyVerdict(incident_id=incident_id, incident=incident, **{name: row[name] for name in names})
