"""Writes what Postfix on one mail host would have logged: lines in order of time, rotated and gzipped.

A host has a style of time (BSD without year or zone, or RFC 3339), of queue ids (short and reused, or long), and may
pass each mail through a content filter on 127.0.0.1:10025. The wording is Postfix's; it is written here once more, on
purpose, and shares nothing with what reads it. Lines are kept until `flush` says that nothing earlier will come.
"""

from __future__ import annotations

import gzip
import os
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import BinaryIO, cast

from resend.lab import replies
from resend.lab.replies import Said
from resend.lab.world import DAY, HOUR, JST, MICROS, Net

_BASE52 = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"


@dataclass(slots=True, kw_only=True)
class Mail:
    """One original as the hosts see it. `rcpt` is the address, `shown` how this log writes it."""

    message_id: str
    sender: str
    rcpt: str
    relay: str
    net: Net
    size: int
    arrival: int
    header: str = ""  # logged X-Release-Id


class MailHost:
    """One host's log. All times in microseconds since 1970."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        address: str,
        end: int,
        seed: int,
        rfc3339: bool = False,
        long_ids: bool = False,
        filtered: bool = False,
        ids: int = 0,
    ) -> None:
        self.name, self.address, self.end = name, address, end
        self.lines = 0
        self._directory = directory
        self._rng = Random(f"{name} {seed}")
        self._rfc3339, self._long_ids, self._filtered = rfc3339, long_ids, filtered
        self._ids, self._next_id = ids, 0
        self._busy: dict[str, int] = {}
        self._hours: dict[int, list[tuple[int, str]]] = defaultdict(list)
        self._files: dict[str, BinaryIO] = {}
        self._stamps: dict[int, str] = {}
        self._noise_from = end - 4 * DAY
        directory.mkdir(parents=True, exist_ok=True)

    # Postfix

    def accept(self, mail: Mail) -> tuple[str, int]:
        """A mail comes in, through the filter if there is one: its last queue id and when its first attempt starts."""
        at = mail.arrival
        qid = self._enter(at, mail, "bulk1.example.jp[10.1.0.11]", "")
        if not self._filtered:
            return qid, at + 20_000
        inner = self._enter(at + 120_000, mail, "localhost[127.0.0.1]", qid)
        say = self.say
        say(
            at + 150_000,
            f"postfix/smtp[{self._pid(mail)}]: {qid}: to=<{self.shown(mail.rcpt)}>, relay=127.0.0.1[127.0.0.1]:10025, "
            f"delay=0.15, delays=0.02/0/0.01/0.12, dsn=2.0.0, status=sent (250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): "
            f"250 2.0.0 Ok: queued as {inner})",
        )
        say(at + 151_000, f"postfix/qmgr[812]: {qid}: removed")
        return inner, at + 160_000

    def sent(self, at: int, qid: str, mail: Mail) -> None:
        """Delivered at `at`, and out of the queue."""
        draw = self._rng.random()
        dsn, text = replies.taken(mail.net, mail.message_id, mail.size, draw)
        delay = (at - mail.arrival) / MICROS
        shape = ".2g" if delay < 60 else ".0f"
        self.say(
            at,
            f"postfix/smtp[{self._pid(mail)}]: {qid}: to=<{self.shown(mail.rcpt)}>, relay={mail.relay}, "
            f"delay={delay:{shape}}, delays={max(0.01, delay - 0.9):{shape}}/0.01/{0.1 + draw / 4:.2g}/"
            f"{0.2 + draw / 3:.2g}, dsn={dsn}, status=sent ({text})",
        )
        self.removed(at + 900, qid)

    def failed(self, at: int, qid: str, mail: Mail, said: Said, *, bounced: bool = False) -> str:
        """One attempt that was not sent; returns the reason as logged."""
        rcpt = self.shown(mail.rcpt)
        stamp = f"{datetime.fromtimestamp(at // MICROS, UTC):%Y-%m-%dT%H:%M:%S}.{at // 1000 % 1000:03d}Z"
        text = replies.reason(said, relay=mail.relay, rcpt=rcpt, ip=self.address, stamp=stamp, rng=self._rng)
        delay = max(0.5, (at - mail.arrival) / MICROS)
        shape = ".2g" if delay < 60 else ".0f"
        program = "smtp" if said.connected else "error"
        if said is replies.TIMED_OUT:
            program = "smtp"
            self.say(at - 900, f"postfix/smtp[{self._pid(mail)}]: {text}")
        self.say(
            at,
            f"postfix/{program}[{self._pid(mail)}]: {qid}: to=<{rcpt}>, "
            f"relay={mail.relay if said.connected else 'none'}, "
            f"delay={delay:{shape}}, delays={max(0.01, delay - 0.4):{shape}}/0.02/0.2/0.2, dsn={said.dsn}, "
            f"status={'bounced' if bounced else 'deferred'} ({text})",
        )
        return text

    def returned(self, at: int, qid: str, mail: Mail) -> None:
        """The bounce of a mail, delivered to its sender, and the mail's removal."""
        note = self._new_id(at)
        host = f"{self.name}.mail.example.jp"
        say = self.say
        say(at, f"postfix/cleanup[{self._pid(mail) + 1}]: {note}: message-id=<{at // MICROS}.{note}@{host}>")
        say(at + 800, f"postfix/bounce[2207]: {qid}: sender non-delivery notification: {note}")
        say(at + 900, f"postfix/qmgr[812]: {note}: from=<>, size={mail.size + 2400}, nrcpt=1 (queue active)")
        self.removed(at + 950, qid)
        say(
            at + 90_000,
            f"postfix/smtp[{self._pid(mail)}]: {note}: to=<{mail.sender}>, relay=mail.example.jp[10.1.0.5]:25, "
            f"delay=0.09, delays=0.01/0.01/0.03/0.04, dsn=2.0.0, "
            f"status=sent (250 2.0.0 Ok: queued as {at % 2**40:010X})",
        )
        self.removed(at + 91_000, note)

    def expired(self, at: int, qid: str, mail: Mail) -> None:
        self.say(at, f"postfix/qmgr[812]: {qid}: from=<{mail.sender}>, status=expired, returned to sender")
        self.returned(at + 500, qid, mail)

    def held(self, at: int, qid: str) -> None:
        self.say(at, f"postfix/postsuper[30121]: {qid}: placed on hold")
        self._busy[qid] = self.end + DAY

    def keep(self, qid: str, until: int) -> None:
        """This queue id is taken until then."""
        self._busy[qid] = until

    def removed(self, at: int, qid: str) -> None:
        self.say(at, f"postfix/qmgr[812]: {qid}: removed")

    def shown(self, address: str) -> str:
        """An address as this Postfix logs it: since 3.6 a local part that needs quotes has them."""
        if self._rfc3339 and ".." in address:
            local, _, domain = address.rpartition("@")
            return f'"{local}"@{domain}'
        return address

    def say(self, at: int, text: str) -> None:
        """One line after time and host name; beyond the end of the evidence nothing was logged yet."""
        if at <= self.end:
            self._hours[at // HOUR].append((at, text))

    def _enter(self, at: int, mail: Mail, client: str, outer: str) -> str:
        qid = self._new_id(at)
        say, pid = self.say, self._pid(mail)
        xforward = f", orig_queue_id={outer}, orig_client=bulk1.example.jp[10.1.0.11]" if outer else ""
        say(at, f"postfix/smtpd[{pid}]: {qid}: client={client}{xforward}")
        if mail.header and not outer:
            say(
                at + 2_000,
                f"postfix/cleanup[{pid + 1}]: {qid}: info: header X-Release-Id: {mail.header} from {client}; "
                f"from=<{mail.sender}> to=<{self.shown(mail.rcpt)}> proto=ESMTP helo=<bulk1.example.jp>",
            )
        say(at + 3_000, f"postfix/cleanup[{pid + 1}]: {qid}: message-id={mail.message_id}")
        say(at + 6_000, f"postfix/qmgr[812]: {qid}: from=<{mail.sender}>, size={mail.size}, nrcpt=1 (queue active)")
        return qid

    def _new_id(self, at: int) -> str:
        if self._long_ids:
            self._next_id += 1
            inode = self._next_id % 5000 + 300
            return f"{_digits(at // MICROS, 6, 52)}{_digits(at % MICROS, 4, 52)}z{_digits(inode, 2, 51)}"
        while True:
            number = self._next_id = (self._next_id + 1) % self._ids
            qid = f"{number * 2654435761 % (1 << 20):05X}{0x1A000 + number:05X}"
            if self._busy.get(qid, 0) < at:
                self._busy.pop(qid, None)
                return qid

    def _pid(self, mail: Mail) -> int:
        return 2000 + mail.size % 23 * 4

    # the file

    def flush(self, before: int) -> None:
        """Write all hours that end before `before`."""
        for hour in sorted(hour for hour in self._hours if (hour + 1) * HOUR <= before):
            self._write(hour)

    def close(self) -> None:
        for hour in sorted(self._hours):
            self._write(hour)
        for name, handle in self._files.items():
            handle.close()
            age = {"mail.log": 0, "mail.log.1": 1}.get(name, 2)
            at = (self.end - age * DAY) // MICROS
            os.utime(self._directory / name, (at, at))

    def _write(self, hour: int) -> None:
        lines = self._hours.pop(hour)
        lines += self._noise(hour)
        lines.sort()
        self.lines += len(lines)
        stamps, name = self._stamps, self.name
        stamps.clear()
        edges = [at for at in (self.end - 2 * DAY, self.end - DAY) if hour * HOUR < at < (hour + 1) * HOUR]
        start = 0
        for edge in [*edges, (hour + 1) * HOUR]:
            stop = start
            if edges:
                while stop < len(lines) and lines[stop][0] < edge:
                    stop += 1
            else:
                stop = len(lines)
            chunk = lines[start:stop]
            if chunk:
                self._file(chunk[0][0]).write("".join(self._shaped(chunk, stamps, name)).encode())
            start = stop

    def _shaped(self, lines: list[tuple[int, str]], stamps: dict[int, str], name: str) -> list[str]:
        for second in {at // MICROS for at, _ in lines}:
            when = datetime.fromtimestamp(second, JST)
            stamps[second] = when.isoformat()[:19] if self._rfc3339 else f"{when:%b} {when.day:2d} {when:%H:%M:%S}"
        if self._rfc3339:
            return [f"{stamps[at // MICROS]}.{at % MICROS:06d}+09:00 {name} {text}\n" for at, text in lines]
        return [f"{stamps[at // MICROS]} {name} {text}\n" for at, text in lines]

    def _file(self, at: int) -> BinaryIO:
        name = "mail.log" if at >= self.end - DAY else "mail.log.1" if at >= self.end - 2 * DAY else "mail.log.2.gz"
        if name not in self._files:
            raw = (self._directory / name).open("wb", buffering=1 << 20)
            self._files[name] = cast(BinaryIO, _Gzip(raw)) if name.endswith(".gz") else raw
        return self._files[name]

    def _noise(self, hour: int) -> list[tuple[int, str]]:
        """What else writes to a mail log."""
        random, base = self._rng.random, hour * HOUR
        lines = []
        for number in range(40):
            at = base + int(random() * (HOUR - 21 * MICROS))  # the last line is 20 s later
            pid = 3000 + number
            ip = f"192.0.2.{int(random() * 250)}"
            lines += [
                (at, f"postfix/smtpd[{pid}]: connect from unknown[{ip}]"),
                (at + 400_000, f"postfix/smtpd[{pid}]: lost connection after AUTH from unknown[{ip}]"),
                (at + 401_000, f"postfix/smtpd[{pid}]: disconnect from unknown[{ip}] ehlo=1 auth=0/1 commands=1/2"),
                (
                    at + 9_000_000,
                    f"dovecot: imap-login: Login: user=<ops{number % 5}>, method=PLAIN, rip=10.1.0.{number}, TLS",
                ),
                (at + 20_000_000, f"sshd[{pid}]: Connection closed by 10.1.0.{number} port 5{number:04d} [preauth]"),
            ]
        lines += [
            (base + 11 * MICROS, "postfix/anvil[901]: statistics: max connection rate 4/60s for (smtp:10.1.0.11)"),
            (
                base + 1900 * MICROS,
                "postfix/smtpd[3100]: NOQUEUE: reject: RCPT from unknown[192.0.2.77]: 554 5.7.1 <x@example.org>: Relay"
                " access denied; from=<spam@example.org> to=<x@example.org> proto=ESMTP helo=<x>",
            ),
        ]
        return [line for line in lines if self._noise_from <= line[0] <= self.end]


class _Gzip(gzip.GzipFile):
    """Without name and time in its header, so that the same lines give the same bytes."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0)
        self._raw = raw

    def close(self) -> None:
        super().close()
        self._raw.close()


def _digits(number: int, width: int, base: int) -> str:
    text = ""
    while number or len(text) < width:
        number, digit = divmod(number, base)
        text = _BASE52[digit] + text
    return text
