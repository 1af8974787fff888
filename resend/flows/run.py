"""`run` and `catch-up`, end to end: locks, checks before the first start, recovery, the relay's log, the executor.

Nothing is sent unless the confirmed count is the plan's frozen total and the plan still holds. Raises WrongCount,
StalePlan, LockHeld, UsageError, ConnectError, StoreError.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import uvloop

from resend.clock import SystemClock, format_duration
from resend.config import CatalogConfig, Config, RelayConfig
from resend.errors import ResendError, StalePlan, StoreError, UsageError, WrongCount
from resend.executor.connect import SmtpConnector
from resend.executor.ending import RunSummary
from resend.executor.run import Options, Run
from resend.flows import egress, follow
from resend.flows.mails import Mails
from resend.flows.plan import check_fresh, find_plan
from resend.flows.ready import check_key, lacks
from resend.flows.recovery import unrecovered
from resend.flows.vetoes import project_catalog
from resend.model import PlanState
from resend.planner import lanes
from resend.policy.classify import Rules
from resend.policy.hours import Hours
from resend.policy.providers import ProviderTable
from resend.policy.routes import Routes, routes, unfollowed
from resend.stores import batches, doubt, lifecycle
from resend.stores.catalog import Catalog
from resend.stores.catalog_load import load_catalog
from resend.stores.control import note
from resend.stores.filechecks import altered
from resend.stores.frozen import PlannedMails
from resend.stores.home import Home, exclusive
from resend.stores.keyfile import load_signer
from resend.stores.ledger import Ledger
from resend.stores.plans import PlanFile, plan_path
from resend.stores.rows import PlanRecord
from resend.stores.writer import LedgerWriter

Progress = Callable[[Run], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Flags of `resend run`; None takes the config's value."""

    confirm: int
    connections: int | None = None
    follow: Path | None = None
    blind: bool = False
    in_doubt: str = ""
    evidence_age: timedelta | None = None  # raises [run] max_evidence_age; audited
    not_recovered: str = ""  # why to send to a provider that still refuses; audited
    not_ready: str = ""  # why to send from an address that receivers will distrust; audited
    tell: egress.Tell = lambda _: None  # is given what the preflight found not to be in order
    who: str = "operator"


def run(
    home: Home,
    config: Config,
    ledger: Ledger,
    plan_ref: str,
    options: RunOptions,
    *,
    progress: Progress | None = None,
    max_duration: timedelta | None = None,
) -> RunSummary:
    """Start or resume a plan, and send until nothing is left that is due within `[run] wait`."""
    plan, now = _confirmed(ledger, plan_ref, options), datetime.now(UTC)
    _feedback(config, options)
    with _alone(home, ledger):
        check_key(home, config, plan.id)
        if plan.state is PlanState.READY:
            _check_file(home, plan)
            check_fresh(home, config, ledger, plan, now=now)
            _check_recovered(home, config, ledger, plan, options, now)
            egress.starts(
                home, config, ledger, plan, anyway=options.not_ready, who=options.who, tell=options.tell, now=now
            )
            _start(home, ledger, plan, now)
        else:
            egress.resumed(config, ledger, plan, now=now)
        if options.evidence_age is not None:
            config = _with_age(config, ledger, plan, options, options.evidence_age, now)
        _recover(ledger, now, release=(options.in_doubt or config.run.in_doubt) == "resend", plan_id=plan.id)
        return _execute(home, config, ledger, plan.id, options, progress, due_only=False, max_duration=max_duration)


def catch_up(
    home: Home, config: Config, ledger: Ledger, *, max_duration: timedelta | None, progress: Progress | None = None
) -> RunSummary:
    """Send the rows of all started plans that are due. Safe from a timer: a second one ends with LockHeld."""
    now = datetime.now(UTC)
    with _alone(home, ledger):
        for plan in ledger.plans():
            if plan.state is PlanState.STARTED and plan_path(home, plan.id).is_file():  # else another host's
                check_key(home, config, plan.id)
        _recover(ledger, now, release=config.run.in_doubt == "resend", plan_id="")
        return _execute(
            home, config, ledger, "", RunOptions(confirm=0), progress, due_only=True, max_duration=max_duration
        )


def work(
    home: Home, config: Config, ledger: Ledger, options: RunOptions, *, progress: Progress | None = None
) -> RunSummary:
    """Send whatever is started until told to stop (flows/worker.py): one of several hosts at one ledger."""
    _feedback(config, options)
    with _alone(home, ledger):
        _recover(ledger, datetime.now(UTC), release=False, plan_id="")
        return _execute(home, config, ledger, "", options, progress, due_only=False, stays=True)


