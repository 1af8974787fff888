"""Catalog files as they really arrive: every bad row is named with file and line, every good one loads unchanged."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resend.clock import from_text, to_micros
from resend.errors import InputError, StoreError, UsageError
from resend.policy.address import fold, rcpt_key, validate_rcpt
from resend.stores import sql
from resend.stores.catalog import Catalog
from resend.stores.catalog_check import prepare
from resend.stores.catalog_load import CatalogSummary
from resend.stores.catalog_rejected import KEPT, Rejected, write_all
from resend.stores.catalog_rows import SHAPES, read_file
from resend.stores.home import Home

Load = Callable[..., CatalogSummary]
Rows = Callable[[str], list[tuple[Any, ...]]]
RELEASES = "id,customer,title,sender\nR1,C1,First,pr@example.jp\n"


def test_a_good_file_loads_with_bom_crlf_japanese_and_quoted_line_breaks(rows: Rows, load: Load) -> None:
    text = (
        "\ufeffid,address,name,unsubscribed_at,attr.outlet,attr.greeting\r\n"
        'r1,Taro.Yamada@Example.JP,山田 太郎,,朝刊,"一行目\r\n二行目"\r\n'
        '"r2",..docomo..user.@docomo.ne.jp,"O""Brien, Pat",2026-11-20T09:00:00+09:00,,\r\n'
    )
    summary = load(recipients=text)
    assert (summary.loaded, summary.rejected, summary.warnings) == ({"recipients": 2}, 0, [])
    found = rows("SELECT id, address, rcpt_key, folded, name, unsubscribed_at, attrs FROM recipient ORDER BY id")
    assert found[0][:6] == (
        "r1",
        "Taro.Yamada@Example.JP",
        "Taro.Yamada@example.jp",
        "taro.yamada@example.jp",
        "山田 太郎",
        None,
    )
    assert json.loads(found[0][6]) == {"greeting": "一行目\r\n二行目", "outlet": "朝刊"}
    assert found[1][4] == 'O"Brien, Pat'
    assert found[1][5] == to_micros(from_text("2026-11-20T00:00:00Z"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('h,"a@example.jp\r\nRCPT TO:<x@example.jp>",', "address"),
        ('h,"a\n@example.jp",', "address"),
        ("h,a\x00@example.jp,", "address"),
        ("h,no-at-sign,", "address"),
        ("h,a@b@,", "address"),
        ("h,,", "address is empty"),
        (",a@example.jp,", "id is empty"),
        ("r1,a@example.jp,", r"the id is that of recipients\.csv:2"),
        ("h,a@example.jp,2026-11-20T09:00:00", "unsubscribed_at: not an RFC 3339 time with a zone"),
        ("h,a@example.jp,2026-13-20T09:00:00Z", "unsubscribed_at"),
        ("h,a@example.jp,yesterday", "unsubscribed_at"),
        ("h,a@example.jp", "2 fields, the header has 3"),
        ("h,a@example.jp,,,x", "5 fields, the header has 3"),
        ('h,"a@example.jp"x,', "not RFC 4180"),
        ('h,"a@example.jp,', "a quote is never closed"),
        ("h," + "x" * 70_000 + "@example.jp,", "longer than 65,536"),
        ("h," + "x" * 3_000_000 + "@example.jp,", "longer than 65,536"),
        ("h" * 300 + ",a@example.jp,", "longer than 200"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_the_rest_loads(
    rows: Rows, home: Home, load: Load, row: str, reason: str
) -> None:
    text = f"id,address,unsubscribed_at\nr1,one@example.jp,\n\n{row}\nr2,two@example.jp,\n"
    summary = load(recipients=text)
    assert summary.rejected == 1
    assert re.match(rf"recipients\.csv:4: .*{reason}", summary.rejected_rows[0]), summary.rejected_rows[0][:200]
    assert "\n" not in summary.rejected_rows[0] and "\0" not in summary.rejected_rows[0]
    assert rows("SELECT id FROM recipient ORDER BY id") == [("r1",), ("r2",)]
    assert Catalog(home).snapshots()["recipients"].rejected == 1


@pytest.mark.parametrize(
    ("suffix", "head", "good", "broken"),
    [
        (".csv", "id,address\n", "r{},a{}@example.jp\n", "lonely\n"),
        (".jsonl", "", '{{"id": "r{}", "address": "a{}@example.jp"}}\n', "{{lonely\n"),
    ],
)
def test_of_many_rejected_rows_memory_holds_the_first_and_a_file_all(
    home: Home, load: Load, suffix: str, head: str, good: str, broken: str
) -> None:
    """Every other row is broken; the last one is a row, but a bad one."""
    many = KEPT + 200
    text = head + "".join(good.format(n, n) + broken.format() for n in range(many)) + good.format("x", "@")
    summary = load(recipients=text, suffix=suffix)
    assert (summary.loaded, summary.rejected, len(summary.rejected_rows)) == ({"recipients": many}, many + 1, KEPT)
    first = 3 if head else 2
    lines = [*range(first, first + 2 * many, 2), first + 2 * many - 1]
    (path,) = home.catalog.glob("*.rejected.txt")
    written = path.read_text().splitlines()
    assert [entry.split(": ")[0] for entry in written] == [f"recipients{suffix}:{n}" for n in lines]
    assert written[:KEPT] == summary.rejected_rows and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert summary.warnings == [f"all {many + 1:,} rejected recipients are listed in {path}"]
    assert Catalog(home).snapshots()["recipients"].rejected == many + 1
    with pytest.raises(InputError, match="no row is usable"):
        load(recipients=head + broken.format() * many, suffix=suffix)
    assert path.exists(), "a load that changes nothing takes nothing away"
    for number in (2, 3):  # it goes with its snapshot, which the next load keeps beside the new one
        load(recipients=head + good.format(1, 1) + good.format(number, 2), suffix=suffix)
    assert not path.exists()


def test_what_is_kept_of_rejected_rows_does_not_grow() -> None:
    with Rejected() as rejected:
        for number in range(3 * KEPT):
            rejected.add(f"r.csv:{number}", "broken")
        assert (len(rejected.first), rejected.more) == (KEPT, 2 * KEPT)
        assert list(rejected.rest()) == [f"r.csv:{number}: broken\n" for number in range(KEPT, 3 * KEPT)]


def test_a_list_of_rejected_rows_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with Rejected() as rejected:
        for number in range(KEPT + 1):
            rejected.add(f"r.csv:{number}", "broken")
        (tmp_path / "list").mkdir()
        with pytest.raises(OSError, match="directory"):
            write_all(tmp_path / "list", rejected.first, rejected)
    assert [path.name for path in tmp_path.iterdir()] == ["list"]


def test_invalid_utf8_costs_its_own_row_only(rows: Rows, load: Load) -> None:
    summary = load(recipients=b"id,address,name\nr1,a@example.jp,\xff\xfe\nr2,b@example.jp,ok\n")
    assert summary.rejected_rows == ["recipients.csv:2: not valid UTF-8"]
    assert rows("SELECT id FROM recipient") == [("r2",)]


def test_empty_fields_at_the_end_of_a_line_are_nothing(rows: Rows, load: Load) -> None:
    assert load(recipients="id,address\nr1,a@example.jp,,\n").rejected == 0
    assert load(recipients="id,address\nr1,a@example.jp,,\nbroken\n").rejected == 1
    assert rows("SELECT id FROM recipient") == [("r1",)]


def test_lines_are_counted_right_behind_quoted_line_breaks(load: Load) -> None:
    text = 'id,address,attr.note\nr1,a@example.jp,"1\n2\n3"\nr2,bad,\n'
    assert load(recipients=text).rejected_rows[0].startswith("recipients.csv:5: address")


def test_unknown_columns_warn_and_lacking_ones_stop(rows: Rows, load: Load) -> None:
    summary = load(recipients="id,address,shoe_size\nr1,a@example.jp,43\n")
    assert len(summary.warnings) == 1 and "'shoe_size'" in summary.warnings[0]
    with pytest.raises(InputError, match=r"recipients\.csv:1.*'address' is lacking"):
        load(recipients="id,mail\nr1,a@example.jp\n")
    with pytest.raises(InputError, match="'release' is lacking"):
        load(sendlog="recipient,message_id\nr1,<a@b>\n")
    with pytest.raises(InputError, match="'recipient' or 'address' is lacking"):
        load(sendlog="release,message_id\nR1,<a@b>\n")
    with pytest.raises(InputError, match="stands twice"):
        load(recipients="id,id,address\nr1,r1,a@example.jp\n")
    with pytest.raises(InputError, match="empty"):
        load(recipients="")
    assert rows("SELECT count(*) FROM recipient") == [(1,)]  # what was loaded before stays


def test_a_file_without_one_usable_row_changes_nothing(rows: Rows, load: Load) -> None:
    load(recipients="id,address\nr1,a@example.jp\n")
    with pytest.raises(InputError, match=r"recipients\.csv:2: no row is usable"):
        load(recipients="id,address\nr1,nobody\n")
    assert rows("SELECT address FROM recipient") == [("a@example.jp",)]


def test_a_missing_file_and_nothing_to_load(load: Load, home: Home, tmp_path: Path) -> None:
    from resend.config import Config
    from resend.stores.catalog_load import load_catalog

    with pytest.raises(InputError, match="no such file"):
        load_catalog(home, Config(), recipients=tmp_path / "absent.csv")
    with pytest.raises(UsageError, match="nothing to load"):
        load()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("R2,C1,,pr@example.jp,,,,,", "title is empty"),
        ('R2,C1,"Two\nlines",pr@example.jp,,,,,', "title holds a line break"),
        ("R2,C1,T,nobody,,,,,", "sender"),
        ("R2,C1,T,pr@example.jp,2026-11-20,,,,", "sent_at"),
        ("R2,C1,T,pr@example.jp,,,10,,", "urgency"),
        ("R2,C1,T,pr@example.jp,,maybe,,,", "withdrawn"),
        ("R2,C1,T,pr@example.jp,,,,../../etc/passwd,", "content"),
        ("R2,C1,T,pr@example.jp,,,,,/etc/passwd.eml.j2", "template"),
        ("R1,C1,T,pr@example.jp,,,,,", r"the id is that of releases\.csv:2"),
    ],
)
def test_bad_releases(rows: Rows, load: Load, values: str, reason: str) -> None:
    text = (
        "id,customer,title,sender,sent_at,withdrawn,urgency,content,template\n"
        f"R1,C1,新製品のお知らせ,pr@example.jp,2026-11-20T09:00:00+09:00,1,9,R1.eml,\n{values}\n"
    )
    summary = load(releases=text)
    assert re.match(rf"releases\.csv:3: .*{reason}", summary.rejected_rows[0])
    assert rows("SELECT id, title, withdrawn, urgency, content FROM release") == [
        ("R1", "新製品のお知らせ", True, 9, "R1.eml")
    ]


def test_urgency_and_withdrawn_have_defaults(rows: Rows, load: Load) -> None:
    load(releases=RELEASES)
    assert rows("SELECT urgency, withdrawn, sent_at, envelope_from FROM release") == [(5, False, None, "")]


def test_suppressions(rows: Rows, load: Load) -> None:
    summary = load(
        suppressions=(
            "address,reason,at,scope\nA@Example.jp,complaint,,all\nb@example.jp,stop,2026-11-01T00:00:00Z,customer:C1\n"
            "c@example.jp,,,\nd@example.jp,stop,,everyone\ne@example.jp,stop,,\n"
        )
    )
    assert [line.split(": ", 1)[0] for line in summary.rejected_rows] == ["suppressions.csv:4", "suppressions.csv:5"]
    assert rows("SELECT folded, scope FROM suppression ORDER BY folded") == [
        ("a@example.jp", ""),
        ("b@example.jp", "customer:C1"),
        ("e@example.jp", ""),
    ]


def test_a_send_log_by_id_takes_the_address_from_the_recipients(rows: Rows, load: Load) -> None:
    summary = load(
        releases=RELEASES,
        recipients="id,address\nr1,A@Example.jp\n",
        sendlog="release,recipient,address,message_id\nR1,r1,,<1@x>\nR1,,b@Example.jp,<2@x>\nR1,,,<3@x>\nR9,r9,,<4@x>\n",
    )
    assert summary.rejected_rows == ["sendlog.csv:4: neither recipient nor address is given"]
    assert rows("SELECT message_id, rcpt_key FROM sendlog ORDER BY message_id") == [
        ("<1@x>", "A@example.jp"),
        ("<2@x>", "b@example.jp"),
        ("<4@x>", ""),
    ]
    assert any("'R9'" in line for line in summary.warnings) and any("'r9'" in line for line in summary.warnings)


def test_jsonl_and_parquet_have_the_same_names(rows: Rows, load: Load, tmp_path: Path) -> None:
    lines = [
        {"id": "r1", "address": "a@example.jp", "attr.outlet": "朝刊", "unsubscribed_at": None},
        {"id": 2, "address": "b@例え.jp", "attr": {"outlet": "夕刊"}},
        {"id": "r3", "address": 5},
        [1],
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines) + "{broken\n"
    summary = load(recipients=text, suffix=".jsonl")
    assert [line.split(": ")[0] for line in sorted(summary.rejected_rows)] == [
        f"recipients.jsonl:{n}" for n in (3, 4, 5)
    ]
    want = [("r1", "a@example.jp", '{"outlet":"朝刊"}'), ("2", "b@xn--r8jz45g.jp", '{"outlet":"夕刊"}')]
    assert rows("SELECT id, rcpt_key, attrs FROM recipient ORDER BY address") == want
    path = tmp_path / "recipients.parquet"
    with sql.connect(threads=1) as con:
        con.execute(
            "COPY (SELECT 'r1' AS id, 'a@example.jp' AS address,"
            " TIMESTAMPTZ '2026-11-20 09:00:00+09' AS unsubscribed_at,"
            f" '朝刊' AS \"attr.outlet\" UNION ALL SELECT 'r2', 'nobody', NULL, NULL) TO {sql.quote(path)}"
        )
    summary = load(recipients=path.read_bytes(), suffix=".parquet")
    assert summary.rejected_rows[0].startswith("recipients.parquet: row 2: address")
    assert rows("SELECT id, unsubscribed_at, attrs FROM recipient") == [
        ("r1", to_micros(from_text("2026-11-20T00:00:00Z")), '{"outlet":"朝刊"}')
    ]
    with pytest.raises(InputError, match="not a Parquet file"):
        load(recipients=b"PAR1 or not", suffix=".parquet")


def test_a_load_replaces_only_what_it_names_and_files_are_private(rows: Rows, home: Home, load: Load) -> None:
    load(releases=RELEASES, recipients="id,address\nr1,a@example.jp\n")
    first = Catalog(home).id()
    load(recipients="id,address\nr2,b@example.jp\n")
    assert Catalog(home).id() != first
    assert rows("SELECT id FROM recipient UNION ALL SELECT id FROM release ORDER BY id") == [("R1",), ("r2",)]
    load(recipients="id,address\nr3,c@example.jp\n")
    assert len(list(home.catalog.glob("recipients-*.parquet"))) == 2  # the one that counts and the one before
    for path in home.catalog.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_unknown_zone_is_said_and_dropped(rows: Rows, load: Load) -> None:
    summary = load(recipients="id,address,tz\nr1,a@example.jp,Asia/Tokyo\nr2,b@example.jp,Mars/Olympus\n")
    assert "'Mars/Olympus' is no time zone" in summary.warnings[0]
    assert rows("SELECT id, tz FROM recipient ORDER BY id") == [("r1", "Asia/Tokyo"), ("r2", "")]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), st.booleans())
def test_whatever_a_csv_writer_wrote_comes_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], broken: bool
) -> None:
    """Fast and slow reader agree with the csv module on values and on line numbers."""
    from resend.config import Config
    from resend.stores.catalog_load import load_catalog

    directory = tmp_path_factory.mktemp("csv")
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerow(["id", "address", "attr.a", "attr.b"])
    for number, pair in enumerate(cells):
        writer.writerow([f"r{number}", f"a{number}@example.jp", *pair])
    text = buffer.getvalue()
    line = text.count("\n") + len(re.findall(r"\r(?!\n)", text)) + 1
    text += "lonely field\r\n" if broken else "last,nobody,,\r\n"
    path = directory / "r.csv"
    path.write_text(text, encoding="utf-8", newline="")
    home = Home(directory / "home")
    summary = load_catalog(home, Config(), recipients=path)
    assert [entry.split(": ")[0] for entry in summary.rejected_rows] == [f"r.csv:{line}"]
    with sql.connect(memory_limit="128MiB", threads=1) as con:
        Catalog(home).attach(con)
        got = [json.loads(attrs) for (attrs,) in con.execute("SELECT attrs FROM recipient ORDER BY id").fetchall()]
    assert got == [{"a": a, "b": b} for a, b in cells]


LOCAL = st.text("abcXYZ019.!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=64)
DOMAIN = st.lists(st.text("aZ9-", min_size=1, max_size=8), min_size=1, max_size=3).map(".".join)


@settings(max_examples=300, deadline=None)
@given(st.builds("{}@{}".format, LOCAL, DOMAIN))
def test_sql_and_python_agree_on_plain_addresses(address: str) -> None:
    with sql.connect(memory_limit="128MiB", threads=1) as con:
        prepare(con)
        row = con.execute("SELECT plain_address(a), plain_key(a), lower(a) FROM (SELECT ? AS a)", [address]).fetchone()
        assert row is not None
        if row[0]:
            assert validate_rcpt(address) == address
            assert (row[1], row[2]) == (rcpt_key(address), fold(address))


@settings(max_examples=200, deadline=None)
@given(
    st.datetimes().map(lambda at: at.isoformat()),
    st.sampled_from(["", "Z", "z", "+09:00", "-03:30", "+00:00", "+0900", " JST"]),
    st.sampled_from(["T", "t", " ", "_"]),
)
def test_sql_and_python_agree_on_plain_times(text: str, zone: str, between: str) -> None:
    text = text.replace("T", between) + zone
    with sql.connect(memory_limit="128MiB", threads=1) as con:
        prepare(con)
        row = con.execute("SELECT plain_time(?)", [text]).fetchone()
        assert row is not None
        if row[0] is not None:
            assert row[0] == to_micros(from_text(text))


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\u009f", "\u0001"])
def test_a_title_with_what_may_break_a_line_is_rejected(load: Load, mark: str) -> None:
    summary = load(releases=RELEASES + f"R2,C1,One{mark}Bcc: x@example.jp,pr@example.jp\n")
    assert summary.rejected_rows == ["releases.csv:3: title holds a line break or another control character"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("id;customer;title;sender\r\n", "not parted by commas"),
        ("sep=;\r\nid;customer;title;sender\r\n", "not parted by commas"),
        ("id\tcustomer\ttitle\tsender\n", "not parted by commas"),
        ("id,customer,title,sender\n".encode("utf-16"), "UTF-16"),
        ("ID,Customer,Title,Sender\n", "write 'ID' as 'id'"),
        ("id,customer,sender\n", "a releases file needs: id, customer, title, sender"),
    ],
)
def test_a_header_of_a_spreadsheet_is_told_from_one_that_lacks_a_column(
    load: Load, data: str | bytes, says: str
) -> None:
    with pytest.raises(InputError, match="is lacking") as raised:
        load(releases=data)
    assert says in raised.value.next_step


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("SET memory_limit = '1KiB'", r"Out of Memory.*; free space"),
        ("SET enable_external_access = false", r"Permission Error.*; export it as JSON lines"),
        ("", r"IO Error.*; see that the file is there"),
    ],
)
def test_what_is_not_the_fault_of_the_rows_is_no_broken_csv(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str, says: str
) -> None:
    path = tmp_path / "recipients.csv"
    path.write_text("id,address\nr1,a@example.jp\n")
    if not setting:  # gone between two looks at it

        def last_look(path: Path, shape: object) -> list[str]:
            path.unlink()
            return ["id", "address"]

        monkeypatch.setattr("resend.stores.catalog_rows._header", last_look)
    with sql.connect(threads=1) as con:
        con.execute(setting or "SELECT 1")
        with pytest.raises(StoreError, match=says) as raised:
            read_file(con, SHAPES["recipients"], path, Rejected())
    assert "\n" not in raised.value.line()


def test_ctrl_c_while_a_csv_is_read_is_no_broken_csv_either(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stopped(*_: object) -> str:
        raise duckdb.InterruptException("INTERRUPT Error: Interrupted!")

    path = tmp_path / "recipients.csv"
    path.write_text("id,address\nr1,a@example.jp\n")
    monkeypatch.setattr("resend.stores.catalog_rows._select", stopped)
    with sql.connect(threads=1) as con, pytest.raises(duckdb.InterruptException):
        read_file(con, SHAPES["recipients"], path, Rejected())


def test_what_is_no_text_is_not_made_to_be(rows: Rows, load: Load, tmp_path: Path) -> None:
    base = {"id": "R1", "customer": "C1", "title": "First", "sender": "pr@example.jp"}
    lines = [base, base | {"id": "R2", "title": {"en": "x"}}, base | {"id": "R3", "customer": ["C1"]}]
    text = "".join(json.dumps(line) + "\n" for line in [*lines, base | {"id": "R4", "title": "\ud83d"}])
    summary = load(releases=text, suffix=".jsonl")
    assert summary.rejected_rows == [
        "releases.jsonl:2: title is an object, not text",
        "releases.jsonl:3: customer is a list, not text",
        "releases.jsonl:4: title holds half of a surrogate pair",
    ]
    path = tmp_path / "made.parquet"
    for value in ("{'en': 'x'}", "['x']", "'x'::BLOB"):
        with sql.connect(threads=1) as con:
            con.execute(
                f"COPY (SELECT 'R1' AS id, 'C1' AS customer, {value} AS title, 'pr@example.jp' AS sender)"
                f" TO {sql.quote(path)}"
            )
        with pytest.raises(InputError, match=r"column 'title' is .*, not text"):
            load(releases=path.read_bytes(), suffix=".parquet")
    assert rows("SELECT id FROM release") == [("R1",)]
