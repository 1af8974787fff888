"""The reply of a receiver within a text that tells about it, and where it was given.

Pure, linear. Raises nothing for any text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from resend.collect.bounces.addresses import address_of, ip_of
from resend.collect.bounces.phrases import EXPLAINS, IDLE, NOTICES
from resend.collect.bounces.words import LINE_MAX, one_line
from resend.policy.replies import codes

TEXT_MAX = 64 << 10  # characters that a reply is looked for in
_CODE = re.compile(
    r"(?:^\s{0,40}(?:(?:[\w ]{0,12}<<<|reason:|\(reason:|error:|out:|smtp;|#|2\d\d[ -]\S{1,80})\s{0,10}){0,3}"
    r"|[:;'\"(<\[#，：]\s{0,10}|\],\s{0,3}|\s(?=[45]\d\d-[\x22'])|\bsaid:?\s{1,10}|\bwas:?\s{1,10}|\breturned\s{1,10})"
    r"#?((?:4[0-5]|5[0-579])\d)(?=[ \-:;,]|\s*$|<)(?! ?(?:seconds|minutes|hours|days|bytes|[km]b)\b)",
    re.IGNORECASE,
)
_QUOTED_CODE = re.compile(r"(?:returned|said:?|was:?) {0,4}['\"]?#?[45][0-5]\d\b", re.IGNORECASE)
_HEADING = re.compile(r"^[^\n]{3,200}[:：]\s*$")
_EXPANDED = re.compile(
    r"^\s{0,40}\((?:ultimately )?(?:generated|expanded) from:? ([^()\n]{1,340})\):?", re.IGNORECASE | re.MULTILINE
)
_REWRITTEN = (  # codes in shapes of their own, as replies
    (re.compile(r"ERROR_CODE ?:([245]\d\d), ERROR_CODE ?:([245]\.\d{1,3}\.\d{1,3})?[ ,]*"), r": \1 \2 "),  # Zoho
    (re.compile(r"(?<![\d.])([45][0-5]\d): ?(?=[:<\w])"), r"\1 "),  # Yahoo
    (
        re.compile(r"(?<![\d.])[45][0-5]\d(?: [45]\.\d{1,3}\.\d{1,3})? <[^<>\n]{1,320}>\.\.\. ([45][0-5]\d )"),
        r"\1",
    ),  # old sendmail
    (re.compile(r"\bhost ((?:[\w-]{1,63}\.){1,20}[A-Za-z]\w{0,62}) not found\b", re.IGNORECASE), r"host not found: \1"),
)
_EMPTY_WORDS = re.compile(
    r"\.\.\. (?:service unavailable|remote protocol error)|^\S+ (?:\S+ )?service unavailable", re.IGNORECASE
)
_ENHANCED_AT_START = re.compile(
    r"(?:^\s{0,40}(?:<<<\s{0,10}|-- |#)?|\berror message:? )([245]\.\d{1,3}\.\d{1,3})(?=[\s:])", re.IGNORECASE
)
_CODE_AFTER = re.compile(r"[\[(](?:smtp )?error(?: code)?[ :#]{1,3}([45][0-5]\d)[\])]", re.IGNORECASE)
_HASHED = re.compile(
    r"(?:#|\bstatus(?: code)?: ?|\b(?:error|errore|erreur|fehler):? )([45]\.\d{1,3}\.\d{1,3})\b", re.IGNORECASE
)
_EXPIRED = re.compile(r"\b[45]\.4\.7\b|\bexpired\b|\bunable to deliver in\b|giving up", re.IGNORECASE)
_INNER = re.compile(r"<([45][0-5]\d [45]\.\d{1,3}\.\d{1,3} [^<>]{1,500})>")
_ASKED = re.compile(
    r'responded with: {0,4}"?([45][0-5]\d [45]\.\d{1,3}\.\d{1,3} [^"]{1,500})'
)  # Exchange, of the receiver
_HOST = re.compile(
    r"\b(?:host:?|talking to|server|server for the recipient domain [\w.-]{1,255} by|remote server at|connect(?:ed)? to"
    r"|receiving server:|by)\s{1,10}((?:[\w-]{1,63}\.){1,20}[A-Za-z][\w-]{0,62})",
    re.IGNORECASE,
)
_HOST_WITH_IP = re.compile(
    r"((?:[\w-]{1,63}\.){1,20}[A-Za-z][\w-]{0,62})\.?\s{0,3}[\[(](?=[0-9a-f:.]{3,45}[\])])", re.IGNORECASE
)
_REPORTER = re.compile(
    r"\b(?:mail system at host|program at(?: host)?|mail agent v[\w.]{1,20} at|mail server (?:at|on)|delivery agent at"
    r"|generating server:|notification from|reporting-mta: {0,10}<)\s{1,10}"
    r"((?:[\w-]{1,63}\.){1,20}[A-Za-z][\w-]{0,62})",
    re.IGNORECASE,
)
_STAGES = tuple(  # as Exim, sendmail, qmail and others name the command; the words after it are Postfix's
    (re.compile("|".join(rows), re.IGNORECASE | re.MULTILINE), words)
    for words, rows in (
        (
            "end of DATA command",
            (
                r"after end of data",
                r"after (?:sending (?:the )?|i sent the )message",
                r"\bfinal data\b",
                r">>> \.\s{0,9}$",
            ),
        ),
        (
            "RCPT TO command",
            (r"after (?:pipelined )?rcpt", r">>> rcpt", r"our rcpt", r"not like recipient", r"\[rcpt_to\]"),
        ),
        (
            "MAIL FROM command",
            (
                r"after (?:pipelined )?mail\b",
                r">>> mail",
                r"our mail from",
                r"but sender was rejected",
                r"\[mail_from\]",
            ),
        ),
        ("initial server greeting", (r"after initial connection", r"my name was rejected", r"but greeting failed")),
        ("EHLO command", (r"after [eh][eh]lo", r">>> [eh][eh]lo", r"our [eh][eh]lo")),
        ("DATA command", (r"after data\b", r">>> data", r"our data")),
    )
)


@dataclass(frozen=True, slots=True)
class Reply:
    text: str = ""
    code: int = 0
    status: str = ""
    host: str = ""
    ip: str = ""
    truncated: bool = False

    @property
    def weight(self) -> int:
        """How much it says: a code, an enhanced code that means something, words."""
        meaning = bool(self.status) and self.status[1:] not in (".0.0", ".4.7")
        return 4 * bool(self.code) + 2 * meaning + bool(self.text)


@lru_cache(maxsize=32)
def read_reply(text: str) -> Reply:
    """The reply in a text that may tell a whole session. Without a code in it the text's own words are the reply."""
    if not text.strip():
        return Reply()
    text = text[:TEXT_MAX]
    text = _EXPANDED.sub("", text)
    for pattern, plain in _REWRITTEN:
        text = pattern.sub(plain, text)
    lines = [line[:LINE_MAX] for line in text.split("\n")[:200]]
    found = _replies(lines)
    said = next((reply for reply in found if not _EXPIRED.search(reply[:200])), found[0] if found else "")
    if not said:
        notice = next((f"{meaning}: " for mark, meaning in NOTICES if mark in text), "")
        said = notice + _words(lines)
    elif _EMPTY_WORDS.search(said[:400]) and len(found) == 1:
        words = _words([line for line in lines if not _CODE.search(line)])
        said = f"{said} ({words})" if words else said
    inner = (_INNER.search(said) if _EXPIRED.search(said) else None) or _ASKED.search(said)
    if inner:
        said = inner.group(1)
    code, status = codes(said)
    if code < 400:  # of what went well before
        code, status = 0, status if status[:1] in ("4", "5") else ""
    if not code:
        after = _CODE_AFTER.search(text)
        code = int(after.group(1)) if after else 0
    if not status:
        hinted = _HASHED.search(text)
        status = hinted.group(1) if hinted and (not code or hinted.group(1)[0] == str(code)[0]) else ""
    return Reply(
        text=with_stage(one_line(said), text),
        code=code,
        status=status,
        host=host_in(text),
        ip=ip_of(text),
        truncated=len(said) >= LINE_MAX,
    )


