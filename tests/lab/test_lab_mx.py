"""The receiving side over real sockets: what it answers, what it receipts, and that its faults repeat."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from resend.errors import InputError
from resend.lab.behaviour import Behaviour
from resend.lab.mx import Lab, message_id, serve
from resend.lab.receipts import read_events, read_receipts


class Line:
    """A plain SMTP client that says exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, address: str, *, hello: bool = True) -> Line:
        host, _, port = address.rpartition(":")
        line = cls(*await asyncio.open_connection(host, int(port)))
        if hello:
            assert (await line.reply()).startswith("220")
            assert (await line.say("EHLO client.example.jp")).startswith("250")
        return line

    async def reply(self) -> str:
        """The last line of one reply; "" when the line is cut."""
        while True:
            try:
                text = (await asyncio.wait_for(self.reader.readline(), 5)).decode("utf-8", "replace")
            except ConnectionError:
                return ""
            if text[3:4] != "-":
                return text.rstrip("\r\n")

    async def say(self, command: str) -> str:
        self.writer.write(command.encode() + b"\r\n")
        return await self.reply()

    async def mail(self, rcpt: str, body: bytes = b"Subject: x\r\n\r\nhi\r\n", sender: str = "s@example.jp") -> str:
        for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{rcpt}>", "DATA"):
            answer = await self.say(command)
            if answer[:1] not in ("2", "3"):
                return answer
        self.writer.write(body + b".\r\n")
        return await self.reply()

    async def close(self) -> None:
        self.writer.close()


def lab(tmp_path: Path, pool: dict[str, Any], talk: Callable[[Lab], Awaitable[None]], **top: Any) -> Path:
    async def main() -> None:
        behaviour = Behaviour.from_json({"pools": {"p": {"listen": ["127.0.1.7:0"]} | pool}} | top)
        async with serve(behaviour, tmp_path) as running:
            await talk(running)

    asyncio.run(main())
    return tmp_path


def test_a_body_is_receipted_as_it_was_before_dot_stuffing(tmp_path: Path) -> None:
    body = b"Message-ID: <a@example.jp>\r\n\r\n.\r\n..two\r\nlast\r\n"

    async def talk(running: Lab) -> None:
        line = await Line.open(running.address("p"))
        stuffed = body.replace(b"\r\n.", b"\r\n..")
        assert (await line.mail("r@example.com", stuffed)).startswith("250 2.0.0")
        assert [r.rcpt for r in read_receipts(tmp_path)] == ["r@example.com"], "on disk before the 250"
        assert (await line.mail("q@example.com", b"Subject: x\r\n\r\nbare\nline\r\n")).startswith("250")

    lab(tmp_path, {}, talk, keep_bodies=True)
    first, second = read_receipts(tmp_path)
    assert (first.sha256, first.size, first.clean) == (sha256(body).hexdigest(), len(body), True)
    assert (first.message_id, first.sender, first.pool) == ("<a@example.jp>", "s@example.jp", "p")
    assert (tmp_path / "bodies" / f"{first.sha256}.eml").read_bytes() == body
    assert first.mail_at < first.at and not second.clean


def test_pipelined_commands_and_two_recipients(tmp_path: Path) -> None:
    async def talk(running: Lab) -> None:
        line = await Line.open(running.address("p"))
        line.writer.write(b"MAIL FROM:<>\r\nRCPT TO:<a@example.jp>\r\nRCPT TO:<b@example.jp>\r\nDATA\r\n.\r\nQUIT\r\n")
        assert [(await line.reply())[:3] for _ in range(6)] == ["250", "250", "250", "354", "250", "221"]

    lab(tmp_path, {}, talk)
    assert [(r.rcpt, r.size, r.sender) for r in read_receipts(tmp_path)] == [
        ("a@example.jp", 0, ""),
        ("b@example.jp", 0, ""),
    ]


