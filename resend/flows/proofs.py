"""What a plan's maker should know before mail leaves: signatures that will not hold, identities that are old, volume.

Looks at one mail of each release. Asks DNS for DKIM keys. Raises UsageError where a signature will not hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from resend.clock import from_text
from resend.config import DnsConfig
from resend.errors import UsageError
from resend.flows.bodies import StoredBodies
from resend.model import Identity
from resend.policy import headers, unsubscribe
from resend.policy.content import ContentError
from resend.policy.dkim import Finding, Lookup, Signer, Standing, aligned, inspect
from resend.policy.message import fields
from resend.stores.dnsnames import asker
from resend.stores.incidents import Mails
from resend.stores.plans import PlanRow

_OLD = timedelta(hours=72)  # receivers and readers distrust an older Date
_GMAIL_A_DAY = 5_000  # mails in 24 h to Gmail make a domain a bulk sender for good (Google's sender guidelines)
_HOUR_US = 3_600_000_000
_SHOWN = 3  # releases named in a warning


def dns_txt(name: str, dns: DnsConfig) -> str:
    """TXT record of a name, "" where there is none. Raises OSError where DNS does not answer."""
    return next(iter(asker(dns)(name, "TXT")), "")


def warnings(
    rows: Sequence[PlanRow],
    bodies: StoredBodies,
    mails: Sequence[Mails],
    *,
    incident: str,
    done_at: datetime,
    now: datetime,
    lookup: Lookup,
) -> Iterator[str]:
    """Lines for people about a draft's rows. `mails`: what the evidence counted around the incident."""
    samples = list({(row.release, row.content_kind, row.identity): row for row in reversed(rows)}.values())[::-1]
    if bodies.signer is not None and any(map(_ours, samples)):
        yield from _own_key(bodies.signer, now, lookup)
    yield from _signatures(samples, bodies, incident=incident, done_at=done_at, lookup=lookup)
    old = {release for release, date in _oldest(rows).items() if _age(date, now) > _OLD}
    if old:
        yield f"{_named(old)}: older than 72 h under the old Date; --identity new gives a new one"
    if bodies.signer is not None:
        ours = {row.sender for row in samples if _ours(row)}
        foreign = {
            sender for sender in ours if not aligned(bodies.signer.domain, sender.rpartition("@")[2].rstrip(">"))
        }
        if foreign:
            yield f"[dkim] signs for {bodies.signer.domain}, which is not the domain of {_named(foreign, 'sender')}"
    yield from _misplaced(samples, bodies)
    yield from _without_one_click(rows, samples, bodies)
    yield from crowded_gmail(rows, mails, now)


def _ours(row: PlanRow) -> bool:
    return row.identity == Identity.NEW or row.content_kind == "template"


def _own_key(signer: Signer, now: datetime, lookup: Lookup) -> Iterator[str]:
    """The key of `[dkim]` against its public half in DNS."""
    wire = signer.sign(f"From: a@{signer.domain}\r\n\r\n".encode("ascii"), int(now.timestamp()))
    found = inspect(wire, done_at=now, lookup=lookup)
    if found.standing is Standing.BROKEN:
        raise UsageError(
            f"what [dkim] signs would not be believed: {found.why}",
            where="dkim.key_file",
            next_step=f"publish the key as TXT of {signer.selector}._domainkey.{signer.domain}, name the right one,"
            " or remove [dkim] and let the relay sign",
        )
    if found.standing is Standing.UNPROVEN:
        yield f"[dkim]: not verified: {found.why}"


