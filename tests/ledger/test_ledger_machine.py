"""Random runs of all that may happen to mails: states change only as TRANSITIONS allows, no invariant breaks."""

from __future__ import annotations

import shutil
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
DOUBT = ("accepted", "not", "release", "give up")
ACTS = [
    *["claim"] * 3,
    *["arm"] * 6,
    *["finish"] * 6,
    *["refuse", "end", "die", "replan"] * 2,
    *["give", "quarantine", "suppress", "hold", "unhold", "unhold", "veto", "close", "finish plan"],
    *DOUBT * 2,
]
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
        self.claim(None)

    def teardown(self) -> None:
        self.ledger.close()

    # One rule, so that hypothesis's choice of rules does not switch sending off in most runs.

    @rule(
        act=st.sampled_from(ACTS),
        which=NTH,
        mail=NTH,
        mails=st.lists(NTH, min_size=1, max_size=4),
        outcome=ENDINGS,
        flag=st.booleans(),
    )
    def step(self, act: str, which: int, mail: int, mails: list[int], outcome: TryOutcome, flag: bool) -> None:
        match act:
            case "claim":
                self.claim(2 if flag else None)
            case "arm":
                self.arm_some(which, mails, flag)
            case "finish":
                self.finish_some(mails, outcome)
            case "refuse":
                self.refuse_one(which, mail, TryOutcome.REJECTED if mail > 4 else TryOutcome.DEFERRED, flag)
            case "give" | "quarantine" | "suppress" | "end":
                self.let_go(which, mail, act)
            case _:
                self.decide(mail, act)

    # what holders do, with leases old and new

    def claim(self, slots: int | None) -> None:
        more = {} if slots is None else {"connections": slots, "want": 2}
        self._lease(self.world.claim(**more) or self.world.retry(now=NOW))

    def _lease(self, held: Batch | None) -> None:
        if held is not None:
            self.leases.append(held)
            assert held.rows
            assert all(self.world.states()[row.key] == State.LEASED for row in held.rows)

    def arm_some(self, which: int, mails: list[int], other_body: bool) -> None:
        states = self.world.states()
        rows = [row for row in self._rows(which) if which > 5 or states[row.key] == State.LEASED]
        if not rows:
            return self.claim(None)
        wanted = [rows[mail % len(rows)] for mail in mails]
        items = [arm(row, body="0" * 64 if other_body and which == 7 else "1" * 64) for row in wanted]
        for item, result in zip(items, self._apply(items), strict=True):
            if result.ok:
                self.armed.append(item)
                assert self.world.states()[item.key] == State.SENDING
        return None

    def finish_some(self, tries: list[int], outcome: TryOutcome) -> None:
        if not self.armed:
            return
        chosen = [self.armed[-1 - n % len(self.armed)] for n in tries]
        more = {"due_at": NOW - timedelta(seconds=1)} if outcome is TryOutcome.DEFERRED else {}
        for item, result in zip(chosen, self._apply([end(item, outcome, **more) for item in chosen]), strict=True):
            assert isinstance(result, Applied)
            if result.ok and result.state is not None and chosen.count(item) == 1:
                assert self.world.states()[item.key] == result.state

    def refuse_one(self, which: int, mail: int, outcome: TryOutcome, old: bool) -> None:
        rows = self._rows(which)
        at = NOW - timedelta(hours=49 if old else 1)
        self._apply([refuse(rows[mail % len(rows)], outcome, at=at)])

    def let_go(self, which: int, mail: int, kind: str) -> None:
        held = self.leases[-1 - which // 3 % len(self.leases)]
        row = held.rows[mail % len(held.rows)]
        items: dict[str, Transition] = {
            "give": GiveBack(keys=(row.key,), batch_id=held.id, epoch=held.epoch),
            "quarantine": Quarantine(key=row.key, epoch=held.epoch, reason="x"),
            "suppress": Suppress(key=row.key, epoch=held.epoch, reason="x"),
            "end": EndBatch(batch_id=held.id, epoch=held.epoch),
        }
        self._apply([items[kind]])

    def everybody_dies(self) -> None:
        with self.ledger.write() as conn:
            if self.ledger.dialect != "sqlite":
                conn.execute(update(batch).values(lease_until=LONG_AGO))
                conn.execute(update(provider_slot).values(lease_until=LONG_AGO))
                conn.execute(update(try_).values(armed_at=LONG_AGO))
            batches.recover(conn, NOW)
        assert not {State.LEASED, State.SENDING} & set(self.world.states().values())

    # what rules and operators do

    def decide(self, mail: int, what: str) -> None:
        key = self.keys[mail]
        if what in DOUBT:
            waiting = [one for one, state in self.world.states().items() if state == State.IN_DOUBT]
            if waiting:
                self._decide_doubt(sorted(waiting)[mail % len(waiting)], what)
        elif what == "die":
            self.everybody_dies()
        elif what == "replan":
            self._apply([Replan(keys=(key,), plan_id=self.world.plan_id, reason="relay", at=NOW)])
        elif what == "close":
            if len(self.leases) > 5:
                self._close_plan()
        else:
            with self.ledger.write() as conn:
                match what:
                    case "hold":
                        vetoes.hold(conn, VetoKind.DELIVERY, key, reason="x", who="me", now=NOW)
                    case "unhold":
                        vetoes.unhold(conn, VetoKind.DELIVERY, key, reason="x", who="me", now=NOW)
                    case "veto":
                        told = Veto(kind=VetoKind.DELIVERY, subject=self.keys[0], reason=VetoReason.DELIVERED)
                        vetoes.put(conn, [told], source="collect", now=NOW)
                    case _:
                        lifecycle.finish_plan(conn, self.world.plan_id, now=NOW)

    def _decide_doubt(self, key: str, what: str) -> None:
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

    def _close_plan(self) -> None:
        try:
            with self.ledger.write() as conn:
                lifecycle.close_plan(conn, self.world.plan_id, reason="x", who="me", now=NOW)
        except LockHeld:
            assert {State.LEASED, State.SENDING} & set(self.world.states().values())

    def _rows(self, which: int) -> tuple[Delivery, ...]:
        return self.leases[-1 - which // 3 % len(self.leases)].rows  # mostly the newest

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
        empty = Home(Path(folder) / "empty")
        open_ledger("", empty).close()
        count = iter(range(100_000))

        def fresh() -> Ledger:
            home = Home(Path(folder) / str(next(count))).create()
            shutil.copyfile(empty.ledger_db, home.ledger_db)
            return open_ledger("", home)

        LedgerMachine.open = staticmethod(fresh)
        run_state_machine_as_test(LedgerMachine, settings=_settings(40))


@pytest.mark.postgres
def test_random_runs_on_postgresql(postgres_server: object, empty_ledger: str, home: Home) -> None:
    from tests.postgres import Server

    assert isinstance(postgres_server, Server)
    server = postgres_server
    LedgerMachine.open = staticmethod(lambda: open_ledger(server.database(template=empty_ledger), home))
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
