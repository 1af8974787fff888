"""`resend schedule print`: units for a timer that runs `resend catch-up`. Writes nothing and installs nothing.

Two runs never meet: catch-up holds the run's lock, and the units say the same to their scheduler. Raises UsageError.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import duration, screen_of, workplace
from resend.clock import format_duration
from resend.errors import UsageError

app = typer_app()
schedule_app = typer_app("Units for a timer.")
app.add_typer(schedule_app, name="schedule")
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_SAFE = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


class Kind(StrEnum):
    SYSTEMD = "systemd"
    CRON = "cron"
    K8S = "k8s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be run, where and how often."""

    program: tuple[str, ...]
    argv: tuple[str, ...]
    directory: Path
    every: timedelta


@app.callback()
def _app() -> None:
    """Schedules."""


@schedule_app.callback()
def _schedule() -> None:
    """Units for a timer."""


@schedule_app.command("print")
def print_(
    ctx: typer.Context,
    systemd: Annotated[bool, typer.Option("--systemd", help="a service and a timer")] = False,
    cron: Annotated[bool, typer.Option("--cron", help="a line for crontab")] = False,
    k8s: Annotated[bool, typer.Option("--k8s", help="a CronJob")] = False,
    every: Annotated[str, typer.Option("--every", metavar="T", help="how often, 1m to 1d")] = "15m",
) -> Done:
    """Print units that run catch-up on a timer; installs nothing.

    Each run ends before the next begins, and a second one never starts while the first is going on.
    """
    screen = screen_of(ctx)
    chosen = [kind for kind, wanted in zip(Kind, (systemd, cron, k8s), strict=True) if wanted]
    if len(chosen) != 1:
        raise UsageError("name one scheduler", next_step="one of --systemd, --cron, --k8s")
    interval = duration(every, "--every")
    if interval < _MINUTE or (_HOUR % interval and (interval % _HOUR or _DAY % interval)):
        raise UsageError(
            f"--every {every}: no timer fires so often",
            next_step="one of 1m, 5m, 10m, 15m, 20m, 30m, 1h, 2h, 6h, 12h, 1d",
        )
    _, home = workplace(screen)
    longest = interval - min(_MINUTE, interval / 5)
    argv = (
        "--home",
        str(home.path),
        "catch-up",
        "--max-duration",
        format_duration(longest).replace(" ", ""),
        "--quiet",
    )
    program = shutil.which("resend") or f"{sys.executable} -m resend.cli"
    words = shlex.split(program)
    job = Job(program=tuple(words), argv=argv, directory=Path.cwd(), every=interval)
    text = _WRITERS[chosen[0]](job)
    screen.row("schedule", kind=chosen[0], text=text)
    for line in text.splitlines():
        screen.line(line)
    return Done(summary={"kind": chosen[0]})


def _systemd(job: Job) -> str:
    # systemd expands % and $ in ExecStart; an exit of 3 (rows are due later) or 5 (a run is going on) is no failure.
    command = " ".join(_systemd_word(word) for word in (*job.program, *job.argv))
    return f"""# /etc/systemd/system/resend-catch-up.service
[Unit]
Description=Send the mail that has become due
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={str(job.directory).replace("%", "%%")}
ExecStart={command}
SuccessExitStatus=3 5 7
KillSignal=SIGTERM
TimeoutStopSec=700

# /etc/systemd/system/resend-catch-up.timer
[Unit]
Description=Catch up every {format_duration(job.every)}

[Timer]
OnCalendar={_calendar(job.every)}
Persistent=true

[Install]
WantedBy=timers.target

# then: systemctl daemon-reload && systemctl enable --now resend-catch-up.timer"""


def _systemd_word(word: str) -> str:
    expanded = word.replace("%", "%%").replace("$", "$$")
    if _SAFE.fullmatch(expanded):
        return expanded
    return '"' + expanded.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _calendar(every: timedelta) -> str:
    if every < _HOUR:
        return f"*:0/{every // _MINUTE}"
    return "daily" if every == _DAY else f"0/{every // _HOUR}:00"


def _cron_fields(every: timedelta) -> str:
    if every < _HOUR:
        return f"*/{every // _MINUTE} * * * *"
    return "0 0 * * *" if every == _DAY else f"0 */{every // _HOUR} * * *"


def _cron(job: Job) -> str:
    # cron turns a bare % into the end of the line
    command = shlex.join([*job.program, *job.argv]).replace("%", "\\%")
    return f"{_cron_fields(job.every)} cd {shlex.quote(str(job.directory))} && {command}".replace("\n", " ")


# Kubernetes knows no exit code but 0 that is no failure: a podFailurePolicy that ignores one starts the pod again. So
# a shell says 0 for them. It hands SIGTERM on, and waits again after it: a signal ends `wait` before the child ends.
_NO_FAILURE = """\
told= run=
trap 'told=yes; [ -z "$run" ] || kill -TERM "$run"' TERM
resend "$@" & run=$!
[ -z "$told" ] || kill -TERM "$run"
while :; do told=; wait "$run"; code=$?; [ "$told" ] || break; done
case $code in 3|5|7) exit 0 ;; esac
exit "$code"
"""


def _k8s(job: Job) -> str:
    import json

    arguments = json.dumps([_NO_FAILURE.strip(), "resend", *job.argv], ensure_ascii=False)
    return f"""apiVersion: batch/v1
kind: CronJob
metadata:
  name: resend-catch-up
spec:
  schedule: "{_cron_fields(job.every)}"
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: {int(job.every.total_seconds())}
  jobTemplate:
    spec:
      backoffLimit: 0  # the next run takes up what this one left
      template:
        spec:
          restartPolicy: Never
          terminationGracePeriodSeconds: 700  # the reply after a final dot is waited for
          containers:
            - name: resend
              image: YOUR-IMAGE  # with bulk-resend installed
              # Exit codes 3 (rows are due later), 5 (a run is going on) and 7 (a window is closed) are no failures.
              command: ["sh", "-c"]
              args: {arguments}
              volumeMounts:
                - name: home
                  mountPath: {json.dumps(job.argv[1], ensure_ascii=False)}
          volumes:
            - name: home
              persistentVolumeClaim:
                claimName: resend-home"""


_WRITERS: Mapping[Kind, Callable[[Job], str]] = {Kind.SYSTEMD: _systemd, Kind.CRON: _cron, Kind.K8S: _k8s}
