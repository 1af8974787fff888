"""Random runs of all that may happen to mails: states change only as TRANSITIONS allows, no invariant breaks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import update

from resend.errors import LockHeld
from resend.model import TRANSITIONS, State, TryOutcome, VetoKind, VetoReason
from resend.stores import batches, doubt, lifecycle, vetoes
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.rows import Batch, Delivery, Veto
from resend.stores.tables import batch, provider_slot, try_
from resend.stores.transitions import (
    Applied,
    Arm,
    EndBatch,
    GiveBack,
    Quarantine,
    Replan,
    Result,
    Suppress,
    Transition,
)
from tests.ledger.world import NOW, World, arm, end, faults, refuse

# one call may make two steps in one transaction
COMPOUND = {
    (before, State.GAVE_UP)
    for before in (State.SENDING, State.LEASED)  # by way of deferred
}
LONG_AGO = "2000-01-01T00:00:00.000000Z"
NTH = st.integers(min_value=0, max_value=7)
ENDINGS = st.sampled_from([outcome for outcome in TryOutcome if outcome is not TryOutcome.ARMED])


class LedgerMachine(RuleBasedStateMachine):
    """Eight mails of one provider in batches of three, any number of holders, dead or alive."""

    open: Callable[[], Ledger]  # set by the test

    def __init__(self) -> None:
        super().__init__()
        self.ledger = type(self).open()
        self.world = World(self.ledger, count=8, size=3)
        self.leases: list[Batch] = []
        self.armed: list[Arm] = []
        self.keys = [row.key for row in self.world.rows()]
        self.before: dict[str, State] = {}

    @initialize()
    def start(self) -> None:
        self.world.start()
        self.before = self.world.states()

    def teardown(self) -> None:
        self.ledger.close()

    # what holders do, with leases old and new

    @rule(slots=st.sampled_from([None, 2]))
    def claim(self, slots: int | None) -> None:
        more = {} if slots is None else {"connections": slots, "want": 2}
        self._lease(self.world.claim(**more))

    @rule()
    def retry(self) -> None:
        self._lease(self.world.retry(now=NOW))

    def _lease(self, held: Batch | None) -> None:
        if held is not None:
            self.leases.append(held)
            assert held.rows
            assert all(self.world.states()[row.key] == State.LEASED for row in held.rows)

    @precondition(lambda self: self.leases)
    @rule(which=NTH, mails=st.lists(NTH, min_size=1, max_size=4), other_body=st.booleans())
    def arm_some(self, which: int, mails: list[int], other_body: bool) -> None:
        rows = self._rows(which)
        wanted = [rows[mail % len(rows)] for mail in mails]
        items = [arm(row, body="0" * 64 if other_body and n == 0 else "1" * 64) for n, row in enumerate(wanted)]
        for item, result in zip(items, self._apply(items), strict=True):
            if result.ok:
                self.armed.append(item)
                assert self.world.states()[item.key] == State.SENDING

    @precondition(lambda self: self.armed)
    @rule(tries=st.lists(NTH, min_size=1, max_size=4), outcome=ENDINGS, first=st.booleans())
    def finish_some(self, tries: list[int], outcome: TryOutcome, first: bool) -> None:
        chosen = [self.armed[n % len(self.armed)] for n in tries]
        more = {"due_at": NOW - timedelta(seconds=1)} if outcome is TryOutcome.DEFERRED else {}
        for item, result in zip(chosen, self._apply([end(item, outcome, **more) for item in chosen]), strict=True):
            assert isinstance(result, Applied)
            if result.ok and result.state is not None and chosen.count(item) == 1:
                assert self.world.states()[item.key] == result.state

    @precondition(lambda self: self.leases)
    @rule(which=NTH, mail=NTH, outcome=st.sampled_from([TryOutcome.DEFERRED, TryOutcome.REJECTED]), old=st.booleans())
    def refuse_one(self, which: int, mail: int, outcome: TryOutcome, old: bool) -> None:
        rows = self._rows(which)
        at = NOW - timedelta(hours=49 if old else 1)
        self._apply([refuse(rows[mail % len(rows)], outcome, at=at)])

    @precondition(lambda self: self.leases)
    @rule(which=NTH, mail=NTH, kind=st.sampled_from(["give", "quarantine", "suppress", "end"]))
    def let_go(self, which: int, mail: int, kind: str) -> None:
        held = self.leases[which % len(self.leases)]
        row = held.rows[mail % len(held.rows)]
        items: dict[str, Transition] = {
            "give": GiveBack(keys=(row.key,), batch_id=held.id, epoch=held.epoch),
            "quarantine": Quarantine(key=row.key, epoch=held.epoch, reason="x"),
            "suppress": Suppress(key=row.key, epoch=held.epoch, reason="x"),
            "end": EndBatch(batch_id=held.id, epoch=held.epoch),
        }
        self._apply([items[kind]])

    @rule()
    def everybody_dies(self) -> None:
        with self.ledger.write() as conn:
            if self.ledger.dialect != "sqlite":
                conn.execute(update(batch).values(lease_until=LONG_AGO))
                conn.execute(update(provider_slot).values(lease_until=LONG_AGO))
                conn.execute(update(try_).values(armed_at=LONG_AGO))
            batches.recover(conn, NOW)
        assert not {State.LEASED, State.SENDING} & set(self.world.states().values())

    # what rules and operators do

    @rule(mail=NTH)
    def replan(self, mail: int) -> None:
        self._apply([Replan(keys=(self.keys[mail],), plan_id=self.world.plan_id, reason="relay", at=NOW)])

    @rule(mail=NTH, hold=st.booleans())
    def hold_or_unhold(self, mail: int, hold: bool) -> None:
        act = vetoes.hold if hold else vetoes.unhold
        with self.ledger.write() as conn:
            act(conn, VetoKind.DELIVERY, self.keys[mail], reason="x", who="me", now=NOW)

    @rule(mail=NTH)
    def veto(self, mail: int) -> None:
        told = Veto(kind=VetoKind.DELIVERY, subject=self.keys[mail], reason=VetoReason.DELIVERED)
        with self.ledger.write() as conn:
            vetoes.put(conn, [told], source="collect", now=NOW)

    @rule(mail=NTH, what=st.sampled_from(["accepted", "not", "release", "close"]))
    def decide_doubt(self, mail: int, what: str) -> None:
        key = self.keys[mail]
        if self.world.states().get(key) != State.IN_DOUBT:
            return
        with self.ledger.write() as conn:
            match what:
                case "accepted":
                    assert doubt.settle_accepted(conn, key, evidence="mail.log:1", now=NOW, remote_qid="Q")
                case "not":
                    assert doubt.settle_not_accepted(conn, key, evidence="mail.log:1", now=NOW)
                case "release":
                    assert doubt.release(conn, keys=[key], confirm=1, reason="x", who="me", now=NOW) == 1
                case _:
                    assert doubt.close(conn, keys=[key], confirm=1, reason="x", who="me", now=NOW) == 1

    @rule()
    def finish_plan(self) -> None:
        with self.ledger.write() as conn:
            lifecycle.finish_plan(conn, self.world.plan_id, now=NOW)

    @precondition(lambda self: len(self.leases) > 5)
    @rule()
    def close_plan(self) -> None:
        try:
            with self.ledger.write() as conn:
                lifecycle.close_plan(conn, self.world.plan_id, reason="x", who="me", now=NOW)
        except LockHeld:
            assert {State.LEASED, State.SENDING} & set(self.world.states().values())

    def _rows(self, which: int) -> tuple[Delivery, ...]:
        return self.leases[which % len(self.leases)].rows

    def _apply(self, items: list[Transition]) -> list[Result]:
        results = self.ledger.apply(items)
        assert len(results) == len(items)
        return results

    @invariant()
    def every_change_is_in_the_table(self) -> None:
        after = self.world.states()
        changed = {(state, after[key]) for key, state in self.before.items() if state != after[key]}
        assert changed <= _reachable(), changed - _reachable()
        self.before = after

    @invariant()
    def nothing_is_broken(self) -> None:
        if self.before:
            broken = faults(self.ledger)
            assert not broken, broken


def _reachable() -> set[tuple[State, State]]:
    """Single steps, and two where one call makes two: several endings of one mail may ride in one group."""
    return set(TRANSITIONS) | COMPOUND


def test_random_runs_on_sqlite() -> None:
    with tempfile.TemporaryDirectory() as folder:
        count = iter(range(100_000))
        LedgerMachine.open = staticmethod(lambda: open_ledger("", Home(Path(folder) / str(next(count))).create()))
        run_state_machine_as_test(LedgerMachine, settings=_settings(40))


@pytest.mark.postgres
def test_random_runs_on_postgresql(postgres_server: object, home: Home) -> None:
    from tests.postgres import Server

    assert isinstance(postgres_server, Server)
    server = postgres_server
    LedgerMachine.open = staticmethod(lambda: open_ledger(server.database(), home))
    run_state_machine_as_test(LedgerMachine, settings=_settings(8))


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        derandomize=True,
        database=None,
    )
