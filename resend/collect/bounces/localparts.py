"""Recipients that a report names by their local part alone, one a line: old AOL, Novell, gateways of one company.

Pure, linear in the text. Raises nothing for any text.
"""

from __future__ import annotations

import re

from resend.collect.bounces.phrases import FAILS, IDLE, ORIGINAL_FOLLOWS

LOCAL_PARTS_MAX = 100
_LINES_ABOVE = 3  # that may say what the list is
# "	taro", "   taro (user not found)", `  taro "(0), ErrMsg=mail box full"`: no sentence is two words and a bracket.
_NAMED = re.compile(r"^\s{1,40}([A-Za-z0-9][\w.+-]{1,63})(?:\s{1,20}[(\"]([^\n]{3,300}?)[)\"]{0,2}\s{0,9})?$")

_CALLED = re.compile(
    r"^\s{0,40}((?:receiver|recipient|user|mailbox|account) (?:not found|unknown)"
    r"|(?:unknown|invalid|no such) (?:user|recipient|mailbox|account)):\s{1,20}([A-Za-z0-9][\w.+-]{1,63})\s{0,9}$",
    re.IGNORECASE,
)


def read_local_parts(lines: list[str]) -> list[tuple[str, str]]:
    """Local parts, and what is said about each: beside it, else above all of them. They follow a line that ends with a
    colon and says that somebody did not get the mail; the first line of another kind ends them.
    """
    for at, line in enumerate(lines):
        called = _CALLED.match(line)
        if called:
            return [(called.group(2), called.group(1))]
        if not line.rstrip().endswith((":", "：")) or ORIGINAL_FOLLOWS.search(line):
            continue
        said = " ".join(text.strip() for text in _paragraph_above(lines, at))
        if not FAILS.search(said):
            continue
        found: list[tuple[str, str]] = []
        beside: list[str] = []  # what the lines after the last of them say
        for below in lines[at + 1 :]:
            match = _NAMED.match(below.rstrip())
            if match and not IDLE.search(below.strip()) and len(found) < LOCAL_PARTS_MAX:
                found = _told(found, beside)
                found.append((match.group(1), match.group(2) or ""))
                beside = []
            elif below.strip() and found:
                beside.append(below)
            elif below.strip() or beside:
                break
        if found:
            return [(local, text or said) for local, text in _told(found, beside)]
    return []


def _told(found: list[tuple[str, str]], beside: list[str]) -> list[tuple[str, str]]:
    if not found or not beside:
        return found
    local, text = found[-1]
    return [*found[:-1], (local, "\n".join([text, *beside]).strip())]


def _paragraph_above(lines: list[str], at: int) -> list[str]:
    start = at
    while start > 0 and at - start < _LINES_ABOVE and lines[start - 1].strip():
        start -= 1
    return lines[start : at + 1]
