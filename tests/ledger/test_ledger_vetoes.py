"""Vetoes: which mail each kind meets, holds and their way back, sources and their freshness."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from resend.clock import to_text
from resend.model import State, VetoKind, VetoReason
from resend.stores import vetoes
from resend.stores.arms import MARK
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.rows import Veto
from resend.stores.tables import audit
from resend.stores.transitions import Armed, EndBatch
from tests.ledger.world import NOW, World, arm, faults, send_all


def put(ledger: Ledger, *items: Veto) -> int:
    with ledger.write() as conn:
        return vetoes.put(conn, items, source="catalog", now=NOW)


def veto(kind: VetoKind, subject: str, reason: VetoReason = VetoReason.SUPPRESSED, scope: str = "") -> Veto:
    return Veto(kind=kind, subject=subject, reason=reason, scope=scope)


# u1@example1.jp is of customer c1, release r1; its RCPT is U1@example1.jp
MEETS = [
    veto(VetoKind.ADDRESS, "u1@EXAMPLE1.jp"),
    veto(VetoKind.ADDRESS, "U1@example1.jp", scope="all"),
    veto(VetoKind.ADDRESS, "u1@example1.jp", scope="customer:c1"),
    veto(VetoKind.ADDRESS, "u1@example1.jp", scope="release:r1"),
    veto(VetoKind.RELEASE, "r1", VetoReason.WITHDRAWN),
    veto(VetoKind.CUSTOMER, "c1"),
    veto(VetoKind.DOMAIN, "Example1.JP"),
    veto(VetoKind.PROVIDER, "office365"),
    veto(VetoKind.DELIVERY, World.rows(World(None, count=2))[1].key, VetoReason.DELIVERED),  # type: ignore[arg-type]
]
MEETS_NOT = [
    veto(VetoKind.ADDRESS, "u2@example1.jp"),
    veto(VetoKind.ADDRESS, "u1@example1.jp", scope="customer:c0"),
    veto(VetoKind.ADDRESS, "u1@example1.jp", scope="release:r2"),
    veto(VetoKind.RELEASE, "r11"),
    veto(VetoKind.CUSTOMER, "c"),
    veto(VetoKind.DOMAIN, "jp"),
    veto(VetoKind.PROVIDER, "office"),
    veto(VetoKind.DELIVERY, "x"),
]


@pytest.mark.parametrize("item", MEETS, ids=lambda item: f"{item.kind}-{item.scope}")
def test_a_veto_stops_the_arm(ledger: Ledger, item: Veto) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    assert put(ledger, item) == 1
    assert put(ledger, item) == 0
    assert ledger.apply([arm(held.rows[1])]) == [Armed(False, f"vetoed:{item.reason}")]
    assert world.states()[held.rows[1].key] == State.SUPPRESSED
    assert world.row(held.rows[1].key)["reason"] == item.reason
    assert not faults(ledger)


@pytest.mark.parametrize("item", MEETS_NOT, ids=lambda item: f"{item.kind}-{item.scope}")
def test_a_veto_of_another_stops_nothing(ledger: Ledger, item: Veto) -> None:
    world = World(ledger).start()
    held = world.claim()
    assert held is not None
    put(ledger, item)
    assert ledger.apply([arm(held.rows[1])]) == [Armed(True)]


def test_a_claim_takes_vetoed_rows_out_at_once(ledger: Ledger) -> None:
    world = World(ledger, count=10, size=5).start()
    put(ledger, *(veto(VetoKind.DELIVERY, row.key, VetoReason.DELIVERED) for row in world.rows()[:6]))
    held = world.claim()
    assert held is not None and held.seq == 1, "nothing was left of the first batch"
    assert len(held.rows) == 4
    assert list(world.states().values()).count(State.SUPPRESSED) == 6
    assert not faults(ledger)


def test_an_outdated_release_is_not_sent(ledger: Ledger) -> None:
    world = World(ledger, expires_at=to_text(NOW + timedelta(hours=1))).start()
    held = world.claim()
    assert held is not None
    gone = World(ledger, release="r2", expires_at=to_text(NOW - timedelta(hours=1))).start()
    assert gone.claim() is None
    assert world.row(gone.rows()[0].key)["reason"] == VetoReason.EXPIRED
    send_all(world, held.rows)


def test_hold_and_unhold(ledger: Ledger) -> None:
    world = World(ledger, count=6, size=6).start()
    held = world.claim()
    assert held is not None
    with ledger.write() as conn:
        kept = vetoes.hold(conn, VetoKind.CUSTOMER, "c1", reason="they asked", who="me", now=NOW)
    assert kept == 0, "all are leased; the arm will see it"
    assert ledger.apply([arm(row) for row in held.rows[:2]]) == [Armed(True), Armed(False, "vetoed:held")]
    ledger.apply([EndBatch(batch_id=held.id, epoch=held.epoch)])
    with ledger.write() as conn:
        vetoes.hold(conn, VetoKind.ADDRESS, "u3@example0.jp", reason="she asked", who="me", now=NOW)
        vetoes.put(conn, [veto(VetoKind.ADDRESS, "u5@example2.jp")], source="catalog", now=NOW)
        assert vetoes.unhold(conn, VetoKind.CUSTOMER, "c1", reason="ok now", who="me", now=NOW) == 1
    assert world.states()[held.rows[3].key] == State.HELD, "another hold meets it"
    again = world.claim()
    assert again is not None
    assert [row.rcpt_key[:2] for row in again.rows] == ["u1", "u2", "u4"]
    assert world.states()[held.rows[5].key] == State.SUPPRESSED
    with ledger.read() as conn:
        said = [(row.what, row.value) for row in conn.execute(select(audit).order_by(audit.c.id))]
    assert said == [("held", "0"), ("held", "1"), ("unheld", "1")]
    assert not faults(ledger)


def test_unheld_rows_of_a_finished_batch_are_claimed_again(ledger: Ledger) -> None:
    world = World(ledger, count=4, size=4).start()
    with ledger.write() as conn:
        assert vetoes.hold(conn, VetoKind.RELEASE, "r1", reason="r", who="me", now=NOW) == 4
    assert world.claim() is None
    with ledger.write() as conn:
        assert vetoes.unhold(conn, VetoKind.RELEASE, "r1", reason="r", who="me", now=NOW) == 4
    again = world.claim()
    assert again is not None and len(again.rows) == 4


def test_a_source_read_whole_takes_back_what_it_no_longer_names(ledger: Ledger) -> None:
    first = [veto(VetoKind.ADDRESS, "a@x.jp"), veto(VetoKind.ADDRESS, "b@x.jp")]
    with ledger.write() as conn:
        assert vetoes.project(conn, first, source="catalog", seen_to=NOW, now=NOW) == 2
        vetoes.put(conn, [veto(VetoKind.ADDRESS, "c@x.jp")], source="operator", now=NOW)
        older = NOW - timedelta(hours=1)
        assert vetoes.project(conn, first[:1], source="catalog", seen_to=older, now=NOW, replace=True) == 0
        left = sorted(conn.scalars(select(vetoes.veto.c.subject)))
        (mark,) = vetoes.watermarks(conn)
    assert left == ["a@x.jp", "c@x.jp"]
    assert (mark.source, mark.seen_to, mark.refreshed_at) == ("catalog", NOW, NOW), "what was seen stays seen"


def test_vetoes_after_the_arm_are_counted_each(ledger: Ledger) -> None:
    world = World(ledger, count=6, size=6).start()
    held = world.claim()
    assert held is not None
    send_all(world, held.rows[:3])
    put(ledger, veto(VetoKind.RELEASE, "r1", VetoReason.WITHDRAWN), veto(VetoKind.ADDRESS, "u0@example0.jp"))
    put(ledger, veto(VetoKind.RELEASE, "r1", VetoReason.WITHDRAWN))
    with ledger.read() as conn:
        rows = conn.execute(select(audit.c.subject, audit.c.value, audit.c.what).order_by(audit.c.subject)).all()
    assert [tuple(row) for row in rows] == [
        ("address:u0@example0.jp", "1", "veto_too_late"),
        ("release:r1", "3", "veto_too_late"),
    ]


def test_many_vetoes_are_projected_at_once(ledger: Ledger) -> None:
    many = (veto(VetoKind.ADDRESS, f"x{n}@example.org") for n in range(12_000))
    assert put(ledger, *many) == 12_000


def test_the_arm_finds_mails_batches_and_vetoes_by_index(home: Home) -> None:
    with open_ledger("", home) as opened, opened.read() as conn:
        told = MARK.text(conn.dialect)
        given = (None,) * told.count("?")
        steps = [str(row[3]) for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {told}", given)]
    assert not [step for step in steps if step.startswith("SCAN")], steps
    assert any("delivery" in step and "INDEX" in step for step in steps), steps
