"""Which format a file is in, and how it is wrapped, from its content. An unknown one is refused with what was seen.

Pure but for DuckDB, which takes the wrapping off the sample the way it is taken off the lines. Raises InputError.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from resend.collect.bounces.mailbox import looks_like_mail, looks_like_mbox
from resend.collect.documents import holds_list, is_spread, values
from resend.collect.formats import Format, Input, envelopes, formats
from resend.errors import InputError
from resend.stores import sql

SAMPLE_BYTES = 1 << 20
_LINES = 2_000
_LINE_CHARS = 16_384  # of a line; a webhook's is long and tells what it is at its beginning or end
_SYSLOG = re.compile(  # a time, perhaps a host, perhaps facility and level
    r"(?:(?:<\d{1,3}>)?(?:[A-Za-z\u00c0-\u04ff]{3,5}\.?| ?\d{1,2}月)"
    r" {1,2}\d{1,2} \d\d:\d\d:\d\d(?:\.\d+| \d{4})?(?: <[a-z0-9.]+>)?"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^ ]*|\d{10}\.\d+)"
    r" (?:(?![\w.-]+/\w+\[|(?i:info|notice|warn|warning|err|error|debug) )\S*[^\s:] +)?"
    r"(?:[a-z0-7]+[.:](?:info|notice|warn|err|warning) )?",
    re.ASCII,
)
_LAST = "unusual"  # the wrapping that takes any line apart: only for what no other way knows
_RECORDS = ("record", "journald")  # wrappings of JSON, which may come as one list of everything
_PROGRAM = re.compile(r"(?<![\w./-])(?:[\w.-]+/)*[A-Za-z][\w.-]*\[\d+\]: .*", re.ASCII)
_SNAPSHOT = re.compile(r'^\{"queue_name":')


@dataclass(frozen=True, slots=True)
class Detected:
    """A format's name, the wrapping around its lines ("" none) and, of records with a heading, the heading.

    single_mail: a file that is one mail. spread: JSON that is not one value a line. opened: its records are in objects.
    """

    format: str
    envelope: str = ""
    heading: str = ""
    single_mail: bool = False
    spread: bool = False
    opened: bool = False


def detect(sample: bytes, *, where: str, asked: str = "") -> Detected:
    """What a file that begins with `sample` is. `asked` names the format where the operator does. Raises InputError."""
    known = formats()
    if asked and asked not in known:
        raise InputError(
            f"unknown format {asked!r}", where=where, next_step=f"known: {', '.join(known)}; or leave --format out"
        )
    if not asked or known[asked].input is Input.MAIL:
        mail, mbox = looks_like_mail(sample), looks_like_mbox(sample)
        if asked or mail or mbox:
            return Detected("bounce", single_mail=not mbox)
    text = sample.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    if spread := is_spread(text):
        lines = list(islice(values([text]), _LINES))
    else:
        lines = [line for line in text.splitlines()[:_LINES] if line.strip()]
    if not asked and not lines:
        return Detected("postfix")  # an empty file says nothing and harms nothing
    opened = holds_list(text)
    if opened or (not spread and text.lstrip().startswith("[{")):
        records = list(islice(values([text], opened=opened), _LINES))
        if _most(records) in _RECORDS:
            spread, lines = True, records
        else:
            opened = False
    envelope, bare = _unwrapped(lines)
    among = [known[asked]] if asked else list(known.values())
    found, count = _best(bare, among)
    ragged = 2 * sum(line.endswith((" ", "\t")) for line in lines) > len(lines)
    ragged |= sum("=&lt;" in line for line in lines) > sum("=<" in line for line in lines)  # a page's source
    if (found is None or found.input is Input.SYSLOG) and (ragged or _begun_oddly(lines) > 2 * count):
        other, more = _best(_without(_LAST, lines), among)
        if other is not None and (ragged or more > 2 * count):
            found, envelope = other, _LAST
    if asked:
        found = known[asked]
    if found is None:
        raise _unknown(lines, bare, where)
    heading = ""
    if found.input is Input.CSV:
        heading = next((line for line in lines if not line.startswith("#") or found.knows(line)), "")
    spread &= found.input is Input.JSON or envelope in _RECORDS
    return Detected(found.name, envelope, heading, spread=spread, opened=spread and opened)


def _most(lines: Sequence[str]) -> str:
    """The wrapping that most lines show, "" none."""
    counts = {name: sum(map(each.knows, lines)) for name, each in envelopes().items() if name != _LAST}
    name = max(counts, key=lambda item: counts[item], default="")
    return name if name and counts[name] else ""


def _unwrapped(lines: Sequence[str]) -> tuple[str, list[str]]:
    """The wrapping that most lines show, and the lines without it."""
    name = _most(lines)
    return name, _without(name, lines) if name else list(lines)


def _without(name: str, lines: Sequence[str]) -> list[str]:
    with sql.connect(memory_limit="256MiB", threads=1) as con:
        sql.set_params(con, {"host": ""})
        sql.create_table(con, "lines", {"line": "UINTEGER", "text": "VARCHAR"}, list(enumerate(lines, 1)))
        rows = con.execute(f"SELECT text FROM ({sql.load(envelopes()[name].query)}) ORDER BY line").fetchall()
    return [str(row[0]) for row in rows]


def _begun_oddly(lines: Sequence[str]) -> int:
    """How many lines might tell something once they are taken apart."""
    return sum(map(envelopes()[_LAST].knows, lines))


def _best(lines: Sequence[str], among: Sequence[Format]) -> tuple[Format | None, int]:
    """The format that knows most of these lines, and how many; the first by name of equals."""
    short = [line[:_LINE_CHARS] for line in lines]
    after = [match.string[match.end() :] for line in short if (match := _SYSLOG.match(line))]
    counts = {
        format_.name: sum(map(format_.knows, after if format_.input is Input.SYSLOG else short)) for format_ in among
    }
    name = max(counts, key=lambda item: counts[item])
    return (formats()[name], counts[name]) if counts[name] else (None, 0)


def _unknown(lines: Sequence[str], bare: Sequence[str], where: str) -> InputError:
    seen = repr(lines[0][:60])
    if _SNAPSHOT.match(lines[0]):
        return InputError("the output of postqueue -j is no log", where=where, next_step=f"collect LOG --queue {where}")
    if lines[0].startswith(("__CURSOR=", "__REALTIME_TIMESTAMP=")):
        return InputError("the journal's export format", where=where, next_step="take it with journalctl -o json")
    if lines[0].count("\0") > len(lines[0]) // 4:
        step = "if it is UTF-16, convert it: iconv -f UTF-16LE -t UTF-8"
        return InputError(f"no text: it begins {seen}", where=where, next_step=step)
    short = [line[:_LINE_CHARS] for line in lines]
    timeless = [f"2026-01-01T00:00:00Z mta {match[0]}" for line in short if (match := _PROGRAM.search(line))]
    if _best(timeless, list(formats().values()))[1] > 0:
        step = "take the log with its times (journalctl -o short-iso)"
        return InputError(f"lines of a mail server without any time; it begins {seen}", where=where, next_step=step)
    if any(map(_SYSLOG.match, bare)):
        programs = {bare_.split("[")[0].split(":")[0].split(" ")[0] for bare_ in _after(bare)}
        named = ", ".join(sorted(programs)[:5])
        what = f"a system log without any line of a mail server known here (programs: {named}); it begins {seen}"
    else:
        what = f"not a log format known here; it begins {seen}"
    return InputError(what, where=where, next_step=f"name the format with --format, one of {', '.join(formats())}")


def _after(lines: Sequence[str]) -> list[str]:
    return [line[match.end() :] for line in lines if (match := _SYSLOG.match(line))]
