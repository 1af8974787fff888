"""Paths that cannot be collected stop no other: each is one error that says what, where and what next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resend.collect.collect import CollectSummary, NothingCollected
from resend.collect.explain import explain
from resend.collect.rejected import rejected
from resend.errors import InputError
from resend.stores import content
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from tests.collect.reading import REPOSITORY, mails, numbers, rows

Gather = Callable[..., CollectSummary]
ODD_NAME = os.fsdecode(b"mail-\xff.log")


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make a file or folder one that may not be read, for root as well."""
    closed: set[str] = set()

    def refuse(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            if str(path) in closed:
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *rest, **named)

        return call

    monkeypatch.setattr(Path, "open", refuse(Path.open))
    monkeypatch.setattr(os, "scandir", refuse(os.scandir))
    return lambda path: closed.add(str(path))


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_the_rest_is_collected(tmp_path: Path, home: Home, gather: Gather, close: Callable[[Path], None]) -> None:
    logs = [text(tmp_path / name, mails(10, first=100 * number)) for number, name in enumerate(("a.log", "z.log"))]
    secret = text(tmp_path / "secret.log", mails(1))
    close(secret)
    other = text(tmp_path / "text.log", "once upon a time\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    missing = tmp_path / "missing.log"
    summary = gather([missing, logs[0], secret, pipe, other, empty, logs[1]], year=2026)
    assert (summary.files, summary.parsed) == (2, 100)
    told = {line.partition(": ")[0]: line.partition(": ")[2] for line in summary.unread}
    assert set(told) == {str(path) for path in (missing, secret, pipe, other, empty)}
    assert len(summary.unread) == 5
    assert told[str(missing)].startswith("no such file; ")
    assert told[str(secret)].startswith("cannot read: Permission denied; check its owner and mode")
    assert told[str(other)].startswith("not a log format known here; it begins 'once upon a time'; name the format")
    assert all("; " in why for why in told.values()), "the next step"
    assert numbers(home)[:2] == (100, 100)
    assert len(Evidence(home).sources()) == 2


def test_where_nothing_is_left_each_is_told(tmp_path: Path, home: Home, gather: Gather) -> None:
    paths = [tmp_path / "missing.log", text(tmp_path / "text.log", "once upon a time\n")]
    with pytest.raises(NothingCollected, match="none of 2 could be collected; the first: no such file") as error:
        gather(paths)
    assert [line.partition(": ")[0] for line in error.value.unread] == [str(path) for path in paths]
    assert not home.evidence.exists()


def test_in_a_folder_other_files_are_no_error_and_closed_ones_are(
    tmp_path: Path, gather: Gather, close: Callable[[Path], None]
) -> None:
    text(tmp_path / "logs/mail.log", mails(10))
    text(tmp_path / "logs/readme.txt", "hello\n")
    close(text(tmp_path / "logs/secret.log", mails(10, first=50)))
    text(tmp_path / "logs/sub/cur/old.log", mails(10, first=70))
    close(tmp_path / "logs/sub/cur")
    text(tmp_path / "logs/sub/new.log", mails(10, first=90))
    summary = gather(tmp_path / "logs", year=2026)
    assert (summary.files, summary.parsed) == (2, 100)
    assert sorted(line.partition(": ")[0] for line in summary.unread) == [
        str(tmp_path / "logs/secret.log"),
        str(tmp_path / "logs/sub/cur"),
    ]
    (warning,) = summary.warnings
    assert "readme.txt" in warning


@pytest.mark.parametrize("box", ["new", "cur"])
def test_of_a_maildir_the_other_folder_is_read(
    tmp_path: Path, gather: Gather, close: Callable[[Path], None], box: str
) -> None:
    for place in ("new", "cur"):
        text(tmp_path / "in/sub" / place / "1.eml", "From: a@b.example\nSubject: x\nMessage-ID: <1@x>\n\nhello\n")
    text(tmp_path / "in/mail.log", mails(2))
    close(tmp_path / "in/sub" / box)
    summary = gather(tmp_path / "in", year=2026)
    assert (summary.files, summary.lines, summary.warnings) == (2, 11, [])
    (said,) = summary.unread
    assert said.startswith(f"{tmp_path / 'in/sub' / box}: cannot read: Permission denied; ")


def test_a_folder_that_cannot_be_looked_into(tmp_path: Path, gather: Gather, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be listed and not entered: no file in it can even be asked for its kind."""
    text(tmp_path / "logs/mail.log", mails(2))
    shut = text(tmp_path / "logs/shut/a.log", mails(2, first=10)).parent
    text(shut / "b.log", mails(2, first=20))
    ask = Path.stat

    def stat(path: Path, **options: Any) -> os.stat_result:
        if shut in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return ask(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    summary = gather(tmp_path / "logs", year=2026)
    assert summary.files == 1
    assert [line.partition(": ")[0] for line in summary.unread] == [str(shut)]


def test_what_vanishes_before_its_turn_leaves_what_was_known(
    tmp_path: Path, home: Home, gather: Gather, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, array = text(tmp_path / "mail.log", mails(10)), tmp_path / "events.json"
    array.write_text('[\n{"RecordType":"Bounce"},\n{"RecordType":"Bounce"}\n]\n')
    gather([log, array], year=2026)
    before = {info.path: info.lines for info in Evidence(home).sources()}
    from resend.collect import sources

    find = sources.find

    def found(*paths: Any, **options: Any) -> Any:
        given = find(*paths, **options)
        log.unlink()
        array.unlink()
        return given

    monkeypatch.setattr("resend.collect.collect.find", found)
    summary = gather([log, array, text(tmp_path / "b.log", mails(3, first=50))], year=2026)
    assert (summary.files, summary.lines) == (1, 15)
    assert [line.partition("; ")[0] for line in summary.unread] == [
        f"{path}: gone since it was looked at" for path in (log, array)
    ]
    after = {info.path: info.lines for info in Evidence(home).sources()}
    assert after == before | {str(tmp_path / "b.log"): 15}


def test_explain_says_why_a_path_cannot_be_read(tmp_path: Path, close: Callable[[Path], None]) -> None:
    log = text(tmp_path / "mail.log", mails(1))
    close(log)
    with pytest.raises(InputError, match="cannot read: Permission denied"):
        explain(f"{log}:1", {}, tz="", zone="UTC")


def test_a_log_whose_name_is_no_utf8(tmp_path: Path, home: Home, gather: Gather) -> None:
    log = text(tmp_path / ODD_NAME, mails(2) + "garbage\n")
    summary = gather(log, year=2026)
    shown = ["mail-?.log:11: no time stamp: garbage"]
    assert summary.rejected_lines == shown
    assert rejected(Evidence(home), 20) == shown
    assert len(rows(home)) == 11


def test_content_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, name: Path) -> None:
            self.handle = name.open("wb")

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.handle.close()

        def write(self, data: bytes) -> None:
            self.handle.write(data[:3])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(content, "open", lambda name, *_, **__: Full(name), raising=False)
    with pytest.raises(OSError, match="No space left"):
        content._put(tmp_path / "kept" / "a.eml", b"Subject: x\r\n")
    assert not list(files_of(tmp_path))


def files_of(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def command(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "resend.cli", "--home", "home", *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", [["collect"], ["triage"]])
def test_the_command_says_each_and_ends_with_3(tmp_path: Path, words: list[str]) -> None:
    text(tmp_path / "ok.log", mails(2))
    text(tmp_path / "text.log", "once upon a time\n")
    assert command(tmp_path, "collect", "ok.log").returncode == 0
    done = command(tmp_path, *words, "ok.log", "text.log", "missing.log", "--json")
    assert done.returncode == 3, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in said] == ["missing.log", "text.log"]
    unread = json.loads(done.stdout.splitlines()[-1])["unread"]
    assert unread == 2 or len(unread) == 2


def test_the_command_ends_with_1_where_nothing_could_be_read(tmp_path: Path) -> None:
    done = command(tmp_path, "collect", "b.log", "a.log", "--json")
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["where"] == "b.log"
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["a.log", "b.log"]
    assert command(tmp_path, "collect", "b.log", "--format", "lotus").returncode == 2


def test_the_command_shows_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    log = text(tmp_path / ODD_NAME, mails(2) + "garbage\n")
    assert command(tmp_path, "collect", str(log), "--year", "2026").returncode == 3
    done = command(tmp_path, "sources", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1])["rejected_lines"] == ["mail-?.log:11: no time stamp: garbage"]
