"""MX hosts of domains: answers of the DNS, each with its date, kept in `derived/mx.json` and asked for where missing.

A cache: who deletes it loses nothing but time. Its answers name receivers (policy/providers) and decide nothing else.
Never hangs: what has no answer within the budget of `[dns]` is asked again by the next command. Raises nothing for the
DNS or for a damaged file.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from resend.clock import from_micros, to_micros
from resend.config import DnsConfig
from resend.stores.home import Home, replace_file

_KEPT_MAX = 200_000  # domains; the newest stay
_VERSION = 1
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})+", re.ASCII)
_NAME_MAX = 253  # octets of a name as text, RFC 1035 2.3.4
_NOT_IN_DNS = frozenset({"localhost", "invalid", "onion"})  # RFC 6761, RFC 7686: no question leaves for these

Progress = Callable[[int, int], None]


class Word(StrEnum):
    """What the DNS said of a domain."""

    HOSTS = "hosts"
    NONE = "none"  # no MX: mail goes to the host of that name (RFC 5321 5.1)
    NULL = "null"  # it takes no mail (RFC 7505)
    GONE = "gone"  # there is no such domain
    SILENT = "silent"  # no answer in time, or none that can be read


_KEPT_FOR = {
    Word.HOSTS: timedelta(days=7),
    Word.NONE: timedelta(days=1),
    Word.NULL: timedelta(days=1),
    Word.GONE: timedelta(days=1),
    Word.SILENT: timedelta(minutes=15),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """`hosts`: the best first, lower case, only with Word.HOSTS. `at`: when it was asked, aware UTC."""

    word: Word
    hosts: tuple[str, ...]
    at: datetime

    def fresh(self, now: datetime) -> bool:
        return timedelta(0) <= now - self.at < _KEPT_FOR[self.word]


Answers = Mapping[str, Answer]


def kept(home: Home, now: datetime) -> dict[str, Answer]:
    """Answers that are not too old, by domain. Asks nobody."""
    return {domain: answer for domain, answer in _read(_path(home)).items() if answer.fresh(now)}


def kept_hosts(home: Home, now: datetime) -> dict[str, tuple[str, ...]]:
    """MX hosts by domain, of the answers that are not too old. Asks nobody."""
    return {domain: answer.hosts for domain, answer in kept(home, now).items() if answer.hosts}


def find(
    home: Home,
    config: DnsConfig,
    domains: Iterable[str],
    *,
    now: datetime,
    again: bool = False,
    progress: Progress | None = None,
) -> dict[str, Answer]:
    """The answers of these domains: those kept, and the DNS's for the others, the first ones first.

    `again`: ask also where a kept answer is fresh. A domain without an answer in time is not in the result.
    """
    wanted = list(dict.fromkeys(domain for domain in domains if in_dns(domain)))
    known = kept(home, now) if wanted else {}
    missing = [domain for domain in wanted if again or domain not in known]
    if missing and config.enabled:
        from resend.stores.mxdns import ask

        told = asyncio.run(ask(missing, config, now=now, progress=progress))
        known |= told
        _keep(home, told, now)
    return {domain: known[domain] for domain in wanted if domain in known}


def in_dns(domain: str) -> bool:
    """Whether a domain of a log can be asked for: a name of at least two labels that is no address.

    >>> [in_dns(name) for name in ("example.jp", "localhost", "192.0.2.1", "a b.jp", "例え.jp", "x.invalid")]
    [True, False, False, False, False, False]
    """
    top = domain.rpartition(".")[2]
    return is_host(domain) and top not in _NOT_IN_DNS


def is_host(name: str) -> bool:
    """Whether a lower-case name has the shape of a host's, and is no IP address."""
    return len(name) <= _NAME_MAX and _HOST.fullmatch(name) is not None and not name.rpartition(".")[2].isdigit()


def _path(home: Home) -> Path:
    return home.derived / "mx.json"


def _read(path: Path) -> dict[str, Answer]:
    """All answers of the file; none where it is absent or damaged."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["v"] != _VERSION:
            return {}
        return {
            domain: Answer(Word(word), tuple(hosts), from_micros(at_us))
            for domain, (word, at_us, hosts) in raw["answers"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return {}


def _keep(home: Home, told: Answers, now: datetime) -> None:
    """Put answers into the file, where there is a home; without one, or without the room, nothing is kept."""
    if not told or not home.derived.is_dir():
        return
    all_ = {domain: answer for domain, answer in _read(_path(home)).items() if answer.fresh(now)} | dict(told)
    newest: Sequence[str] = sorted(all_, key=lambda domain: (all_[domain].at, domain), reverse=True)[:_KEPT_MAX]
    rows = {domain: [all_[domain].word, to_micros(all_[domain].at), all_[domain].hosts] for domain in sorted(newest)}
    with suppress(OSError):
        text = json.dumps({"v": _VERSION, "answers": rows}, ensure_ascii=False, separators=(",", ":"))
        replace_file(_path(home), text.encode())
