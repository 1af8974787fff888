"""Configuration: defaults < resend.toml (or `[tool.resend]`) < BULK_RESEND_SECTION__KEY < flags.

Unknown keys are refused, each with its file and the nearest known key. Reads files and the environment once, in `load`;
raises ConfigError. Secrets are never values here: a key names the variable that holds them.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from resend.errors import ConfigError
from resend.sections import PREFIX as PREFIX
from resend.sections import Duration, Rate
from resend.sections import EgressConfig as EgressConfig
from resend.sections import LimitsConfig as LimitsConfig
from resend.sections import RelayConfig as RelayConfig

_FILE = "resend.toml"
_KEYS = "docs/config.md has every key"
MEND = f"mend the value; {_KEYS}"
_SINGLE = ("home", "tz")  # keys without a section
_LIST = 'write it like ["192.0.2.1", "192.0.2.2"]'
_PLAINER = (  # pydantic's words for people
    ("Value error, ", ""),
    ("Input should be a valid tuple", f"not a list; {_LIST}"),
    ("Input should be a valid boolean, unable to interpret input", "neither true nor false"),
    (", unable to parse string as an integer", ""),
    (", unable to parse string as a number", ""),
    ("Input should be ", "must be "),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", re.ASCII)
_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[0-9.]+))(?::(?P<port>\d{1,5}))?|[0-9a-fA-F:.]+", re.ASCII)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LedgerConfig(_Section):
    url: str = ""


class QueryConfig(_Section):
    url_env: str = ""
    query: str = ""


class CollectConfig(_Section):
    own_relays: tuple[str, ...] = ()
    queue_lifetime: Duration = timedelta(days=5)
    tables: dict[str, QueryConfig] = {}  # delivery tables of the sender's own, by a name that is theirs


class OutcomeConfig(_Section):
    late_after: Duration = timedelta(hours=1)


class DnsConfig(_Section):
    """Who is asked for the MX hosts of domains whose mail names no receiver in the log; nobody without `enabled`."""

    enabled: bool = True
    nameservers: tuple[str, ...] = ()  # "192.0.2.53", "127.0.0.1:5353", "[2001:db8::1]:53"; empty: the system's
    timeout: Duration = timedelta(seconds=5)  # of one domain
    budget: Duration = timedelta(seconds=30)  # of all domains of one command

    @field_validator("nameservers")
    @classmethod
    def _addresses(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            split_address(value)
        return values

    @field_validator("timeout", "budget")
    @classmethod
    def _some(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= timedelta(minutes=10):
            raise ValueError("more than 0s and at most 10m")
        return value


def split_address(text: str, port: int = 53) -> tuple[str, int]:
    """An IP address with or without a port. Raises ValueError.

    >>> split_address("127.0.0.1:5353"), split_address("[::1]:53"), split_address("2001:db8::1")
    (('127.0.0.1', 5353), ('::1', 53), ('2001:db8::1', 53))
    """
    match = _ADDRESS.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        host = str(ip_address(match["v6"] or match["v4"] or text.strip()))
        number = int(match["port"] or port)
        if not 0 < number < 65536:
            raise ValueError
    except ValueError:
        raise ValueError(f"not an address like 192.0.2.53 or 127.0.0.1:5353: {text!r}") from None
    return host, number


class CatalogConfig(_Section):
    releases: QueryConfig = QueryConfig()
    recipients: QueryConfig = QueryConfig()
    sendlog: QueryConfig = QueryConfig()
    suppressions: QueryConfig = QueryConfig()


class LinkConfig(_Section):
    message_id: str = ""  # template with {release} and {recipient}
    header: str = "X-Release-Id"
    verp: str = ""


class DkimConfig(_Section):
    """Who signs mail of ours; empty: the relay does. `key_file`: an RSA private key in PEM, readable by us alone."""

    selector: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,63}$")
    domain: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,253}$")
    key_file: str = ""

    @model_validator(mode="after")
    def _whole(self) -> DkimConfig:
        if len({bool(self.selector), bool(self.domain), bool(self.key_file)}) > 1:
            raise ValueError("selector, domain and key_file are given together, or none of them")
        return self


class MessageConfig(_Section):
    list_unsubscribe: str = ""  # https://example.jp/u/{recipient}/{release}; "" adds none (policy/unsubscribe)
    delayed_line: dict[str, str] = {}  # by language: the template's variable `delayed`
    delayed_after: Duration = timedelta(hours=24)


class RunConfig(_Section):
    connections: int = Field(default=20, ge=1, le=1000)
    in_doubt: Literal["hold", "resend"] = "hold"
    max_evidence_age: Duration = timedelta(minutes=15)
    wait: Duration = timedelta(minutes=15)
    retry_after: Duration = timedelta(minutes=5)  # first wait of a deferred row; doubles with each try
    retry_at_most: Duration = timedelta(hours=4)
    recipient_gap: Duration = timedelta(minutes=10)
    domain_share: float = Field(default=0.2, gt=0, le=1)  # most of a provider's mails in a row to one domain
    window: str = ""  # when mail may leave, by the recipient's clock: "mon-fri 08:00-21:00"; "" always (policy/windows)


class ProviderConfig(_Section):
    """Overrides of one provider profile; an absent key keeps the built-in value. Defaults: DESIGN of providers.toml."""

    mx: tuple[str, ...] | None = None
    rate: Rate | None = None
    connections: int | None = Field(default=None, ge=1)
    start: Rate | None = None
    dwell: Duration | None = None
    cooldown: Duration | None = None
    floor: Rate | None = None
    mails_per_connection: int | None = Field(default=None, ge=1)
    clean_for: Duration | None = None  # clean time before the rate rises by a tenth
    cap_for: Duration | None = None  # how long a rate that was throttled bounds the rise
    canary: int | None = Field(default=None, ge=0)
    park: tuple[str, ...] | None = None
    reactions: tuple[dict[str, Any], ...] | None = None  # rows before the built-in ones (policy/reactions)
    window: str | None = None  # instead of [run] window
    timetable: tuple[str, ...] | None = None  # "22:00-07:00 1/s": the ceiling by the clock of `tz`
    daily_quota: int | None = Field(default=None, ge=1)  # accepted mails a day of `tz`


class CatchupConfig(_Section):
    providers: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    age_from: Duration = timedelta(hours=1)
    age_to: Duration = timedelta(hours=48)
    max: int = Field(default=1000, ge=0)

    @model_validator(mode="after")
    def _some_time(self) -> CatchupConfig:
        if self.age_from >= self.age_to:
            raise ValueError("age_from is not before age_to: no mail is ever of that age")
        return self


class Config(_Section):
    home: str = ""
    tz: str = "UTC"
    ledger: LedgerConfig = LedgerConfig()
    relay: RelayConfig = RelayConfig()
    egress: dict[str, EgressConfig] = {}
    collect: CollectConfig = CollectConfig()
    outcome: OutcomeConfig = OutcomeConfig()
    dns: DnsConfig = DnsConfig()
    mx_map: dict[str, str] = {}
    catalog: CatalogConfig = CatalogConfig()
    link: LinkConfig = LinkConfig()
    message: MessageConfig = MessageConfig()
    dkim: DkimConfig = DkimConfig()
    run: RunConfig = RunConfig()
    providers: dict[str, ProviderConfig] = {}
    catchup: CatchupConfig = CatchupConfig()

    @field_validator("tz")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"not a time zone name like Asia/Tokyo: {value!r}") from None
        return value

    @field_validator("egress")
    @classmethod
    def _plain_names(cls, value: dict[str, EgressConfig]) -> dict[str, EgressConfig]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(f"not a name like relay1 or mta-2: {name!r}")
        return value


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checked config, the home it leads to, and where each value that is not a default came from."""

    config: Config
    home: Path
    origins: Mapping[str, str]  # "relay.port" -> "resend.toml" | "BULK_RESEND_RELAY__PORT" | "--home"

    def located(self, error: ConfigError) -> ConfigError:
        """What a later check says of a key, with the file or variable that gave the value.

        A check knows the key only: as `where`, or before a colon where that is resend.toml.
        """
        told = error.what if error.where == _FILE else f"{error.where}: {error.what}"
        where = _origin(told.partition(": ")[0].strip("[]"), self.origins)
        return ConfigError(told, where=where, next_step=error.next_step) if where else error


