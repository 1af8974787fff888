"""What `resend doctor` looks at. Reads and probes; changes nothing. A check that fails says what to do.

Raises nothing of its own: an error of a store becomes a failed check.
"""

from __future__ import annotations

import ctypes
import difflib
import os
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from resend.cli.screen import Screen
from resend.clock import format_duration, from_micros
from resend.errors import ResendError

if TYPE_CHECKING:
    from resend.config import Config, EgressConfig, RelayConfig

_WAL_RESET_FIXED = (3, 51, 3)  # sqlite.org, "WAL-reset bug": 3.7.0 to 3.51.2 with two connections that write
_CONNECT_S = 5.0
_FREE_LOW = 1 << 30  # bytes
_EVIDENCE_OLD = timedelta(hours=24)  # older evidence no longer tells what happens now
_TIME_ERROR = 5  # adjtimex(2): clock not synchronised


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    state: State
    detail: str
    next_step: str = ""


def examine(screen: Screen) -> Iterator[Finding]:
    """One finding per check, as they are made."""
    from resend.cli.opened import loaded

    yield _python()
    yield _sqlite()
    try:
        found = loaded(screen)
    except ResendError as error:
        yield Finding("config", State.FAIL, error.line(), error.next_step)
        return
    places = sorted({origin for origin in found.origins.values() if origin.endswith(".toml")})
    yield Finding("config", State.OK, ", ".join(places) or "defaults only; 'resend init' writes a resend.toml")
    yield from _providers(found.config)
    yield _home(found.home)
    yield _tried("ledger", lambda: _ledger(found.config, found.home))
    yield _relay(found.config)
    yield _log(found.config)
    for name, one in sorted(found.config.egress.items()):
        yield from _egress(name, one)
    yield _clock()
    yield _tried("evidence", lambda: _evidence(found.home))


def _tried(check: str, look: Callable[[], Finding]) -> Finding:
    """What `look` finds; where it may not even look, that."""
    try:
        return look()
    except OSError as error:
        return Finding(check, State.FAIL, f"{error.filename}: {error.strerror}", "mend owner and mode of the home")


def without_password(url: str) -> str:
    """A database URL without its password."""
    head, mark, tail = url.partition("://")
    login, at_sign, place = tail.rpartition("@")
    if not mark or not at_sign:
        return url
    return f"{head}://{login.partition(':')[0]}{':***' if ':' in login else ''}@{place}"


def _providers(config: Config) -> Iterator[Finding]:
    """Names that look like a slip for a known one: a profile of its own, which no mail ever meets."""
    from resend.policy.providers import ProviderTable

    built_in = ProviderTable.load().names()
    for name in sorted(set(config.providers) - set(built_in)):
        near = difflib.get_close_matches(name, built_in, n=1, cutoff=0.8)
        if near and "." not in name and not config.providers[name].mx:
            detail = f"[providers.{name}] is none that is built in, and has no mx"
            yield Finding("config", State.WARN, detail, f"did you mean [providers.{near[0]}]?")


def _python() -> Finding:
    return Finding("python", State.OK, ".".join(map(str, sys.version_info[:3])))  # an older one cannot import us


def _sqlite() -> Finding:
    if sqlite3.sqlite_version_info >= _WAL_RESET_FIXED:
        return Finding("sqlite", State.OK, sqlite3.sqlite_version)
    return Finding(
        "sqlite",
        State.WARN,
        f"{sqlite3.sqlite_version} has the WAL-reset bug (fixed in 3.51.3)",
        "safe while only resend writes the ledger: write nothing to ledger.db with other tools",
    )


def _home(home: Path) -> Finding:
    from resend.stores.mounts import NETWORK, file_system

    place = home
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding("home", State.FAIL, f"{home}: not writable", "choose another with --home, or mend its owner")
    kind = file_system(place.resolve())
    if kind in NETWORK:
        return Finding(
            "home", State.FAIL, f"{home} is on a network file system ({kind})", "put the home on a local disk"
        )
    free = shutil.disk_usage(place).free
    detail = f"{home} ({kind or 'unknown file system'}, {free / (1 << 30):.0f} GiB free)"
    if not home.exists():
        detail += "; made by the first command that needs it"
    if free < _FREE_LOW:
        return Finding("home", State.WARN, detail, "make room: evidence and ledger need space")
    if home.exists() and home.stat().st_mode & 0o077:
        return Finding("home", State.WARN, f"{detail}; others may enter it", f"run: chmod 700 {home}")
    return Finding("home", State.OK, detail)


