"""`resend providers`: the receiving mail systems that are known, how each is fed, and which one a host belongs to.

Asks the DNS for MX hosts in `explain` only, unless told or configured not to. Raises UsageError for an unknown name.
"""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import screen_of, workplace, zone
from resend.clock import format_duration, format_rate
from resend.errors import UsageError

if TYPE_CHECKING:
    from resend.cli.screen import Screen
    from resend.config import Config
    from resend.policy.providers import Profile

_SAID = {
    "hosts": "it has MX hosts",
    "none": "it has no MX host; mail goes to the host of that name",
    "null": "it takes no mail (null MX, RFC 7505)",
    "gone": "there is no such domain",
    "silent": "no answer",
}
_HOST = re.compile(r"[\w.:-]+", re.ASCII)
app = typer_app()
providers_app = typer_app("Receiving mail systems: how each is recognised and fed.")
app.add_typer(providers_app, name="providers")


@app.callback()
def _app() -> None:
    """Providers."""


@providers_app.callback()
def _providers() -> None:
    """Receiving mail systems: how each is recognised and fed.

    A provider is a receiving system, not a domain: thousands of domains stand behind one pool of MX hosts.
    """


@providers_app.command("list")
def list_(ctx: typer.Context) -> Done:
    """List the known receiving systems with their limits, built in and from the config."""
    from resend.policy.providers import ProviderTable

    screen = screen_of(ctx)
    config, _ = workplace(screen)
    table = ProviderTable.load(config.providers)
    rows = [table.profile(name) for name in table.names()]
    for profile in rows:
        screen.row("profile", **_values(profile))
    screen.table(
        [
            render.Column("provider"),
            *(render.number(name) for name in ("rate", "start", "connections", "mails each", "cool-down")),
        ],
        [
            (
                profile.name,
                format_rate(profile.rate),
                format_rate(profile.start),
                profile.connections,
                profile.mails_per_connection,
                format_duration(profile.cooldown),
            )
            for profile in rows
        ],
    )
    screen.prose("the rate is a ceiling: a run begins at `start` and climbs while all is clean")
    return Done(summary={"providers": len(rows)})


@providers_app.command()
def show(ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="a name of 'list'")]) -> Done:
    """Show one receiving system: its hosts, limits, what stops it, advice, and where the figures come from.

    Where the config has [egress], also the limits that hold by each.
    """
    from resend.policy.providers import ProviderTable

    screen = screen_of(ctx)
    config, _ = workplace(screen)
    table = ProviderTable.load(config.providers)
    if name not in table.names():
        near = difflib.get_close_matches(name, table.names(), n=1)
        raise UsageError(
            f"no provider {name!r}",
            next_step=f"did you mean {near[0]!r}?" if near else "see 'resend providers list'",
        )
    profile = table.profile(name)
    own = config.providers.get(name)
    set_here = set() if own is None else {key for key in type(own).model_fields if getattr(own, key) is not None}
    values = _values(profile) | _hours(config, name)
    screen.row("profile", **values, set_in_config=sorted(set_here))
    screen.heading(name)
    for key, value in values.items():
        if key != "name":
            text = (", ".join(value) if isinstance(value, list) else str(value or "")) or "none"
            _entry(screen, key, text + ("  (resend.toml)" if key in set_here else ""))
    _by_egress(screen, config, profile)
    return Done(summary={"name": name})


def _entry(screen: Screen, key: str, text: str) -> None:
    head = f"{key.replace('_', ' '):22}"
    for line in render.wrap(text, screen.columns - len(head)) or [""]:
        screen.line(head + line)
        head = " " * len(head)


def _hours(config: Config, name: str) -> dict[str, object]:
    """What the config alone gives a provider: when mail may leave, how fast by the clock, how much a day."""
    own = config.providers.get(name)
    window = own.window if own is not None and own.window is not None else config.run.window
    return {
        "window": window or "always",
        "timetable": list(own.timetable or ()) if own is not None else [],
        "daily_quota": own.daily_quota if own is not None else None,
    }


