"""Files into evidence: twice, grown, rotated, compressed, overlapping, damaged, unknown."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from resend.collect import files
from resend.collect.collect import CollectSummary
from resend.errors import InputError, LockHeld, StoreError
from resend.stores.evidence import Evidence
from resend.stores.home import Home, exclusive
from tests.collect.reading import mail, mails, numbers, rows

Gather = Callable[..., CollectSummary]
NOVEMBER = datetime(2026, 11, 24, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of some hundred kilobytes have several blocks. What the helpers get is cut by the parent."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 64 << 10)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    os.utime(path, (NOVEMBER, NOVEMBER))
    return path


def test_what_is_gone_by_the_time_it_is_looked_at_is_told_and_a_link_to_nowhere_is_no_file(tmp_path: Path) -> None:
    for name in ("a.log", "b.log", "c.log"):
        write(tmp_path / name, "x\n")
    (tmp_path / "nowhere.log").symlink_to("not-there")
    (tmp_path / "round.log").symlink_to("round.log")
    unread: list[InputError] = []
    looked = files._inside(tmp_path, unread)
    first = next(looked)
    gone = next(tmp_path / name for name in ("a.log", "b.log", "c.log") if tmp_path / name != first)
    gone.rename(tmp_path / ".renamed")
    assert len(list(looked)) == 1
    (told,) = unread
    assert "gone since it was looked at" in str(told) and told.where == str(gone)


def test_every_line_is_accounted(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(
        tmp_path / "mail.log", mails(500) + "garbage\nNov 20 10:00:00 mta1 CRON[1]: x\n\n" + mail(501).rstrip("\n")
    )
    summary = gather(log)
    assert (summary.lines, summary.parsed, summary.ignored, summary.rejected) == (2508, 2505, 2, 1)
    assert numbers(home) == (2508, 2505, 2, 1)
    assert summary.rejected_lines == ["mail.log:2501: no time stamp: garbage"]
    (info,) = Evidence(home).sources()
    assert (info.host, info.format, info.path) == ("mta1", "postfix", str(log))
    assert datetime.fromtimestamp(info.first_at / 1e6, UTC) == datetime(2026, 11, 20, 1, 0, tzinfo=UTC)


def test_places_are_lines_of_the_file(tmp_path: Path, home: Home, gather: Gather) -> None:
    text = mails(1500)
    gather(write(tmp_path / "mail.log", text))
    lines = text.splitlines()
    found = rows(home)
    assert len(Evidence(home).manifest().parts) > 3
    assert len(found) == len(lines)
    assert all(f": {row[3]}: " in lines[row[-1] - 1] for row in found)


def test_twice_is_nothing_new(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", mails(1500))
    first = gather(log)
    before, seen = Evidence(home).manifest_id(), rows(home)
    second = gather(log)
    assert first.known_parts == 0 < first.new_parts == second.known_parts
    assert second.new_parts == 0
    assert (second.lines, second.parsed) == (first.lines, first.parsed)
    assert (Evidence(home).manifest_id(), rows(home)) == (before, seen)


def test_a_grown_file_replaces_its_last_part_only(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", mails(1500))
    parts = gather(log).new_parts
    write(log, mails(1600))
    grown = gather(log)
    assert grown.known_parts == parts - 1
    assert numbers(home)[0] == 8000
    assert len(rows(home)) == 8000
    assert len(Evidence(home).sources()) == 1


def test_the_rotated_and_gzipped_copy_is_known(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", mails(1500))
    gather(log)
    before = [row[:-1] for row in rows(home)]
    packed = tmp_path / "mail.log.2.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert gather(packed).new_parts == 0
    assert [row[:-1] for row in rows(home)] == before


def test_what_was_rotated_away_stays(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", mails(100))
    gather(log)
    rotated = tmp_path / "mail.log.1"
    log.rename(rotated)
    write(rotated, mails(120))  # some lines came after the collect, before the rotation
    write(log, mails(50, first=120))
    gather(log)
    assert len({row[3] for row in rows(home)}) == 150  # the lines of the rest were never seen
    gather(rotated)
    assert len({row[3] for row in rows(home)}) == 170
    assert len(rows(home)) == 170 * 5
    assert sorted(Path(info.path).name for info in Evidence(home).sources()) == ["mail.log", "mail.log.1"]


def test_overlapping_files_count_once(tmp_path: Path, home: Home, gather: Gather) -> None:
    gather([write(tmp_path / "a.log", mails(400)), write(tmp_path / "b.log", mails(400, first=300))])
    found = rows(home)
    assert len(found) == 700 * 5
    assert len({row[3] for row in found}) == 700


def test_equal_lines_of_one_file_stay(tmp_path: Path, home: Home, gather: Gather) -> None:
    """Two original recipients can lead to one mailbox: two equal lines are two deliveries, in each copy of the file."""
    text = mail(1) + mail(1).splitlines(keepends=True)[3]
    gather([write(tmp_path / "a.log", text), write(tmp_path / "b.log", text + mail(2))])
    assert sum(row[4] == "attempt" for row in rows(home)) == 3


def test_other_flags_replace_what_was_read(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", mails(1500))
    gather(log)
    first = Evidence(home).sources()[0].first_at
    gather(log, tz="UTC", host="mta9")
    (info,) = Evidence(home).sources()
    assert info.host == "mta9"
    assert info.first_at == first + 9 * 3600 * 1_000_000
    assert len(rows(home)) == 7500


def test_folders_are_walked(tmp_path: Path, gather: Gather) -> None:
    (tmp_path / "logs/old").mkdir(parents=True)
    write(tmp_path / "logs/mail.log", mails(2))
    write(tmp_path / "logs/old/mail.log.1", mails(2, first=2))
    write(tmp_path / "logs/readme.txt", "hello\n")
    write(tmp_path / "logs/.hidden", "x\n")
    summary = gather(tmp_path / "logs")
    assert (summary.files, summary.lines) == (2, 20)
    assert len(summary.warnings) == 1
    assert "readme.txt" in summary.warnings[0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_read_with_its_mark_or_without(tmp_path: Path, home: Home, gather: Gather, encoding: str) -> None:
    log = tmp_path / "mail.log"
    log.write_bytes(mails(2).replace("\n", "\r\n").encode(encoding))
    os.utime(log, (NOVEMBER, NOVEMBER))
    summary = gather(log)
    assert (summary.lines, summary.parsed, summary.rejected) == (10, 10, 0)
    with log.open("ab") as more:
        more.write(mails(1, first=2).encode("utf-16-le" if encoding == "utf-16" else encoding))
    os.utime(log, (NOVEMBER, NOVEMBER))
    assert gather(log).lines == 15
    assert len(rows(home)) == 15


def test_a_cut_gzip_gives_what_came_before(tmp_path: Path, home: Home, gather: Gather) -> None:
    packed = gzip.compress(mails(3000).encode())
    log = tmp_path / "mail.log.gz"
    log.write_bytes(packed[: len(packed) // 2])
    os.utime(log, (NOVEMBER, NOVEMBER))
    summary = gather(log)
    assert "cut short" in summary.warnings[0]
    assert 3000 < summary.parsed < 15000
    assert summary.rejected <= 1  # the line at the cut


def test_a_gzip_with_rubbish_behind_it(tmp_path: Path, gather: Gather) -> None:
    log = tmp_path / "mail.log.gz"
    log.write_bytes(gzip.compress(mails(10).encode()) + b"rubbish")
    summary = gather(log)
    assert summary.parsed == 50
    assert "unreadable" in summary.warnings[0]


def test_a_gzip_bomb_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gather: Gather) -> None:
    monkeypatch.setattr(files, "_RATIO_FROM", 1 << 20)
    monkeypatch.setattr(files, "_RATIO_MAX", 100)
    log = tmp_path / "mail.log.gz"
    log.write_bytes(gzip.compress(mail(1).encode() + b"\0" * (64 << 20)))
    summary = gather(log)
    assert "expands more than" in summary.warnings[0]
    assert summary.parsed == 5


def test_a_compressed_file_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gather: Gather) -> None:
    monkeypatch.setattr(files, "_PACKED_MAX", 5 << 20)
    text = mails(30_000)
    log, plain = tmp_path / "mail.log.gz", tmp_path / "mail.log"
    log.write_bytes(gzip.compress(text.encode(), 1))
    plain.write_text(text, encoding="utf-8")
    summary = gather(log)
    assert f"{log}: a compressed file is read up to 5,242,880 bytes" in summary.warnings[0]
    assert 10_000 < summary.lines < 150_000
    assert summary.lines == summary.parsed + summary.ignored + summary.rejected
    assert not gather(plain).warnings


def test_a_gzip_stream_that_turns_bad(tmp_path: Path, gather: Gather) -> None:
    data = bytearray(gzip.compress(mails(3000).encode()))
    data[len(data) // 2] ^= 0xFF
    log = tmp_path / "mail.log.gz"
    log.write_bytes(data)
    summary = gather(log)
    assert summary.lines > 100
    assert summary.warnings


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"hello world\n", "it begins 'hello world'"),
        ("cron.log", b"Nov 20 10:00:00 mta1 CRON[1]: x\n", "without any line of a mail server"),
        ("photo.jpg", bytes(range(256)) * 4, "not a log format known here"),
    ],
)
def test_an_unknown_format_is_refused(tmp_path: Path, gather: Gather, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        gather(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tz": "Tokio"}, "not a time zone name"),
        ({"format": "lotus"}, "unknown format"),
        ({"year": 99999}, "not a year"),
    ],
)
def test_wrong_flags(tmp_path: Path, gather: Gather, options: dict[str, object], said: str) -> None:
    log = write(tmp_path / "mail.log", mails(1))
    with pytest.raises(InputError, match=said):
        gather(log, **options)


def test_missing_and_unreadable_files(tmp_path: Path, gather: Gather) -> None:
    with pytest.raises(InputError, match="no such file"):
        gather(tmp_path / "nothing.log")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no file in this folder"):
        gather(tmp_path / "empty")


def test_an_empty_file_is_a_source(tmp_path: Path, home: Home, gather: Gather) -> None:
    assert gather(write(tmp_path / "mail.log", "")).lines == 0
    assert numbers(home) == (0, 0, 0, 0)


def test_the_year_flag_dates_the_last_line(tmp_path: Path, home: Home, gather: Gather) -> None:
    line = "{} 10:00:00 mta1 postfix/qmgr[9]: 4A10000001: removed\n"
    log = write(tmp_path / "mail.log", line.format("Dec 31") + line.format("Jan  1"))
    gather(log, year=2021)
    (info,) = Evidence(home).sources()
    assert datetime.fromtimestamp(info.first_at / 1e6, UTC).year == 2020
    assert datetime.fromtimestamp(info.last_at / 1e6, UTC).year == 2021


def test_lost_lines_are_windows(tmp_path: Path, home: Home, gather: Gather) -> None:
    said = "Nov 20 10:10:00 mta1 systemd-journald[401]: Suppressed 8385 messages from /system.slice/postfix.service\n"
    gather(write(tmp_path / "mail.log", mails(3) + said + mails(3, first=9000)))
    assert Evidence(home).sources()[0].gaps == 1
    ((host, start, end),) = Evidence(home).manifest().loss_windows()
    assert host == "mta1"
    assert datetime.fromtimestamp(start / 1e6, UTC) == datetime(2026, 11, 20, 0, 59, tzinfo=UTC)
    assert datetime.fromtimestamp(end / 1e6, UTC) == datetime(2026, 11, 20, 1, 11, tzinfo=UTC)


def test_a_missing_file_between_two_is_a_window(tmp_path: Path, home: Home, gather: Gather) -> None:
    later = mails(3).replace("Nov 20", "Nov 22")
    gather([write(tmp_path / "mail.log.2", mails(3)), write(tmp_path / "mail.log", later)])
    assert len(Evidence(home).manifest().loss_windows()) == 1


def test_a_queue_snapshot(tmp_path: Path, home: Home, gather: Gather) -> None:
    queue = tmp_path / "queue.json"
    item = {
        "queue_name": "deferred",
        "queue_id": "4A10000001",
        "arrival_time": 1795136400,
        "message_size": 1,
        "sender": "bounce@example.jp",
        "recipients": [{"address": "a@b.example", "delay_reason": "busy"}, {"address": "c@d.example"}],
    }
    queue.write_text(json.dumps(item) + "\nrubbish\n[]\n")
    summary = gather(write(tmp_path / "mail.log", mails(1)), queue=queue)
    assert summary.messages_queued == 2
    assert len(summary.warnings) == 2
    import duckdb

    with duckdb.connect() as con:
        Evidence(home).attach(con)
        found = con.execute(
            "SELECT host, qid, recipient, arrival, queue_name, reason FROM snapshot ORDER BY ALL"
        ).fetchall()
    assert found == [
        ("mta1", "", "", None, "", ""),
        ("mta1", "4A10000001", "a@b.example", 1795136400000000, "deferred", "busy"),
        ("mta1", "4A10000001", "c@d.example", 1795136400000000, "deferred", ""),
    ]


@pytest.mark.parametrize(
    "content", [b"rubbish\n", b"\xff\xfe", b'{"queue_id": "A", "arrival_time": 1e300, "recipients": []}']
)
def test_what_is_no_snapshot(tmp_path: Path, gather: Gather, content: bytes) -> None:
    queue = tmp_path / "queue.json"
    queue.write_bytes(content)
    with pytest.raises(InputError, match="not a queue snapshot"):
        gather(write(tmp_path / "mail.log", mails(1)), queue=queue)


def test_files_are_the_owners_only(tmp_path: Path, home: Home, gather: Gather) -> None:
    gather(write(tmp_path / "mail.log", mails(1500)))
    for path in home.evidence.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_live_collect_keeps_others_out(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", mails(1))
    home.create()
    with exclusive(home.evidence_lock, what="the evidence"), pytest.raises(LockHeld):
        gather(log)


def test_a_damaged_store_says_what_to_do(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = write(tmp_path / "mail.log", mails(1))
    gather(log)
    part = next(Evidence(home).parts.glob("*.parquet"))
    part.unlink()
    with pytest.raises(StoreError, match="collect the logs again"):
        rows(home)
    shutil.rmtree(home.evidence)
    gather(log)
    (home.evidence / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match="manifest is damaged"):
        gather(log)


def test_progress_ends_at_the_total(tmp_path: Path, gather: Gather) -> None:
    seen: list[tuple[int, int]] = []
    log = write(tmp_path / "mail.log", mails(1500))
    gather(log, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (log.stat().st_size,) * 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_blocks_do_not_depend_on_how_bytes_come(tmp_path: Path) -> None:
    data = (mails(900) + "x" * 200_000 + "\n" + mails(400)).encode()
    plain, packed = tmp_path / "a.log", tmp_path / "a.log.gz"
    plain.write_bytes(data)
    packed.write_bytes(gzip.compress(data, 1))
    one, two = list(files.blocks(plain, [])), list(files.blocks(packed, []))
    assert [(block.offset, block.length) for block in one] == [(block.offset, block.length) for block in two]
    assert [block.read() for block in one] == [block.read() for block in two]
    assert b"".join(block.read() for block in one) == data
    assert all(block.read().endswith(b"\n") for block in one)
    assert len(one) > 4
