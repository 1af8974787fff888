"""The list of commands, and the typer group that imports a command's module only when it is named.

Prints nothing but help. A command that is not in COMMANDS does not exist; the module of each holds `app`.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import typer
from typer.core import TyperGroup

from resend.cli import options
from resend.errors import UsageError

# name -> (module, what it does); the sections follow the path of an incident.
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Start": {
        "demo": ("demo", "the whole incident on loopback, offline"),
        "init": ("setup", "write a commented resend.toml"),
        "doctor": ("setup", "check machine, config, home, relay and evidence"),
        "config": ("setup", "show each value and where it came from"),
    },
    "What happened": {
        "triage": ("triage", "the first hour: ongoing or over, queued, expiring, what to do"),
        "collect": ("evidence", "read mail logs into the evidence"),
        "sources": ("evidence", "what was collected, with exact line counts"),
        "outcomes": ("evidence", "the last word on single mails"),
        "evidence": ("retention", "pack finished days, remove what is old"),
        "explain": ("explain", "the cause of an SMTP reply"),
        "catalog": ("catalog", "load releases, recipients, send log, suppressions"),
    },
    "What to do about it": {
        "incident": ("incidents", "open, list, show and close incidents"),
        "preview": ("preview", "what failed and what would be resent; changes nothing"),
        "queue": ("queue", "hold, release or delete what is still queued: a guarded script"),
        "suppressions": ("suppressions", "addresses that the incident made look dead, and those that are"),
        "why": ("why", "one address, from log line to verdict to reply"),
        "plan": ("plans", "make, list, show and close plans"),
        "report": ("report", "the report for customers, Japanese or English"),
        "providers": ("providers", "receiving systems: how each is recognised and fed"),
    },
    "Resend": {
        "run": ("sending", "send a plan, paced; the same command resumes it"),
        "worker": ("worker", "send from several hosts: claims batches until told to stop (PostgreSQL)"),
        "catch-up": ("catchup", "send the rows that have become due; safe from a timer"),
        "schedule": ("schedule", "units for a timer: systemd, cron, Kubernetes"),
        "reconcile": ("proof", "settle doubt and fate from logs"),
        "doubt": ("doubt", "mails whose outcome is not known: list, resend, close"),
        "check": ("proof", "prove the invariants of the ledger"),
    },
    "While it runs": {
        "status": ("status", "providers, rates, what is parked and why"),
        "pause": ("control", "let no more mail leave"),
        "resume": ("control", "go on after a pause"),
        "stop": ("control", "end the run; the same command resumes it"),
        "rate": ("control", "change the rate of a provider"),
        "hold": ("control", "do not send a release, customer, recipient or domain"),
        "unhold": ("control", "take a hold back"),
    },
}
_LATER = ("watch", "probe", "purge", "serve")  # of the contract; a near name of another command would mislead
LATER_OPTIONS = frozenset({("collect", "--engine")})
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


_SENTENCE = 200  # characters of help that a list of commands shows


class LazyGroup(TyperGroup):
    """The root group: names and help come from COMMANDS, the command itself from its module."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"resend.cli.{COMMANDS[cmd_name][0]}")
        return typer.main.get_group(module.app).commands[cmd_name]

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        if args[0] in _LATER:
            raise UsageError(f"'resend {args[0]}' is not built yet", next_step="'resend --help' lists what is")
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean 'resend {near[0]}'?" if near else "run 'resend --help'"
            raise UsageError(f"no such command {args[0]!r}", next_step=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(10), help_) for name, (_, help_) in commands.items()])

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        self.format_commands(ctx, formatter)
        with formatter.section("Options, before the command or after it"):
            formatter.write_dl([(name.ljust(10), help_) for name, help_ in options.HELP])


class FullGroup(TyperGroup):
    """A group whose list of commands has the whole first sentence of each, on several lines where it is long."""

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        names = self.list_commands(ctx)
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(_SENTENCE)) for name in names])


def typer_app(help_: str = "") -> typer.Typer:
    """A typer application of ours: no rich, no completion options, no traceback handling of its own."""
    return typer.Typer(
        cls=FullGroup,
        help=help_ or None,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    )


root = typer.Typer(
    cls=LazyGroup,
    name="resend",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@root.callback()
def _root() -> None:
    """Find the mail a provider throttled or blocked, link it to what it was, and resend it safely.

    Start with 'resend demo', or with 'resend init' and 'resend collect /var/log/mail.log'.
    """
