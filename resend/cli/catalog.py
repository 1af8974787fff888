"""`resend catalog load`: what was to be told, to whom, for which customer. Bad rows are named, the rest loads.

Raises nothing of its own; the catalog store raises for files that cannot be read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from resend.cli import render
from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import screen_of, workplace
from resend.cli.progress import Progress
from resend.errors import Exit, InputError

app = typer_app()
catalog_app = typer_app("The catalog: releases, recipients, send log, suppressions, content.")
app.add_typer(catalog_app, name="catalog")
_SHOWN = 20  # rejected rows named on screen


@app.callback()
def _app() -> None:
    """Catalog."""


@catalog_app.callback()
def _catalog() -> None:
    """The catalog: releases, recipients, send log, suppressions, content."""


def _file(option: str, what: str) -> object:
    return typer.Option(option, metavar="F", readable=False, help=what)  # who may not read it is told by the loader


@catalog_app.command()
def load(
    ctx: typer.Context,
    releases: Annotated[Path | None, _file("--releases", "releases: .csv, .jsonl or .parquet")] = None,
    recipients: Annotated[Path | None, _file("--recipients", "recipients, likewise")] = None,
    sendlog: Annotated[Path | None, _file("--sendlog", "what was sent to whom, likewise")] = None,
    suppressions: Annotated[Path | None, _file("--suppressions", "addresses that must not be written to")] = None,
    content: Annotated[
        Path | None,
        typer.Option(
            "--content", metavar="DIR", readable=False, help="<release>.eml, <release>.eml.j2, kept/<sha256>.eml"
        ),
    ] = None,
    from_config: Annotated[bool, typer.Option("--from-config", help="run the queries of [catalog.*]")] = False,
) -> Done:
    """Load releases, recipients, send log, suppressions and content. A load replaces the kinds that it names.

    Exits with 3 when rows were rejected: each is named with file and line, the rest is loaded.
    """
    from resend.flows.vetoes import refresh_catalog_vetoes
    from resend.stores.catalog_load import load_catalog

    screen = screen_of(ctx)
    config, home = workplace(screen)
    if content is not None and content.is_dir() and not os.access(content, os.R_OK | os.X_OK):
        raise InputError("cannot read: Permission denied", where=str(content), next_step="mend its owner or mode")
    with Progress(screen, "catalog", "kinds") as progress:
        found = load_catalog(
            home,
            config,
            releases=releases,
            recipients=recipients,
            sendlog=sendlog,
            suppressions=suppressions,
            content=content,
            from_config=from_config,
            progress=progress,
        )
    vetoes = refresh_catalog_vetoes(home, config)
    for warning in found.warnings:
        screen.note(f"warning: {warning}")
    for line in found.rejected_rows[:_SHOWN]:
        screen.note(f"rejected: {screen.masked(line)}")
    if found.rejected > _SHOWN:
        screen.note(f"... and {render.count(found.rejected - _SHOWN)} more rejected rows")
    for kind, rows in found.loaded.items():
        screen.row("loaded", kind=kind, rows=rows)
        screen.line(f"{kind:12}  {render.count(rows):>12} {'row' if rows == 1 else 'rows'}")
    if content is not None:
        screen.row("loaded", kind="content", rows=found.content)
        screen.line(f"{'content':12}  {render.count(found.content):>12} {'file' if found.content == 1 else 'files'}")
    if vetoes:
        screen.line(f"{render.count(vetoes)} new vetoes: suppressed, withdrawn or out of date")
    if found.rejected:
        screen.line(f"{render.count(found.rejected)} rows rejected; mend them and load the file again")
    else:
        screen.line("next: resend incident open NAME")
    return Done(
        Exit.LEFT if found.rejected else Exit.DONE,
        {
            "loaded": dict(found.loaded),
            "content": found.content,
            "rejected": found.rejected,
            "rejected_rows": [screen.masked(line) for line in found.rejected_rows],
            "vetoes": vetoes or 0,
            "warnings": len(found.warnings),
        },
    )
