"""Commands to a running run, obeyed within 2 s, and holds: what must not be sent until the operator says so.

Each is a row in the ledger with who, when and why; nothing here talks to another process.
"""

from __future__ import annotations

import fcntl
import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import check_provider, existing, ledger_of, rates, screen_of
from resend.errors import UsageError
from resend.model import ControlKind, VetoKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resend.cli.screen import Screen
    from resend.config import Config
    from resend.stores.rows import Rate

app = typer_app()
Reason = Annotated[str, typer.Option("--reason", help="why; kept in the audit")]


@app.callback()
def _control() -> None:
    """Live control."""


Place = Annotated[
    str,
    typer.Argument(metavar="[EGRESS/][PROVIDER]", help="office365, mta1/office365, or mta1/ for all by that egress"),
]


@app.command()
def pause(ctx: typer.Context, place: Place = "", reason: Reason = "") -> Done:
    """Let no more mail leave; mails under way are finished. 'resend resume' goes on."""
    return _post(ctx, ControlKind.PAUSE, provider=place, reason=reason)


@app.command()
def resume(ctx: typer.Context, place: Place = "", reason: Reason = "") -> Done:
    """Go on after a pause, at the rate that stood before it."""
    return _post(ctx, ControlKind.RESUME, provider=place, reason=reason)


@app.command()
def stop(ctx: typer.Context, reason: Reason = "") -> Done:
    """End the run as soon as mails under way are finished. The same 'resend run' resumes it."""
    return _post(ctx, ControlKind.STOP, reason=reason)


@app.command()
def rate(
    ctx: typer.Context,
    rates_: Annotated[list[str], typer.Argument(metavar="[EGRESS/]PROVIDER=RATE", help="office365=1/s, docomo=30/min")],
    reason: Reason = "",
) -> Done:
    """Change the rate of a provider, by each egress or by one. It holds for this run and later ones."""
    rates(rates_)  # all of them are rates, or none is posted
    done = Done()
    for text in rates_:
        provider, _, value = text.partition("=")
        done = _post(ctx, ControlKind.RATE, provider=provider, value=value, reason=reason)
    return done


Release = Annotated[str, typer.Option("--release", help="a release id")]
Customer = Annotated[str, typer.Option("--customer", help="a customer id")]
Recipient = Annotated[str, typer.Option("--recipient", help="an address")]
Domain = Annotated[str, typer.Option("--domain", help="a recipient domain")]


@app.command()
def hold(
    ctx: typer.Context,
    release: Release = "",
    customer: Customer = "",
    recipient: Recipient = "",
    domain: Domain = "",
    reason: Reason = "",
) -> Done:
    """Do not send what is named, in any plan, until 'resend unhold'. A run obeys at its next mail."""
    return _hold(ctx, _subject(release, customer, recipient, domain), reason, on=True)


@app.command()
def unhold(
    ctx: typer.Context,
    release: Release = "",
    customer: Customer = "",
    recipient: Recipient = "",
    domain: Domain = "",
    reason: Reason = "",
) -> Done:
    """Take a hold back; held mails are planned again and wait for the next run."""
    return _hold(ctx, _subject(release, customer, recipient, domain), reason, on=False)