def rehearsal(
    home: Home,
    config: Config,
    ledger: Ledger,
    plan_id: str,
    options: RunOptions,
    sink: Routes,
    *,
    progress: Progress | None = None,
) -> RunSummary:
    """As `run`, in a copied ledger that the caller has locked, and everything goes to `sink` (flows/rehearsal.py).

    The relay's log is not followed, the catalog not asked again.
    """
    with ledger.read() as conn:
        if not lifecycle.in_rehearsal(conn):
            raise StoreError("this is no copy of a ledger", where=ledger.where, next_step="report it: a defect")
    plan, now = _confirmed(ledger, plan_id, options), datetime.now(UTC)
    if plan.state is PlanState.READY:
        _check_file(home, plan)
        check_fresh(home, config, ledger, plan, now=now)
        _start(home, ledger, plan, now)
    _recover(ledger, now, release=False, plan_id=plan.id)
    alone = config.model_copy(update={"relay": RelayConfig(), "egress": {}, "catalog": CatalogConfig()})
    return _execute(home, alone, ledger, plan.id, options, progress, due_only=False, sink=sink)


def _confirmed(ledger: Ledger, plan_ref: str, options: RunOptions) -> PlanRecord:
    """The plan, where its total is what the operator said."""
    plan = find_plan(ledger, plan_ref)
    if plan.state is PlanState.CLOSED:
        raise UsageError("the plan is closed", where=f"plan {plan.id[:12]}", next_step="make a new one")
    if options.confirm != plan.total:
        raise WrongCount(
            f"--confirm {options.confirm:,} is not the plan's total of {plan.total:,}; nothing was sent",
            where=f"plan {plan.id[:12]}",
            next_step=f"look at it with 'resend plan show {plan.id[:12]}'",
        )
    return plan


def _check_file(home: Home, plan: PlanRecord) -> None:
    """The file from which the plan starts is the one that was looked at and confirmed."""
    wrong = altered(home, plan.id, plan.params)
    if wrong:
        raise StalePlan(
            f"the plan's file is not what was planned: {wrong}; nothing was sent",
            where=str(plan_path(home, plan.id)),
            next_step=f"restore the file, or close the plan and make a new one: resend plan close {plan.id[:12]}",
        )


def _check_recovered(
    home: Home, config: Config, ledger: Ledger, plan: PlanRecord, options: RunOptions, now: datetime
) -> None:
    """Nothing starts into a provider that still refuses, unless a person says why."""
    with PlanFile(home, plan.id) as frozen:
        providers = {item.provider for item in frozen.batches()}
    found = unrecovered(home, config, ledger, providers, now=now)
    if found and not options.not_recovered:
        name, said = next(iter(sorted(found.items())))
        raise UsageError(
            f"{name} has not recovered: {said}; nothing was sent",
            where=f"plan {plan.id[:12]}",
            next_step="collect the newest log and look at 'resend triage', or say why: --provider-not-recovered REASON",
        )
    with ledger.write() as conn:
        for name, said in sorted(found.items()):
            note(
                conn, "not_recovered", plan_id=plan.id, provider=name, value=said, reason=options.not_recovered,
                who=options.who, now=now,
            )  # fmt: skip


def _with_age(
    config: Config, ledger: Ledger, plan: PlanRecord, options: RunOptions, age: timedelta, now: datetime
) -> Config:
    with ledger.write() as conn:
        note(conn, "evidence_age", plan_id=plan.id, value=format_duration(age), who=options.who, now=now)
    return config.model_copy(update={"run": config.run.model_copy(update={"max_evidence_age": age})})


def _feedback(config: Config, options: RunOptions) -> None:
    """Behind a relay its log tells the fate; without it the operator must say that it is sent blind."""
    unseen = sorted(unfollowed(config, options.follow))
    if unseen and not options.blind:
        known = routes(config).named(unseen[0])
        raise UsageError(
            "mail goes through a relay whose log is not followed: its 250 is not the end",
            where="[relay] log" if known is None else f"{known.where} log",
            next_step="name the log there or with --follow LOG, or say --blind",
        )


@contextmanager
def _alone(home: Home, ledger: Ledger) -> Iterator[None]:
    """SQLite: one run at a time, and the lock proves every former one dead. PostgreSQL has leases for that."""
    with ledger.read() as conn:
        if lifecycle.in_rehearsal(conn):
            raise UsageError(
                "this is the ledger of a rehearsal; nothing of it is ever sent for real",
                where=ledger.where,
                next_step="use the home that the plan was made in",
            )
    lock = exclusive(home.run_lock, what="the run") if ledger.dialect == "sqlite" else nullcontext()
    with lock:
        yield


