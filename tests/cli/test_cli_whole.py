"""The real commands over a made-up incident, from log to report: rows of the contract, sums, widths, refusals."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resend.cli import render
from resend.cli.border import run
from resend.errors import Exit
from resend.lab.incident import generate

from .conftest import Result
from .test_cli_terminal import at_terminal

pytestmark = pytest.mark.xdist_group("cli_whole")  # the tests of this module follow one another

PORT = 12525 + os.getpid() % 2000
RELAY_PORT = PORT + 3000
TOML = f"""\
home = "home"
tz = "Asia/Tokyo"
[link]
message_id = "release.{{release}}.{{recipient}}@mail.example.jp"
[mx_map]
"*" = "127.0.1.1:{PORT}"
[run]
wait = "2s"
retry_after = "200ms"
recipient_gap = "0s"
[providers.office365]
rate = "500/s"
start = "500/s"
dwell = "200ms"
[providers.yahoo_jp]
rate = "500/s"
start = "500/s"
dwell = "200ms"
"""


@contextmanager
def inside(directory: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


class Shell:
    """A directory with a resend.toml, and the commands run in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *argv: str) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with inside(self.directory), redirect_stdout(out), redirect_stderr(err):
            code = run(argv)
        return Result(code, out.getvalue(), err.getvalue())

    def plan(self) -> tuple[str, int]:
        (row,) = [row for row in self("plan", "list", "--json").of("plan") if row["state"] != "closed"]
        return row["id"], row["count"]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """An incident collected, loaded and opened; nothing planned."""
    directory = tmp_path_factory.mktemp("whole")
    lab = generate(directory / "lab", scale=0.002, seed=3, end=datetime.now(UTC).replace(microsecond=0))
    (directory / "resend.toml").write_text(TOML)
    shell = Shell(directory)
    assert shell("collect", "lab/logs", "--queue", str(lab.queue)).exit == 0
    files = [
        word
        for kind in ("releases", "recipients", "sendlog", "suppressions")
        for word in (f"--{kind}", f"lab/catalog/{kind}.csv")
    ]
    assert shell("catalog", "load", *files, "--content", "lab/content").exit == 0
    opened = shell("incident", "open", "o365", "--provider", "office365")
    assert opened.exit == 0, opened.err
    return shell


def test_sources_account_for_every_line(shell):
    result = shell("sources", "--json")
    rows = result.of("source")
    assert rows
    fields = ["id", "path", "host", "format", "lines", "parsed", "ignored", "rejected", "first_at", "last_at", "gaps"]
    for row in rows:
        assert set(fields) <= set(row)
        assert row["lines"] == row["parsed"] + row["ignored"] + row["rejected"]
        with_gzip = Path(row["path"])
        assert with_gzip.is_file()
    assert result.rows[-1] == {"type": "summary", "v": 1, "exit": 0, "sources": len(rows), "rejected_lines": []}


def test_collecting_again_adds_nothing(shell):
    result = shell("collect", "lab/logs", "--json")
    assert result.exit == 0
    assert result.rows[-1]["new_parts"] == 0


def test_outcomes_show_whole_addresses_and_their_log_line(shell):
    rows = shell("outcomes", "--status", "expired", "--json").of("outcome")
    assert rows
    fields = [
        "message_id",
        "sender",
        "recipient",
        "status",
        "maybe_delivered",
        "at",
        "attempts",
        "provider",
        "code",
        "enhanced",
        "reply",
        "queue_id",
        "host",
        "evidence",
    ]
    for row in rows:
        assert set(fields) <= set(row)
        assert row["status"] == "expired"
        assert "***" not in row["recipient"]
    one = rows[0]
    again = shell("outcomes", "--message-id", one["message_id"], "--recipient", one["recipient"], "--json").of(
        "outcome"
    )
    assert one["queue_id"] in {row["queue_id"] for row in again}


