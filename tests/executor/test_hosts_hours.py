"""Two hosts at one PostgreSQL keep a daily quota and a send window together, also over midnight of the config's zone.

The database's clock is set as well: its functions stand before the server's own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from resend.config import RelayConfig
from resend.errors import Exit
from resend.executor.connect import SmtpConnector
from resend.executor.ending import RunSummary
from resend.executor.run import Options, Run
from resend.lab.behaviour import Behaviour, Pool
from resend.lab.mx import serve
from resend.model import State
from resend.policy.classify import Rules
from resend.policy.hours import Hours
from resend.policy.routes import Route, Routes
from resend.stores.home import Home
from resend.stores.ledger import open_ledger
from resend.stores.writer import LedgerWriter
from tests import postgres
from tests.executor.test_reactions import profile, render
from tests.executor.test_run_hours import HOURS, TOKYO, Night, SetClock, Zoned, tokyo

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("hosts")]
CLOCK = """
CREATE SCHEMA set_clock;
CREATE TABLE set_clock.ahead (by interval NOT NULL);
INSERT INTO set_clock.ahead VALUES ('0');
CREATE FUNCTION set_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
  'SELECT pg_catalog.clock_timestamp() + by FROM set_clock.ahead';
CREATE FUNCTION set_clock.statement_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
  'SELECT pg_catalog.clock_timestamp() + by FROM set_clock.ahead';
"""


@dataclass
class BothClocks(SetClock):
    """The hosts' clock and the database's, set together."""

    dsn: str = ""

    def set(self, at: datetime) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as con:
            con.execute("UPDATE set_clock.ahead SET by = %s", [at - datetime.now(UTC)])
            super().set(at)


@dataclass
class Hosts(Night):
    """A night with two hosts at once."""

    def together(self, hours: Hours, *, wait_s: float = 0.0) -> list[RunSummary]:
        return asyncio.run(self._together(hours, wait_s))

    async def _together(self, hours: Hours, wait_s: float) -> list[RunSummary]:
        async with (
            serve(Behaviour(pools=(self.pool,)), self.folder) as lab,
            LedgerWriter(self.ledger) as one,
            LedgerWriter(self.ledger) as other,
        ):
            host, _, port = lab.address("p").rpartition(":")
            figures = profile("p", rate=self.rate, start=self.rate, canary=0, dwell=timedelta(0), connections=4)
            hosts = [
                Run(
                    plan_id="",
                    worker=f"{name}:1:x",
                    writer=writer,
                    clock=self.clock,
                    connector=SmtpConnector(RelayConfig(), "client.example.jp"),
                    rules=Rules.load(),
                    routes=Routes(None, {"provider:p": Route(host, int(port), False, "direct")}),
                    profile=lambda _: figures,
                    render=render,
                    options=Options(
                        wait=timedelta(seconds=wait_s), retry_after=timedelta(seconds=1), blind=True, hours=hours,
                        shared_pace=True,
                    ),
                )
                for name, writer in (("one", one), ("other", other))
            ]  # fmt: skip
            return list(await asyncio.wait_for(asyncio.gather(*(run.execute() for run in hosts)), 40))

    def by_day(self) -> Counter[int]:
        """Mails by the day of Tokyo on which MAIL came; the time that it took from there is not the hosts'."""
        tokyo_s = timedelta(hours=9)
        return Counter((at + tokyo_s).day for at, _ in self.mails())


Make = Callable[..., Hosts]


@pytest.fixture
def make(tmp_path: Path, postgres_server: postgres.Server, empty_ledger: str) -> Iterator[Make]:
    url = postgres_server.database(template=empty_ledger)
    name = url.rpartition("/")[2]
    with psycopg.connect(postgres_server.dsn(name), autocommit=True) as con:
        con.execute(CLOCK.encode())
        con.execute(f"ALTER DATABASE {name} SET search_path = set_clock, public, pg_catalog".encode())
    ledger = open_ledger(url, Home(tmp_path / "none"))

    def made(at: datetime, *, count: int) -> Hosts:
        (tmp_path / "receipts").mkdir()
        world = Zoned(ledger, count=count, size=7, provider="p")
        world.start()
        clock = BothClocks(at, dsn=postgres_server.dsn(name))
        pool = Pool(name="p", listen=("127.0.1.45:0",))
        return Hosts(tmp_path / "receipts", ledger, clock, world, rate=100.0, pool=pool)

    try:
        yield made
    finally:
        ledger.close()
        postgres_server.drop(url)


def test_two_hosts_share_a_daily_quota_and_the_next_one_from_midnight_of_the_config(make: Make) -> None:
    hours = Hours(zone=TOKYO, quotas={"p": 15})
    hosts = make(tokyo("24T23:59:56"), count=40)
    summaries = hosts.together(hours, wait_s=8)  # midnight comes while they wait
    assert {summary.exit for summary in summaries} == {Exit.WINDOW}
    assert {summary.shut["p"][0] for summary in summaries} == {tokyo("26T00:00")}
    assert hosts.by_day() == {24: 15, 25: 15}
    assert all(summary.counts["accepted"] for summary in summaries), "both sent"
    assert hosts.states() == {State.ACCEPTED: 30, State.PLANNED: 10}
    hosts.together(hours)
    assert len(hosts.mails()) == 30, "nothing more on this day, also not by another run"
    hosts.clock.set(tokyo("26T00:00:01"))
    assert {summary.exit for summary in hosts.together(hours)} == {Exit.DONE}
    assert len(hosts.mails()) == 40
    hosts.kept(hours)


def test_two_hosts_stop_when_the_window_closes_and_go_on_when_it_opens(make: Make) -> None:
    hosts = make(tokyo("24T20:59:58"), count=150)
    hosts.rate = 50.0
    summaries = hosts.together(HOURS)
    assert {summary.exit for summary in summaries} == {Exit.WINDOW}
    assert {summary.shut["p"] for summary in summaries} == {(tokyo("25T08:00"), "the send window is closed")}
    first = len(hosts.mails())
    assert 0 < first < 150 and max(at for at, _ in hosts.mails()) < tokyo("24T21:00") + timedelta(seconds=0.25)
    assert not {State.LEASED, State.SENDING} & set(hosts.states())
    hosts.clock.set(tokyo("25T07:59:59"))
    assert {summary.exit for summary in hosts.together(HOURS, wait_s=5)} == {Exit.DONE}
    later = [at for at, _ in hosts.mails() if at > tokyo("24T22:00")]
    assert len(later) == 150 - first and min(later) >= tokyo("25T08:00")
    hosts.kept(HOURS)
