"""`resend check` names what is wrong with the files beside the ledger: gone, damaged or altered."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from resend.stores import lifecycle
from resend.stores.home import Home
from resend.stores.ledger import open_ledger
from resend.stores.plans import PlanFile

HOST = "host jp.mail.protection.outlook.com[198.51.100.7] said: 451 4.7.500 Server busy"
INCIDENTS = "every incident's frozen file is there and whole"
PLANS = "every plan's frozen file is what was confirmed"
MAILS = "the mails of a started plan are those of its file"
EVIDENCE = "every file of the evidence is there and whole"
CATALOG = "every file of the catalog is there and whole"


def lines(number: int) -> str:
    qid = f"4A1B2C3D{number:02X}"
    return (
        f"Nov 20 08:00:00 mx1 postfix/cleanup[1]: {qid}: message-id=<r1.p{number}@example.jp>\n"
        f"Nov 20 08:00:00 mx1 postfix/qmgr[1]: {qid}: from=<news@example.jp>, size=900, nrcpt=1 (queue active)\n"
        f"Nov 20 08:00:05 mx1 postfix/smtp[1]: {qid}: to=<u{number}@kaisha.example.jp>,"
        " relay=jp.mail.protection.outlook.com[198.51.100.7]:25, delay=5, delays=1/1/1/2, dsn=4.7.500,"
        f" status=deferred ({HOST} (in reply to RCPT TO command))\n"
        f"Nov 20 10:00:00 mx1 postfix/qmgr[1]: {qid}: from=<news@example.jp>, status=expired, returned to sender\n"
        f"Nov 20 10:00:00 mx1 postfix/qmgr[1]: {qid}: removed\n"
    )


@pytest.fixture
def home(cli, place: Path) -> Home:
    """A home with evidence, catalog, an incident and a plan of four mails that was started."""
    (place / "resend.toml").write_text("[dns]\nenabled = false\n")
    (place / "mail.log").write_text("".join(map(lines, range(4))))
    (place / "releases.csv").write_text(
        "id,customer,title,sender,sent_at\nr1,c1,T,news@example.jp,2026-11-20T08:00:00Z\n"
    )
    (place / "recipients.csv").write_text("id,address\n" + "".join(f"p{n},u{n}@kaisha.example.jp\n" for n in range(4)))
    sent = "".join(f"r1,p{n},<r1.p{n}@example.jp>\n" for n in range(4))
    (place / "sendlog.csv").write_text("release,recipient,message_id\n" + sent)
    (place / "content").mkdir()
    (place / "content/r1.eml.j2").write_text("Subject: {{ title }}\n\n{{ rcpt }}\n")
    tables = [word for kind in ("releases", "recipients", "sendlog") for word in (f"--{kind}", f"{kind}.csv")]
    for argv in (
        ["collect", "mail.log", "--year", "2026"],
        ["catalog", "load", *tables, "--content", "content"],
        ["incident", "open", "first"],
        ["plan", "make", "first", "--identity", "same"],
    ):
        done = cli(*argv)
        assert done.exit == 0, done.err
    found = Home(place / "home")
    (plan,) = cli("plan", "list", "--json").of("plan")
    with open_ledger("", found) as ledger, PlanFile(found, plan["id"]) as frozen, ledger.write() as conn:
        assert lifecycle.start_plan(conn, plan["id"], frozen.batches(), frozen.rows(), now=datetime.now(UTC)) == 4
    return found


def the(home: Home, pattern: str) -> Path:
    (found,) = home.path.glob(pattern)
    return found


def rewritten(path: Path, query: str) -> None:
    """Put the result of a query over a Parquet file in its place."""
    with duckdb.connect() as con:
        con.execute(f"COPY ({query.format(path=path)}) TO '{path}.new' (FORMAT parquet)")
    Path(f"{path}.new").replace(path)


def altered(pattern: str, query: str) -> Callable[[Home], None]:
    return lambda home: rewritten(the(home, pattern), query)


def gone(pattern: str) -> Callable[[Home], None]:
    return lambda home: the(home, pattern).unlink()


def cut(pattern: str) -> Callable[[Home], None]:
    def act(home: Home) -> None:
        path = the(home, pattern)
        path.write_bytes(path.read_bytes()[:-20])

    return act


def ledger(statement: str) -> Callable[[Home], None]:
    def act(home: Home) -> None:
        con = sqlite3.connect(home.ledger_db)
        con.execute(statement)
        con.commit()
        con.close()

    return act


FAULTS: list[tuple[str, Callable[[Home], None]]] = [
    (INCIDENTS, gone("derived/incident-*.parquet")),
    (INCIDENTS, gone("derived/incident-*.json")),
    (INCIDENTS, cut("derived/incident-*.parquet")),
    (INCIDENTS, altered("derived/incident-*.parquet", "SELECT * FROM read_parquet('{path}') LIMIT 3")),
    (PLANS, gone("derived/plan-*.parquet")),
    (PLANS, cut("derived/plan-*.parquet")),
    (PLANS, altered("derived/plan-*.parquet", "SELECT * FROM read_parquet('{path}') WHERE seq <> 1")),
    (PLANS, altered("derived/plan-*.parquet", "SELECT * REPLACE ('x' AS content_id) FROM read_parquet('{path}')")),
    (PLANS, altered("derived/plan-*.parquet", "SELECT * REPLACE ('e@evil.jp' AS rcpt) FROM read_parquet('{path}')")),
    (PLANS, altered("derived/plan-*.parquet", "SELECT * REPLACE ('direct:x' AS egress) FROM read_parquet('{path}')")),
    (PLANS, ledger("UPDATE plan SET params = replace(params, '{', '{ ')")),
    (MAILS, altered("derived/plan-*.parquet", "SELECT * REPLACE ('' AS envelope_from) FROM read_parquet('{path}')")),
    (MAILS, ledger("UPDATE delivery SET rcpt = 'evil@example.jp' WHERE seq = 0")),
    (MAILS, ledger("UPDATE delivery SET content_id = 'x' WHERE seq = 0")),
    (EVIDENCE, gone("evidence/parts/*.parquet")),
    (EVIDENCE, cut("evidence/parts/*.parquet")),
    (EVIDENCE, lambda home: the(home, "evidence/manifest.json").write_text("{")),
    (CATALOG, gone("catalog/releases-*.parquet")),
    (CATALOG, cut("catalog/sendlog-*.parquet")),
    (CATALOG, altered("catalog/recipients-*.parquet", "SELECT * FROM read_parquet('{path}') LIMIT 2")),
    (CATALOG, lambda home: the(home, "catalog/catalog.json").write_text("{}")),
]  # fmt: skip


def test_each_fault_of_a_file_is_named(cli, home: Home) -> None:
    assert [row for row in cli("check", "--json").of("check") if not row["ok"]] == []
    kept = home.path.with_name("kept")
    shutil.copytree(home.path, kept)
    for number, (invariant, break_) in enumerate(FAULTS):
        shutil.rmtree(home.path)
        shutil.copytree(kept, home.path)
        break_(home)
        result = cli("check", "--json")
        assert result.exit == 1, f"{number} {invariant}"
        broken = {row["invariant"]: row["detail"] for row in result.of("check") if not row["ok"]}
        assert invariant in broken, f"{number} {invariant}: {broken}"
        assert broken[invariant]