def test_the_preview_adds_up_in_every_dimension(shell):
    result = shell("preview", "o365", "--json")
    assert result.exit == 0
    summary = result.rows[-1]
    buckets = {row["name"]: row for row in result.of("bucket")}
    assert sum(row["count"] for row in buckets.values()) == summary["affected"]
    assert summary["buckets"] == {name: row["count"] for name, row in buckets.items()}
    for row in buckets.values():
        assert sum(row["reasons"].values()) == row["count"]
    impact = result.of("impact")
    for dimension in ("total", "provider", "domain", "release", "customer", "cause", "hour"):
        rows = [row for row in impact if row["dimension"] == dimension]
        assert sum(row["failed"] for row in rows) == summary["affected"], dimension
        assert sum(row["resend"] for row in rows) == buckets["resend"]["count"], dimension
    text = shell("preview", "o365").out
    assert f"= {render.count(summary['affected'])} affected" in text
    assert "next: resend plan make" in text


def test_what_if_compares_and_writes_nothing(shell):
    before = sorted(shell.directory.rglob("plan-*.parquet"))
    found = shell("plan", "make", "o365", "--what-if", "--json")
    assert found.exit == 0
    resend = shell("preview", "o365", "--json").summary["buckets"]["resend"]
    assert found.summary["mails"] == resend == sum(row["mails"] for row in found.of("what_if"))
    for row in found.of("what_if"):
        spans = row["seconds"]
        assert spans["twice the rate"] <= spans["as planned"] <= spans["half the rate"]
    assert any("as your log" in row["seconds"] for row in found.of("what_if"))
    assert sorted(shell.directory.rglob("plan-*.parquet")) == before and not shell("plan", "list", "--json").of("plan")


def test_the_preview_as_a_page_has_the_same_sums(shell):
    path = shell.directory / "preview.html"
    found = shell("preview", "o365", "--html", str(path), "--json")
    assert found.exit == 0
    page = path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o077 == 0
    assert f'<td>sum</td><td></td><td class="n">{found.summary["affected"]:,}</td>' in page
    for name, count in found.summary["buckets"].items():
        row = rf"<td>{name.replace('_', ' ')}</td>.*?<td class=\"n\">([\d,]+)</td></tr>"
        shown = re.search(row, page)
        assert (int(shown[1].replace(",", "")) if shown else 0) == count, name
    assert "<script" not in page and "@example" not in page


def test_the_preview_changes_nothing_and_writes_csv(shell):
    before = shell("incident", "list", "--json").rows
    assert shell("preview", "o365", "--csv", "tables").exit == 0
    assert shell("incident", "list", "--json").rows == before
    header = (shell.directory / "tables/provider.csv").read_bytes()
    assert header.startswith(b"\xef\xbb\xbfvalue,label,mails,failed,share,resend")


@pytest.mark.parametrize(
    "argv",
    [
        ["sources"],
        ["outcomes"],
        ["incident", "list"],
        ["incident", "show", "o365"],
        ["preview", "o365"],
        ["status"],
        ["doctor"],
        ["config", "show"],
        ["explain", "550 5.7.1 Service unavailable; client blocked using Spamhaus " + "x" * 100],
        ["--help"],
        ["plan", "make", "--help"],
        ["run", "--help"],
    ],
)
def test_what_people_read_fits_80_columns(shell, argv):
    result = shell(*argv)
    for line in result.out.splitlines():
        # One long word (an address, a path, the text that was asked about) is shown whole.
        if render.width(line) > 80:
            assert argv[0] in ("outcomes", "doctor", "explain"), line
            assert len(line.split()) <= 3 or argv[0] in ("doctor", "explain"), line


def test_japanese_titles_stand_in_the_tables(shell):
    out = shell("preview", "o365").out
    section = out[out.index("By release") : out.index("By customer")]
    assert "…" in section
    assert any(not line.isascii() for line in section.splitlines())


@pytest.mark.parametrize("argv", [["preview"], ["incident", "show"], ["plan", "make"], ["report", "--lang", "ja"]])
def test_an_unknown_incident(shell, argv):
    result = shell(*argv, "nosuch")
    assert result.exit == 2
    assert "resend incident list" in result.one_error()


