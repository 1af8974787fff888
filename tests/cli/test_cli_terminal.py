"""At a terminal: questions are asked, colours respect NO_COLOR, nothing is asked with --no-input."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tomllib


def at_terminal(place, *argv: str, typed: str = "", env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command whose stdin, stdout and stderr are a terminal; its exit code and all it showed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "resend.cli", *argv],
        cwd=place,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", **(env or {})},
        start_new_session=True,
    )
    os.close(slave)
    os.write(master, typed.encode())
    shown = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(master)
    return process.wait(20), shown.decode()


def test_init_asks_and_writes_what_was_said(place):
    typed = "here\nAsia/Tokyo\nmail.example.jp:2525\n\n"
    code, shown = at_terminal(place, "init", typed=typed)
    assert code == 0, shown
    assert shown.count("?") >= 4
    written = tomllib.loads((place / "resend.toml").read_text())
    assert (written["home"], written["tz"]) == ("here", "Asia/Tokyo")
    assert (written["relay"]["host"], written["relay"]["port"]) == ("mail.example.jp", 2525)


def test_an_answer_that_cannot_be_is_said_and_nothing_is_written(place):
    code, shown = at_terminal(place, "init", typed="\nMars\n\n\n")
    assert code == 2
    assert "Asia/Tokyo" in shown
    assert not (place / "resend.toml").exists()


def test_no_input_asks_nothing(place):
    code, shown = at_terminal(place, "init", "--no-input")
    assert code == 0
    assert "?" not in shown


def test_colour_only_where_it_is_wanted(place):
    assert "\x1b[31m" in at_terminal(place, "nonsense")[1]
    assert "\x1b" not in at_terminal(place, "nonsense", env={"NO_COLOR": "1"})[1]
    assert "\x1b" not in at_terminal(place, "nonsense", env={"TERM": "dumb"})[1]
