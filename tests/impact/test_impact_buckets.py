"""Whatever is known of a mail, it is in exactly one bucket, the buckets add up, nothing forbidden is in `resend`."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert

from resend.clock import to_text
from resend.linker.buckets import place
from resend.model import (
    REGENERABLE_STATES,
    Action,
    Bucket,
    CauseClass,
    Confidence,
    OutcomeStatus,
    State,
    VetoKind,
    VetoReason,
    delivery_key,
)
from resend.policy.address import fold
from resend.stores import sql, vetoes
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.rows import Veto
from resend.stores.tables import delivery, incident, plan, veto

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ADDRESSES = {"r1": "One@Example.jp", "r2": "two@example.jp", "r3": "gone@example.jp", "r4": "stopped@example.jp"}
FINE = {f"f{number}": f"fine.{number}@example.jp" for number in range(20)}
ADDRESSES |= FINE
CUSTOMERS = {"R1": "C1", "R2": "C1", "R3": "C2", "R4": "C2", "R5": "C3", "": ""}
COLUMNS = {
    "outcome_id": "BIGINT", "message_id": "VARCHAR", "status": "VARCHAR", "maybe_delivered": "BOOLEAN",
    "arrived_at": "BIGINT", "first_failed_at": "BIGINT", "release": "VARCHAR", "recipient_id": "VARCHAR",
    "rcpt_key": "VARCHAR", "rcpt": "VARCHAR", "domain": "VARCHAR", "provider": "VARCHAR", "customer": "VARCHAR",
    "confidence": "VARCHAR", "doubt": "VARCHAR", "cause": "VARCHAR", "action": "VARCHAR", "verdict_rule": "VARCHAR",
    "verdict_reason": "VARCHAR", "not_before": "BIGINT", "copy_delivered": "BOOLEAN", "bucket": "VARCHAR",
    "reason": "VARCHAR", "generation": "INTEGER", "folded": "VARCHAR",
}  # fmt: skip
AFFECTED = [s for s in OutcomeStatus if s not in (OutcomeStatus.DELIVERED, OutcomeStatus.NO_EVIDENCE)]


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """The value that leads to `resend` in most cases, so that what should stop it has something to stop."""
    return st.sampled_from([usual] * 4 * max(1, len(others) // 2) + list(others))


MAIL = st.fixed_dictionaries(
    {
        "status": mostly(OutcomeStatus.EXPIRED, *AFFECTED),
        "maybe_delivered": mostly(False, True),
        "release": mostly("R1", "R2", "R3", "R4", "R5"),
        "recipient_id": st.sampled_from([*FINE, "r1", "r1", "r1", "r2", "r3", "r4"]),
        "confidence": mostly(Confidence.CERTAIN, *Confidence),
        "cause": st.sampled_from(list(CauseClass)),
        "action": mostly(Action.RESEND, *Action),
        "copy_delivered": mostly(False, True),
        "not_before": mostly(None, 0, 2**60),
        "provider": st.sampled_from(["office365", "docomo"]),
    }
)
PAST = st.dictionaries(
    st.tuples(st.sampled_from(["R1", "R2"]), st.sampled_from(["r1", "r2"]), st.integers(1, 2)),
    st.sampled_from(list(State)),
)
VETO = st.sampled_from(
    [
        Veto(kind=VetoKind.RELEASE, subject="R1", reason=VetoReason.HELD),
        Veto(kind=VetoKind.PROVIDER, subject="docomo", reason=VetoReason.HELD),
        Veto(kind=VetoKind.CUSTOMER, subject="C1", reason=VetoReason.HELD),
        Veto(kind=VetoKind.ADDRESS, subject="one@example.jp", reason=VetoReason.SUPPRESSED, scope="release:R1"),
        Veto(kind=VetoKind.DELIVERY, subject=delivery_key("R1", "One@example.jp", 1), reason=VetoReason.DELIVERED),
    ]
)
INCLUDE = st.sampled_from(["probable", "maybe_delivered", "ask:auth_failed"])


def frozen_row(number: int, mail: dict[str, Any]) -> list[Any]:
    linked = mail["confidence"] != Confidence.NONE
    address = ADDRESSES[mail["recipient_id"]]
    local, _, domain = address.rpartition("@")
    row = dict.fromkeys(COLUMNS, "") | mail
    row |= {
        "outcome_id": number,
        "message_id": f"<{number}@x>",
        "arrived_at": number,
        "first_failed_at": number,
        "recipient_id": mail["recipient_id"] if linked else "",
        "rcpt_key": f"{local}@{domain.lower()}",
        "rcpt": address,
        "domain": domain.lower(),
        "customer": CUSTOMERS[mail["release"]],
        "generation": 0,
        "verdict_reason": f"said {mail['cause']}",
    }
    return [row[name] for name in COLUMNS]


def fill(ledger: Ledger, past: dict[tuple[str, str, int], State], standing: list[Veto]) -> None:
    """The ledger as one example wants it."""
    with ledger.write() as conn:
        for table in (delivery, plan, incident, veto):
            conn.execute(delete(table))
        at = to_text(NOW)
        conn.execute(
            insert(incident).values(
                id="i", name="i", selector="{}", state="open", counts="{}", evidence_id="e", opened_at=at
            )
        )
        conn.execute(
            insert(plan).values(
                id="p", incident_id="i", state="started", total=1, batches=1, params="{}", eta_s=0.0, made_at=at
            )
        )
        for (release, person, generation), state in past.items():
            address = ADDRESSES[person]
            key = address.partition("@")[0] + "@" + address.partition("@")[2].lower()
            conn.execute(
                insert(delivery).values(
                    key=delivery_key(release, key, generation), release=release, rcpt_key=key, generation=generation,
                    incident_id="i", plan_id="p", batch_id="b", seq=0, recipient_id=person, rcpt=address,
                    folded=fold(address), customer="C1", domain="example.jp", egress="direct", provider="office365",
                    envelope_from="b@example.jp", identity="same", message_id="<1@x>", content_id="c", state=state,
                )
            )  # fmt: skip
        vetoes.put(conn, standing, source="operator", now=NOW)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mails=st.lists(MAIL, min_size=1, max_size=12),
    past=PAST,
    standing=st.lists(VETO, max_size=3, unique=True),
    includes=st.frozensets(INCLUDE),
    again=st.booleans(),
)
def test_every_mail_is_in_one_bucket_and_nothing_forbidden_is_resent(
    home: Home,
    ledger: Ledger,
    mails: list[dict[str, Any]],
    past: dict[tuple[str, str, int], State],
    standing: list[Veto],
    includes: frozenset[str],
    again: bool,
) -> None:
    fill(ledger, past, standing)
    with sql.connect(memory_limit="256MiB", threads=1) as con:
        sql.create_table(con, "frozen", COLUMNS, (frozen_row(number, mail) for number, mail in enumerate(mails)))
        with ledger.read() as conn:
            place(con, home, conn, includes=includes, again=again, now=NOW)
        cursor = con.execute("SELECT * FROM affected ORDER BY outcome_id")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    assert [row["outcome_id"] for row in rows] == list(range(len(mails)))
    assert sum(Counter(Bucket(row["bucket"]) for row in rows).values()) == len(mails)
    assert all(row["reason"] for row in rows)
    for row in rows:
        newest = max((g for r, p, g in past if (r, p) == (row["release"], row["recipient_id"])), default=0)
        assert row["generation"] == newest + 1
    sent = [row for row in rows if row["bucket"] == Bucket.RESEND]
    assert len({(row["release"], row["rcpt_key"]) for row in sent}) == len(sent)
    held = {(item.kind, item.subject) for item in standing}
    for row in sent:
        assert row["status"] in (OutcomeStatus.BOUNCED, OutcomeStatus.EXPIRED)
        assert row["confidence"] == Confidence.CERTAIN or (
            row["confidence"] == Confidence.PROBABLE and "probable" in includes
        )
        assert not row["maybe_delivered"] or "maybe_delivered" in includes
        assert row["release"] == "R1"  # the others are withdrawn, out of date, under embargo or without content
        assert row["recipient_id"] not in ("r3", "r4")
        assert row["action"] != Action.NEVER and not row["copy_delivered"]
        assert row["action"] != Action.ASK or f"ask:{row['cause']}" in includes
        assert (VetoKind.RELEASE, "R1") not in held and (VetoKind.CUSTOMER, "C1") not in held
        assert (VetoKind.PROVIDER, row["provider"]) not in held
        if row["recipient_id"] == "r1":
            assert (VetoKind.ADDRESS, "one@example.jp") not in held
        state = past.get((row["release"], row["recipient_id"], row["generation"] - 1))
        assert state is None or state in REGENERABLE_STATES or (again and state is State.ACCEPTED)


GOOD = {
    "status": "expired", "maybe_delivered": False, "release": "R1", "recipient_id": "r1", "confidence": "certain",
    "cause": "throttled", "action": "resend", "copy_delivered": False, "not_before": None, "provider": "office365",
}  # fmt: skip


def bucket(home: Home, ledger: Ledger, mail: dict[str, Any]) -> tuple[str, str]:
    with sql.connect(memory_limit="256MiB", threads=1) as con:
        sql.create_table(con, "frozen", COLUMNS, [frozen_row(1, mail)])
        with ledger.read() as conn:
            place(con, home, conn, now=NOW)
        row = con.execute("SELECT bucket, reason FROM affected").fetchone()
        assert row is not None
        return row[0], row[1]


@pytest.mark.parametrize(
    ("kind", "subject", "reason", "scope", "expected"),
    [
        (VetoKind.RELEASE, "R2", VetoReason.HELD, "", Bucket.RESEND),
        (VetoKind.RELEASE, "R1", VetoReason.HELD, "", Bucket.WAIT),
        (VetoKind.CUSTOMER, "C1", VetoReason.HELD, "", Bucket.WAIT),
        (VetoKind.DOMAIN, "example.jp", VetoReason.HELD, "", Bucket.WAIT),
        (VetoKind.PROVIDER, "office365", VetoReason.HELD, "", Bucket.WAIT),
        (VetoKind.RELEASE, "R1", VetoReason.WITHDRAWN, "", Bucket.NEVER),
        (VetoKind.RELEASE, "R1", VetoReason.EXPIRED, "", Bucket.NEVER),
        (VetoKind.ADDRESS, "ONE@example.jp", VetoReason.SUPPRESSED, "", Bucket.NEVER),
        (VetoKind.ADDRESS, "one@example.jp", VetoReason.SUPPRESSED, "release:R1", Bucket.NEVER),
        (VetoKind.ADDRESS, "one@example.jp", VetoReason.SUPPRESSED, "customer:C1", Bucket.NEVER),
        (VetoKind.ADDRESS, "one@example.jp", VetoReason.SUPPRESSED, "customer:C2", Bucket.RESEND),
        (VetoKind.DELIVERY, delivery_key("R1", "One@example.jp", 1), VetoReason.DELIVERED, "", Bucket.DELIVERED_LATE),
        (VetoKind.DELIVERY, delivery_key("R1", "One@example.jp", 2), VetoReason.DELIVERED, "", Bucket.RESEND),
    ],
)
def test_each_veto_of_the_ledger_shows_in_the_preview(
    home: Home, ledger: Ledger, kind: VetoKind, subject: str, reason: VetoReason, scope: str, expected: Bucket
) -> None:
    fill(ledger, {}, [Veto(kind=kind, subject=subject, reason=reason, scope=scope)])
    assert bucket(home, ledger, GOOD)[0] == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"release": "R2"}, (Bucket.NEVER, "withdrawn")),
        ({"release": "R3"}, (Bucket.NEVER, "out_of_date")),
        ({"release": "R4"}, (Bucket.WAIT, "under embargo")),
        ({"release": "R5"}, (Bucket.CONTENT_GONE, "there is nothing left to send")),
        ({"recipient_id": "r3"}, (Bucket.NEVER, "unsubscribed")),
        ({"recipient_id": "r4"}, (Bucket.NEVER, "unsubscribed")),
        ({"release": "R4", "recipient_id": "r2"}, (Bucket.NEVER, "unsubscribed")),  # of this customer's mail only
    ],
)
def test_what_the_catalog_says(
    home: Home, ledger: Ledger, change: dict[str, Any], expected: tuple[Bucket, str]
) -> None:
    fill(ledger, {}, [])
    assert bucket(home, ledger, GOOD | change) == expected


def test_delivery_keys_in_sql_are_those_of_the_model(home: Home, ledger: Ledger) -> None:
    fill(ledger, {("R1", "r1", 1): State.REJECTED}, [])
    with sql.connect(memory_limit="256MiB", threads=1) as con:
        sql.create_table(con, "frozen", COLUMNS, [frozen_row(1, GOOD)])
        with ledger.read() as conn:
            place(con, home, conn, now=NOW)
        assert con.execute("SELECT key, standing_key, folded FROM key_of").fetchall() == [
            (delivery_key("R1", "One@example.jp", 2), delivery_key("R1", "One@example.jp", 1), "one@example.jp")
        ]
