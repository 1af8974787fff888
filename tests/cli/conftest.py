"""Runs the real command line: in this process, with what it prints kept, or as a process of its own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resend.cli.border import run


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    exit: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["type"] == kind]

    @property
    def summary(self) -> dict[str, Any]:
        (found,) = self.of("summary")
        return found

    def one_error(self) -> str:
        """The one `error:` line; fails where there is a traceback, another line, or none."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        assert "Traceback" not in self.err + self.out
        return lines[0]


Cli = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory with no configuration, and a home inside it."""
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nobody"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(place: Path) -> Cli:
    """`cli("sources", "--json")` in this process with `--home home`."""

    def call(*argv: str, home: str = "home") -> Result:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run([*(["--home", home] if home else []), *argv])
        return Result(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def process(place: Path) -> Cli:
    """The same as a process of its own."""

    def call(*argv: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Result:
        import os

        done = subprocess.run(
            [sys.executable, "-m", "resend.cli", *argv],
            capture_output=True,
            text=True,
            timeout=60,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env={**os.environ, **(env or {})},
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call
