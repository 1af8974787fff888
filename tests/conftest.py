"""Fixtures for the whole suite: a home, and the ledger on both databases."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import pytest

from resend.config import PREFIX
from resend.stores import mxdns
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from tests import postgres

os.environ.setdefault(f"{PREFIX}DNS__ENABLED", "false")  # for what reads the environment, processes of tests too
_ask_whom = mxdns._resolver


@pytest.fixture(autouse=True, scope="session")
def no_questions_leave() -> Iterator[None]:
    """Only name servers that a test names itself are asked."""

    def named(config):
        if not config.nameservers:
            raise dns.exception.DNSException("a test asks the machine's name server")
        return _ask_whom(config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mxdns, "_resolver", named)
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A private PostgreSQL server, one for each test process."""
    yield from postgres.start_or_skip()


@pytest.fixture(scope="session")
def empty_ledger(postgres_server: postgres.Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a database with the ledger's tables and nothing in them, to copy from."""
    url = postgres_server.database()
    open_ledger(url, Home(tmp_path_factory.mktemp("template"))).close()
    return url.rpartition("/")[2]


@pytest.fixture(scope="session")
def empty_ledger_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file of SQLite: copying it takes a tenth of the time that the migrations take."""
    home = Home(tmp_path_factory.mktemp("template"))
    open_ledger("", home).close()
    return home.ledger_db


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A fresh home directory."""
    return Home(tmp_path / "home").create()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def ledger_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """`ledger.url` of an empty ledger: "" (SQLite in the home), and a new PostgreSQL database."""
    if request.param == "sqlite":
        yield ""
        return
    server: postgres.Server = request.getfixturevalue("postgres_server")
    url = server.database(template=request.getfixturevalue("empty_ledger"))
    yield url
    server.drop(url)


@pytest.fixture
def ledger(ledger_url: str, home: Home, empty_ledger_file: Path) -> Iterator[Ledger]:
    """An open, empty ledger; every test that takes it runs on both databases."""
    if not ledger_url:
        shutil.copy(empty_ledger_file, home.ledger_db)
    opened = open_ledger(ledger_url, home)
    yield opened
    opened.close()
