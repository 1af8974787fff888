"""Reports written for people: which addresses failed, and what is said about each.

One grammar for all systems: an address at the start of a line, or after a word like "Recipient:", begins what is said
about it; the returned mail ends it. Pure, linear in the text. Raises nothing for any text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from resend.collect.bounces.addresses import ADDRESS, address_of, addresses_of
from resend.collect.bounces.localparts import read_local_parts
from resend.collect.bounces.phrases import (
    ASKS,
    CALLED,
    CLOSES,
    DELAYS,
    EXPLAINS,
    FAILS,
    IDLE,
    LABELS,
    NOT_LABELS,
)
from resend.collect.bounces.sessions import logged, refused_in_session

LINES_MAX = 4_000
LINE_MAX = 2_000  # characters
RECORDS_MAX = 2_000
RECORD_LINES_MAX = 60
_REASON_LINES = 5
AROUND_MAX = 32 << 10  # characters of what is said about several addresses together

# Of lines without white space at both ends: two runs of white space that may each be long cost the product of both.
_LEAD = r"^(?:[>*•・\-–+]{1,4}\s{1,20}|\d{1,3}[.)]\s{1,20})?"
_AT_START = re.compile(
    _LEAD + rf"""["'<\[(`]{{0,2}}(?:mailto:|(?i:smtp|rfc822|internet)[:;] ?)?({ADDRESS})["'>\])]{{0,2}}(.*)$"""
)
_ALONE = re.compile(rf"^<{ADDRESS}>:$")
_NAMED = re.compile(
    rf"^[^<>@:\n]{{1,80}}(?:<(?:mailto:)?|[\[(](?:smtp|rfc822|internet) ?: ?)({ADDRESS})[>\])]"
    r"(?:\s{0,9}[:：]?| on \d.{0,40})$",
    re.IGNORECASE,
)
_LOCAL = re.compile(_LEAD + r"<([\w.+-]{1,64})>\s{0,9}([:(].*|)$")
_TAGS = frozenset(("html", "head", "title", "style", "body", "table", "div", "span", "pre"))  # not taken for HTML
_WITHIN = re.compile(ADDRESS)
_DASHES = frozenset({"--", "==", "**", "-=", "=-"})
_HIDDEN = re.compile(rf"^\((?:ultimately )?(?:generated|expanded) from:? <?({ADDRESS})>?\):?$", re.IGNORECASE)
_TYPE = re.compile(r"[\[(](?:smtp|rfc822|internet) ?:$", re.IGNORECASE)  # of the address that follows
_NO_LABEL = re.compile(r"[:：<>@]")
_AFTER = re.compile(rf"^(?:<(?:mailto:)?[^<>]{{1,340}}>|\((?:mailto:)?{ADDRESS}\))")
_NEXT = re.compile(rf"[,;]\s{{0,20}}[\"'<(]{{0,2}}({ADDRESS})[\"'>)]{{0,2}}\s{{0,20}}")
_NAME_ON = re.compile(r"^\s{2,40}[^@<>:]{1,80} on \d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}\b")  # Exchange 2000 and 2003
_LEADS_ON = re.compile(r"(?:[:：]|\b(?:to|for|address|recipients?))\s*$", re.IGNORECASE)  # to what comes next
_TELLS_NEXT = re.compile(r"(?::|\b(?:following|these) (?:error|reason|problem)s?\.|\bas follows\.)\s*$", re.IGNORECASE)
_INTRODUCES = re.compile(
    r"(?:recipient|address)[^:：]{0,80}[:：]\s*$|(?:宛先|受信者)[^:：]{0,80}[:：]\s*$", re.IGNORECASE
)
_CONTINUES = re.compile(r"[:：;,(\[（「【]|\.\.\.|on\s|--|-\s|delivery\s|は|へ|に|=>|->|\|")
_WITH_CODE = re.compile(rf"^\s*[245][0-579]\d[ -](?:[245]\.\d{{1,3}}\.\d{{1,3}} )?<?({ADDRESS})>?(?:\.\.\.|[:,;])")
_CODE = re.compile(r"(?<![\w.:])(?:[24][0-5]|5[0-579])\d(?!\w|[.:]\d)")  # no part of an address or a time
_PROGRAM = re.compile(r"^(?:mail\.local|procmail|maildrop|deliver|\S{1,80}/\w{2,20}): \S")  # that sendmail had started
_RECEIVED = re.compile(r"^[ \t]{0,40}[\w ]{0,12}(?:<<<|>>>)[ \t]{0,9}([45][0-5]\d[ -].{0,999})", re.MULTILINE)
_ASKED = re.compile(  # an address that the reader may write to
    rf"\b(?:contact|questions?|help|support|call|write to|mail to|reply to)\b[^@<>.]{{0,40}}<?{ADDRESS}>?",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    rf"\b(?:to|for|of|recipients?:?|address:?|mailbox:?|user:?|list|group)\s{{1,10}}[<\"'(]{{0,2}}({ADDRESS})",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Record:
    """What a text says about one address."""

    address: str
    text: str


def read_records(text: str, aside: frozenset[str]) -> list[Record]:
    """Addresses that the text says something about, each once. `aside` holds those that it is from or to."""
    lines = [logged(line[:LINE_MAX]) for line in text.split("\n")[:LINES_MAX]]
    found = _by_line(lines, aside)
    if not found:
        found = _by_code(lines, aside)
    if not found:
        found = [Record(address, said) for address, said in refused_in_session(lines, RECORDS_MAX)]
    if not found:
        found = [Record(local, said) for local, said in read_local_parts(lines)]
    if not found:
        found = _by_sentence(text, aside)
    return _merged(found)


def _by_line(lines: list[str], aside: frozenset[str]) -> list[Record]:
    heads: list[tuple[int, tuple[list[str], str]]] = []
    for at, line in enumerate(lines):
        head = _head(line, aside, lines, at) if "@" in line or "<" in line else _by_name(lines, at)
        if head and line.lstrip().startswith("(") and heads and heads[-1][0] == at - 1:
            continue  # it says whom the address above was made from
        if head and not _asked(lines, at) and not _continued(lines, at, head[0], heads):
            heads.append((at, head))
    if not heads:
        return []
    places = [at for at, _ in heads]
    records: list[Record] = []
    waiting: list[Record] = []
    shared: dict[str, int] = {}
    for number, (at, (addresses, rest)) in enumerate(heads[:RECORDS_MAX]):
        end = places[number + 1] if number + 1 < len(places) else len(lines)
        body = _body(lines, at + 1, min(end, at + RECORD_LINES_MAX))
        while body and end < len(lines) and (not body[-1].strip() or _INTRODUCES.search(body[-1])):
            body.pop()
        said = "\n".join([rest, *body]).strip()
        if not said:
            said = _reason_before(lines, places[: number + 1])
        new = [Record(address, said) for address in addresses]
        records += new
        waiting += new
        if said:
            shared[said] = len(waiting)
            for record in waiting:
                record.text = record.text or said
            waiting = []
    for record in records:
        if shared.get(record.text, 0) > 1:
            record.text = _own_lines(record)
    if any(not record.text for record in records) or not any(_CODE.search(record.text) for record in records):
        _from_around(lines, places, records)
    return records


def _continued(lines: list[str], at: int, addresses: list[str], heads: list[tuple[int, tuple[list[str], str]]]) -> bool:
    """Whether a line goes on with what is said about the address before: a folded line, in the same paragraph."""
    if not heads or not lines[at][:1].isspace() or addresses != heads[-1][1][0]:
        return False
    above = lines[heads[-1][0] : at]
    return all(line.strip() for line in above) and not above[-1].rstrip().endswith((":", "："))


def _head(line: str, aside: frozenset[str], lines: list[str], at: int) -> tuple[list[str], str] | None:
    """The addresses that a line begins to tell about, and what it says of them; None for any other line."""
    line = line.strip()
    match = _HIDDEN.match(line)
    if match:
        return [address_of(match.group(1))], ""
    match = _AT_START.match(line)
    if match:
        address, rest = address_of(match.group(1)) or match.group(1), _AFTER.sub("", match.group(2).strip()).strip()
        if address in aside and not rest:
            return None
        if not rest or _CONTINUES.match(rest) or _CODE.search(rest) or _led(lines, at):
            return _listed(address, rest)
        return None
    match = _NAMED.match(line)
    if match and not line[:3].isdigit() and not NOT_LABELS.search(line.partition("<")[0]):
        return [address_of(match.group(1))], ""
    match = _WITHIN.search(line)
    label = _TYPE.sub("", line[: match.start()].rstrip("\"'<( ")).rstrip(":： ") if match else ""
    if match and 1 < len(label) <= 80 and not _NO_LABEL.search(label) and _is_label(label):
        rest = line[match.end() :].lstrip("\"'>)]").strip()
        if len(rest) < 300 and (not rest or not rest[0].isalpha() or not rest.isascii()):
            if rest.startswith(". ") and not _CODE.search(rest):
                rest = ""  # what the system will do next
            addresses, said = _listed(address_of(match.group()), rest)
            return addresses, said or (label if CALLED.search(label) else "")
    match = _LOCAL.match(line)
    if match and match.group(1).lower() not in _TAGS:
        return [match.group(1)], match.group(2).lstrip(": ")
    return None


def _led(lines: list[str], at: int) -> bool:
    """Whether the last line before, but for blank ones, says who did not get the mail: a heading, or up to a colon."""
    above = next((line.strip() for line in reversed(lines[max(0, at - 3) : at]) if line.strip()), "")
    return (above.endswith((":", "：")) or above[:2] in _DASHES) and bool(FAILS.search(above))


def _by_name(lines: list[str], at: int) -> tuple[list[str], str] | None:
    """A recipient that is told by name, where the lines after it tell the address."""
    if not _NAME_ON.match(lines[at]):
        return None
    said = []
    for line in lines[at + 1 : at + 8]:
        if not line.strip():
            break
        said.append(line)
    address = address_of("\n".join(line for line in said if "@" in line))
    return ([address], "") if address else None


def _is_label(words: str) -> bool:
    """Whether words before an address say that it failed; a reply code is no such word."""
    return not words[:3].isdigit() and bool(LABELS.search(words)) and not NOT_LABELS.search(words)


def _listed(address: str, rest: str) -> tuple[list[str], str]:
    """More addresses after the first one, with commas between, and what is said after the last."""
    addresses = [address]
    while rest[:1] in (",", ";"):
        match = _NEXT.match(rest)
        if match is None:
            break
        addresses.append(match.group(1))
        rest = rest[match.end() :]
    return addresses, rest.lstrip(":：,;.- ")


def _body(lines: list[str], start: int, end: int) -> list[str]:
    """What follows a head: its paragraph, and the next ones as long as they explain or hold a reply."""
    found: list[str] = []
    at, end = start, min(end, len(lines))
    while at < end:
        line = lines[at]
        if CLOSES.search(line):
            break
        if _is_rule(line):
            if any(said.strip() for said in found) and not EXPLAINS.search(line):
                break
        elif line.strip():
            found.append(line)
        else:
            following = next((text for text in lines[at + 1 : at + 3] if text.strip()), "")
            if not (
                (found and _TELLS_NEXT.search(found[-1]))
                or EXPLAINS.search(following[:200])
                or (not found and FAILS.search(_paragraph(lines, at + 1)))
                or _CODE.search(following[:60])
                or following.lstrip().startswith(("<<<", ">>>"))
            ):
                break
            found.append("")
        at += 1
    return found


def _paragraph(lines: list[str], at: int) -> str:
    """The first lines of the paragraph that begins here, or after one more blank line."""
    start = at if at < len(lines) and lines[at].strip() else at + 1
    said = lines[start : start + 3]
    return " ".join(line[:200] for line in said[: next((n for n, line in enumerate(said) if not line.strip()), 3)])


def _is_rule(line: str) -> bool:
    """Whether a line parts a text: dashes alone, or around a heading."""
    bare = line.strip().strip("|")
    if len(bare) >= 5 and not bare.strip("-_=*#"):
        return True
    if bare[:2] in _DASHES and bare[-2:] in _DASHES and len(bare) > 3:
        return "@" not in bare and not bare.rstrip("-_=*# ").endswith((".", "!"))  # a sentence is no heading
    heading = bare.lstrip("-")
    return len(bare) - len(heading) > 2 and 0 < len(heading) <= 60 and heading.replace(" ", "").isalnum()


def _own_lines(record: Record) -> str:
    """Of a transcript about several addresses the lines that name this one; all of it where none does."""
    lines = record.text.split("\n")
    own = [line for line in lines if record.address in line]
    if not any(_CODE.search(line) for line in own):
        return record.text
    return "\n".join([line for line in lines if "while talking to" in line][:1] + own)


def _asked(lines: list[str], at: int) -> bool:
    """Whether the lines before tell to write to the address that stands here; nobody tells it of `<a@b>:` alone."""
    if _ALONE.match(lines[at]):
        return False
    before = " ".join(line for line in lines[max(0, at - 2) : at] if line.strip())
    return bool(ASKS.search(before)) and not FAILS.search(before) and not _CODE.search(before)


def _from_around(lines: list[str], heads: list[int], records: list[Record]) -> None:
    """Texts of records that say nothing themselves: a transcript after them, else what the report says before."""
    first, last = heads[0], heads[-1]
    follows = [line for line in lines[last + 1 : last + 400] if not _is_rule(line) or EXPLAINS.search(line)]
    follows = follows[: next((at for at, line in enumerate(follows) if CLOSES.search(line)), len(follows))]
    after = "\n".join(follows)[:AROUND_MAX]
    before = "\n".join(line for line in lines[max(0, first - 40) : first] if not IDLE.search(line.strip()))[
        -AROUND_MAX:
    ]
    coded = bool(_CODE.search(after)) or "..." in after
    refused = [] if coded else _RECEIVED.findall(before)
    if refused:
        coded, after = True, "\n".join(refused)
    around = (after if coded else before).split("\n")
    explains = next((at for at in range(last + 1, min(len(lines), last + 40)) if EXPLAINS.search(lines[at])), None)
    explained = "" if explains is None else "\n".join(_body(lines, explains, explains + RECORD_LINES_MAX))
    for record in records:
        if record.text and (_CODE.search(record.text) or not coded):
            continue
        own = [line for line in around if record.address in line and _CODE.search(line)]
        if len(records) > 1 and own:
            record.text = "\n".join(own)
        elif coded:
            record.text = after
        elif not record.text:
            record.text = (
                explained or f"{before}\n{_next_paragraph(lines, last + 1) if FAILS.search(before) else after}"
            )
        if len(records) <= 20 and not record.text.strip():  # the reason stands before the address, on its line
            record.text = "\n".join([line for line in lines[first : last + 1] if record.address in line][:3])


def _next_paragraph(lines: list[str], at: int) -> str:
    """A short paragraph after the addresses that are alone, which may be the reason; a line of dashes parts it off."""
    while at < len(lines) and not lines[at].strip():
        at += 1
    said: list[str] = []
    while at < len(lines) and lines[at].strip() and len(said) < _REASON_LINES:
        if _is_rule(lines[at]) or CLOSES.search(lines[at]) or IDLE.search(lines[at].strip()):
            return ""
        said.append(lines[at])
        at += 1
    return "" if at < len(lines) and lines[at].strip() else "\n".join(said)


def _reason_before(lines: list[str], heads: list[int]) -> str:
    """The lines directly above the last of these heads: some systems tell the reason first (Notes)."""
    at, floor = heads[-1], heads[-2] if len(heads) > 1 else -1
    start = at
    while start - 1 > floor and lines[start - 1].strip() and not _is_rule(lines[start - 1]) and at - start < 10:
        start -= 1
    said = "\n".join(lines[start:at])
    return "" if _LEADS_ON.search(said) or IDLE.search(said.strip()) else said


def _by_code(lines: list[str], aside: frozenset[str]) -> list[Record]:
    """Old sendmail: `550 <a@b>... User unknown`, after what the server said."""
    found: list[Record] = []
    start = 0
    for at, line in enumerate(lines):
        match = _WITH_CODE.match(line) if line[:1].isdigit() or line[:1] == " " else None
        if match and match.group(1) not in aside and len(found) < RECORDS_MAX:
            said = [
                text
                for text in lines[max(start, at - 20) : at]
                if text.lstrip().startswith(("<<<", ">>>", "While", "... while")) or _PROGRAM.match(text)
            ]
            replies = [text for text in said if text.lstrip().startswith("<<<") or _PROGRAM.match(text)]
            found.append(Record(match.group(1), "\n".join([*said, line] if replies else [line])))
            start = at + 1
    return found


def _by_sentence(text: str, aside: frozenset[str]) -> list[Record]:
    """An address within a sentence that says that it failed."""
    paragraphs = [part for part in re.split(r"\n[ \t]{0,80}\n", text[: LINE_MAX * 20]) if part.strip()]
    for at, paragraph in enumerate(paragraphs[:200]):
        flat = " ".join(paragraph.split())
        if "@" not in flat or not (FAILS.search(flat) or DELAYS.search(flat)):
            continue
        named = [address_of(a) for a in _SENTENCE.findall(flat)] or addresses_of(_ASKED.sub("", flat))
        named = [address for address in dict.fromkeys(named) if address and address not in aside]
        if named:
            explains = any(EXPLAINS.search(" ".join(after.split())[:200]) for after in paragraphs[at + 3 : at + 5])
            said = "\n\n".join(paragraphs[at : at + (6 if explains else 3)])
            return [Record(address, said) for address in named[:20]]
    return []


def _merged(records: list[Record]) -> list[Record]:
    """Each address once, with what says more: texts are often told in two languages."""
    by_key: dict[str, Record] = {}
    for record in records:
        address = record.address
        if not address:
            continue
        have = by_key.setdefault(address.lower(), record)
        if have is record or _CODE.search(have.text):
            continue
        if _CODE.search(record.text) or (record.text.strip() and have.text.rstrip().endswith(":")):
            have.text = record.text
        elif IDLE.search(have.text.strip().partition("\n")[0]):
            have.text += f"\n{record.text}"
    return list(by_key.values())
