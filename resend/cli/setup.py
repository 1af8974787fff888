"""`resend init`, `doctor` and `config show`: what comes before the first log line.

`init` never overwrites; `doctor` and `config show` change nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import loaded, screen_of
from resend.errors import Exit

app = typer_app()
config_app = typer_app("The configuration: resend.toml, BULK_RESEND_ variables, flags.")
app.add_typer(config_app, name="config")


@app.callback()
def _setup() -> None:
    """Set-up."""


@app.command()
def init(ctx: typer.Context) -> Done:
    """Write a commented resend.toml into the current directory.

    At a terminal it asks four questions; with --no-input it takes the defaults. It never overwrites a file.
    """
    from resend.cli.starter import write_config

    screen = screen_of(ctx)
    path = write_config(screen)
    screen.line(f"wrote {path}; next: 'resend doctor', then 'resend collect /var/log/mail.log'")
    return Done(Exit.DONE, {"path": str(path)})


@app.command()
def doctor(ctx: typer.Context) -> Done:
    """Check Python, SQLite, home, configuration, relay, log, clock and the age of the evidence.

    A warning leaves the exit code at 0; a failed check makes it 1.
    """
    from resend.cli.doctor import State, examine

    screen = screen_of(ctx)
    worst = State.OK
    for finding in examine(screen):
        worst = max(worst, finding.state, key=list(State).index)
        screen.row("doctor", check=finding.check, state=finding.state, detail=finding.detail, next=finding.next_step)
        head = f"{finding.state.upper():4}  {finding.check:9}  "
        for text in filter(None, (finding.detail, finding.next_step)):
            for line in render.wrap(text, screen.columns - 17):
                screen.line(head + line)
                head = " " * 17
    return Done(Exit.ERROR if worst is State.FAIL else Exit.DONE, {"worst": worst})


@config_app.callback()
def _config() -> None:
    """The configuration: resend.toml, BULK_RESEND_ variables, flags."""


@config_app.command("show")
def config_show(ctx: typer.Context) -> Done:
    """Show each value, as resend.toml has it, and where it came from. Passwords are never shown."""
    screen = screen_of(ctx)
    found = loaded(screen)
    rows = [("home", str(found.home), found.origins.get("home", "default"))]
    for key, value in _flat(found.config.model_dump(exclude_none=True)):
        if key != "home":
            rows.append((key, _text(key, value), found.origins.get(key, "default")))
    for key, text, origin in rows:
        screen.row("setting", key=key, value=text, origin=origin)
    here = f"{Path.cwd()}/"
    shown = [(key, text, origin.removeprefix(here)) for key, text, origin in rows]
    screen.table([render.fixed("key"), render.Column("value"), render.Column("from")], shown)
    return Done(Exit.DONE, {"settings": len(rows)})


def _flat(tree: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in tree.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return found


def _text(key: str, value: object) -> str:
    if key == "ledger.url":
        from resend.cli.doctor import without_password

        return without_password(str(value))
    if key.endswith(".reactions") and isinstance(value, tuple | list):
        return "[" + ", ".join(map(_reaction, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _reaction(row: dict[str, object]) -> str:
    """As `providers show` has it; a row that is none as it stands."""
    from resend.policy.reactions import Reaction

    try:
        return Reaction.parse(row).text
    except ValueError:
        return str(row)
