"""The views over an incident: sums, shares, and CSV that no spreadsheet runs."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import duckdb
import pytest

from resend.errors import InputError, StoreError
from resend.model import Bucket
from resend.report.impact import cell, impact, write_csv
from resend.stores import sql
from resend.stores.incidents import Mails, Surroundings

HOUR = 3_600_000_000
AT = 490_000 * HOUR
COLUMNS = {
    "outcome_id": "BIGINT", "provider": "VARCHAR", "provider_way": "VARCHAR", "domain": "VARCHAR", "release": "VARCHAR",
    "title": "VARCHAR", "customer": "VARCHAR", "customer_name": "VARCHAR", "cause": "VARCHAR", "arrived_at": "BIGINT",
    "first_failed_at": "BIGINT", "bucket": "VARCHAR", "reason": "VARCHAR", "link_rule": "VARCHAR",
    "confidence": "VARCHAR", "evidence": "VARCHAR", "rcpt_key": "VARCHAR", "sender": "VARCHAR", "message_id": "VARCHAR",
    "link_evidence": "VARCHAR", "doubt": "VARCHAR",
}  # fmt: skip
BASE = ("office365", "relay", "a.example", "R1", "新製品", "C1", "=1+1", "throttled", AT + 5, AT + 6)
LINKED = ("mail.log:1", "a@a.example", "b@x.example", "<1@x>", "mail.log:1 message-id <1@x>", "")
ROWS = [
    (1, *BASE, "resend", "it passes", "10_message_id", "certain", *LINKED),
    (2, *BASE, "resend", "it passes", "10_message_id", "certain", *LINKED),
    (3, *BASE, "never", "unsubscribed", "10_message_id", "certain", *LINKED),
    (
        *(
            4,
            "docomo",
            "domain",
            "-b.example",
            "",
            "",
            "",
            "",
            "unknown",
            None,
            AT + HOUR,
            "unlinked",
            "no rule",
            "",
            "none",
        ),
        *("mail.log:4", "=x@b.example", "", "", "mail.log:4", "no rule names a release"),
    ),
]
MAILS = (
    Mails(dimension="total", value="all", mails=400),
    Mails(dimension="provider", value="office365", mails=100),
    Mails(dimension="release", value="R1", mails=10),
    Mails(dimension="customer", value="C1", mails=30),
    Mails(dimension="hour", value=str(AT), mails=60),
)
ABOUT = Surroundings(
    id="inc-1", name="one", selector={}, evidence_id="e", catalog_id="c", opened_at="", affected=4, no_evidence=2,
    missing=3, own_resends=0, first_at="", last_at="", catalog_loaded_at="", mails=MAILS, warnings=(),
)  # fmt: skip


@pytest.fixture
def con() -> Any:
    with sql.connect(memory_limit="256MiB", threads=1) as con:
        sql.create_table(con, "affected", COLUMNS, ROWS)
        columns = {"dimension": "VARCHAR", "value": "VARCHAR", "mails": "BIGINT"}
        sql.create_table(con, "mails", columns, [(m.dimension, m.value, m.mails) for m in MAILS])
        yield con


def test_sums_and_shares(con: duckdb.DuckDBPyConnection) -> None:
    found = impact(con, ABOUT)
    assert (found.mails, found.affected, found.no_evidence, found.missing) == (400, 4, 2, 3)
    assert sum(row.count for row in found.buckets) == 4 and [row.name for row in found.buckets] == list(Bucket)
    assert found.count(Bucket.RESEND) == 2 and found.count(Bucket.NEVER) == 1 and found.count(Bucket.WAIT) == 0
    for rows in found.tables.values():
        assert sum(row.failed for row in rows) == 4 and sum(row.resend for row in rows) == 2
    short = {
        dimension: [(row.value, row.label, row.mails, row.failed, row.share) for row in rows]
        for dimension, rows in found.tables.items()
    }
    assert short["total"] == [("all", "all", 400, 4, 0.01)]
    assert short["provider"] == [("office365", "office365", 100, 3, 0.03), ("docomo", "docomo", None, 1, None)]
    assert short["release"] == [("R1", "新製品", 10, 3, 0.3), ("-", "-", None, 1, None)]
    assert short["customer"] == [("C1", "=1+1", 30, 3, 0.1), ("-", "-", None, 1, None)]
    assert short["cause"] == [("throttled", "throttled", 400, 3, 0.0075), ("unknown", "unknown", 400, 1, 0.0025)]
    assert [(value[:13], mails, failed) for value, _, mails, failed, _ in short["hour"]] == [
        ("2025-11-24T16", 60, 3),
        ("2025-11-24T17", None, 1),
    ]
    assert found.links == (("10_message_id", "certain", 3), ("", "none", 1))
    assert found.provider_ways == {"relay": 3, "domain": 1}


def test_buckets_that_do_not_add_up_are_a_loud_error(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(StoreError, match="add up to 4, affected are 5"):
        impact(con, dataclasses.replace(ABOUT, affected=5))
    con.execute("INSERT INTO affected SELECT * REPLACE ('elsewhere' AS bucket) FROM affected WHERE outcome_id = 1")
    with pytest.raises(ValueError, match="elsewhere"):
        impact(con, dataclasses.replace(ABOUT, affected=5))


def test_csv_has_a_bom_and_runs_nothing(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    found = impact(con, ABOUT)
    paths = write_csv(found, tmp_path / "out")
    assert {path.name for path in paths} == {f"{name}.csv" for name in (*found.tables, "bucket", "unlinked")}
    for path in paths:
        assert path.read_bytes().startswith(b"\xef\xbb\xbf")
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
        assert all(not text.startswith(("=", "+", "@", "-")) for row in rows for text in row), path
    customers = list(csv.DictReader((tmp_path / "out" / "customer.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert customers[0]["label"] == "'=1+1" and customers[0]["failed"] == "3"
    (missed,) = csv.DictReader((tmp_path / "out" / "unlinked.csv").read_text(encoding="utf-8-sig").splitlines())
    assert missed["evidence"] == "mail.log:4" and missed["recipient"] == "'=x@b.example"
    assert "send log with address and sent_at" in missed["needed"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_csv(found, tmp_path / "file")


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "\n=1"])
def test_what_a_spreadsheet_would_run_is_quoted(text: str) -> None:
    assert cell(text) == "'" + text


def test_numbers_and_plain_text_stay() -> None:
    assert [cell(value) for value in (-5, 0.5, None, "a=1", "")] == [-5, 0.5, "", "a=1", ""]
