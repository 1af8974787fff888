"""Rows of suspects as a test writes them."""

from __future__ import annotations

from typing import Any

SUSPECT = {
    "outcome_id": "BIGINT", "message_id": "VARCHAR", "sender": "VARCHAR", "recipient": "VARCHAR", "domain": "VARCHAR",
    "status": "VARCHAR", "maybe_delivered": "BOOLEAN", "arrived_at": "BIGINT", "first_failed_at": "BIGINT",
    "at": "BIGINT", "delivered_at": "BIGINT", "attempts": "INTEGER", "relay": "VARCHAR", "relay_ip": "VARCHAR",
    "code": "INTEGER", "enhanced": "VARCHAR", "reply": "VARCHAR", "stage": "VARCHAR", "host": "VARCHAR",
    "instance": "VARCHAR", "qid": "VARCHAR", "epoch": "INTEGER", "last_host": "VARCHAR", "last_qid": "VARCHAR",
    "header_value": "VARCHAR", "chain": "VARCHAR", "evidence": "VARCHAR", "subject": "VARCHAR",
}  # fmt: skip
HOUR = 3_600_000_000
AT = 1_763_600_000_000_000  # microseconds UTC, in November 2025


def suspect(number: int, recipient: str, **values: Any) -> list[Any]:
    """One row of suspects: expired after a throttling reply of Office 365, unless `values` say otherwise."""
    row: dict[str, Any] = {
        "outcome_id": number,
        "message_id": f"<{number}@elsewhere.example.jp>",
        "sender": "bounce@example.jp",
        "recipient": recipient,
        "domain": recipient.rpartition("@")[2].lower(),
        "status": "expired",
        "maybe_delivered": False,
        "arrived_at": AT + number * 1_000_000,
        "first_failed_at": AT + number * 1_000_000 + 500_000,
        "at": AT + 24 * HOUR,
        "delivered_at": None,
        "attempts": 9,
        "relay": "example.mail.protection.outlook.com",
        "relay_ip": "192.0.2.1",
        "code": 451,
        "enhanced": "4.7.500",
        "reply": "host example.mail.protection.outlook.com[192.0.2.1] said: 451 4.7.500 Server busy. Try later",
        "stage": "rcpt",
        "host": "mta1",
        "instance": "postfix",
        "qid": f"Q{number}",
        "epoch": 0,
        "last_host": "mta1",
        "last_qid": f"Q{number}",
        "header_value": "",
        "chain": "",
        "evidence": f"mail.log:{number}",
        "subject": "",
    }
    assert not values.keys() - row.keys()
    return list((row | values).values())
