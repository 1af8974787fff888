"""How a lab receiver behaves, as data: pools, limits and faults, read from JSON and checked.

Opens nothing but the one file it is given and never draws lots: whether a fault hits is decided by seed, fault name
and recipient, so a repeated run meets the same faults. Raises InputError for a file that does not fit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from resend.errors import InputError

STAGES = ("connect", "ehlo", "mail", "rcpt", "data", "body", "dot")
DEFAULT_ANNOUNCE = ("PIPELINING", "SIZE 36700160", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN")
BUSY = "451 4.7.500 Server busy. Please try again later from [{peer}]. (S77719)"
BLOCKED = (
    "550 5.7.1 Unfortunately, messages from [{peer}] weren't sent. Please contact your Internet service provider"
    " since part of their network is on our block list (S3150)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Token bucket over the whole pool, spent at `at` (mail, rcpt or dot); beyond it `reply`."""

    per_second: float
    burst: float = 1.0
    at: str = "mail"
    reply: str = BUSY


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The trap behind a rate: after `after` rate replies without `reset_s` of quiet, `reply` to all for `for_s`."""

    after: int
    reset_s: float = 10.0
    for_s: float = 3600.0
    reply: str = BLOCKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """At most `limit` open connections over the pool; one more is greeted with `reply` and closed."""

    limit: int
    reply: str = (
        "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """After `mails` accepted mails MAIL gets `reply` (421 closes, any other code leaves the line open)."""

    mails: int
    reply: str = "421 4.7.0 Too many messages for this session, closing connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Greylist:
    """RCPT of an unseen (sender, recipient) gets `reply` until `seconds` after the first contact."""

    seconds: float
    reply: str = "450 4.2.0 <{rcpt}>: Recipient address rejected: Greylisted, please try again in {seconds} seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong at a stage for some recipients.

    do: `reply` (say `reply`, mail refused), `drop` (cut the line), `garbage` (say `reply` as it is; Postfix
    waits for a well-formed line after it), `slow` (wait `ms`,
    then go on), `silence` (never answer).  at: one of STAGES; `body` is the first bytes after 354.
    p: share of recipients hit, by sha256(seed, name, recipient). Where no recipient is known yet the key is `#n`, the
    number of the connection (connect, ehlo) or of the MAIL command (mail) in the pool.
    once: each recipient is hit at most once.  accepted: at `dot` the body is receipted before the fault (drop,
    garbage, silence).  recipients: globs that must match first, none means all.
    """

    do: str
    at: str
    name: str = ""
    p: float = 1.0
    once: bool = False
    accepted: bool = False
    reply: str = ""
    ms: float = 0.0
    recipients: tuple[str, ...] = ()

    def chosen(self, seed: int, key: str) -> bool:
        """Whether this fault is for `key`; the same answer in every run of that seed."""
        if self.recipients and not any(fnmatchcase(key, glob) for glob in self.recipients):
            return False
        if self.p >= 1.0:
            return True
        digest = hashlib.sha256(f"{seed}\n{self.name}\n{key}".encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") < self.p * 2.0**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One receiving mail system: every address of `listen` shares its limits. Port 0: the system chooses."""

    name: str
    listen: tuple[str, ...]
    hostname: str = "mx.example.net"
    announce: tuple[str, ...] = DEFAULT_ANNOUNCE
    rate: Rate | None = None
    block: Block | None = None
    connections: Connections | None = None
    session: Session | None = None
    greylist: Greylist | None = None
    reject: dict[str, str] = field(default_factory=dict)  # recipient -> reply to RCPT
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """All pools of one lab. `keep_bodies` stores each accepted body once as bodies/<sha256>.eml beside the receipts."""

    seed: int = 1
    keep_bodies: bool = False
    pools: tuple[Pool, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Behaviour:
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")), where=str(path))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"cannot read the behaviour: {error}", where=str(path)) from None

    @classmethod
    def from_json(cls, document: Any, *, where: str = "behaviour") -> Behaviour:
        """`{"seed": 1, "keep_bodies": false, "pools": {NAME: {...Pool without name...}}}`."""
        document = _object(document, where)
        pools = _object(document.get("pools", {}), f"{where}: pools")
        return _make(
            cls,
            document | {"pools": tuple(_pool(name, pool, f"{where}: {name}") for name, pool in pools.items())},
            where,
        )

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads, defaults left out."""
        pools = {pool.name: _plain(pool, leave=("name",)) for pool in self.pools}
        return {"seed": self.seed, "keep_bodies": self.keep_bodies, "pools": pools}


_PARTS: dict[str, type[Any]] = {
    "rate": Rate,
    "block": Block,
    "connections": Connections,
    "session": Session,
    "greylist": Greylist,
}


def _pool(name: str, document: Any, where: str) -> Pool:
    values = dict(_object(document, where))
    for key, part in _PARTS.items():
        if values.get(key) is not None:
            values[key] = _make(part, values[key], f"{where}.{key}")
    values["faults"] = read_faults(values.get("faults", ()), prefix=name, where=where)
    for key in ("listen", "announce"):
        if key in values:
            values[key] = tuple(values[key])
    pool = _make(Pool, values | {"name": name}, where)
    if pool.rate is not None and pool.rate.at not in ("mail", "rcpt", "dot"):
        raise InputError(f"rate.at {pool.rate.at!r} is not mail, rcpt or dot", where=where)
    for address in pool.listen:
        split_address(address, where)
    return pool


def read_faults(documents: Any, *, prefix: str, where: str) -> tuple[Fault, ...]:
    """A list of fault objects; one without a name is called `prefix.N`."""
    faults = []
    for number, document in enumerate(documents):
        values = {"name": f"{prefix}.{number}"} | _object(document, where)
        values["recipients"] = tuple(values.get("recipients", ()))
        fault = _make(Fault, values, f"{where}.faults[{number}]")
        if fault.at not in STAGES or fault.do not in ("reply", "drop", "garbage", "slow", "silence"):
            raise InputError(f"a fault cannot {fault.do!r} at {fault.at!r}", where=f"{where}.faults[{number}]")
        faults.append(fault)
    return tuple(faults)


def split_address(address: str, where: str = "") -> tuple[str, int]:
    """`127.0.1.3:2525` to host and port. Only loopback is ever served."""
    host, _, port = address.rpartition(":")
    if not host.startswith("127.") or not port.isdecimal() or int(port) > 65535:
        raise InputError(f"not a loopback HOST:PORT: {address!r}", where=where)
    return host, int(port)


_T = TypeVar("_T")


def _make(cls: type[_T], document: Any, where: str) -> _T:
    values = _object(document, where)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise InputError(f"unknown key {key!r}", where=where, next_step=f"known here: {', '.join(known)}")
    for name, f in known.items():
        if name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise InputError(f"{name} is missing", where=where)
    return cls(**values)


def _object(document: Any, where: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise InputError(f"not a JSON object: {str(document)[:60]!r}", where=where)
    return document


def _plain(pool: Pool, *, leave: tuple[str, ...]) -> dict[str, Any]:
    values = asdict(pool)
    return {key: value for key, value in values.items() if key not in leave and value not in (None, (), {})}
