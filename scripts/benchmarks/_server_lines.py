"""Made-up lines of mail servers' logs for `scripts/bench formats`, and patterns for them: Exim, Sendmail, OpenSMTPD.

Bulk mail of a press-release service: each mail comes in, 10 % are deferred once, 1 % bounce.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

_START = datetime(2026, 1, 15, 9, 0, 0)  # noqa: DTZ001 (a log of this kind has no zone)
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BUSY = "451 4.7.500 Server busy. Please try again later from [203.0.113.10]. (S77719)"


def _clock(rng: random.Random) -> Iterator[datetime]:
    seconds = 0.0
    while True:
        seconds += rng.expovariate(100.0)
        yield _START + timedelta(seconds=int(seconds))


def _exim(rng: random.Random) -> Iterator[str]:
    for number, at in enumerate(_clock(rng)):
        stamp = at.strftime("%Y-%m-%d %H:%M:%S")
        qid = f"1wN9{''.join(rng.choices(_DIGITS, k=2))}-{number:011d}-{''.join(rng.choices(_DIGITS, k=4))}"
        domain = rng.randrange(4_000)
        to, release = f"user{rng.randrange(2_000_000)}@corp{domain}.example.jp", rng.randrange(2_000)
        host = f"H=mx{domain % 3}.corp{domain}.example.jp [198.51.100.{domain % 250}]"
        said = f"SMTP error from remote mail server after RCPT TO:<{to}>"
        yield (
            f"{stamp} {qid} <= bounce+{release}@mail.example.jp H=app{number % 4}.example.jp (app) [10.0.0.5]:40122"
            f" P=esmtps X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no S={rng.randrange(6_000, 40_000)}"
            f" id=release.{release}.{number}@mail.example.jp"
        )
        if rng.random() < 0.1:
            yield f"{stamp} {qid} == {to} R=dnslookup T=remote_smtp defer (-44) {host}: {said}: {_BUSY}"
        if rng.random() < 0.01:
            yield f"{stamp} {qid} ** {to} R=dnslookup T=remote_smtp {host}: {said}: 550 5.1.1 <{to}>: User unknown"
        else:
            yield (
                f"{stamp} {qid} => {to} R=dnslookup T=remote_smtp {host} X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=yes"
                f' C="250 2.0.0 Ok: queued as {rng.getrandbits(44):011X}"'
            )
        yield f"{stamp} {qid} Completed"
        if rng.random() < 0.05:
            yield f"{stamp} H=scan.example.net [192.0.2.9] F=<a@example.net> rejected RCPT <b@example.com>: no relaying"


def _sendmail(rng: random.Random) -> Iterator[str]:
    for number, at in enumerate(_clock(rng)):
        stamp = at.strftime("%b %d %H:%M:%S mta1 sm-mta")
        qid, pid = f"60F9{''.join(rng.choices(_DIGITS, k=4))}{number % 1_000_000:06d}", 20_000 + number % 999
        domain = rng.randrange(4_000)
        to, release = f"user{rng.randrange(2_000_000)}@corp{domain}.example.jp", rng.randrange(2_000)
        size = rng.randrange(6_000, 40_000)
        relay = f"relay=mx{domain % 3}.corp{domain}.example.jp. [198.51.100.{domain % 250}]"
        head = f"{stamp}[{pid}]: {qid}: to=<{to}>, delay=00:00:02, xdelay=00:00:01, mailer=esmtp, pri=121111, {relay}"
        yield (
            f"{stamp}[{pid}]: {qid}: from=<bounce+{release}@mail.example.jp>, size={size}, class=0, nrcpts=1,"
            f" msgid=<release.{release}.{number}@mail.example.jp>, proto=ESMTP, daemon=MTA, relay=app [10.0.0.5]"
        )
        if rng.random() < 0.1:
            yield f"{head}, dsn=4.7.500, reply={_BUSY}, stat=Deferred: {_BUSY}"
        if rng.random() < 0.01:
            yield f"{head}, dsn=5.1.1, reply=550 5.1.1 <{to}>... User unknown, stat=User unknown"
            yield f"{stamp}[{pid}]: {qid}: {qid[:-1]}Z: DSN: User unknown"
        else:
            yield f"{head}, dsn=2.0.0, stat=Sent (2.0.0 Ok: queued as {rng.getrandbits(44):011X})"
        yield f"{stamp}[{pid}]: {qid}: done; delay=00:00:02, ntries=1"
        if rng.random() < 0.2:
            yield f"{stamp}[{pid}]: STARTTLS=client, {relay.split(' ', maxsplit=1)[0]}, version=TLSv1.3, verify=OK"


def _opensmtpd(rng: random.Random) -> Iterator[str]:
    for at in _clock(rng):
        stamp, session = at.strftime("%b %d %H:%M:%S mta1 smtpd[300]:"), f"{rng.getrandbits(64):016x}"
        evpid, domain = f"{rng.getrandbits(64):016x}", rng.randrange(4_000)
        sender, to = (
            f"bounce+{rng.randrange(2_000)}@mail.example.jp",
            f"user{rng.randrange(2_000_000)}@corp{domain}.example.jp",
        )
        relay = f"198.51.100.{domain % 250} (mx{domain % 3}.corp{domain}.example.jp)"
        head = (
            f'{stamp} {session} mta delivery evpid={evpid} from=<{sender}> to=<{to}> rcpt=<-> source="10.0.0.2"'
            f' relay="{relay}" delay=2s'
        )
        size = rng.randrange(6_000, 40_000)
        yield f"{stamp} {session} smtp message msgid={evpid[:8]} size={size} nrcpt=1 proto=ESMTP"
        yield f"{stamp} {session} smtp envelope evpid={evpid} from=<{sender}> to=<{to}>"
        if rng.random() < 0.1:
            yield f'{head} result="TempFail" stat="{_BUSY}"'
        if rng.random() < 0.01:
            yield f'{head} result="PermFail" stat="550 5.1.1 <{to}>: Recipient address rejected: User unknown"'
        else:
            yield f'{head} result="Ok" stat="250 2.0.0 Ok: queued as {rng.getrandbits(44):011X}"'
        if rng.random() < 0.3:
            yield f"{stamp} {session} mta connected"


_EXIM = r"^(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<id>\w{6}-\w{6,11}-\w{2,4}) "
_SYSLOG = r"^(?P<at>\w{3} [ \d]\d \d\d:\d\d:\d\d) (?P<host>\S+) (?P<program>[^\[:]+)(?:\[\d+\])?: "

# format, lines, patterns, how `at` is written
SERVERS: tuple[tuple[str, Callable[[random.Random], Iterator[str]], Sequence[str], str], ...] = (
    (
        "exim",
        _exim,
        (
            _EXIM + r"<= (?P<sender>\S+) .*? S=(?P<size>\d+)(?: .*?id=(?P<message_id>\S+))?",
            _EXIM + r"(?P<flag>[=-]>) (?P<to>\S+)(?: <(?P<top>[^>]*)>)? .*?T=(?P<transport>\S+)"
            r"(?: .*?H=(?P<relay>\S+) \[(?P<ip>[^\]]+)\](?::(?P<port>\d+))?.*? "
            r'C="(?P<code>\d+) ?(?P<enhanced>\d\.\d\.\d)?(?:.*queued as (?P<next>\w+))?)?',
            _EXIM + r"(?P<flag>==|\*\*) (?P<to>\S+)(?: <(?P<top>[^>]*)>)? .*?(?:defer \((?P<errno>-?\d+)\))?"
            r" H=(?P<relay>\S+) \[(?P<ip>[^\]]+)\](?::(?P<port>\d+))?.*?: (?P<reply>.*?: (?P<code>\d{3})"
            r" (?P<enhanced>\d\.\d\.\d+)?.*)",
            _EXIM + r"(?P<flag>Completed)",
        ),
        "%Y-%m-%d %H:%M:%S",
    ),
    (
        "sendmail",
        _sendmail,
        (
            _SYSLOG + r"(?P<qid>\w{14}): from=(?P<sender>.*?), size=(?P<size>\d+), class=-?\d+, nrcpts=(?P<nrcpt>\d+)"
            r"(?:, msgid=(?P<message_id>.*?))?(?:, bodytype=\w+)?, proto=",
            _SYSLOG + r"(?P<qid>\w{14}): to=(?P<to>.*?), (?:ctladdr=.*?, )?delay=(?P<days>\d+\+)?(?P<delay>[\d:]+), "
            r"xdelay=[\d:+]+, mailer=(?P<mailer>\w+), pri=\d+, (?:relay=(?P<relay>\S+)(?: \[(?P<ip>[^\]]+)\])?.*?, )?"
            r"dsn=(?P<dsn>[\d.]+), (?:reply=(?P<reply>.*?), )?"
            r"stat=(?P<stat>\w+)(?P<text>.*?(?:queued as (?P<next>\w+))?.*)$",
            _SYSLOG + r"(?P<qid>\w{14}): (?P<next>\w{14}): (?P<text>.*)",
            _SYSLOG + r"(?P<qid>\w{14}): (?P<flag>done); delay",
        ),
        "%b %d %H:%M:%S",
    ),
    (
        "opensmtpd",
        _opensmtpd,
        (
            _SYSLOG + r"\w{16} smtp message msgid=(?P<qid>\w{8}) size=(?P<size>\d+) nrcpt=(?P<nrcpt>\d+)",
            _SYSLOG + r"\w{16} smtp envelope evpid=(?P<qid>\w{8})\w{8} from=<(?P<sender>[^>]*)> to=<(?P<to>[^>]*)>",
            _SYSLOG + r"\w{16} mta delivery evpid=(?P<qid>\w{8})\w{8} from=<(?P<sender>[^>]*)> to=<(?P<to>[^>]*)> "
            r'rcpt=<(?P<rcpt>[^>]*)> source="[^"]*" relay="(?P<ip>\S+)(?: \((?P<relay>[^)]*)\))?" delay=(?P<delay>\S+) '
            r'result="(?P<result>\w+)" stat="(?P<reply>(?P<code>\d{3})? ?(?P<enhanced>\d\.\d\.\d+)?.*)"',
        ),
        "%b %d %H:%M:%S",
    ),
)
