"""The made-up incident: its sums, its determinism, and its logs read by plain patterns that share nothing with it."""

from __future__ import annotations

import csv
import email
import email.policy
import gzip
import json
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.header import decode_header, make_header
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from resend.config import load
from resend.errors import InputError
from resend.lab.behaviour import Behaviour
from resend.lab.incident import Lab, generate
from resend.lab.pools import to_toml
from resend.lab.relay import RelayBehaviour

END = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
HOUR = 3600


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return generate(tmp_path_factory.mktemp("incident"), scale=0.002, seed=1, end=END)


@pytest.fixture(scope="module")
def truth(lab: Lab) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lab.truth.read_text(encoding="utf-8").splitlines()]


def log_lines(directory: Path) -> list[str]:
    """All lines of a host, oldest file first."""
    old = gzip.decompress((directory / "mail.log.2.gz").read_bytes()).decode("ascii")
    text = old + (directory / "mail.log.1").read_text("ascii") + (directory / "mail.log").read_text("ascii")
    return text.splitlines()


def instant(line: str) -> float:
    """BSD or RFC 3339 time of a line; Japan is nine hours ahead."""
    if line[:2] == "20":
        return datetime.fromisoformat(line[:32]).timestamp()
    return datetime.strptime(f"2026 {line[:15]} +0900", "%Y %b %d %H:%M:%S %z").timestamp()


@dataclass
class Life:
    """What one host's log says about one (queue id, epoch)."""

    begun: float
    message_id: str = ""
    last: str = ""
    at: float = 0.0
    ended: bool = False
    statuses: list[str] = field(default_factory=list)


LINE = re.compile(r"postfix/(\w+)\[\d+\]: (\w+): (.*)")
RESULT = re.compile(r"to=<(.*?)>, relay=(\S+), .*?status=(\w+) \(")


def lives(directory: Path) -> list[Life]:
    """Every mail that a host handled, in order of arrival; hops to the own filter are no result."""
    found: list[Life] = []
    live: dict[str, Life] = {}
    for line in log_lines(directory):
        match = LINE.search(line)
        if match is None:
            continue
        program, qid, text = match.groups()
        now = instant(line)
        if program == "smtpd" and text.startswith("client="):
            assert qid not in live or live[qid].ended, f"{qid} is used twice at once"
            live[qid] = Life(now)
            found.append(live[qid])
        elif text.startswith("message-id=") and qid in live and live[qid].ended:
            del live[qid]  # the id came round again, for a bounce
        elif text.startswith("message-id=") and qid in live:
            live[qid].message_id = text.removeprefix("message-id=")
        elif qid in live and (result := RESULT.match(text)) and not result[2].startswith("127.0.0.1["):
            life = live[qid]
            life.statuses.append(result[3])
            life.last, life.at = result[3], now
        elif qid in live and "status=expired" in text:
            live[qid].last, live[qid].at = "expired", now
        elif qid in live and text == "removed":
            live[qid].ended = True
    return found


def test_the_sums_hold(lab: Lab, truth: list[dict[str, Any]]) -> None:
    summary, rows = truth[-1], truth[:-1]
    affected = [row for row in rows if row["bucket"] not in ("no_evidence", "missing")]
    assert summary["mails"] == round(7_682_607 * 0.002) and len(affected) == summary["affected"] == 384
    assert sum(summary["buckets"].values()) == 384 == sum(summary["providers"].values())
    assert Counter(row["bucket"] for row in affected) == summary["buckets"]
    assert set(summary["buckets"]) == {
        *("folded", "delivered_late", "still_queued", "maybe_delivered", "unlinked"),
        *("never", "wait", "content_gone", "ask", "resend"),
    }
    assert set(summary["never"]) == {"dead", "unsubscribed", "withdrawn", "out_of_date"}
    assert summary["no_evidence"] > 0 and summary["missing"] > 0
    assert summary["providers"]["office365"] > 0.85 * 384
    assert {row["link"] for row in affected} == {"", "sendlog", "template", "header", "verp"}
    assert lab.summary == summary


def test_scale_sets_the_affected_exactly(tmp_path: Path) -> None:
    made = generate(tmp_path, scale=0.004, seed=5, end=END)
    assert (made.summary["affected"], made.summary["mails"]) == (768, 30_730)


