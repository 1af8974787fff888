"""Units for timers: what they run is what stands on the command line, whatever the home is called."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess

import pytest

from resend.errors import Exit


def test_cron_runs_catch_up_in_this_directory(cli, place):
    line = cli("schedule", "print", "--cron", home="a b 100%").out.strip()
    fields, command = line.split(" cd ", 1)
    assert fields == "*/15 * * * *"
    directory, argv = command.split(" && ")
    assert shlex.split(directory) == [str(place)]
    words = shlex.split(argv.replace("\\%", "%"))
    assert words[words.index("--home") + 1] == str(place / "a b 100%")
    assert words[words.index("catch-up") :] == ["catch-up", "--max-duration", "14m", "--quiet"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_units(cli, place):
    text = cli("schedule", "print", "--systemd", "--every", "1h").out
    for part in text.split("# /etc/systemd/system/")[1:]:
        name, _, unit = part.partition("\n")
        (place / name).write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(place.glob("resend-*")))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_systemd_expands_nothing_of_the_home(cli, place):
    text = cli("schedule", "print", "--systemd", home='a $x %h "q"').out
    (start,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert 'a $$x %%h \\"q\\"' in start
    assert "Persistent=true" in text and "SuccessExitStatus=3 5 7" in text


def test_kubernetes_forbids_two_at_once(cli):
    text = cli("schedule", "print", "--k8s", "--every", "6h").out
    assert "concurrencyPolicy: Forbid" in text and 'schedule: "0 */6 * * *"' in text


def container(cli, tmp_path, script: str) -> tuple[list[str], dict[str, str]]:
    """The command of the printed pod, and an environment in which `resend` is this script."""
    lines = [line.strip() for line in cli("schedule", "print", "--k8s", home="a 'b\" $x").out.splitlines()]
    words = []
    for key in ("command: ", "args: "):
        (line,) = [line for line in lines if line.startswith(key)]
        words += json.loads(line.removeprefix(key))  # a YAML list in JSON's form
    program = tmp_path / "bin" / "resend"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return words, {"PATH": f"{program.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(("code", "told"), [(0, 0), (3, 0), (5, 0), (7, 0), (1, 1), (4, 4), (6, 6), (130, 130)])
def test_kubernetes_counts_as_failed_what_systemd_does(cli, tmp_path, place, code: int, told: int):
    command, environment = container(cli, tmp_path, f'printf "%s\\n" "$@"; exit {code}')
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == told, done.stderr
    assert done.stdout.splitlines()[:3] == ["--home", str(place / "a 'b\" $x"), "catch-up"]


def test_kubernetes_lets_a_run_that_is_told_to_stop_finish(cli, tmp_path):
    drains = "trap 'sleep 0.3; echo drained; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    command, environment = container(cli, tmp_path, drains)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stdout.readline() == "up\n"
        running.terminate()
        out, _ = running.communicate(timeout=30)
    assert (running.returncode, out) == (0, "drained\n")


@pytest.mark.parametrize("argv", [(), ("--cron", "--k8s"), ("--cron", "--every", "7m"), ("--cron", "--every", "90m")])
def test_what_no_timer_can_do_is_refused(cli, argv):
    found = cli("schedule", "print", *argv)
    assert found.exit == Exit.USAGE
    found.one_error()