def _signatures(
    samples: Iterable[PlanRow], bodies: StoredBodies, *, incident: str, done_at: datetime, lookup: Lookup
) -> Iterator[str]:
    answers: dict[str, str] = {}

    def once(name: str) -> str:
        if name not in answers:
            answers[name] = lookup(name)
        return answers[name]

    unsure: dict[Finding, set[str]] = {}
    for row in samples:
        if _ours(row):
            continue
        try:
            found = inspect(bodies.unsigned(row), done_at=done_at, lookup=once)
        except ContentError:
            continue  # counted among the troubled
        match found.standing:
            case Standing.GOOD | Standing.UNSIGNED:  # what was not signed when kept is signed by the relay
                pass
            case Standing.UNALIGNED | Standing.UNPROVEN:
                unsure.setdefault(found, set()).add(row.release)
            case Standing.BROKEN:
                raise UsageError(
                    f"release {row.release} cannot be sent under its old identity: {found.why}",
                    where=f"incident {incident}",
                    next_step=f"resend plan make {incident} --identity new",
                )
    for found, releases in unsure.items():
        what = "not verified" if found.standing is Standing.UNPROVEN else "not aligned"
        yield f"{_named(releases)}: DKIM {what}: {found.why}"


def _misplaced(samples: Iterable[PlanRow], bodies: StoredBodies) -> Iterator[str]:
    """What must not stand in a header and does, in mail that is not rendered: it is sent as it was kept."""
    found: dict[str, set[str]] = {}
    for row in samples:
        if row.content_kind == "template":
            continue  # refused where it is rendered
        try:
            names = [name.decode("latin-1") for name, _, _ in fields(bodies.unsigned(row))]
        except ContentError:
            continue  # counted among the troubled
        try:
            headers.refuse_misplaced(names)
        except ContentError as error:
            found.setdefault(str(error), set()).add(row.release)
    for what, releases in found.items():
        yield f"{_named(releases)}: {what}, and the mail leaves as it was kept"


def _oldest(rows: Iterable[PlanRow]) -> dict[str, str]:
    """The oldest Date that mails of a release keep, by release: fixed-width text sorts by time."""
    found: dict[str, str] = {}
    for row in rows:
        if row.identity == Identity.SAME and row.date and row.date < found.get(row.release, "~"):
            found[row.release] = row.date
    return found


def _age(date: str, now: datetime) -> timedelta:
    try:
        return now - from_text(date)
    except ValueError:
        return timedelta()


def _without_one_click(rows: Iterable[PlanRow], samples: Iterable[PlanRow], bodies: StoredBodies) -> Iterator[str]:
    lacking = set()
    for row in samples:
        try:
            if not unsubscribe.one_click(bodies.unsigned(row)):
                lacking.add((row.release, row.content_kind, row.identity))
        except ContentError:
            continue
    counts = Counter(
        row.provider
        for row in rows
        if row.provider in unsubscribe.ASKED_BY and (row.release, row.content_kind, row.identity) in lacking
    )
    for provider, count in sorted(counts.items()):
        yield (
            f"{provider} asks bulk senders for one-click unsubscribing, and {count:,} mails to it have none:"
            " see [message] list_unsubscribe"
        )


def crowded_gmail(rows: Iterable[PlanRow], mails: Sequence[Mails], now: datetime) -> Iterator[str]:
    """Originals of the last 24 h are the provider's share of the evidence, spread as all its mail over the hours."""
    resent = sum(row.provider == "google" for row in rows)
    whole = sum(item.mails for item in mails if item.dimension == "provider" and item.value == "google")
    hours = [(int(item.value), item.mails) for item in mails if item.dimension == "hour" and item.value.isdecimal()]
    from_us = int(now.timestamp()) * 1_000_000 - 25 * _HOUR_US
    recent = sum(count for hour, count in hours if hour > from_us)
    total = sum(count for _, count in hours)
    originals = round(whole * recent / total) if total else 0
    if resent and originals + resent >= _GMAIL_A_DAY:
        yield (
            f"google: about {originals:,} mails of the last 24 h and {resent:,} of this plan pass"
            f" {_GMAIL_A_DAY:,} a day: from there on its rules for bulk senders hold, for good;"
            " see [providers.google] daily_quota"
        )


def _named(names: set[str], what: str = "release") -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{what} {shown}" + (f" and {more:,} more" if more > 0 else "")