def test_the_same_seed_gives_the_same_bytes(lab: Lab, tmp_path: Path) -> None:
    def digest(root: Path) -> dict[str, str]:
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest() for path in files}

    again = generate(tmp_path / "again", scale=0.002, seed=1, end=END)
    other = generate(tmp_path / "other", scale=0.002, seed=2, end=END)
    assert digest(again.out) == digest(lab.out)
    assert digest(other.out)["logs/mta1/mail.log"] != digest(lab.out)["logs/mta1/mail.log"]
    assert again.logs[0].joinpath("mail.log").stat().st_mtime == END.timestamp()


def test_the_logs_tell_the_truth(lab: Lab, truth: list[dict[str, Any]]) -> None:
    by_message: dict[str, Life] = {}
    counts = Counter[str]()
    for directory in lab.logs:
        for life in lives(directory):
            counts[directory.name] += 1
            if life.statuses or life.message_id not in by_message:
                by_message[life.message_id] = life
    summary, rows = truth[-1], {row["message_id"]: row for row in truth[:-1]}
    assert len(by_message) == summary["mails"] - summary["lost_mails"]
    for message_id, row in rows.items():
        if row["bucket"] == "missing":
            assert message_id not in by_message
            continue
        life = by_message[message_id]
        late = life.at - life.begun > HOUR
        expected = {
            "delivered_late": life.last == "sent" and late,
            "still_queued": life.last == "deferred" and not life.ended,
            "bounced": life.last == "bounced" and life.ended,
            "expired": life.last == "expired" and life.ended and life.at - life.begun >= 24 * HOUR,
            "delivered": life.last == "deferred" and not life.ended,  # no_evidence: the rest is in the gap
        }
        assert expected[row["status"]], (row, life)
    in_time = [life for message_id, life in by_message.items() if message_id not in rows]
    assert all(life.last == "sent" and life.at - life.begun < HOUR and life.ended for life in in_time)
    assert sum("deferred" in life.statuses for life in in_time) > 50, "some are throttled and still arrive in time"
    assert min(counts.values()) > 1000


def test_the_hosts_differ_as_real_ones_do(lab: Lab) -> None:
    mta1, mta2, mta3 = (log_lines(directory) for directory in lab.logs)
    assert re.match(r"Nov 2\d \d\d:\d\d:\d\d mta1 ", mta1[0]) and mta2[0].startswith("2026-11-2")
    for lines in (mta1, mta2, mta3):
        times = [instant(line) for line in lines]
        assert times == sorted(times)
        assert END.timestamp() - 4 * 86400 <= times[0] and times[-1] <= END.timestamp()
    used = defaultdict(set)
    for line in mta1:
        if match := re.search(r"postfix/cleanup\[\d+\]: (\w+): message-id=(<release\S+)", line):
            used[match[1]].add(match[2])
    assert any(len(ids) > 1 for ids in used.values()), "short queue ids come round again"
    assert any("relay=127.0.0.1[127.0.0.1]:10025" in line and "queued as" in line for line in mta3)
    assert any("info: header X-Release-Id: R1" in line for line in mta2)
    assert any(re.search(r'to=<"lab\.\w+\.\.\d+"@docomo\.ne\.jp>', line) for line in mta2)
    assert sum("Suppressed" in line for line in mta2) == 1
    text = "\n".join(mta1 + mta2 + mta3)
    for said in (
        "(S77719)",
        "(AS761)",
        "4.7.650",
        "IB007",
        "[TSS04]",
        "delivery temporarily suspended",
        "5.4.1 Recipient",
    ):
        assert said in text
    assert "sshd[" in text and "dovecot: " in text and "placed on hold" in text and "NOQUEUE" in text


def test_the_wave_is_dense_and_the_receiver_has_recovered(lab: Lab, truth: list[dict[str, Any]]) -> None:
    wave = [instant_of(row) for row in truth[:-1] if row["turn"] == "wave"]
    assert len(wave) >= 30 and max(wave) - min(wave) <= 600
    deferred = [line for directory in lab.logs for line in log_lines(directory) if "status=deferred" in line]
    assert max(instant(line) for line in deferred) < END.timestamp() - 2 * HOUR