@pytest.mark.parametrize("argv", [["plan", "show"], ["plan", "close", "--reason", "r"], ["run", "--confirm", "1"]])
def test_an_unknown_plan(shell, argv):
    result = shell(*argv[:2], "feed" * 16, *argv[2:]) if argv[0] == "plan" else shell("run", "feed", "--confirm", "1")
    assert result.exit == 2
    assert "resend plan list" in result.one_error()


def test_an_incident_name_is_taken_once(shell):
    result = shell("incident", "open", "o365")
    assert result.exit == 2
    assert "already" in result.one_error()


def test_a_selection_that_holds_nothing(shell):
    result = shell("incident", "open", "empty", "--from", "2020-01-01T00:00:00Z", "--to", "2020-01-02T00:00:00Z")
    assert result.exit == 2
    assert "nothing was opened" in result.one_error()


def test_a_selection_that_the_catalog_does_not_know(shell):
    result = shell("incident", "open", "empty", "--customer", "nobody")
    assert result.exit == 2
    assert "no customer 'nobody'" in result.one_error()


def test_why_goes_from_log_line_to_verdict(shell):
    row = shell("outcomes", "--status", "expired", "--json").of("outcome")[0]
    result = shell("why", row["recipient"], "--json")
    mails = result.of("why")
    assert any(mail["outcome"]["evidence"] == row["evidence"] for mail in mails)
    assert row["recipient"] in shell("why", row["recipient"]).out
    assert shell("why", "not an address").exit in (1, 2)


def test_explain(shell):
    (row,) = shell("explain", "451 4.7.500 Server busy. Please try again later", "--json").of("explain")
    assert (row["class"], row["scope"], row["action"]) == ("throttled", "provider", "resend")
    assert set(row) >= {"input", "class", "rule", "scope", "action", "retry_after", "advice"}


def test_explain_reads_replies_from_stdin(process, place):
    result = process("explain", "-", "--json", stdin="550 5.1.1 User unknown\n\n421 4.7.0 try again later\n")
    assert next(row["class"] for row in result.of("explain")) == "mailbox_gone"
    assert result.rows[-1]["explained"] == 2


def test_hold_and_control_are_kept_with_who_and_why(shell):
    assert shell("hold", "--release", "R10018", "--reason", "corrected").exit == 0
    assert shell("unhold", "--release", "R10018").exit == 0
    stopped = shell("stop", "--json")
    assert stopped.rows[-1]["posted"] is False, "a stop that no run sees must not stop the next one"
    decisions = shell("status", "--json").of("decision")
    assert {"held", "unheld"} <= {row["what"] for row in decisions}
    assert any(row["reason"] == "corrected" for row in decisions)


@pytest.mark.parametrize("argv", [["status"], ["preview", "o365"]])
def test_the_age_of_what_keeps_a_mail_from_being_sent_is_said(shell, argv):
    known = {row["source"]: row for row in shell(*argv, "--json").of("known")}
    assert set(known) == {"evidence", "catalog"}
    for row in known.values():
        now = datetime.now(UTC)
        assert abs(now - datetime.fromisoformat(row["up_to"]) - timedelta(seconds=row["age"])) < timedelta(minutes=1)
    assert known["evidence"]["age"] > known["catalog"]["age"], "a log of days ago, a catalog loaded just now"
    text = shell(*argv).out
    assert "evidence up to 2026-" in text
    assert "catalog loaded 20" in text


@contextmanager
def receiving(directory: Path) -> Iterator[Path]:
    """The lab's receivers, all on one pool."""
    behaviour = {"seed": 1, "pools": {"all": {"listen": [f"127.0.1.1:{PORT}"], "hostname": "mx.test"}}}
    (directory / "behaviour.json").write_text(json.dumps(behaviour))
    receipts = directory / "receipts"
    lab = subprocess.Popen(
        [sys.executable, "-m", "resend.lab.mx", "--behaviour", "behaviour.json", "--receipts", str(receipts)],
        cwd=directory,
        stdout=subprocess.PIPE,
    )
    try:
        assert lab.stdout is not None
        assert json.loads(lab.stdout.readline())["type"] == "ready"
        yield receipts
    finally:
        lab.send_signal(signal.SIGTERM)
        lab.wait(10)


