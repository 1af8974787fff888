"""The guarded script on a real Postfix: hold, release, delete happen; nothing outside of the incident is touched."""

from __future__ import annotations

import json
import os
import re
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, cli, place
from tests.support.postfix import Postfix, postfix, unavailable

__all__ = ["cli", "place"]
pytestmark = [
    pytest.mark.postfix,
    pytest.mark.xdist_group("postfix"),
    pytest.mark.skipif(bool(unavailable()) and not os.environ.get("CI"), reason=unavailable() or "here"),
]
PATIENT = {"queue_run_delay": "1000s", "minimal_backoff_time": "1000s", "maximal_backoff_time": "2000s"}
INSIDE = [["a1@busy.jp"], ["a2@busy.jp"], ["A.Three@busy.jp"], ["a4@busy.jp", "a5@busy.jp"]]
OUTSIDE = [["a6@busy.jp", "b6@other.jp"], ["b7@other.jp"]]


@pytest.fixture
def server(place: Path) -> Iterator[Postfix]:
    """A Postfix in whose queue everything above waits: both domains refuse the connection."""
    closed = {"busy.jp": "smtp:[127.0.0.1]:1", "other.jp": "smtp:[127.0.0.1]:1"}
    with tempfile.TemporaryDirectory(prefix="pq") as folder:
        Path(folder).chmod(0o755)
        with postfix(Path(folder) / "p", closed, PATIENT) as running:
            with smtplib.SMTP("127.0.0.1", running.port) as session:
                for number, recipients in enumerate([*INSIDE, *OUTSIDE]):
                    head = f"Message-ID: <m{number}@example.jp>\r\nSubject: news\r\n\r\n"
                    session.sendmail("bounce@example.jp", recipients, head + "hello\r\n")
            _wait(running)
            yield running


def _wait(server: Postfix) -> None:
    """Until every recipient is deferred, in the queue and in the log."""
    deadline = time.monotonic() + 30
    while True:
        queued = queue(server)
        recipients = [rcpt for one in queued for rcpt in one["recipients"]]
        settled = all(one["queue_name"] == "deferred" for one in queued) and len(recipients) == 8
        if settled and server.log.read_text().count("status=deferred") >= 8:
            return
        assert time.monotonic() < deadline, queued
        time.sleep(0.1)


def queue(server: Postfix) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.queue_json().splitlines()]


def where(server: Postfix) -> dict[str, str]:
    """First recipient -> queue."""
    return {one["recipients"][0]["address"]: one["queue_name"] for one in queue(server)}


def opened(cli: Cli, log: Path) -> None:
    assert cli("collect", str(log)).exit == 0
    result = cli("incident", "open", "busy", "--provider", "busy.jp", "--json")
    assert (result.exit, result.rows[-1]["affected"]) == (0, 6), result.err