def operator() -> str:
    """Who gives the command, for the audit: login name and process."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return os.environ.get("SUDO_USER", name)


def _subject(release: str, customer: str, recipient: str, domain: str) -> tuple[VetoKind, str]:
    named = [
        (kind, value)
        for kind, value in (
            (VetoKind.RELEASE, release),
            (VetoKind.CUSTOMER, customer),
            (VetoKind.ADDRESS, recipient),
            (VetoKind.DOMAIN, domain),
        )
        if value
    ]
    if len(named) != 1:
        raise UsageError(
            "name one of --release, --customer, --recipient, --domain",
            next_step="for several, give the command several times",
        )
    return named[0]


def _hold(ctx: typer.Context, named: tuple[VetoKind, str], reason: str, *, on: bool) -> Done:
    from resend.stores import vetoes

    screen = screen_of(ctx)
    config, home = existing(screen)
    kind, subject = named
    if kind is VetoKind.ADDRESS:
        _check_address(subject)
    if kind is VetoKind.DOMAIN:
        subject = _domain(subject)
    act = vetoes.hold if on else vetoes.unhold
    with ledger_of(config, home) as ledger, ledger.write() as conn:
        mails = act(conn, kind, subject, reason=reason, who=operator(), now=datetime.now(UTC))
    shown = screen.address(subject) if kind is VetoKind.ADDRESS else subject
    verb = "is held" if on else "is no longer held"
    screen.prose(f"{kind} {shown} {verb}: {render.some(mails, 'mail')} of started plans")
    if on and not mails:
        screen.prose("nothing of a started plan is meant now; what comes later is held, and 'resend unhold' ends it")
    return Done(summary={"kind": kind, "subject": shown, "held": on, "mails": mails})


def _post(ctx: typer.Context, kind: ControlKind, *, provider: str = "", value: str = "", reason: str = "") -> Done:
    from resend.stores import control
    from resend.stores.rows import meets

    screen = screen_of(ctx)
    config, home = existing(screen)
    _check_place(config, provider)
    about = " ".join(filter(None, (kind.value, provider, value)))
    with ledger_of(config, home) as ledger:
        with ledger.read() as conn:
            known = control.rates(conn)
        used = {rate.provider for rate in known}
        check_provider(config, provider.rpartition("/")[2], used=used)
        active = ledger.dialect != "sqlite" or _held(home.run_lock)
        if kind is ControlKind.STOP and not active:
            screen.line("no run is active: nothing to stop")
            return Done(summary={"kind": kind, "posted": False, "active": False})
        with ledger.write() as conn:
            control.post(
                conn, kind, provider=provider, value=value, reason=reason, who=operator(), now=datetime.now(UTC)
            )
    screen.row("control", kind=kind, provider=provider, value=value, reason=reason)
    when = "a run obeys within 2 seconds" if active else "no run is active now, the next one obeys"
    screen.line(f"{about}: {when}")
    if kind is ControlKind.RESUME:
        _goes_on(
            screen,
            [rate for rate in known if meets(provider, rate.egress, rate.provider) and (rate.parked or rate.paused)],
        )
    return Done(summary={"kind": kind, "posted": True, "active": active})


def _goes_on(screen: Screen, held: Sequence[Rate]) -> None:
    """Say what each of them is let go from: by a person's pause, or by a rule that parked it."""
    for rate in held:
        why = " and ".join(filter(None, ("paused" if rate.paused else "", rate.parked and f"parked: {rate.parked}")))
        screen.row("goes_on", egress=rate.egress, provider=rate.provider, paused=rate.paused, parked=rate.parked)
        screen.prose(f"{rate.provider} by {rate.egress} goes on; it was {why}")
    if not held:
        screen.line("nothing there is paused or parked")


def _check_place(config: Config, place: str) -> None:
    """Raise UsageError where the egress before the slash is none of the config's."""
    from resend.policy.routes import routes

    by, slash, _ = place.rpartition("/")
    known = sorted(routes(config).names())
    if slash and not any(by in (name, name.partition(":")[2]) for name in known):
        raise UsageError(f"there is no egress {by!r}", next_step=f"one of: {', '.join(known)}")


def _check_address(address: str) -> None:
    """Raise UsageError where no mail could ever be to it."""
    from resend.policy.address import fold

    try:
        fold(address)
    except ValueError as error:
        raise UsageError(f"--recipient: not an address: {error}", next_step="write it like taro@example.jp") from None


def _domain(text: str) -> str:
    """The domain as mails to it are known. Raises UsageError where no mail could ever be to it."""
    from resend.policy.address import domain_of

    try:
        return domain_of(f"x@{text.removeprefix('@')}")
    except ValueError:
        raise UsageError(f"--domain: not a mail domain: {text!r}", next_step="write it like example.jp") from None


def _held(lock: Path) -> bool:
    """Does a live process hold this lock?"""
    try:
        with lock.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
