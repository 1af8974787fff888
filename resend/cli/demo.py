"""`resend demo`: the whole incident on loopback, offline, with its proof.

Raises what the flow raises.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from resend.cli.app import typer_app
from resend.cli.border import Done
from resend.cli.opened import screen_of
from resend.errors import Exit

app = typer_app()


class Fault(StrEnum):
    """Faults that the demo can plant under its own proof."""

    REMOVED = "removed"  # a receipt
    DOUBLED = "doubled"  # a receipt
    ALTERED = "altered"  # a row of the ledger


@app.callback()
def _demo() -> None:
    """Demo."""


@app.command()
def demo(
    ctx: typer.Context,
    scale: Annotated[float, typer.Option("--scale", min=0.0005, max=1.0, help="share of the real incident")] = 0.025,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="repeats catalog, logs, truth and faults")] = 1,
    keep: Annotated[Path | None, typer.Option("--keep", metavar="DIR", help="work in DIR and keep it")] = None,
    plant: Annotated[
        Fault | None, typer.Option("--plant", hidden=True, help="spoil what the proof reads: it must see it")
    ] = None,
) -> Done:
    """Play the whole incident on loopback, offline: the real commands, a real kill, and the proof.

    Exits with 0 when the proof holds, 1 when it does not.
    """
    from resend.flows.demo import demo as play

    screen = screen_of(ctx)
    played = play(scale=scale, seed=seed, keep=keep, say=screen.line, note=screen.note, plant=plant or "")
    return Done(Exit.DONE if played.ok else Exit.ERROR, dict(played.summary))
