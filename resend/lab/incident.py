"""Makes up the incident: catalog, content, mail logs of three hosts, a queue snapshot, the truth, receivers.

`generate` writes below one directory; the same scale, seed and end give the same bytes. What it writes as truth is read
by tests and by the proof only. Sends nothing, reads no clock. Raises InputError for a scale below MIN_SCALE.
Run as `python -m resend.lab.incident OUT --scale 0.025 --seed 1 --end 2026-11-24T17:00:00+09:00`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, TextIO

from resend.errors import InputError, ResendError
from resend.lab import replies
from resend.lab.maillog import Mail, MailHost
from resend.lab.papers import text_of, write_catalog, write_kept, write_templates
from resend.lab.pools import config, receivers, yahoo_relay
from resend.lab.story import HOSTS, Story, Turn, arrival_of, attempts, code_of, host_of
from resend.lab.truth import Truth, bucket_of
from resend.lab.world import DAY, HOUR, MICROS, MINUTE, LinkBy, Net, Recipient, Release, World

MIN_SCALE = 0.002
LINES_OF_A_MAIL = 5  # client, message-id, queue active, sent, removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Where everything is, and what the config must say to use it."""

    out: Path
    logs: list[Path]  # one directory a host
    queue: Path  # of host `queue_host`
    queue_host: str
    catalog: Path
    content: Path
    truth: Path
    behaviour: Path
    seed: int
    summary: dict[str, Any]  # the last line of the truth

    def config(self, addresses: dict[str, str], *, yahoo_relay: str = "") -> dict[str, Any]:
        """resend.toml as a tree: `addresses` is pool -> HOST:PORT; mail for yahoo.co.jp may go through a lab relay."""
        return config(addresses, yahoo_relay=yahoo_relay)

    def relay(self, yahoo_jp: str, *, port: int = 0) -> dict[str, Any]:
        """The description of the lab relay before the yahoo_jp pool, for `resend.lab.relay`."""
        throttled = self.summary["providers"].get("yahoo_jp", 0)
        return yahoo_relay(yahoo_jp, self.seed, to_resend=throttled, port=port)


def generate(out: Path, *, scale: float = 0.025, seed: int = 1, end: datetime) -> Lab:
    """Write the incident of the four days before `end` (aware) into `out`, at `scale` of the real one."""
    if scale < MIN_SCALE:
        raise InputError(f"scale {scale:g} is too small for all cases", next_step=f"use {MIN_SCALE} or more")
    if end.tzinfo is None:
        raise ValueError(f"naive datetime {end!r}")
    world = World(scale=scale, seed=seed, end=end)
    story = Story(world, seed)
    write_catalog(out / "catalog", world, story)
    write_templates(out / "content", world)
    teller = _Teller(out, world, story, seed)
    summary = teller.tell()
    behaviour = receivers(seed, to_resend=summary["buckets"].get("resend", 0))
    (out / "behaviour.json").write_text(json.dumps(behaviour.to_json(), indent=1) + "\n", encoding="utf-8")
    return Lab(
        out=out,
        logs=[out / "logs" / name for name in HOSTS],
        queue=out / "queue.json",
        queue_host=HOSTS[0],
        catalog=out / "catalog",
        content=out / "content",
        truth=out / "truth.jsonl",
        behaviour=out / "behaviour.json",
        seed=seed,
        summary=summary,
    )


