"""Streams that are closed, full, in another charset or gone: one line, no traceback, and files of ours stay whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_cli_bad_input import LOG


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_closed_streams_are_no_defect(place, closed):
    """A supervisor may start it so. No file of ours may take the number of a stream either."""
    (place / "mail.log").write_text(LOG)
    shut = " ".join(f"{number}>&-" if number != "0" else "0<&-" for number in closed.split())
    words = f"{sys.executable} -m resend --home home collect mail.log --json {shut}"
    done = subprocess.run(["/bin/sh", "-c", words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr and "error" not in done.stderr
    assert list(Path("home/evidence/parts").iterdir())


@pytest.mark.parametrize("argv", [["config", "show"], ["config", "show", "--json"], ["--help"], ["nonsense", "--json"]])
def test_a_full_disk_behind_stdout_is_one_line(place, argv):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "resend", *argv], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert done.returncode == (2 if argv[0] == "nonsense" else 1)
    assert argv[0] != "config" or "standard output: No space left on device" in lines[0]


def test_json_is_utf8_in_every_locale(place):
    (place / "resend.toml").write_text('home = "ほーむ"\n', encoding="utf-8")
    plain = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [sys.executable, "-m", "resend", "config", "show", "--json"], capture_output=True, env=plain, check=True
    )
    (home,) = [row for row in map(json.loads, done.stdout.decode("utf-8").splitlines()) if row.get("key") == "home"]
    assert home["value"].endswith("ほーむ")


def test_figures_of_decisions_are_rounded_for_people():
    from datetime import UTC, datetime

    from resend.cli.options import Options
    from resend.cli.screen import Screen
    from resend.cli.status import _about
    from resend.stores.rows import Decision

    raised = Decision(
        at=datetime.now(UTC), who="rule", what="raised", plan_id="", egress="direct", provider="office365",
        subject="", value="rate=193.60000000000002 ceiling=320.0 in_doubt=1", reason="",
    )  # fmt: skip
    assert _about(Screen(Options()), raised, "") == "office365 rate=193.6 ceiling=320 in_doubt=1"


@pytest.mark.parametrize(
    ("defect", "where", "says"),
    [
        (
            'IO Error: Could not write file \\"/srv/x/.r.tmp\\": No space left on device',
            "/srv/x/.r.tmp",
            "No space left",
        ),
        ('IO Error: Cannot open file "/srv/x/r.parquet": Permission denied', "/srv/x/r.parquet", "Permission denied"),
    ],
)
def test_what_the_disk_refuses_duckdb_is_no_defect(cli, place, monkeypatch, defect, where, says):
    import duckdb

    def refused(*_: object, **__: object) -> None:
        raise duckdb.IOException(defect)

    (place / "r.csv").write_text("id,customer,title,sender\nr1,c1,One,news@example.jp\n")
    monkeypatch.setattr("resend.stores.catalog_load._write", refused)
    row = cli("catalog", "load", "--releases", "r.csv", "--json").rows[-1]
    assert (row["type"], row["code"], row["where"]) == ("error", 1, where)
    assert row["what"].startswith(says) and row["next"]


def test_a_file_that_cannot_be_written_whole_leaves_nothing(place, monkeypatch):
    from resend.stores.home import replace_file

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as raised:
        replace_file(place / "manifest.json", b"x" * 100)
    assert raised.value.filename == str(place / "manifest.json")
    assert not list(place.iterdir())


def test_no_helper_draws_a_progress_bar_on_stdout():
    """DuckDB takes a process whose `__main__` has no file, as helpers of a pool are, for a person at a prompt."""
    code = (
        "from resend.stores import sql\n"
        "print(sql.connect().execute(\"SELECT current_setting('enable_progress_bar')\").fetchone())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(False,)\n"


def test_a_log_whose_name_is_no_utf8(cli, place):
    name = os.fsdecode(b"mail\xff.log")
    (place / name).write_text(LOG.replace("4ABC", "4A1B2C3D4E"))
    done = cli("collect", name, "--json")
    assert done.exit == 0, done.err
    assert done.of("source")[0]["path"].endswith("mail\udcff.log")
    assert cli("collect", name).exit == 0, "it is known again"
    assert cli("sources").exit == 0
    assert cli("outcomes", "--json").exit == 0


def test_ctrl_c_in_the_middle_of_a_query_is_an_interruption(cli, place, monkeypatch):
    import signal
    import threading
    import time

    from resend.stores import sql

    def long_query(*_: object, **__: object) -> None:
        with sql.connect() as con:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            until = time.monotonic() + 20
            while time.monotonic() < until:  # whatever a query takes: the signal meets one of them
                con.execute(
                    "SELECT count(*) FROM range(5000) AS a, range(100000) AS b WHERE a.range % 7 = b.range % 11"
                )

    (place / "r.csv").write_text("id,customer,title,sender\nr1,c1,One,news@example.jp\n")
    monkeypatch.setattr("resend.stores.catalog_load._write", long_query)
    done = cli("catalog", "load", "--releases", "r.csv", "--json")
    assert done.exit == 130, done.err
    assert done.rows[-1]["code"] == 130 and done.rows[-1]["where"] == "resend catalog load"
    assert "error: interrupted" in done.err
    assert not list(place.glob("**/traceback-*"))


def test_work_goes_on_when_nobody_reads_its_progress(monkeypatch):
    """`resend run ... 2>&1 >/dev/null | head -1` must not end a run in the middle."""
    from resend.cli import progress
    from resend.cli.options import Options
    from resend.cli.screen import Screen

    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(progress, "_FIRST_LINE_S", 0.0)
    with os.fdopen(write, "w") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        screen = Screen(Options())
        with progress.Progress(screen, "run", "mails") as shown:
            for done in range(3):
                shown(done, 3)
        screen.note("said to nobody")
        os.dup2(os.open(os.devnull, os.O_WRONLY), gone.fileno())  # what is left in its buffer goes there
