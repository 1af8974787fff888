"""The lab relay over real sockets: its queue, its retries, its log, and a mail queued though the line dropped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import smtplib
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from resend.errors import InputError
from resend.lab.behaviour import Behaviour
from resend.lab.mx import serve
from resend.lab.receipts import read_receipts
from resend.lab.relay import Relay, RelayBehaviour, serve_relay

BODY = b"Message-ID: <m1@example.jp>\r\nSubject: x\r\n\r\n.dot\r\nhi\r\n"


def relayed(
    tmp_path: Path, pool: dict[str, Any], relay: dict[str, Any], talk: Callable[[Relay], Awaitable[None]]
) -> str:
    """Run `talk` against a relay in front of one pool, wait until its queue is empty, and return its log."""

    async def main() -> None:
        behaviour = Behaviour.from_json({"pools": {"p": {"listen": ["127.0.1.7:0"]} | pool}})
        async with serve(behaviour, tmp_path / "receipts") as lab:
            address = lab.address("p")
            document = {
                "smtpd": {"listen": ["127.0.0.1:0"]},
                "routes": {"*": address},
                "names": {address: "mx1.mail.yahoo.co.jp"},
                "backoff_s": 0.05,
            } | relay
            described = RelayBehaviour.from_json(document)
            async with serve_relay(described, tmp_path / "queue", tmp_path / "relay.log") as running:
                await talk(running)
                for _ in range(200):
                    if not running.pending:
                        break
                    await asyncio.sleep(0.02)
                assert not running.pending

    asyncio.run(main())
    return (tmp_path / "relay.log").read_text(encoding="ascii")


async def say(relay: Relay, rcpt: str, sender: str = "s@example.jp") -> str:
    """Send one mail; the reply after the dot, "" if the line was cut."""

    def talk() -> str:
        host, _, port = relay.address.rpartition(":")
        with smtplib.SMTP(host, int(port), local_hostname="client.example.jp") as client:
            client.ehlo()
            client.mail(sender)
            client.rcpt(rcpt)
            try:
                code, text = client.data(BODY)
            except smtplib.SMTPServerDisconnected:
                return ""
            return f"{code} {text.decode()}"

    return await asyncio.to_thread(talk)


def test_it_queues_relays_and_logs_like_postfix(tmp_path: Path) -> None:
    async def talk(relay: Relay) -> None:
        reply = await say(relay, "r@yahoo.co.jp")
        assert re.fullmatch(r"250 2\.0\.0 Ok: queued as [0-9A-F]{10}", reply)

    log = relayed(tmp_path, {}, {}, talk)
    [receipt] = read_receipts(tmp_path / "receipts")
    assert (receipt.rcpt, receipt.sender, receipt.size) == ("r@yahoo.co.jp", "s@example.jp", len(BODY))
    qid = re.search(r"([0-9A-F]{10}): client=client\.example\.jp\[127\.0\.0\.1\]", log)
    assert qid is not None
    steps = [line.split(f" {qid[1]}: ")[1] for line in log.splitlines() if f" {qid[1]}: " in line]
    assert steps[1:3] == [
        "message-id=<m1@example.jp>",
        f"from=<s@example.jp>, size={len(BODY)}, nrcpt=1 (queue active)",
    ]
    assert re.fullmatch(
        r"to=<r@yahoo\.co\.jp>, relay=mx1\.mail\.yahoo\.co\.jp\[127\.0\.1\.7\]:\d+, delay=\S+, delays=\S+, "
        r"dsn=2\.0\.0, status=sent \(250 2\.0\.0 Ok: queued as \w+\)",
        steps[3],
    )
    assert steps[4] == "removed"
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+09:00 relay1 postfix/smtpd\[\d+\]: connect from", log)


def test_a_mail_is_queued_though_the_line_dropped_after_its_dot(tmp_path: Path) -> None:
    async def talk(relay: Relay) -> None:
        assert await say(relay, "r@example.com") == ""

    fault = {"do": "drop", "at": "dot", "accepted": True}
    log = relayed(tmp_path, {}, {"smtpd": {"listen": ["127.0.0.1:0"], "faults": [fault]}, "bsd_times": True}, talk)
    assert [r.rcpt for r in read_receipts(tmp_path / "receipts")] == ["r@example.com"]
    assert "status=sent" in log and re.match(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d relay1 postfix/", log)


def test_it_retries_bounces_and_expires(tmp_path: Path) -> None:
    async def talk(relay: Relay) -> None:
        for name in ("late", "gone", "never"):
            assert (await say(relay, f"{name}@example.com")).startswith("250")

    pool = {
        "reject": {"gone@example.com": "550 5.1.1 <{rcpt}>: User unknown"},
        "faults": [
            {"do": "reply", "at": "rcpt", "reply": "451 4.7.1 Busy", "recipients": ["late@*"], "once": True},
            {"do": "drop", "at": "dot", "recipients": ["never@*"]},
        ],
    }
    log = relayed(tmp_path, pool, {"lifetime_s": 0.3}, talk)
    assert [r.rcpt for r in read_receipts(tmp_path / "receipts")] == ["late@example.com"]
    said = "host mx1.mail.yahoo.co.jp[127.0.1.7] said"
    assert f"status=deferred ({said}: 451 4.7.1 Busy (in reply to RCPT TO command))" in log
    assert f"dsn=5.1.1, status=bounced ({said}: 550 5.1.1 <gone@example.com>" in log
    assert "while sending end of data -- message may be sent more than once)" in log
    assert "from=<s@example.jp>, status=expired, returned to sender" in log
    assert log.count("sender non-delivery notification: ") == 2
    assert log.count("removed\n") == 3 + 2


def test_a_queue_survives_a_kill(tmp_path: Path) -> None:
    (tmp_path / "relay.json").write_text(
        json.dumps({"smtpd": {"listen": ["127.0.0.1:0"]}, "routes": {"*": "127.0.1.7:9"}, "lifetime_s": 60})
    )
    command = [sys.executable, "-m", "resend.lab.relay", "--relay", str(tmp_path / "relay.json")]
    command += ["--queue", str(tmp_path / "queue"), "--log", str(tmp_path / "relay.log")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    host, _, port = ready["address"].rpartition(":")
    with smtplib.SMTP(host, int(port)) as client:
        client.sendmail("s@example.jp", ["a@example.com"], BODY)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(5)

    async def nothing(relay: Relay) -> None:
        assert relay.pending == 1

    relayed(tmp_path, {}, {}, nothing)
    assert [r.rcpt for r in read_receipts(tmp_path / "receipts")] == ["a@example.com"]


def test_a_wrong_relay_is_named() -> None:
    with pytest.raises(InputError, match="smtpd and routes"):
        RelayBehaviour.from_json({})
    with pytest.raises(InputError, match="unknown key 'colour'"):
        RelayBehaviour.from_json({"smtpd": {"listen": []}, "routes": {}, "colour": 1})
    with pytest.raises(InputError, match="loopback"):
        RelayBehaviour.from_json({"smtpd": {"listen": []}, "routes": {"*": "192.0.2.1:25"}})