def expanded_from(text: str) -> str:
    """The address that an alias or list expanded to the one that failed; "" where the text tells none."""
    match = _EXPANDED.search(text[:4_000])
    return address_of(match.group(1)) if match else ""


def _words(lines: list[str]) -> str:
    """What a text says in words alone: after its last heading ("The response was:") that has something after it."""
    kept = [line.strip() for line in lines if line.strip() and not IDLE.search(line.strip())]
    heads = [at for at, line in enumerate(kept[:-1]) if _HEADING.match(line) and EXPLAINS.search(line)]
    return one_line(" ".join(kept[heads[-1] + 1 :] if heads else kept))


def _replies(lines: list[str]) -> list[str]:
    """All replies in the order in which they stand: from the code to the end of its paragraph."""
    found: list[str] = []
    at = 0
    while at < len(lines) and len(found) < 20:
        match = _CODE.search(lines[at]) or _ENHANCED_AT_START.search(lines[at])
        if match is None:
            at += 1
            continue
        code = match.group(1)
        before, rest = lines[at][: match.start(1)], [lines[at][match.start(1) :].rstrip()]
        at += 1
        while at < len(lines) and lines[at].strip() and not _ends(lines[at], code) and len(rest) < 40:
            line = lines[at].strip().removeprefix("<<<").strip()
            if line not in rest:  # sendmail says again what the server said
                rest.append(line)
            at += 1
        found.append(_unquoted(one_line(" ".join(rest)), before))
    return found


def _ends(line: str, code: str) -> bool:
    """Whether a line is no longer the reply with this code: a command, the next reply, the mail system's own words."""
    bare = line.strip()
    if bare.startswith((">>>", "---", "___", "===", "***", "(")) or IDLE.search(bare):
        return True
    if bare.startswith("<<<"):
        return not bare[3:].strip().startswith(code)
    match = _CODE.search(bare)
    other = match is not None and match.start(1) <= 12 and match.group(1) != code
    return other or _QUOTED_CODE.search(bare) is not None or bare.startswith(("... while", "Remote host said"))


def _unquoted(said: str, before: str) -> str:
    """Without the quote or bracket that was opened before the reply."""
    opened = before.rstrip("# ")[-1:]
    for mark in ("'", '"'):
        if opened == mark and mark in said:
            return said.rpartition(mark)[0]
    for left, right in ("()", "[]", "<>"):
        if left in before and said.endswith(right) and said.count(right) > said.count(left):
            return said[:-1]
    return said


def with_stage(said: str, text: str) -> str:
    """The reply with Postfix's words for the command that it answered, where the text tells the command in others."""
    if "in reply to" in said or not said:
        return said
    stage = next((words for pattern, words in _STAGES if pattern.search(text)), "")
    return f"{said} (in reply to {stage})" if stage else said


def host_in(text: str) -> str:
    """The receiver's host name that a text tells, in lower case; "" where it tells none."""
    text = text[:8_000]
    match = _HOST_WITH_IP.search(text) or _HOST.search(text)
    return match.group(1).lower() if match else ""


def reporter_in(text: str) -> str:
    """The host that a report says to be from, in lower case; "" where it says none."""
    match = _REPORTER.search(text[:20_000])
    return match.group(1).lower() if match else ""