def instant_of(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(row["arrived_at"]).timestamp()


def test_the_queue_snapshot_lists_what_is_still_queued(lab: Lab, truth: list[dict[str, Any]]) -> None:
    entries = [json.loads(line) for line in lab.queue.read_text().splitlines()]
    queued = {(row["queue_id"], row["recipient"]) for row in truth[:-1] if row["bucket"] == "still_queued"}
    assert {(entry["queue_id"], entry["recipients"][0]["address"]) for entry in entries} == queued
    assert {entry["queue_name"] for entry in entries} == {"hold", "deferred"}
    assert {row["host"] for row in truth[:-1] if row["bucket"] == "still_queued"} == {lab.queue_host}


def test_the_catalog_is_whole(lab: Lab, truth: list[dict[str, Any]]) -> None:
    def rows(name: str) -> list[dict[str, str]]:
        with (lab.catalog / name).open(encoding="utf-8", newline="") as handle:
            return list(csv.DictReader(handle))

    releases, recipients, sendlog = rows("releases.csv"), rows("recipients.csv"), rows("sendlog.csv")
    people = {row["id"]: row for row in recipients}
    assert len({row["address"] for row in recipients}) == len(recipients)
    assert any(".." in row["address"] and row["address"].endswith("@docomo.ne.jp") for row in recipients)
    logged = {row["release"] for row in sendlog}
    assert 2 * len(logged) == len(releases) and all(
        people[row["recipient"]]["address"] == row["address"] for row in sendlog
    )
    assert sum(row["withdrawn"] == "1" for row in releases) == 1
    assert sum(row["embargo_at"] > "2026-11-24" for row in releases) == 1
    assert sum(bool(row["expires_at"]) for row in releases) == 1
    assert any(row["unsubscribed_at"] for row in recipients) and len(rows("suppressions.csv")) > 20
    assert any(len(row["title"]) > 80 for row in releases)
    for row in truth[:-1]:
        if row["release"]:
            assert people[row["recipient_id"]]["address"] == row["recipient"]
    have = {path.name for path in lab.content.glob("*.eml.j2")}
    assert have == {row["content"] for row in releases if row["content"]} and len(have) == len(releases) - 1


def test_templates_and_kept_mails_fit_their_charset(lab: Lab, truth: list[dict[str, Any]]) -> None:
    charsets = set()
    for path in lab.content.glob("*.eml.j2"):
        text = path.read_text(encoding="utf-8")
        charset = re.search(r"charset=(\S+)", text)
        assert charset is not None
        charsets.add(charset[1])
        text.replace("〜", "").encode(charset[1])
    assert charsets == {"UTF-8", "ISO-2022-JP"}
    resent = {sha256(row["message_id"].encode()).hexdigest(): row for row in truth[:-1] if row["bucket"] == "resend"}
    kept = list((lab.content / "kept").iterdir())
    assert kept
    for path in kept:
        data = path.read_bytes()
        assert data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r")
        message = email.message_from_bytes(data, policy=email.policy.compat32)
        assert message["Message-ID"] == resent[path.stem]["message_id"]
        assert str(make_header(decode_header(message["Subject"])))[:2] != "=?"
        message.get_payload(decode=True).decode(message.get_content_charset())


def test_behaviour_and_config_are_accepted(lab: Lab, tmp_path: Path) -> None:
    behaviour = Behaviour.load(lab.behaviour)
    addresses = {pool.name: f"127.0.1.{number}:2525" for number, pool in enumerate(behaviour.pools, 1)}
    (tmp_path / "resend.toml").write_text(to_toml(lab.config(addresses, yahoo_relay="127.0.0.1:2587")))
    config = load(directory=tmp_path, environ={}).config
    assert config.mx_map["*"] == addresses["other"] and config.mx_map["yahoo.co.jp"] == "127.0.0.1:2587"
    office365 = behaviour.pools[0].rate
    profile = config.providers["office365"].rate
    relay = RelayBehaviour.from_json(lab.relay(addresses["yahoo_jp"]))
    assert relay.routes == {"*": addresses["yahoo_jp"]} and relay.smtpd.faults[0].accepted
    assert office365 is not None and profile is not None and office365.per_second < profile


def test_too_small_a_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too small"):
        generate(tmp_path, scale=0.001, end=END)


@pytest.mark.skipif(shutil.which("pflogsumm") is None, reason="pflogsumm is not installed")
def test_pflogsumm_counts_the_same(lab: Lab) -> None:
    lines = log_lines(lab.logs[0])
    said = subprocess.run(
        ["pflogsumm", "--detail", "0"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    ).stdout
    counted = {
        name: int(number) for number, name in re.findall(r"^\s+(\d+)\s+(received|delivered|bounced)", said, re.M)
    }
    results = Counter(match[3] for line in lines if (match := RESULT.search(line)))
    assert counted["delivered"] == results["sent"] and counted["bounced"] == results["bounced"]
    assert counted["received"] == sum(": client=" in line for line in lines)