def _by_egress(screen: Screen, config: Config, profile: Profile) -> None:
    """The limits that hold by each `[egress.NAME]` that serves the provider; those of its own table are marked."""
    from resend.config import LimitsConfig
    from resend.policy.egress import egresses, limited

    serving = [one for one in egresses(config) if not one.config.providers or profile.name in one.config.providers]
    if serving:
        screen.heading("By egress")
    for one in serving:
        own = one.config.limits.get(profile.name)
        here = {} if own is None else own.model_dump(exclude_none=True)
        held = _values(profile if own is None else limited(profile, own)) | _hours(config, profile.name)
        held = {key: held[key] for key in LimitsConfig.model_fields} | {
            key: value for key, value in here.items() if key == "daily_quota"
        }
        row = {"egress": one.name, "provider": profile.name, "weight": one.config.weight, **held}
        screen.row("limits", **row, set_in_config=sorted(here))
        own_words = ", ".join(f"{key.replace('_', ' ')} {held[key]}" for key in here)
        said = f"{own_words}  (resend.toml); else as above" if here else "as above"
        _entry(screen, one.name, said if one.config.weight else f"{said}; nothing new: weight 0")


@providers_app.command()
def explain(
    ctx: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="a receiving host, its address, or a domain")],
    dns: Annotated[bool, typer.Option("--dns/--no-dns", help="ask for the MX hosts of a domain")] = True,
    again: Annotated[bool, typer.Option("--again", help="ask anew, though an answer is kept")] = False,
) -> Done:
    """Say which receiving system a host or a domain belongs to, and why.

    Answers of the DNS are kept with their date: MX hosts for a week, none for a day, silence for 15 minutes.
    """
    from resend.policy.providers import ProviderTable
    from resend.stores import mx

    screen = screen_of(ctx)
    config, home = workplace(screen)
    known_hosts = ProviderTable.load(config.providers)
    name = host.rpartition("@")[2].strip("<>[]. ").lower()
    if not name.isascii():
        name = _a_label(name)
    if not _HOST.fullmatch(name):
        raise UsageError(f"not a host, an address or a domain: {host!r}", next_step="write it like example.co.jp")
    relay, _ = known_hosts.of(name, "", "")
    answer, now = None, datetime.now(UTC)
    if relay not in known_hosts.names():
        asked = config.dns if dns else config.dns.model_copy(update={"enabled": False})
        answer = mx.find(home, asked, [name], now=now, again=again and dns).get(name)
    hosts = answer.hosts if answer else ()
    table = ProviderTable.load(config.providers, {name: hosts})
    provider, way = (relay, "relay") if relay in table.names() else table.of("", "", name)
    profile = table.profile(provider)
    known = provider in table.names()
    glob = table.glob(name) if known else ""
    rate = format_rate(profile.rate)
    screen.row(
        "provider", host=name, provider=provider, way=way, known=known, matched=glob, mx=list(hosts), rate=rate,
        dns=answer.word if answer else "", asked=answer.at if answer else None,
    )  # fmt: skip
    screen.line(f"{name} is {provider}" + ("" if known else ", of which nothing is known: the careful default holds"))
    why = {"relay": "by the name of the host", "mx": "by its MX host", "domain": "by the domain"}[way]
    screen.line(f"  {why}" + (f": {glob}" if glob else ""))
    for exchanger in hosts:
        screen.line(f"  MX {exchanger}")
    if answer is not None:
        when = "asked now" if answer.at == now else f"asked {render.at(answer.at, zone(config))}, kept"
        screen.line(f"  the DNS: {_SAID[answer.word]} ({when})")
    elif dns and not config.dns.enabled and way != "relay":
        screen.line("  the DNS was not asked: [dns] enabled = false")
    screen.line(f"  at most {rate}, {profile.connections} connections; see 'resend providers list'")
    return Done(summary={"provider": provider, "known": known})


def _a_label(domain: str) -> str:
    """As a mail to it knows the domain; "" where it is none."""
    from resend.policy.address import domain_of

    try:
        return domain_of(f"x@{domain}")
    except ValueError:
        return ""


def _values(profile: Profile) -> dict[str, object]:
    return {
        "name": profile.name,
        "mx": list(profile.mx),
        "domains": list(profile.domains),
        "rate": format_rate(profile.rate),
        "start": format_rate(profile.start),
        "floor": format_rate(profile.floor),
        "connections": profile.connections,
        "mails_per_connection": profile.mails_per_connection,
        "canary": profile.canary,
        "dwell": format_duration(profile.dwell),
        "cooldown": format_duration(profile.cooldown),
        "clean_for": format_duration(profile.clean_for),
        "cap_for": format_duration(profile.cap_for),
        "park": [rule.text for rule in profile.park],
        "reactions": [reaction.text for reaction in profile.reactions],
        "advice": profile.advice,
        "source": profile.source,
    }
