"""What configuration values are made of, and the sections about how mail leaves; the others are in config.py.

Values of a wrong kind raise ValueError, which `config.load` words for people.
"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from resend.clock import exact_duration, format_rate, parse_duration, parse_rate

PREFIX = "BULK_RESEND_"  # of the environment's variables


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _rate(value: object) -> object:
    return parse_rate(value) if isinstance(value, str) else value


def _check_host(host: str, tls: str) -> None:
    """Raise ValueError for a host that is none, and for mail that would leave this machine without TLS."""
    try:
        inside = ip_address(host.strip("[]")).is_loopback
    except ValueError:
        inside = host in ("", "localhost")
        if ":" in host:
            raise ValueError(f"the host holds a port: {host!r}; `port` is a key of its own") from None
    if tls == "none" and not inside:
        raise ValueError(f'tls = "none" is for this machine only, not for {host!r}')


Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(exact_duration)]
Rate = Annotated[float, BeforeValidator(_rate), PlainSerializer(format_rate)]  # mails per second


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RelayConfig(_Section):
    host: str = ""
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str = ""
    password_env: str = PREFIX + "RELAY_PASSWORD"
    log: str = ""

    @model_validator(mode="after")
    def _safe(self) -> RelayConfig:
        _check_host(self.host, self.tls)
        return self


class LimitsConfig(_Section):
    """Instead of the profile's figures, for one provider by one egress; an absent key keeps them."""

    rate: Rate | None = None
    connections: int | None = Field(default=None, ge=1)
    start: Rate | None = None
    dwell: Duration | None = None
    cooldown: Duration | None = None
    floor: Rate | None = None
    mails_per_connection: int | None = Field(default=None, ge=1)
    canary: int | None = Field(default=None, ge=0)
    daily_quota: int | None = Field(default=None, ge=1)


class EgressConfig(_Section):
    """One of several ways out: a relay (`host`, as in [relay]), or straight to the receivers from `source`."""

    host: str = ""
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str = ""
    password_env: str = PREFIX + "RELAY_PASSWORD"
    source: str = ""  # the local address that connections are bound to
    public: str = ""  # the address that receivers see, where a translation changes it on the way out
    ehlo: str = Field(default="", pattern=r"^[A-Za-z0-9._:\[\]-]{0,255}$")  # "" this host's name
    log: str = ""  # the relay's own; of a source the log of live mail from there
    providers: tuple[str, ...] = ()  # which it may serve; empty: all
    weight: int = Field(default=1, ge=0, le=1_000_000)  # its share of new plans; 0 takes nothing new
    limits: dict[str, LimitsConfig] = {}  # by provider

    @model_validator(mode="after")
    def _one_way(self) -> EgressConfig:
        _check_host(self.host, self.tls)
        if bool(self.host) == bool(self.source):
            raise ValueError("give host (a relay) or source (a local address to send from), one of them")
        for address in filter(None, (self.source, self.public)):
            ip_address(address)
        foreign = {"port", "tls", "user", "password_env"} if self.source else {"public"}
        if foreign := foreign & self.model_fields_set:
            raise ValueError(f"{', '.join(sorted(foreign))} goes with {'host' if self.source else 'source'} only")
        unserved = set(self.limits) - set(self.providers) if self.providers else set()
        if unserved:
            raise ValueError(f"limits for {', '.join(sorted(unserved))}, which is not among its providers")
        return self

    def as_relay(self) -> RelayConfig:
        return RelayConfig(
            host=self.host, port=self.port, tls=self.tls, user=self.user, password_env=self.password_env, log=self.log
        )