def _start(home: Home, ledger: Ledger, plan: PlanRecord, now: datetime) -> None:
    with closing(PlannedMails(home, plan.id)) as frozen, ledger.write() as conn:
        lifecycle.start_plan(conn, plan.id, frozen.batches(), frozen.mails(), now=now)


def _recover(ledger: Ledger, now: datetime, *, release: bool, plan_id: str) -> None:
    with ledger.write() as conn:
        batches.recover(conn, now)
        if release:
            doubt.release(conn, plan_id=plan_id, confirm=None, reason="in_doubt = resend", who="operator", now=now)


def _execute(
    home: Home,
    config: Config,
    ledger: Ledger,
    plan_id: str,
    options: RunOptions,
    progress: Progress | None,
    *,
    due_only: bool,
    max_duration: timedelta | None = None,
    stays: bool = False,
    sink: Routes | None = None,
) -> RunSummary:
    """Send. `sink`: everything goes there (a rehearsal), not where the config says."""
    shared = ledger.dialect != "sqlite"
    known = sink or routes(config)
    logs = follow.logs(config, options.follow)
    rates = egress.rates(ledger, plan_id)
    if sink is None:
        egress.note_elsewhere(config, ledger, plan_id, now=datetime.now(UTC))

    async def main() -> RunSummary:
        table = ProviderTable.load(config.providers)
        mails = Mails(home, ledger, load_signer(config))
        async with LedgerWriter(ledger) as writer:
            running = Run(
                plan_id=plan_id,
                worker=f"{socket.gethostname()}:{os.getpid()}" + (f":{secrets.token_hex(2)}" if shared else ""),
                writer=writer,
                clock=SystemClock(),
                connector=SmtpConnector(
                    config.relay, socket.gethostname(), {} if sink else egress.configs(config), config.dns
                ),
                rules=Rules.load(),
                routes=known,
                profile=table.profile,
                own=lambda by, profile: lanes.own(by, profile, known, rates),
                elsewhere=() if sink else egress.Elsewhere(config),
                render=mails,
                options=Options(
                    connections=options.connections or config.run.connections,
                    wait=config.run.wait,
                    retry_after=config.run.retry_after,
                    retry_at_most=config.run.retry_at_most,
                    blind=options.blind,
                    hours=Hours.load(config),
                    due_only=due_only,
                    max_duration=max_duration,
                    shared_pace=shared,
                    stays=stays,
                ),
                lacks=partial(lacks, home, config) if shared else None,
                jitter=random.random,
                progress=progress,
            )
            loop = asyncio.get_running_loop()
            for name in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(name, running.stop, f"signal {name.name}")
            beside = []
            if _queries(config):
                await _refresh(running, home, config, ledger)
                beside.append(asyncio.create_task(_refreshing(running, home, config, ledger)))
            said = bool(options.not_recovered)
            beside += [asyncio.create_task(follow.follow(running, ledger, config, log, anyway=said)) for log in logs]
            try:
                summary = await running.execute()
                if logs:
                    await follow.last_word(running, plan_id)
                    running.check()
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
            if plan_id:
                await writer.call(lambda conn: lifecycle.finish_plan(conn, plan_id, now=datetime.now(UTC)))
            return summary

    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        return uvloop.run(main())
    finally:  # the loop's own handlers outlive it, and would swallow a Ctrl-C that comes after the run
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _queries(config: Config) -> bool:
    """Whether the catalog comes from queries, which a run asks again; files are as old as they are, and it is said."""
    return any(getattr(config.catalog, kind).query for kind in type(config.catalog).model_fields)


async def _refresh(running: Run, home: Home, config: Config, ledger: Ledger) -> None:
    """Ask the queries of [catalog.*] again; older than `max_evidence_age` their knowledge pauses the run."""
    most = config.run.max_evidence_age
    failed = ""
    try:
        await asyncio.to_thread(load_catalog, home, config, from_config=True)
        await asyncio.to_thread(project_catalog, home, ledger, running.clock.now())
    except ResendError as error:
        failed = error.line()
    loaded = Catalog(home).loaded_at()
    age = most * 2 if loaded is None else running.clock.now() - loaded
    running.knows(f"the catalog is {format_duration(age)} old: {failed}" if age > most else "", "catalog")


async def _refreshing(running: Run, home: Home, config: Config, ledger: Ledger) -> None:
    try:
        while True:
            await asyncio.sleep(config.run.max_evidence_age.total_seconds() / 3)
            await _refresh(running, home, config, ledger)
    except Exception as error:
        running.fail(error)
