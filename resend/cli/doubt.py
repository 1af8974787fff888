"""`resend doubt`: mails whose last reply was never seen. Evidence settles them first ('reconcile'), else a person does.

A decision needs the exact count and a reason, and is audited. Raises UsageError; the ledger raises WrongCount.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.control import operator
from resend.cli.opened import existing, ledger_of, screen_of, zone
from resend.errors import Exit, UsageError

app = typer_app()
doubt_app = typer_app("Mails whose outcome is not known.")
app.add_typer(doubt_app, name="doubt")
Keys = Annotated[
    list[str] | None, typer.Argument(metavar="KEY", help="keys of 'resend doubt list', or their beginnings")
]
Provider = Annotated[str, typer.Option("--provider", metavar="P", help="all of this provider")]
Confirm = Annotated[int, typer.Option("--confirm", metavar="N", min=1, help="how many; refused if the count differs")]
Reason = Annotated[str, typer.Option("--reason", help="why; kept in the audit")]


@app.callback()
def _app() -> None:
    """Doubt."""


@doubt_app.callback()
def _doubt() -> None:
    """Mails whose outcome is not known."""


@doubt_app.command("list")
def list_(ctx: typer.Context) -> Done:
    """List mails in doubt, oldest first. Exits with 3 when there is one."""
    from resend.stores.doubt import listed

    screen = screen_of(ctx)
    config, home = existing(screen)
    where = zone(config)
    with ledger_of(config, home) as ledger, ledger.read() as conn:
        found = listed(conn)
    for mail in found:
        screen.row(
            "doubt",
            key=mail.key,
            plan=mail.plan_id,
            provider=mail.provider,
            egress=mail.egress,
            release=mail.release,
            rcpt=screen.address(mail.rcpt),
            message_id=mail.message_id,
            armed_at=mail.armed_at,
            stage=mail.stage,
            reply=screen.masked(mail.reply),
        )
    if found:
        screen.table(
            [
                render.fixed("key"),
                render.fixed("sent"),
                render.Column("provider"),
                render.Column("release"),
                render.Column("recipient"),
                render.Column("by"),
            ],
            [
                (
                    mail.key[:12],
                    render.minute(mail.armed_at, where),
                    mail.provider,
                    mail.release,
                    screen.address(mail.rcpt),
                    mail.egress,
                )
                for mail in found
            ],
        )
        screen.line(f"{render.count(len(found))} in doubt; 'resend reconcile' settles what a log tells of")
    else:
        screen.line("no mail is in doubt")
    return Done(Exit.LEFT if found else Exit.DONE, {"in_doubt": len(found)})


@doubt_app.command()
def resend(ctx: typer.Context, confirm: Confirm, reason: Reason, keys: Keys = None, provider: Provider = "") -> Done:
    """Send these mails once more, though the receiver may have them: some may arrive twice.

    They are planned again; the next 'resend run' of their plan sends them. Those whose plan is closed are free for
    another 'resend plan make'.
    """
    return _decide(ctx, keys or [], provider, confirm, reason, again=True)


@doubt_app.command()
def close(ctx: typer.Context, confirm: Confirm, reason: Reason, keys: Keys = None, provider: Provider = "") -> Done:
    """Do not send these mails again: their receivers may have them."""
    return _decide(ctx, keys or [], provider, confirm, reason, again=False)


def _decide(ctx: typer.Context, keys: list[str], provider: str, confirm: int, reason: str, *, again: bool) -> Done:
    from resend.model import PlanState
    from resend.stores import doubt, registry

    screen = screen_of(ctx)
    if bool(keys) == bool(provider):
        raise UsageError("name keys or a provider, not both and not neither", next_step="see 'resend doubt list'")
    config, home = existing(screen)
    act = doubt.release if again else doubt.close
    with ledger_of(config, home) as ledger, ledger.write() as conn:
        whole = [_whole(key, [mail.key for mail in doubt.listed(conn)]) for key in keys]
        shut = {plan.id for plan in registry.plans(conn) if plan.state is PlanState.CLOSED}
        free = sum(mail.plan_id in shut for mail in doubt.listed(conn, keys=whole, provider=provider)) if again else 0
        done = act(
            conn, keys=whole, provider=provider, confirm=confirm, reason=reason, who=operator(), now=datetime.now(UTC)
        )
    if not again:
        screen.line(f"{render.some(done, 'mail')} closed; no plan takes them again but 'plan make --again'")
    if done > free:
        screen.line(f"{render.some(done - free, 'mail')} planned again; next: the 'resend run' of their plan")
    if free:
        screen.line(f"{render.some(free, 'mail')} of a closed plan set free; next: 'resend plan make INCIDENT'")
    return Done(summary={"decided": done, "again": again, "free": free})


def _whole(key: str, known: list[str]) -> str:
    """The key that begins so."""
    found = [item for item in known if item.startswith(key)]
    if len(found) != 1:
        what = f"{len(found)} mails in doubt begin" if found else "no mail in doubt begins"
        raise UsageError(f"{what} with {key!r}", next_step="see 'resend doubt list'")
    return found[0]
