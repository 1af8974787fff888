"""`resend demo`: plays the whole incident on loopback with the real commands, a real kill, and the proof.

Nothing is a stand-in: each command that is shown is run as a process of its own, in a home of its own; only the
receiving side is the lab's. Rates in hundreds and times in seconds stand in the resend.toml that it writes and shows.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from resend.clock import to_text
from resend.errors import InputError, ResendError
from resend.lab import proof
from resend.lab.incident import Lab, generate
from resend.lab.pools import to_toml
from resend.lab.receipts import read_events
from resend.stores.export import export_rows
from resend.stores.home import Home
from resend.stores.ledger import open_ledger
from resend.stores.status import decisions as all_decisions

_NAME = "demo"
_KILL_AT = 0.3  # of the plan sent
_RUN_S = 150.0
_TRY = (
    "resend init                                  # in an empty folder",
    "resend collect /var/log/mail.log*            # your own logs; nothing is sent",
    "resend outcomes --status expired             # what never arrived",
)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Played:
    """Whether the proof holds, and its numbers."""

    ok: bool
    summary: Mapping[str, Any]


def demo(*, scale: float, seed: int, keep: Path | None, say: Say, note: Say, plant: str = "") -> Played:
    """Play it in `keep` (an empty or new folder) or in a temporary one. `plant` spoils the proof's input, for tests."""
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise InputError("the folder is not empty", where=str(keep), next_step="name a new one with --keep")
    folder = (keep or Path(tempfile.mkdtemp(prefix="resend-demo-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    say(f"A made-up incident at {scale:g} of the real one, seed {seed}, in {folder}")
    lab = generate(folder, scale=scale, seed=seed, end=end)
    with _receivers(folder, lab) as (addresses, relay):
        _write_config(folder, lab, addresses, relay, say)
        stage = _Stage(folder, say, note)
        played = _play(stage, lab, plant)
    say("")
    say(f"{time.monotonic() - began:.0f} s. Try on your own data, each safe:")
    for line in _TRY:
        say(f"  {line}")
    if keep is None:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) >> 20
        say(f"Logs, ledger and report are still there to look at, {size} MiB; to remove them: rm -r {folder}")
    return played


@dataclass(slots=True)
class _Stage:
    """Where the commands are played."""

    folder: Path
    say: Say
    note: Say

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "resend.cli", *words]

    def show(self, words: Sequence[str]) -> None:
        self.say("")
        self.say(f"$ resend {shlex.join(words)}")

    def play(self, *words: str, may: Sequence[int] = (0,), lines: int = 130) -> list[str]:
        """Show a command, run it, show what it says, and return that. Another exit code than `may` ends the demo."""
        self.show(words)
        done = subprocess.run(self.command(*words), cwd=self.folder, capture_output=True, text=True, timeout=_RUN_S)
        shown = done.stdout.rstrip("\n").splitlines()
        for line in shown[:lines]:
            self.say(line)
        if len(shown) > lines:
            self.say(f"... {len(shown) - lines} more lines")
        for line in done.stderr.strip().splitlines()[-5:]:
            self.note(line)
        if done.returncode not in may:
            raise ResendError(
                f"'resend {words[0]}' ended with exit code {done.returncode}",
                where=f"demo in {self.folder}",
                next_step=f"see its message above, and run it there again: cd {self.folder}",
            )
        return shown

    def next(self, shown: Sequence[str]) -> list[str]:
        """The words of the command that a command says to run next."""
        found = next((line for line in reversed(shown) if line.startswith("next: resend ")), "")
        if not found:
            raise ResendError(
                "no next command was named", where=f"demo in {self.folder}", next_step="read the last one's"
            )
        return shlex.split(found)[2:]

    @contextmanager
    def summary(self, *words: str) -> Iterator[dict[str, Any]]:
        """The JSON summary of a command, not shown, which runs beside what is shown meanwhile; there at the end."""
        found: dict[str, Any] = {}
        with subprocess.Popen(
            self.command("--json", *words),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            yield found
            said, _ = process.communicate(timeout=_RUN_S)
        rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        found.update(rows[-1] if rows else {})


def _play(stage: _Stage, lab: Lab, plant: str) -> Played:
    folder = stage.folder
    logs = sorted({path.parent.relative_to(folder).as_posix() for path in lab.logs})
    stage.play("collect", *logs, "--queue", lab.queue.relative_to(folder).as_posix())
    content = lab.content.relative_to(folder).as_posix()
    tables = []
    for kind in ("releases", "recipients", "sendlog", "suppressions"):
        path = lab.catalog / f"{kind}.csv"
        if path.exists():
            tables += [f"--{kind}", path.relative_to(folder).as_posix()]
    stage.play("catalog", "load", *tables, "--content", content)
    stage.play("incident", "open", _NAME)
    with stage.summary("preview", _NAME) as seen:
        stage.play("preview", _NAME)
    buckets = seen["buckets"]
    (folder / "buckets.json").write_text(json.dumps(buckets))
    run = stage.next(stage.play("plan", "make", _NAME))
    killed = _run_and_kill(stage, run, int(run[-1]))
    stage.play(*run, may=(0, 3))
    stage.play("catch-up", "--max-duration", "20s", may=(0, 3))
    stage.play("reconcile", may=(0, 3))
    stage.play("check")
    stage.play("report", _NAME, "--lang", "ja", "--out", "report")
    stage.play("report", _NAME, "--lang", "en", "--out", "report")
    return _prove(stage, buckets, killed, plant)


def _run_and_kill(stage: _Stage, run: Sequence[str], total: int) -> int:
    """Start the run, SIGKILL it with at least one armed row in the ledger; how many were armed then."""
    stage.show(run)
    database = stage.folder / "home" / "ledger.db"
    process = subprocess.Popen(
        stage.command(*run), cwd=stage.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    armed, deadline = 0, time.monotonic() + _RUN_S
    try:
        while process.poll() is None and time.monotonic() < deadline:
            with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as ledger:
                states = dict(ledger.execute("SELECT state, count(*) FROM delivery GROUP BY state"))
            if states.get("accepted", 0) < total * _KILL_AT:
                time.sleep(0.05)
                continue
            if states.get("sending", 0):
                process.send_signal(signal.SIGKILL)
                process.wait()
                with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as ledger:
                    (armed,) = ledger.execute("SELECT count(*) FROM delivery WHERE state = 'sending'").fetchone()
                break
            time.sleep(0.002)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode == -signal.SIGKILL:
        stage.say(
            f"killed with SIGKILL: {armed} mails were armed, each may or may not have left. The same command resumes:"
        )
    return armed


def _prove(stage: _Stage, buckets: Mapping[str, int], killed: int, plant: str) -> Played:
    folder = stage.folder
    with (
        open_ledger("", Home(folder / "home"), create=False) as ledger,
        ledger.read() as conn,
        (folder / "ledger.jsonl").open("w", encoding="utf-8") as handle,
    ):
        for row in export_rows(conn):
            values = {name: to_text(v) if isinstance(v, datetime) else v for name, v in row.items()}
            handle.write(json.dumps(values, ensure_ascii=False) + "\n")
        decisions = Counter(item.what for item in all_decisions(conn))
    if plant:
        _spoil(folder, plant)
    faults, sums = proof.judge(folder)
    events = [event.event for event in read_events(folder / "receipts")]
    stage.say("")
    stage.say("The proof, from the receivers' own receipts:")
    stage.say(
        f"  {sum(buckets.values()):,} affected, in buckets: " + ", ".join(f"{k} {v:,}" for k, v in buckets.items() if v)
    )
    stage.say(
        f"  {sums['resent']:,} resent, {sums['receipts']:,} receipts, {sums['duplicates']} twice, {sums['lost']} lost"
    )
    stage.say(f"  {sums['in_doubt']} in doubt: the line dropped after the dot and no log tells; a person decides, see")
    stage.say("    'resend doubt list'. Those behind the relay were settled from its log.")
    stage.say(
        f"  {events.count('throttled')} times 451, {decisions.get('halved', 0)} halvings,"
        f" {events.count('blocked')} blocks; {killed} armed at the kill"
    )
    for fault in faults:
        stage.say(f"  FAULT: {fault}")
    stage.say("The proof holds." if not faults else "The proof does NOT hold.")
    reports = sorted((folder / "report").glob("*.html"))
    for path in reports:
        stage.say(f"report: {path}")
    return Played(not faults, {**sums, "buckets": dict(buckets), "blocks": events.count("blocked"), "dir": str(folder)})


def _spoil(folder: Path, plant: str) -> None:
    """Plant one fault where the proof must see it."""
    path = max((folder / "receipts").glob("*.receipts.jsonl"), key=lambda item: item.stat().st_size)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if plant == "removed":
        path.write_text("".join(lines[1:]), encoding="utf-8")
    elif plant == "doubled":
        path.write_text("".join([lines[0], *lines]), encoding="utf-8")
    elif plant == "altered":
        ledger = folder / "ledger.jsonl"
        rows = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
        row = next(row for row in rows if row["state"] == "accepted" and not row["egress"].startswith("relay:"))
        row["body_sha256"] = "0" * 64
        ledger.write_text("".join(json.dumps(item) + "\n" for item in rows), encoding="utf-8")


@contextmanager
def _receivers(folder: Path, lab: Lab) -> Iterator[tuple[dict[str, str], str]]:
    """Start the receiving side and the lab's relay; stop both whatever happens."""
    receipts = folder / "receipts"
    receipts.mkdir(exist_ok=True)
    mx = _start("resend.lab.mx", "--behaviour", str(lab.behaviour), "--receipts", str(receipts))
    relay: subprocess.Popen[str] | None = None
    try:
        addresses = {name: found[0] for name, found in _ready(mx)["pools"].items()}
        described = folder / "relay.json"
        described.write_text(json.dumps(lab.relay(addresses["yahoo_jp"])))
        relay = _start(
            "resend.lab.relay", "--relay", str(described), "--queue", str(folder / "relay-queue"),
            "--log", str(folder / "relay.log"),
        )  # fmt: skip
        yield addresses, str(_ready(relay)["address"])
    finally:
        for process in (relay, mx):
            if process is not None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _start(module: str, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, "-m", module, *words], stdout=subprocess.PIPE, text=True, env=environment)


def _ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    stream: IO[str] | None = process.stdout
    assert stream is not None
    line = stream.readline()
    if not line:
        raise ResendError("the lab did not start", where="demo", next_step="free the addresses 127.0.1.x and try again")
    found: dict[str, Any] = json.loads(line)
    return found


def _write_config(folder: Path, lab: Lab, addresses: Mapping[str, str], relay: str, say: Say) -> None:
    tree = lab.config(dict(addresses), yahoo_relay=relay)
    tree["home"] = "home"
    tree["collect"]["own_relays"] = [relay]
    tree["relay"] = {"log": "relay.log"}
    fast = {
        "rate": "100/s", "start": "50/s", "connections": 4, "dwell": "1s", "cooldown": "2s", "clean_for": "1s",
        "cap_for": "5s", "floor": "5/s",
    }  # fmt: skip
    for name in (
        "yahoo_jp",
        "docomo",
        "au",
        "softbank",
        "google",
        "example.jp",
        "example.com",
        "example.net",
        "example.co.jp",
    ):
        tree["providers"].setdefault(name, dict(fast))
    text = "# written by resend demo: rates in hundreds, times in seconds, all receivers on loopback\n" + to_toml(tree)
    (folder / "resend.toml").write_text(text, encoding="utf-8")
    say("")
    say("$ cat resend.toml")
    for line in text.splitlines():
        say(line)
