"""Units for timers: what they run is what stands on the command line, whatever the home is called."""

from __future__ import annotations

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


@pytest.mark.parametrize("argv", [(), ("--cron", "--k8s"), ("--cron", "--every", "7m"), ("--cron", "--every", "90m")])
def test_what_no_timer_can_do_is_refused(cli, argv):
    found = cli("schedule", "print", *argv)
    assert found.exit == Exit.USAGE
    found.one_error()