def test_from_plan_to_report(shell):
    """One walk, in order: refusals first, then the run, what it left, and the report."""
    affected = shell("preview", "o365", "--json").rows[-1]["buckets"]["resend"]
    made = shell("plan", "make", "o365", "--identity", "same")
    assert made.exit == 0, made.err
    plan, count = shell.plan()
    assert count == affected
    assert f"resend run {plan[:12]} --confirm {count}" in made.out

    refused = shell("run", plan[:12])
    assert refused.exit == Exit.USAGE
    assert f"--confirm {count}" in refused.one_error()
    assert shell("run", plan[:12], "--confirm", str(count + 1)).exit == Exit.STALE
    for typed, code in (("12", Exit.STALE), ("", Exit.STALE)):
        left, said = at_terminal(shell.directory, "run", plan[:12], typed=f"{typed}\n")
        assert (left, "nothing was sent" in said) == (code, True), said
    unreachable = shell("run", plan[:12], "--confirm", str(count), "--quiet")
    assert unreachable.exit == Exit.ERROR
    assert f"127.0.1.1:{PORT}" in unreachable.one_error()

    with receiving(shell.directory) as receipts:
        lock = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; from pathlib import Path; from resend.stores.home import exclusive\n"
                "with exclusive(Path(sys.argv[1]), what='the run'):\n"
                "    print('held', flush=True); sys.stdin.read()",
                str(shell.directory / "home/run.lock"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert lock.stdout is not None
        lock.stdout.readline()
        held = shell("run", plan[:12], "--confirm", str(count), "--quiet")
        assert held.exit == Exit.LOCKED
        assert str(lock.pid) in held.one_error()
        assert shell("catch-up", "--quiet").exit == Exit.LOCKED
        lock.communicate()

        sent = shell("run", plan[:12], "--confirm", str(count), "--quiet", "--json")
        assert sent.exit == 0, sent.out + sent.err
        assert sent.rows[-1]["counts"]["accepted"] == count
        mails = [line for path in receipts.glob("*.receipts.jsonl") for line in path.read_text().splitlines()]
        assert len(mails) == count

        again = shell("run", plan[:12], "--confirm", str(count), "--quiet", "--json")
        assert again.exit == 0
        assert "accepted" not in again.rows[-1]["counts"]

    rows = shell("plan", "show", plan[:12], "--json").of("delivery")
    assert len(rows) == count
    for row in rows:
        assert set(row) >= {"key", "release", "recipient", "provider", "state", "fate", "due_at", "tries"}
        assert (row["state"], row["fate"]) == ("accepted", "delivered")
        assert "***@" in row["recipient"]
    whole = shell("plan", "show", plan[:12], "--json", "--unmask").of("delivery")
    assert not any("***" in row["recipient"] for row in whole)

    checked = shell("check", "--json")
    assert checked.exit == 0, [row for row in checked.of("check") if not row["ok"]]
    assert shell("doubt", "list").exit == 0
    assert shell("reconcile").exit == 0
    assert shell("preview", "o365", "--json").rows[-1]["buckets"]["already_resent"] == count
    nothing = shell("plan", "make", "o365")
    assert nothing.exit == 2
    assert "nothing is to be resent" in nothing.one_error()
    written = shell("report", "o365", "--lang", "ja", "--out", "reports", "--json").rows[-1]
    assert (shell.directory / written["path"]).read_text().startswith("<!")
    assert shell("catch-up", "--quiet").exit == 0
    assert shell("incident", "close", "o365").exit == 0


def test_a_plan_that_no_longer_holds_is_stale(shell):
    opened = shell("incident", "open", "second", "--cause", "throttled", "--provider", "yahoo_jp")
    assert opened.exit == 0, opened.err
    assert shell("plan", "make", "second", "--identity", "same").exit == 0
    (row,) = [row for row in shell("plan", "list", "--json").of("plan") if row["state"] == "ready"]
    same = shell("plan", "diff", row["id"][:12], "--json")
    assert same.exit == 0 and not same.of("difference")
    content = shell.directory / "changed"
    content.mkdir()
    for path in (shell.directory / "lab/content").glob("*.eml.j2"):
        (content / path.name).write_bytes(path.read_bytes() + b"\nChanged.\n")
    assert shell("catalog", "load", "--content", "changed").exit == 0
    stale = shell("run", row["id"][:12], "--confirm", str(row["count"]))
    assert stale.exit == Exit.STALE
    assert "resend plan make" in stale.one_error()
    changed = shell("plan", "diff", row["id"][:12], "--json")
    assert changed.exit == Exit.STALE
    assert {item["kind"] for item in changed.of("difference")} == {"changed"}
    # those with kept bytes are as they were
    assert 0 < len(changed.of("difference")) == changed.summary["changed"] <= row["count"]
    assert shell("plan", "close", row["id"][:12], "--reason", "stale").exit == 0


@contextmanager
def relaying(directory: Path) -> Iterator[Path]:
    """A lab relay before the receivers; its log."""
    relay = {
        "smtpd": {"listen": [f"127.0.0.1:{RELAY_PORT}"], "hostname": "relay1"},
        "routes": {"*": f"127.0.1.1:{PORT}"},
    }
    (directory / "relay.json").write_text(json.dumps(relay))
    log = directory / "relay.log"
    words = ["--relay", "relay.json", "--queue", "queue", "--log", str(log)]
    lab = subprocess.Popen(
        [sys.executable, "-m", "resend.lab.relay", *words], cwd=directory, stdout=subprocess.PIPE, text=True
    )
    try:
        assert lab.stdout is not None
        assert json.loads(lab.stdout.readline())["type"] == "ready"
        yield log
    finally:
        lab.send_signal(signal.SIGTERM)
        lab.wait(10)


def test_behind_a_relay_its_log_settles_the_fate(shell):
    (shell.directory / "resend.toml").write_text(TOML.replace(f"127.0.1.1:{PORT}", f"127.0.0.1:{RELAY_PORT}"))
    made = shell("plan", "make", "second", "--identity", "same", "--json")
    assert made.exit == 0, made.err
    plan, count = made.rows[-1]["id"], made.rows[-1]["count"]
    run_it = ("run", plan[:12], "--confirm", str(count), "--quiet", "--json")
    refused = shell(*run_it)
    assert refused.exit == 2
    assert "--blind" in refused.rows[-1]["next"]
    with receiving(shell.directory), relaying(shell.directory) as log:
        sent = shell(*run_it, "--blind")
        assert sent.rows[-1]["counts"]["accepted"] == count, sent.err
        unseen = shell("reconcile", "--json")
        assert unseen.exit == Exit.LEFT
        assert unseen.rows[-1]["pending"] == count
        for _ in range(50):
            if log.read_text().count("status=sent") >= count:
                break
            time.sleep(0.1)
        settled = shell("reconcile", str(log), "--json")
    assert settled.exit == 0, settled.out + settled.err
    assert settled.rows[-1]["fates"] == {"delivered": count}
    assert (settled.rows[-1]["pending"], settled.rows[-1]["in_doubt"]) == (0, 0)
    rows = shell("plan", "show", plan[:12], "--json").of("delivery")
    assert {row["fate"] for row in rows} == {"delivered"}
    assert shell("check").exit == 0


def test_status_watch_ends_on_interrupt(shell):
    watching = subprocess.Popen(
        [sys.executable, "-m", "resend.cli", "status", "--watch"],
        cwd=shell.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None and watching.stdout.read(1), "it watches"
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=20)
    assert watching.returncode in (0, 130)
    assert "Traceback" not in out + err