def act(cli: Cli, server: Postfix, action: str, *options: str, edit: Any = None) -> subprocess.CompletedProcess[str]:
    """Print the script and run it on the mail host."""
    made = cli("queue", "busy", f"--{action}")
    assert made.exit == 0, made.err
    script = Path(f"{action}.sh")
    script.write_text(edit(made.out) if edit else made.out)
    command = ["sh", str(script), "--config", str(server.config), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def still_queued(cli: Cli) -> int:
    return int(cli("preview", "busy", "--json").rows[-1]["buckets"]["still_queued"])


def confirm(cli: Cli, path: str) -> dict[str, Any]:
    result = cli("queue", "busy", "--confirm", path, "--json")
    assert result.exit in (0, 3), result.err
    return dict(result.rows[-1])


def test_hold_release_and_delete_happen_and_others_stay(cli: Cli, server: Postfix) -> None:
    opened(cli, server.log)
    assert still_queued(cli) == 6
    before = queue(server)

    dry = act(cli, server, "hold")
    assert dry.returncode == 3, dry.stdout + dry.stderr
    assert "would hold     5" in dry.stdout and "refused        1" in dry.stdout
    assert "1 of its 2 recipients are outside of the incident" in dry.stdout
    assert queue(server) == before and not list(Path.cwd().glob("*.result")), "nothing without --yes"

    held = act(cli, server, "hold", "--yes", "--result", "held.txt")
    assert held.returncode == 3, held.stdout + held.stderr
    now = where(server)
    assert {name for name, queue_ in now.items() if queue_ == "hold"} == {item[0] for item in INSIDE}
    assert now["a6@busy.jp"] == now["b7@other.jp"] == "deferred"
    assert still_queued(cli) == 6, "nothing counts before it is confirmed"
    said = confirm(cli, "held.txt")
    assert said["states"] == {"held": 5, "refused": 1} and said["exit"] == 3
    assert still_queued(cli) == 1
    assert confirm(cli, "held.txt") == said, "twice is once"
    again = act(cli, server, "hold", "--yes", "--result", "again.txt")
    assert "held           5" not in again.stdout or again.returncode == 3

    released = act(cli, server, "release", "--yes", "--result", "released.txt")
    assert still_queued(cli) == 6, "a printed release counts at once"
    assert released.returncode == 3 and "released       5" in released.stdout, released.stdout
    assert "hold" not in where(server).values()
    error = cli("queue", "busy", "--confirm", "held.txt").one_error()
    assert "released by a script that was printed later" in error
    assert confirm(cli, "released.txt")["states"] == {"released": 5, "refused": 1}
    assert still_queued(cli) == 6

    _deferred_again(server)
    deleted = act(cli, server, "delete", "--yes", "--result", "deleted.txt")
    assert deleted.returncode == 3, deleted.stdout + deleted.stderr
    assert set(where(server)) == {"a6@busy.jp", "b7@other.jp"}
    assert confirm(cli, "deleted.txt")["states"] == {"deleted": 5, "refused": 1}
    assert still_queued(cli) == 1
    last = act(cli, server, "delete", "--yes")
    assert last.returncode == 3 and "deleted" not in last.stdout.replace(": delete\n", "")
    assert set(where(server)) == {"a6@busy.jp", "b7@other.jp"}


def _deferred_again(server: Postfix) -> None:
    deadline = time.monotonic() + 30
    while set(where(server).values()) != {"deferred"}:
        assert time.monotonic() < deadline, where(server)
        time.sleep(0.2)


def test_another_mail_under_a_listed_queue_id_is_refused(cli: Cli, server: Postfix, place: Path) -> None:
    """The log tells of mails that came two hours before those that have their queue ids now."""

    def earlier(match: re.Match[str]) -> str:
        stamp = match.group()
        if "T" in stamp:
            return (datetime.fromisoformat(stamp) - timedelta(hours=2)).isoformat()
        at = datetime.strptime(f"2024 {stamp}", "%Y %b %d %H:%M:%S") - timedelta(hours=2)  # noqa: DTZ007
        return at.strftime("%b %e %H:%M:%S")

    pattern = re.compile(r"^(\w{3} [ \d]\d [\d:]{8}|\d{4}-\d\d-\d\dT\S+)", re.MULTILINE)
    (place / "old.log").write_text(pattern.sub(earlier, server.log.read_text()))
    opened(cli, place / "old.log")
    before = queue(server)
    for action in ("hold", "delete"):
        done = act(cli, server, action, "--yes", "--result", f"{action}.txt")
        assert done.returncode == 3 and "refused        6" in done.stdout, done.stdout + done.stderr
        assert "another mail has this queue id: it arrived 7" in done.stdout
        assert queue(server) == before
        assert confirm(cli, f"{action}.txt")["states"] == {"refused": 6}
    assert still_queued(cli) == 6


def test_another_sender_is_refused_and_another_host_has_nothing(cli: Cli, server: Postfix) -> None:
    opened(cli, server.log)
    before = queue(server)
    done = act(
        cli, server, "hold", "--yes", edit=lambda text: text.replace("\tbounce@example.jp\t", "\tx@example.jp\t")
    )
    assert done.returncode == 3 and "its sender is not the one of the list" in done.stdout and queue(server) == before
    elsewhere = act(cli, server, "hold", "--yes", "--host", "mta9")
    assert elsewhere.returncode == 2 and "the list is for" in elsewhere.stderr and queue(server) == before
