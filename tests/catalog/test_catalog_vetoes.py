"""What the catalog says must not be sent, at a moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from resend.model import VetoKind, VetoReason
from resend.stores.catalog import veto_rows
from resend.stores.home import Home
from resend.stores.rows import Veto

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_vetoes_of_a_catalog(home: Home, load: Callable[..., Any]) -> None:
    load(
        releases=(
            "id,customer,title,sender,expires_at,withdrawn\nR1,C1,T,p@example.jp,2026-11-23T00:00:00Z,0\n"
            "R2,C1,T,p@example.jp,2026-11-25T00:00:00Z,1\nR3,C1,T,p@example.jp,,0\n"
        ),
        recipients=(
            "id,address,unsubscribed_at\nr1,Gone@Example.jp,2026-11-01T00:00:00Z\nr2,later@example.jp,2026-12-01T00:00:00Z\n"
            "r3,stop@example.jp,2026-11-01T00:00:00Z\nr4,fine@example.jp,\n"
        ),
        suppressions=(
            "address,reason,at,scope\nSTOP@example.jp,complaint,,all\nstop@example.jp,again,,\n"
            "some@example.jp,asked,,customer:C1\n"
        ),
    )
    suppressed = VetoReason.SUPPRESSED
    assert sorted(veto_rows(home, NOW), key=lambda veto: (veto.kind, veto.subject)) == [
        Veto(
            kind=VetoKind.ADDRESS, subject="gone@example.jp", reason=suppressed, evidence="unsubscribed: recipient r1"
        ),
        Veto(
            kind=VetoKind.ADDRESS,
            subject="some@example.jp",
            reason=suppressed,
            scope="customer:C1",
            evidence="suppression: asked",
        ),
        Veto(kind=VetoKind.ADDRESS, subject="stop@example.jp", reason=suppressed, evidence="suppression: again"),
        Veto(
            kind=VetoKind.RELEASE,
            subject="R1",
            reason=VetoReason.EXPIRED,
            evidence="catalog: expires_at has passed",
        ),
        Veto(kind=VetoKind.RELEASE, subject="R2", reason=VetoReason.WITHDRAWN, evidence="catalog: withdrawn"),
    ]
    later = {veto.subject for veto in veto_rows(home, NOW + timedelta(days=10))}
    assert later >= {"R1", "R2", "later@example.jp"} and "R3" not in later


def test_an_empty_catalog_forbids_nothing(home: Home) -> None:
    assert list(veto_rows(home, NOW)) == []
