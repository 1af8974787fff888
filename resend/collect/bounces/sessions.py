"""Logs of SMTP sessions in the text of a report: who was named, what was refused.

Pure, linear in the text. Raises nothing for any text.
"""

from __future__ import annotations

import re

from resend.collect.bounces.addresses import ADDRESS

_RCPT = re.compile(rf"^\s*(?:[\w ]{{0,12}}(?:>>>|:|->)\s*)RCPT TO:\s*<?({ADDRESS})", re.IGNORECASE)
_REFUSED = re.compile(r"^\s*[\w ]{0,12}(?:<<<|:|<-)\s*[45][0-5]\d[ -]", re.IGNORECASE)
_LOGGED = re.compile(
    r"^[ \t]{0,40}(?:(?:\w{3},? )?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?: )?(<--|-->)[ \t]{1,9}"
    r"(?=\d{3}[ -]|(?:mail|rcpt) |data|quit|rset|[eh][eh]lo )",
    re.IGNORECASE,
)


def logged(line: str) -> str:
    """A line of a session's log as others write it: what was received after `<<<`, what was sent after `>>>`."""
    match = _LOGGED.match(line) if "--" in line else None
    if match is None:
        return line
    return f"{'<<<' if match.group(1) == '<--' else '>>>'} {line[match.end() :]}"


def refused_in_session(lines: list[str], most: int) -> list[tuple[str, str]]:
    """A session with a server, as it went: who was named in RCPT TO, at most `most`, and what was refused."""
    named: list[str] = []
    refused: list[str] = []
    for line in lines:
        match = _RCPT.search(line)
        if match and len(named) < most:
            named.append(match.group(1))
        elif _REFUSED.match(line):
            refused.append(line)
    said = "\n".join(refused[:40])
    return [(address, said) for address in named] if refused else []