@pytest.mark.parametrize("stage", ["mail", "rcpt", "dot"])
def test_rate_and_the_block_behind_it(tmp_path: Path, stage: str) -> None:
    rate = {"per_second": 0.001, "burst": 2, "at": stage}
    pool = {"rate": rate, "block": {"after": 4}}

    async def counted(running: Lab) -> None:
        line = await Line.open(running.address("p"))
        answers = []
        for number in range(9):
            answers.append((await line.mail(f"r{number}@example.com"))[:9])
            await line.say("RSET")
        assert answers == ["250 2.0.0"] * 2 + ["451 4.7.5"] * 5 + ["550 5.7.1"] * 2

    lab(tmp_path, pool, counted)
    events = [e.event for e in read_events(tmp_path)]
    assert events.count("throttled") == 5 and events.count("blocked") == 2
    assert len(list(read_receipts(tmp_path))) == 2


def test_a_pool_shares_its_limits_over_its_addresses(tmp_path: Path) -> None:
    async def talk(running: Lab) -> None:
        one = await Line.open(running.addresses["p"][0])
        two = await Line.open(running.addresses["p"][1], hello=False)
        assert (await two.reply()).startswith("421 4.3.2")
        assert await two.reply() == ""
        await one.say("QUIT")
        await asyncio.sleep(0.05)
        three = await Line.open(running.addresses["p"][1])
        assert (await three.mail("a@example.com")).startswith("250")
        assert (await three.mail("b@example.com")).startswith("250")
        assert (await three.say("MAIL FROM:<s@example.jp>")).startswith("421 4.7.0")
        assert await three.reply() == ""

    pool = {"listen": ["127.0.1.7:0", "127.0.1.8:0"], "connections": {"limit": 1}, "session": {"mails": 2}}
    lab(tmp_path, pool, talk)
    events = [e.event for e in read_events(tmp_path)]
    assert "connection_limit" in events and "session_limit" in events


def test_greylisting_opens_after_its_time(tmp_path: Path) -> None:
    async def talk(running: Lab) -> None:
        line = await Line.open(running.address("p"))
        assert "Greylisted" in await line.mail("r@example.com")
        await line.say("RSET")
        await asyncio.sleep(0.25)
        assert "Greylisted" in await line.mail("r@example.com", sender="other@example.jp")
        await line.say("RSET")
        assert (await line.mail("r@example.com")).startswith("250")

    lab(tmp_path, {"greylist": {"seconds": 0.2}}, talk)


@pytest.mark.parametrize("stage", ["connect", "ehlo", "mail", "rcpt", "data", "body", "dot"])
def test_the_line_can_be_dropped_at_any_stage(tmp_path: Path, stage: str) -> None:
    async def talk(running: Lab) -> None:
        line = await Line.open(running.address("p"), hello=False)
        said = await line.reply()
        for command in ("EHLO x", "MAIL FROM:<s@example.jp>", "RCPT TO:<r@example.com>", "DATA", "Subject: x\r\n\r\n."):
            if not said:
                break
            said = await line.say(command)
        assert said == ""

    lab(tmp_path, {"faults": [{"do": "drop", "at": stage}]}, talk)
    assert not list(read_receipts(tmp_path))
    assert ("drop", stage) in [(e.event, e.stage) for e in read_events(tmp_path)]


def test_a_drop_after_the_dot_can_be_an_acceptance_once_per_recipient(tmp_path: Path) -> None:
    async def talk(running: Lab) -> None:
        line = await Line.open(running.address("p"))
        assert await line.mail("r@example.com") == ""
        line = await Line.open(running.address("p"))
        assert (await line.mail("r@example.com")).startswith("250")
        assert await line.mail("other@example.com") == ""

    lab(tmp_path, {"faults": [{"do": "drop", "at": "dot", "accepted": True, "once": True}]}, talk)
    assert [(r.rcpt, r.dropped_reply) for r in read_receipts(tmp_path)] == [
        ("r@example.com", True),
        ("r@example.com", False),
        ("other@example.com", True),
    ]


def test_slow_garbage_and_rejections(tmp_path: Path) -> None:
    async def talk(running: Lab) -> None:
        line = await Line.open(running.address("p"))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert (await line.mail("gone@example.com")).startswith("550 5.1.1 <gone@example.com>")
        await line.say("RSET")
        assert await line.mail("odd@example.com") == "+25 what"
        assert (await line.mail("fine@example.com")).startswith("250")
        assert loop.time() - begun > 0.2

    faults = [
        {"do": "slow", "at": "data", "ms": 100},
        {"do": "garbage", "at": "dot", "reply": "+25 what\r\n", "recipients": ["odd@*"]},
    ]
    lab(tmp_path, {"faults": faults, "reject": {"gone@example.com": "550 5.1.1 <{rcpt}>: User unknown"}}, talk)
    assert [r.rcpt for r in read_receipts(tmp_path)] == ["fine@example.com"]


