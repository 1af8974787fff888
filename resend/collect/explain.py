"""How one line of a log is understood, for `collect --explain FILE:LINE`: format, wrapping, events, or why none.

The line goes through the same SQL as a collect of its file, alone. A line of a mailbox is a mail, counted from one; of
JSON spread over lines, a value. Writes nothing. Raises InputError for a place that is not there, as `collect` does for
a file that it cannot read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from resend.collect import mails, parse
from resend.collect.files import is_maildir
from resend.collect.formats import Format, Input, envelopes, formats
from resend.collect.parse import Reading
from resend.collect.sources import Given, find
from resend.collect.times import check_zone
from resend.errors import InputError, UsageError
from resend.stores.manifest import Source

KINDS = {
    "begin": "a mail comes in",
    "message": "the Message-ID of a mail",
    "queued": "a mail is in the queue",
    "attempt": "a try to deliver to one recipient",
    "expired": "a mail was in the queue for too long: nothing more is tried",
    "removed": "a mail leaves the queue",
    "requeue": "a mail goes on under another queue id",
    "hop": "a notification about a mail gets a queue id of its own",
    "header": "a header line of a mail",
    "complaint": "a recipient complained of a mail",
    "loss": "lines were lost here: what became of mails then is unknown",
    "rejected": "looks like a line about mail, and is not understood",
}
FIELDS = {
    "host": "host",
    "instance": "instance",
    "qid": "queue id",
    "next_qid": "other queue id",
    "message_id": "Message-ID",
    "sender": "sender",
    "recipient": "recipient",
    "orig_to": "before aliases",
    "relay": "receiving host",
    "relay_ip": "its address",
    "relay_port": "its port",
    "status": "status",
    "code": "reply code",
    "enhanced": "enhanced code",
    "reply": "reply",
    "delay": "since arrival",
    "size": "bytes",
    "nrcpt": "recipients",
    "text": "text",
}  # of an event, in words and in this order; `at_us` is its time


@dataclass(frozen=True, slots=True)
class Explained:
    """A line and what it tells. `events` hold what is present only; `verdict` is parsed, ignored or rejected."""

    place: str
    format: Format
    envelope: Format | None
    verdict: str
    why: str  # it is ignored or rejected; "" parsed
    text: str
    inside: str  # the wrapping; "" without one
    events: tuple[dict[str, Any], ...]


def split(place: str) -> tuple[str, int]:
    """FILE:LINE. Raises UsageError for anything else."""
    file, _, number = place.rpartition(":")
    if not file or not number.isdecimal() or int(number) < 1:
        raise UsageError(f"--explain: not a place in a file: {place!r}", next_step="write it like mail.log:8812")
    return file, int(number)


def explain(
    place: str, sources: Mapping[str, Source], *, asked: str = "", tz: str, zone: str, year: int = 0, host: str = ""
) -> Explained:
    """The line at `place`. What no flag (`asked`, `tz`, `year`, `host`) says is as its file was collected.

    `sources` are those of the evidence: evidence names files without their folder. `zone` is the configured one.
    """
    file, number = split(place)
    path = _path(file, sources)
    before = sources.get(str(path.resolve()))
    if before is not None:
        asked, tz, year = asked or before.format, tz or before.zone, year or before.year
    given = _given(path, file, before, asked=asked, zone=check_zone(tz or zone, where="--tz"), year=year, host=host)
    how = given.how
    if before is not None and not year:
        how = replace(how, last_day=date.fromisoformat(before.last_day))
    return _explained(place, _line(given, file, number), how, number)


def _path(file: str, sources: Mapping[str, Source]) -> Path:
    path = Path(file)
    if path.exists():
        return path
    same = [Path(source.path) for source in sources.values() if not source.former and Path(source.path).name == file]
    if len(same) == 1 and same[0].exists():
        return same[0]
    if len(same) > 1:
        raise InputError(
            f"{len(same)} collected files have this name", where=file, next_step=f"name one of them: {same[0]}:LINE"
        )
    raise InputError("no such file", where=file, next_step="name the file with its folder, as in /var/log/mail.log:12")


def _given(path: Path, file: str, before: Source | None, *, asked: str, zone: str, year: int, host: str) -> Given:
    if path.is_dir() and before is None and not is_maildir(path):
        raise InputError(
            "a folder has no lines", where=file, next_step="name a file in it; of single mails, collect first"
        )
    unread: list[InputError] = []
    for given in find([path], asked=asked, zone=zone, year=year, host=host, warn=[], unread=unread):
        if given.name == str(path.resolve()):
            return given
    if unread:
        raise unread[0]
    raise InputError("a folder has no lines", where=file, next_step="name a file in it")


def _line(given: Given, file: str, number: int) -> bytes:
    """The bytes of a line, as a block of its own."""
    left = number
    warnings: list[str] = []
    mail = formats()[given.how.format].input is Input.MAIL
    for block in given.blocks(warnings):
        data = block.read()
        lines = _mails(data) if mail else data.count(b"\n") + (not data.endswith(b"\n"))
        if left <= lines:
            return next(item for place, item in enumerate(_items(data, mail=mail), 1) if place == left)
        left -= lines
    what = f"it has only {number - left:,} {'mails' if mail else 'lines'}"
    raise InputError("; ".join([what, *warnings]), where=f"{file}:{number}", next_step="name a line that is there")


def _mails(data: bytes) -> int:
    return sum(1 for _ in mails.unpacked(data))


def _items(data: bytes, *, mail: bool) -> Iterator[bytes]:
    if mail:
        yield from (mails.packed([item]) for item in mails.unpacked(data))
        return
    at = 0
    while at < len(data):
        end = data.find(b"\n", at) + 1 or len(data)
        yield data[at:end]
        at = end


def _explained(place: str, data: bytes, how: Reading, number: int) -> Explained:
    kind = formats()[how.format]
    shown = next(mails.unpacked(data), b"") if kind.input is Input.MAIL else data
    text = shown.decode("utf-8", "replace").rstrip("\r\n")
    rows = parse.parse_lines(data, how)
    inside, program = parse.beginning(data, how) if kind.input is not Input.MAIL else ("", "")
    events = tuple({name: value for name, value in row.items() if value not in ("", None)} for row in rows)
    for event in events:
        if event.get("code") == 0:
            del event["code"]
    rejected = next((str(event.get("reply", "")) for event in events if event["kind"] == "rejected"), None)
    if rejected is not None:
        verdict, why = "rejected", rejected
    elif events:
        verdict, why = "parsed", ""
    else:
        verdict, why = "ignored", _why_ignored(kind, inside or text, program, heading=bool(how.heading) and number == 1)
    return Explained(
        place=place,
        format=kind,
        envelope=envelopes().get(how.envelope),
        verdict=verdict,
        why=why,
        text=text,
        inside=inside if how.envelope and inside != text else "",
        events=events,
    )


def _why_ignored(kind: Format, text: str, program: str, *, heading: bool) -> str:
    if not text.strip():
        return "an empty line"
    if heading:
        return "the heading"
    if kind.input is Input.MAIL:
        return "no report of a failure"
    if not program:
        return f"{kind.title}: nothing about a mail that was sent, its queue id or its Message-ID"
    if not kind.knows(text[text.find(program) :]):
        return f"a line of {program}, no program of {kind.title.removeprefix('the log of ')}"
    return f"a line of {program} that tells nothing of a mail's way which its other lines do not tell"