class _Teller:
    """Writes logs, send log, queue and truth in one pass over the releases."""

    def __init__(self, out: Path, world: World, story: Story, seed: int) -> None:
        self.out, self.world, self.story = out, world, story
        self.rng = Random(f"teller {seed}")
        ids = max(2000, int(world.mails * 0.18))  # short ids come round again after about a day and a half
        self.hosts = [
            self._host(0, seed, ids=ids),
            self._host(1, seed, rfc3339=True, long_ids=True),
            self._host(2, seed, filtered=True, ids=ids),
        ]
        self.truth = Truth(world)
        self.queue: list[dict[str, Any]] = []
        self.kept = self.notices = 0
        self.lost_mails = sum(turn is Turn.MISSING for turn in story.turn_of.values())

    def _host(self, number: int, seed: int, **style: Any) -> MailHost:
        name = HOSTS[number]
        address = f"203.0.113.{10 + number}"
        return MailHost(self.out / "logs" / name, name, address=address, end=self.world.end, seed=seed, **style)

    def tell(self) -> dict[str, Any]:
        self._unlinked()
        lost_lines = LINES_OF_A_MAIL * self.lost_mails
        self.hosts[1].say(
            self.story.gap[1], f"systemd-journald[401]: Suppressed {lost_lines} messages from postfix.service"
        )
        with (self.out / "catalog" / "sendlog.csv").open("w", encoding="utf-8", newline="") as sendlog:
            sendlog.write("release,recipient,address,message_id,sent_at,envelope\n")
            for release in self.world.releases:
                for host in self.hosts:
                    host.flush(release.sent_at)
                self._release(release, sendlog)
        for host in self.hosts:
            host.close()
        queue = "".join(json.dumps(entry) + "\n" for entry in self.queue)
        (self.out / "queue.json").write_text(queue, encoding="utf-8")
        lines = {host.name: host.lines for host in self.hosts}
        return self.truth.write(
            self.out / "truth.jsonl",
            lost_mails=self.lost_mails,
            notifications=self.notices,
            queued=len(self.queue),
            lines=lines,
        )

    def _release(self, release: Release, sendlog: TextIO) -> None:
        recipients, turns, hosts = self.world.recipients, self.story.turn_of, self.hosts
        for k, index in enumerate(self.world.members(release)):
            person, code, at = recipients[index], code_of(release, k), arrival_of(release, k)
            mail = self._mail(release, person, code, at)
            if release.link is LinkBy.SENDLOG:
                sendlog.write(_sendlog(release, person, mail))
            host = hosts[host_of(release, k)]
            turn = turns.get(code)
            if turn is None:
                qid, first = host.accept(mail)
                host.sent(first + 400_000 + code * 104729 % 2_500_000, qid, mail)
            else:
                self._trouble(turn, host, mail, release, person, index)
                if turn is Turn.TWICE:
                    again = self._mail(release, person, code | 1 << 19, at + 20 * MINUTE)
                    sendlog.write(_sendlog(release, person, again))
                    self._trouble(turn, host, again, release, person, index, bucket="folded")

    def _mail(self, release: Release, person: Recipient, code: int, at: int) -> Mail:
        sender, header = "bounce@example.jp", ""
        match release.link:
            case LinkBy.SENDLOG:
                message_id = f"<{at // MICROS}.{code:x}.dist@mail.example.jp>"
            case LinkBy.TEMPLATE:
                message_id = f"<release.{release.id}.{person.id}@mail.example.jp>"
            case LinkBy.HEADER:
                message_id, header = f"<{code:010x}.pr@legacy.example.jp>", release.id
            case LinkBy.VERP:
                message_id = f"<{code:010x}.verp@legacy.example.jp>"
                sender = f"bounce+{release.id}.{person.id}@example.jp"
        return Mail(
            message_id=message_id,
            sender=sender,
            rcpt=person.address,
            relay=person.relay,
            net=person.net,
            size=2000 + code * 31 % 9000,
            arrival=at,
            header=header,
        )

    def _trouble(
        self,
        turn: Turn,
        host: MailHost,
        mail: Mail,
        release: Release | None,
        person: Recipient,
        index: int,
        bucket: str = "",  # given for a second copy only
    ) -> None:
        """Tell one mail that was not simply delivered, and write down the truth about it."""
        note = self.truth.note
        if turn is Turn.MISSING:
            if release is not None and release.link is LinkBy.SENDLOG:
                note(turn, mail, release, person, bucket="missing", status="delivered", host=host.name)
            return
        qid, first = host.accept(mail)
        status = self._play(turn, host, mail, qid, first)
        if turn in (Turn.SOON, Turn.GREY):
            return
        named, why = bucket_of(turn, release, person, index in self.story.suppressed, self.world.end)
        if bucket:
            named, why = bucket, ""
        note(turn, mail, release, person, bucket=named, why=why, status=status, host=host.name, queue_id=qid)
        known = release is not None and release.link is LinkBy.TEMPLATE
        if release is not None and known and named == "resend" and self.kept < 5:
            self.kept += 1
            write_kept(self.out / "content", release, person, mail.message_id, mail.arrival)

    def _play(self, turn: Turn, host: MailHost, mail: Mail, qid: str, first: int) -> str:
        """Write the attempts; returns the status at the end of the evidence."""
        at = first + 400_000
        match turn:
            case Turn.WAVE | Turn.GONE | Turn.REFUSED:
                table = replies.GONE if turn is Turn.GONE else replies.REFUSED
                said = replies.FALSE_GONE if turn is Turn.WAVE else table[mail.net]
                host.failed(at, qid, mail, said, bounced=True)
                host.returned(at + 2_000, qid, mail)
                self.notices += 1
                return "bounced"
            case Turn.SOON | Turn.GREY:
                said = replies.GREYLISTED if turn is Turn.GREY else replies.busy(self.rng.random())
                host.failed(at, qid, mail, said)
                host.sent(at + 300 * MICROS + 900_000, qid, mail)
                host.keep(qid, at + HOUR)
                return "delivered"
            case Turn.DARK:
                host.failed(at, qid, mail, replies.BUSY[0])
                return "delivered"  # inside the gap, so that no line says so
            case Turn.LATE:
                return self._late(host, mail, qid, first)
            case Turn.HELD | Turn.QUEUED:
                return self._stays(turn, host, mail, qid, first)
            case _:
                return self._expires(turn, host, mail, qid, first)

    def _late(self, host: MailHost, mail: Mail, qid: str, first: int) -> str:
        longest = min(20 * HOUR, self.story.throttled_to - mail.arrival)
        wanted = 66 * MINUTE + int(self.rng.random() ** 2 * max(0, longest - 66 * MINUTE))
        host.keep(qid, mail.arrival + DAY)
        for at in attempts(mail.arrival, first, self.rng):
            if at - mail.arrival >= wanted or at >= self.story.throttled_to:
                host.sent(at, qid, mail)
                return "delivered_late"
            host.failed(at, qid, mail, replies.busy(self.rng.random()))
        raise AssertionError("attempts never end")

    def _stays(self, turn: Turn, host: MailHost, mail: Mail, qid: str, first: int) -> str:
        until = self.story.held_at if turn is Turn.HELD else self.story.throttled_to
        host.keep(qid, self.world.end + DAY)
        reason = ""
        for at in attempts(mail.arrival, first, self.rng):
            if at >= until:
                break
            reason = host.failed(at, qid, mail, replies.busy(self.rng.random()))
        if turn is Turn.HELD:
            host.held(until + len(self.queue) * 1000, qid)
        entry = {
            "queue_name": "hold" if turn is Turn.HELD else "deferred",
            "queue_id": qid,
            "arrival_time": mail.arrival // MICROS,
            "message_size": mail.size,
            "forced_expire": False,
            "sender": mail.sender,
            "recipients": [{"address": mail.rcpt, "delay_reason": reason}],
        }
        self.queue.append(entry)
        return "still_queued"

    def _expires(self, turn: Turn, host: MailHost, mail: Mail, qid: str, first: int) -> str:
        host.keep(qid, mail.arrival + 2 * DAY)
        for number, at in enumerate(attempts(mail.arrival, first, self.rng)):
            if turn is Turn.YAHOO:
                said = replies.YAHOO_BUSY
            elif turn is Turn.TIMEOUT:
                said = replies.TIMED_OUT
            elif turn is Turn.MAYBE and number == 3:
                said = replies.LOST_AT_DOT
            else:
                said = replies.busy(self.rng.random())
            host.failed(at, qid, mail, said)
            if at - mail.arrival >= DAY:
                host.expired(at + 1_000, qid, mail)
                self.notices += 1
                return "expired"
        raise AssertionError("attempts never end")

    def _unlinked(self) -> None:
        """Mails of another system: no catalog knows their message-id or their recipient."""
        hosted = [person for person in self.world.recipients if person.net is Net.OFFICE365]
        for number in range(self.story.unlinked):
            like = hosted[number]
            person = Recipient(
                id="",
                address=f"accounts.{number}@{like.address.rpartition('@')[2]}",
                name="",
                outlet="",
                english=True,
                net=Net.OFFICE365,
                relay=like.relay,
            )
            at = self.story.throttled_from + (number + 1) * 7 * MINUTE
            mail = Mail(
                message_id=f"<{1_000_000 + number}.JavaMail.tomcat@app1.example.jp>",
                sender="notice@example.jp",
                rcpt=person.address,
                relay=person.relay,
                net=person.net,
                size=3100 + number,
                arrival=at,
            )
            self._trouble(Turn.EXPIRED, self.hosts[number % 3], mail, None, person, -1)


def _sendlog(release: Release, person: Recipient, mail: Mail) -> str:
    return f"{release.id},{person.id},{person.address},{mail.message_id},{text_of(mail.arrival)},{mail.sender}\n"


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m resend.lab.incident", description="make up the incident")
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=float, default=0.025)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--end", type=datetime.fromisoformat, required=True, help="RFC 3339 time with zone")
    options = parser.parse_args()
    try:
        lab = generate(options.out, scale=options.scale, seed=options.seed, end=options.end)
    except ResendError as error:
        print(error.line(), file=sys.stderr)
        return int(error.exit)
    print(json.dumps(lab.summary))
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