def _ledger(config: Config, home: Path) -> Finding:
    if not config.ledger.url and not (home / "ledger.db").exists():
        return Finding("ledger", State.OK, "none yet; the first incident makes it")
    from resend.stores.home import Home
    from resend.stores.ledger import open_ledger

    place = without_password(config.ledger.url) or str(home / "ledger.db")
    try:
        ledger = open_ledger(config.ledger.url, Home(home), create=False)
    except ResendError as error:
        return Finding("ledger", State.FAIL, error.line(), error.next_step)
    ledger.close()
    return Finding("ledger", State.OK, place)


def _egress(name: str, config: EgressConfig) -> Iterator[Finding]:
    """A relay answers, an address is here; and its log can be read."""
    from resend.executor.connect import missing_source

    if config.host:
        yield _answers(f"egress {name}", f"[egress.{name}]", config.as_relay())
    elif why := missing_source(config.source):
        detail = f"this host cannot send from {config.source}: {why}"
        yield Finding(f"egress {name}", State.WARN, detail, "right where another host has it; else give it to this one")
    else:
        yield Finding(f"egress {name}", State.OK, f"sends from {config.source}; 'resend plan make' looks it up in DNS")
    if config.log:
        yield _readable(f"egress {name}", f"[egress.{name}]", Path(config.log))


def _relay(config: Config) -> Finding:
    if not config.relay.host:
        several = "others: see egress" if config.egress else "mail goes direct to MX"
        return Finding("relay", State.OK, f"none: {several}")
    return _answers("relay", "[relay]", config.relay)


def _answers(check: str, table: str, relay: RelayConfig) -> Finding:
    place = f"{relay.host}:{relay.port}"
    try:
        with closing(socket.create_connection((relay.host, relay.port), timeout=_CONNECT_S)) as connection:
            connection.settimeout(_CONNECT_S)
            greeting = b"" if relay.tls == "implicit" else connection.recv(512)
    except OSError as error:
        return Finding(check, State.FAIL, f"{place}: {error.strerror or error}", f"mend {table}, or start the relay")
    if relay.tls != "implicit" and not greeting.startswith(b"220"):
        said = greeting.decode("ascii", "replace").strip() or "nothing"
        return Finding(check, State.FAIL, f"{place} said {said[:80]!r}, not 220", "is this an SMTP port?")
    if relay.user and not os.environ.get(relay.password_env):
        return Finding(check, State.FAIL, f"{place}: no password for {relay.user}", f"set {relay.password_env}")
    return Finding(check, State.OK, f"{place} answers")


def _log(config: Config) -> Finding:
    if not config.relay.log:
        if config.relay.host:
            return Finding(
                "relay log",
                State.WARN,
                "none: what becomes of accepted mail stays unseen",
                "set [relay] log, or run with --blind",
            )
        return Finding("relay log", State.OK, "not needed: direct to MX")
    return _readable("relay log", "[relay]", Path(config.relay.log))


def _readable(check: str, table: str, path: Path) -> Finding:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        return Finding(check, State.FAIL, f"{path}: {error.strerror}", f"mend {table} log or its permissions")
    return Finding(check, State.OK, f"reads {path}" if check != "relay log" else str(path))


def _clock() -> Finding:
    detail = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # all zero: read only
    except (OSError, AttributeError):
        return Finding("clock", State.OK, f"{detail} (not known whether it is synchronised)")
    if state == _TIME_ERROR:
        return Finding(
            "clock",
            State.WARN,
            f"{detail}, not synchronised",
            "start chrony or systemd-timesyncd; rates and Date need it",
        )
    return Finding("clock", State.OK, detail)


def _evidence(home: Path) -> Finding:
    if not (home / "evidence" / "manifest.json").exists():
        return Finding("evidence", State.WARN, "none collected", "run 'resend collect /var/log/mail.log*'")
    from resend.stores.evidence import Evidence
    from resend.stores.home import Home

    try:
        sources = Evidence(Home(home)).sources()
    except ResendError as error:
        return Finding("evidence", State.FAIL, error.line(), error.next_step)
    newest = max((row.last_at for row in sources if row.last_at is not None), default=None)
    if newest is None:
        return Finding(
            "evidence",
            State.WARN,
            f"{len(sources)} sources without a line of mail",
            "run 'resend collect /var/log/mail.log*'",
        )
    age = datetime.now(UTC) - from_micros(newest)
    if age < timedelta(minutes=-1):
        detail = f"{len(sources)} sources; the newest line is {format_duration(-age)} in the future"
        return Finding("evidence", State.WARN, detail, "see --tz of 'resend collect', and the clocks")
    detail = f"{len(sources)} sources, newest line {format_duration(max(age, timedelta()))} old"
    if age > _EVIDENCE_OLD:
        return Finding("evidence", State.WARN, detail, "run 'resend collect' again before you plan")
    return Finding("evidence", State.OK, detail)