def load(*, directory: Path, environ: Mapping[str, str] = os.environ, home_flag: str = "") -> Loaded:
    """Read `resend.toml` (else `[tool.resend]` of pyproject.toml) in `directory` and the environment."""
    values, origins = _read_toml(directory)
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in _plain_variables(values):
            continue
        path = name.removeprefix(PREFIX).lower().split("__")
        if len(path) > 1 or path[0] in _SINGLE:
            _put(values, path, _from_environment(environ[name], path), name)
            origins[".".join(path)] = name
        elif meant := _meant(path[0]):
            raise ConfigError("a section and its key are parted by two underscores", where=name, next_step=meant)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise _readable(error, origins) from None
    if home_flag:
        origins["home"] = "--home"
    chosen = home_flag or config.home
    if chosen:
        home = Path(chosen).expanduser()
        home = home if home.is_absolute() else directory / home
    else:
        home = Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "resend"
    return Loaded(config, home, origins)


def _plain_variables(values: Mapping[str, Any]) -> set[str]:
    """Variables with our prefix that hold a secret or a URL by name, not a setting."""
    found = {PREFIX + "RELAY_PASSWORD"}
    for group in (values, values.get("egress"), values.get("catalog"), _inner(values.get("collect"), "tables")):
        for section in group.values() if isinstance(group, Mapping) else ():
            if isinstance(section, Mapping):
                found |= {str(section[key]) for key in ("password_env", "url_env") if key in section}
    return found


