"""Files that are not what they seem, and machines that fail: said with the file's name, the rest collected."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from resend.collect import files, parse
from resend.collect.collect import CollectSummary
from resend.collect.explain import explain
from resend.errors import InputError, StoreError
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from tests.collect.reading import mails, numbers, rows

Gather = Callable[..., CollectSummary]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 64 << 10)


def archive(kind: str) -> bytes:
    out = io.BytesIO()
    data = mails(3).encode()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as zipped:
            zipped.writestr("../../evil.log", data)
    else:
        with tarfile.open(fileobj=out, mode="w:gz" if kind == "tar.gz" else "w") as tarred:
            info = tarfile.TarInfo("../../evil.log")
            info.size = len(data)
            tarred.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_is_not_opened(tmp_path: Path, gather: Gather, kind: str) -> None:
    path = tmp_path / "in" / f"logs.{kind}"
    path.parent.mkdir()
    path.write_bytes(archive(kind))
    with pytest.raises(InputError, match="archives are not opened") as error:
        gather(path)
    assert str(path) in str(error.value)
    (tmp_path / "in/mail.log").write_text(mails(2))
    summary = gather(tmp_path / "in", year=2026)
    assert (summary.files, summary.parsed, len(summary.warnings)) == (1, 10, 1)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["home", "in"]


@pytest.mark.parametrize(("name", "pack"), [("mail.log.bz2", bz2.compress), ("mail.log.xz", lzma.compress)])
def test_other_compressions_and_their_damage(
    tmp_path: Path, home: Home, gather: Gather, name: str, pack: Callable[[bytes], bytes]
) -> None:
    log = tmp_path / name
    log.write_bytes(pack(mails(400).encode()) + pack(mails(100, first=400).encode()))
    assert gather(log, year=2026).parsed == 2500
    whole = pack(os.urandom(0) + b"".join(line.encode() for line in mails(3000).splitlines(keepends=True)))
    log.write_bytes(whole[: len(whole) // 2])
    summary = gather(log, year=2026)
    assert summary.warnings
    assert name in summary.warnings[0]
    assert summary.lines < 15_000


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gather: Gather, pack: Callable[[bytes], bytes]) -> None:
    monkeypatch.setattr(files, "_RATIO_FROM", 1 << 20)
    log = tmp_path / "mail.log.packed"
    log.write_bytes(pack(mails(1).encode() + b"\0" * (32 << 20)))
    summary = gather(log, year=2026)
    assert "expands more than" in summary.warnings[0]
    assert summary.parsed == 5


def test_a_dictionary_that_asks_for_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gather: Gather) -> None:
    monkeypatch.setattr(files, "_XZ_MEMORY", 1 << 20)
    log = tmp_path / "mail.log.xz"
    log.write_bytes(lzma.compress(mails(10).encode()))
    assert "Memory usage limit" in gather(log, year=2026).warnings[0]


def test_a_pipe_is_not_waited_for(tmp_path: Path, gather: Gather) -> None:
    (tmp_path / "logs").mkdir()
    pipe = tmp_path / "logs/mail.pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="write its bytes to a file"):
        gather(pipe)
    (tmp_path / "logs/mail.log").write_text(mails(1))
    (tmp_path / "logs/dangling.log").symlink_to("/nonexistent/mail.log")
    assert gather(tmp_path / "logs", year=2026).files == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, gather: Gather) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/mail.log").write_text(mails(1))
    secret = tmp_path / "logs/secret.log"
    secret.write_text(mails(1))
    secret.chmod(0)
    with pytest.raises(InputError, match="check its owner and mode"):
        gather(secret)
    summary = gather(tmp_path / "logs", year=2026)
    assert (summary.files, len(summary.warnings)) == (1, 1)


def test_many_copies_of_one_file(tmp_path: Path, home: Home, gather: Gather) -> None:
    logs = [tmp_path / f"copy{number}.log" for number in range(6)]
    for log in logs:
        log.write_text(mails(100))
    summary = gather(logs, year=2026)
    assert (summary.new_parts, summary.known_parts) == (1, 5)
    assert len(rows(home)) == 500
    assert len(list(Evidence(home).parts.iterdir())) == 1


def meanwhile(monkeypatch: pytest.MonkeyPatch, log: Path, action: Callable[[], object]) -> None:
    """Do something to `log` after its blocks are cut and before the first is read."""
    cut = files._plain_blocks

    def blocks(path: Path, *rest: Any) -> Iterator[files.Block]:
        found = list(cut(path, *rest))
        if path == log:
            action()
        yield from found

    monkeypatch.setattr(files, "_plain_blocks", blocks)


def test_a_log_that_is_rotated_while_it_is_read(
    tmp_path: Path, home: Home, gather: Gather, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "mail.log"
    log.write_text(mails(900))

    def rotate() -> None:
        log.rename(tmp_path / "mail.log.1")
        log.write_text(mails(900, first=5000))

    meanwhile(monkeypatch, log, rotate)
    summary = gather(log, year=2026)
    assert (summary.parsed, summary.warnings) == (4500, [])
    assert len({row[3] for row in rows(home)} & {f"4A1{number:08X}" for number in range(900)}) == 900


@pytest.mark.parametrize("gone", [True, False])
def test_a_log_that_vanishes_or_shrinks_while_it_is_read(
    tmp_path: Path, home: Home, gather: Gather, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs/a.log"
    log.write_text(mails(900))
    (tmp_path / "logs/b.log").write_text(mails(10, first=7000))
    meanwhile(monkeypatch, log, log.unlink if gone else lambda: os.truncate(log, 1000))
    summary = gather(tmp_path / "logs", year=2026)
    assert summary.parsed >= 50
    assert any("a.log" in warning and "are missing" in warning for warning in summary.warnings)
    assert numbers(home)[0] == summary.lines


def test_a_file_that_is_gone_when_its_turn_comes(
    tmp_path: Path, gather: Gather, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    for log in logs:
        log.write_text(mails(900))
    meanwhile(monkeypatch, logs[0], logs[1].unlink)
    summary = gather(logs, year=2026)
    assert (summary.files, summary.parsed) == (1, 4500)
    (said,) = summary.unread
    assert said.startswith(f"{logs[1]}: gone since it was looked at; ")


def test_a_growing_log_is_read_to_where_it_was(
    tmp_path: Path, home: Home, gather: Gather, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "mail.log"
    log.write_text(mails(900))

    def grow() -> None:
        with log.open("a") as handle:
            handle.write(mails(900, first=900))

    meanwhile(monkeypatch, log, grow)
    assert gather(log, year=2026).parsed == 4500
    monkeypatch.undo()
    assert gather(log, year=2026).parsed == 9000
    assert len(rows(home)) == 9000


@pytest.mark.parametrize("error", [duckdb.IOException("IO Error: no space"), OSError(errno.ENOSPC, "No space left")])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, home: Home, gather: Gather, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    log = tmp_path / "mail.log"
    log.write_text(mails(10))
    gather(log, year=2026)
    before = Evidence(home).manifest_id()
    log.write_text(mails(20))

    def fail(data: bytes, how: parse.Reading, out: Path) -> parse.Parsed:
        out.write_bytes(b"half")
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(parse, "parse_block", fail)
        with pytest.raises(StoreError, match="run the same command again"):
            gather(log, year=2026)
    assert Evidence(home).manifest_id() == before
    assert not list(Evidence(home).parts.glob(".*"))
    assert gather(log, year=2026).parsed == 100


def test_zero_bytes_before_a_line_are_left_out(tmp_path: Path, home: Home, gather: Gather) -> None:
    """A file system leaves them of a write that power did not outlast; the line that follows is whole."""
    lines = mails(3).splitlines(keepends=True)
    log = tmp_path / "mail.log"
    log.write_bytes("".join([*lines[:7], "\0" * 3_000, *lines[7:], "\0\0\n"]).encode())
    summary = gather(log, year=2026)
    assert (summary.lines, summary.parsed, summary.ignored, summary.rejected) == (16, 15, 1, 0)
    assert sorted({row[-1] for row in rows(home)}) == list(range(1, 16))
    assert explain(f"{log}:8", {}, tz="", zone="UTC", year=2026).verdict == "parsed"
