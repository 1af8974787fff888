"""Which format a file is in, from its content. An unknown one is refused with what was seen; nothing is guessed."""

from __future__ import annotations

import re

from resend.errors import InputError

FORMATS = ("postfix",)
SAMPLE_BYTES = 1 << 20

_SYSLOG = re.compile(
    rb"(?:(?:<\d{1,3}>)?[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d(?: \d{4})?|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^ ]*)"
    rb" \S+ (?P<tag>[^ :\[]+)",
    re.ASCII,
)
_POSTFIX = re.compile(  # `postfix/smtp`, `postfix-out/submission/smtpd`, `postfix/postfix-script`
    rb"[\w.-]+(?:/[\w.-]+)*/(?:smtpd?|lmtp|qmgr|nqmgr|oqmgr|cleanup|pickup|bounce|defer|trace|error|retry|local|virtual|"
    rb"pipe|master|postfix-script|anvil|tlsmgr|tlsproxy|postscreen|scache|verify|trivial-rewrite|dnsblog|discard|relay|"
    rb"postsuper|postqueue|postmulti|sendmail|postdrop|proxymap|postlogd|submissions?|smtps|flush|spawn|showq)",
    re.ASCII,
)


def detect(sample: bytes, *, where: str, asked: str = "") -> str:
    """The format of a file that begins with `sample`. Raises InputError."""
    if asked:
        if asked not in FORMATS:
            raise InputError(
                f"unknown format {asked!r}",
                where=where,
                next_step=f"known: {', '.join(FORMATS)}; or leave --format out",
            )
        return asked
    lines = [line for line in sample.splitlines() if line.strip()]
    dated = 0
    for line in lines:
        match = _SYSLOG.match(line)
        if match is None:
            continue
        dated += 1
        if _POSTFIX.fullmatch(match["tag"]):
            return "postfix"
    if not lines:
        return "postfix"  # an empty file says nothing and harms nothing
    seen = lines[0][:60].decode("utf-8", "replace")
    what = "a log without any Postfix line" if dated else "not a log format known here"
    raise InputError(f"{what}; it begins {seen!r}", where=where, next_step="name the format with --format postfix")