def test_announcements_are_kept(tmp_path: Path) -> None:
    async def talk(running: Lab) -> None:
        line = await Line.open(running.address("p"))
        assert (await line.say("MAIL FROM:<s@example.jp> SIZE=2000")).startswith("552 5.3.4")
        assert (await line.mail("r@example.com", b"x" * 1001 + b"\r\n")).startswith("552 5.3.4")
        assert (await line.mail("利用者@example.com")).startswith("553 5.6.7")

    lab(tmp_path, {"announce": ["SIZE 1000"]}, talk)
    assert not list(read_receipts(tmp_path))


def test_faults_repeat_by_seed_and_recipient() -> None:
    def hit(seed: int) -> list[str]:
        pool = Behaviour.from_json({"pools": {"p": {"listen": [], "faults": [{"do": "drop", "at": "dot", "p": 0.2}]}}})
        fault = pool.pools[0].faults[0]
        return [rcpt for rcpt in (f"r{n}@example.com" for n in range(1000)) if fault.chosen(seed, rcpt)]

    assert hit(1) == hit(1) != hit(2)
    assert 150 < len(hit(1)) < 250


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"pools": {"p": {"listen": ["10.0.0.1:25"]}}}, "loopback"),
        ({"pools": {"p": {"listen": [], "rat": {}}}}, "unknown key 'rat'"),
        ({"pools": {"p": {"listen": [], "rate": {}}}}, "per_second is missing"),
        ({"pools": {"p": {"listen": [], "faults": [{"do": "dance", "at": "dot"}]}}}, "'dance'"),
        ([], "not a JSON object"),
    ],
)
def test_a_wrong_behaviour_is_named(document: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Behaviour.from_json(document)


def test_behaviour_survives_its_json() -> None:
    pool = {"listen": ["127.0.1.1:0"], "rate": {"per_second": 5}, "faults": [{"do": "drop", "at": "dot", "p": 0.1}]}
    behaviour = Behaviour.from_json({"seed": 7, "pools": {"office365": pool}})
    assert Behaviour.from_json(json.loads(json.dumps(behaviour.to_json()))) == behaviour


def test_message_id_is_read_from_the_header_only() -> None:
    assert message_id(b"From: a\r\nmessage-id:\r\n <folded@x>\r\nTo: b\r\n\r\nMessage-ID: <body@x>\r\n") == "<folded@x>"
    assert message_id(b"From: a\r\n\r\nMessage-ID: <body@x>\r\n") == ""


def test_as_a_module_it_says_where_it_listens_and_stops_on_sigterm(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps({"pools": {"p": {"listen": ["127.0.1.7:0"]}}}))
    command = [sys.executable, "-m", "resend.lab.mx", "--behaviour", str(tmp_path / "b.json")]
    process = subprocess.Popen([*command, "--receipts", str(tmp_path / "r")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["type"] == "ready" and ready["pid"] == process.pid
    assert ready["pools"]["p"][0].startswith("127.0.1.7:")
    (tmp_path / "b.json").write_text(json.dumps({"pools": {"p": {"listen": ready["pools"]["p"]}}}))
    taken = subprocess.run([*command, "--receipts", str(tmp_path / "q")], capture_output=True, text=True, check=False)
    assert taken.returncode == 1 and "cannot listen" in taken.stderr and "Traceback" not in taken.stderr
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(5) == 0


def test_a_torn_line_is_cut_before_the_next_receipt(tmp_path: Path) -> None:
    async def talk(running: Lab) -> None:
        line = await Line.open(running.address("p"))
        assert (await line.mail("r@example.com")).startswith("250")

    lab(tmp_path, {}, talk)
    with (tmp_path / "p.receipts.jsonl").open("ab") as handle:
        handle.write(b'{"at": 12, "to')
    assert len(list(read_receipts(tmp_path))) == 1
    lab(tmp_path, {}, talk)
    assert len(list(read_receipts(tmp_path))) == 2