def _inner(section: object, key: str) -> object:
    return section.get(key) if isinstance(section, Mapping) else None


def _read_toml(directory: Path) -> tuple[dict[str, Any], dict[str, str]]:
    for name in (_FILE, "pyproject.toml"):
        path = directory / name
        if not path.is_file():
            continue
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors of Windows write a mark first
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"not valid TOML: {error}", where=str(path), next_step="mend the file") from None
        except OSError as error:
            raise ConfigError(f"cannot read: {error.strerror}", where=str(path)) from None
        if name == "pyproject.toml":
            document = document.get("tool", {}).get("resend", {})
            if not document:
                continue
        return document, {key: str(path) for key in _flat(document)}
    return {}, {}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in tree.items():
        keys += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return keys


def _put(tree: dict[str, Any], path: list[str], value: object, name: str) -> None:
    for key in path[:-1]:
        inner = tree.setdefault(key, {}) if key else None
        if not isinstance(inner, dict):
            raise ConfigError(f"there is no key {'.'.join(path)!r}", where=name, next_step=f"unset it; {_KEYS}")
        tree = inner
    tree[path[-1]] = value


def _meant(text: str) -> str:
    """The variable of which this is a slip with one underscore; "" for a variable that is none of ours."""
    for section, info in Config.model_fields.items():
        keys = getattr(info.annotation, "model_fields", {})
        if text in {f"{section}_{key}" for key in keys}:
            return f"write {PREFIX}{section.upper()}__{text.removeprefix(section + '_').upper()}"
    return ""


def _from_environment(text: str, path: list[str]) -> object:
    """Environment text as TOML would hold it: a list where it looks like one, else text (pydantic reads numbers)."""
    if text.startswith("["):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            where = PREFIX + "__".join(path).upper()
            raise ConfigError(f"not a TOML list: {text}", where=where, next_step=_LIST) from None
    return text


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """Where a value came from: its own origin, else that of the list that it is in, else those of what it holds."""
    for parent in _upwards(key):
        if parent in origins:
            return origins[parent]
    return ", ".join(dict.fromkeys(origin for name, origin in origins.items() if name.startswith(f"{key}.")))


def _upwards(key: str) -> Iterator[str]:
    """
    >>> list(_upwards("collect.own_relays.0"))
    ['collect.own_relays.0', 'collect.own_relays', 'collect']
    """
    while key:
        yield key
        key = key.rpartition(".")[0]


def _readable(error: ValidationError, origins: Mapping[str, str]) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    where = _origin(key, origins) or _FILE
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        return ConfigError(f"unknown key {key!r}", where=where, next_step=hint)
    message = first["msg"]
    for theirs, ours in _PLAINER:
        message = message.replace(theirs, ours)
    return ConfigError(f"{key}: {message}", where=where, next_step=MEND)


_NAMED: dict[str, type[BaseModel]] = {"tables": QueryConfig, "egress": EgressConfig, "limits": LimitsConfig}


def _known_keys(path: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for part in path:
        if part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
            else:
                model = _NAMED.get(str(part), ProviderConfig)
    return list(model.model_fields)
