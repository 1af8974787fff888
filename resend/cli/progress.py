"""Progress on stderr: a tqdm bar at a terminal, a plain line now and then elsewhere, nothing with --quiet.

Display only: it never slows, changes or ends the work. Raises nothing.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from resend.cli import render
from resend.cli.screen import Screen

_FIRST_LINE_S = 2.0  # work that is over sooner says nothing
_EVERY_S = 30.0


class Progress:
    """Call it with what is done so far and the total (0: unknown). Use as a context manager."""

    def __init__(self, screen: Screen, what: str, unit: str) -> None:
        self._what = what
        self._unit = unit
        self._off = screen.options.quiet
        self._terminal = sys.stderr.isatty() and not screen.options.verbose
        self._started = time.monotonic()
        self._due = self._started + _FIRST_LINE_S
        self._bar: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()

    def __call__(self, done: int, total: int = 0, detail: str = "") -> None:
        if self._off:
            return
        try:
            if self._terminal:
                self._draw(done, total, detail)
            elif time.monotonic() >= self._due:
                self._due = time.monotonic() + _EVERY_S
                self.say(done, total, detail)
        except OSError:  # who looked at it has gone; the work goes on
            self._off = True

    def say(self, done: int, total: int = 0, detail: str = "") -> None:
        """One plain line of where things stand."""
        of = f" of {render.count(total)} ({render.share(done, total)})" if total else ""
        spent = render.span(time.monotonic() - self._started)
        words = f"{self._what}: {render.count(done)}{of} {self._unit}, {spent}"
        print(render.clean(f"{words}; {detail}" if detail else words), file=sys.stderr, flush=True)

    def _draw(self, done: int, total: int, detail: str) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self._what,
                unit=f" {self._unit}",
                unit_scale=True,
                dynamic_ncols=True,
                leave=False,
                file=sys.stderr,
            )
        if total and self._bar.total != total:
            self._bar.total = total
        if detail:
            self._bar.set_postfix_str(render.clean(detail), refresh=False)
        self._bar.update(done - self._bar.n)
