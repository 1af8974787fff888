"""Where a command's words go: data to stdout, messages to stderr, as text or as JSON lines. The only place that prints.

Raises BrokenPipeError when the reader is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from resend.cli import render
from resend.cli.options import Options
from resend.clock import to_text
from resend.errors import Exit

_NARROWEST = 40  # columns of a sentence; narrower is a window on its way to be closed
_NARROWEST_TABLE = 60  # below that its cells are unreadable, and a line that the terminal breaks is not


class Screen:
    """One command's output. With --json only rows reach stdout, without it only text does; both may be given."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.command = "resend"  # as far as it is known: `resend plan make`
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        if options.json and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # JSON is UTF-8 in every locale

    @property
    def json(self) -> bool:
        return self.options.json

    @property
    def asks(self) -> bool:
        """May the command ask the person? Only at a terminal, and never with --no-input or --json."""
        return not (self.options.no_input or self.options.json) and sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def terminal(self) -> bool:
        return sys.stdout.isatty()

    def raw(self, text: str) -> None:
        """Terminal control, as it is."""
        sys.stdout.write(text)

    @property
    def columns(self) -> int:
        return max(_NARROWEST, shutil.get_terminal_size((80, 24)).columns) if sys.stdout.isatty() else 80

    def row(self, kind: str, /, **fields: object) -> None:
        """One JSON line; nothing without --json."""
        if self.options.json:
            self._dump({"type": kind, "v": 1, **fields})

    def line(self, text: str = "") -> None:
        """One line for people on stdout; nothing with --json."""
        if not self.options.json:
            self._print(render.clean(text))

    def prose(self, text: str, indent: int = 0) -> None:
        """A sentence for people on stdout, broken where the screen ends; not for what is copied, as commands are."""
        for number, line in enumerate(render.wrap(text, self.columns - indent)):
            self.line(f"{' ' * indent if number else ''}{line}")

    def heading(self, text: str) -> None:
        """An empty line and a heading, bold at a terminal that wants colour."""
        if not self.options.json:
            shown = f"\x1b[1m{render.clean(text)}\x1b[0m" if self._colour(sys.stdout) else render.clean(text)
            self._print(f"\n{shown}")

    def table(self, columns: Sequence[render.Column], rows: Sequence[Sequence[object]], *, more: str = "") -> None:
        """A table for people; `more` is said below it ("... and 12 more")."""
        for text in render.table(columns, rows, total=max(_NARROWEST_TABLE, self.columns)):
            self.line(text)
        if more:
            self.line(more)

    def note(self, text: str) -> None:
        """A message for people on stderr; nothing with --quiet. That nobody reads it ends no work."""
        if not self.options.quiet:
            with suppress(OSError):
                print(text, file=sys.stderr, flush=True)

    def address(self, address: str) -> str:
        """An address as logs, reports and exports show it: masked, unless --unmask."""
        if self.options.unmask or not address:
            return address
        from resend.policy.address import mask

        return mask(address)

    def masked(self, text: str) -> str:
        """Free text in which an address may stand: each of its words that holds an @ is masked."""
        return " ".join(
            self.address(word) if word.rpartition("@")[0].strip("'\"<([") else word for word in text.split(" ")
        )

    def ask(self, question: str) -> str:
        """Ask on stderr and read one line. Call only when `asks`."""
        print(question, end=" ", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:
            raise KeyboardInterrupt
        return answer.strip()

    def summary(self, code: Exit, fields: Mapping[str, object]) -> None:
        """The last JSON line."""
        self.row("summary", exit=int(code), **fields)

    def error(self, line: str, *, what: str, where: str, next_step: str, code: Exit) -> None:
        """One line on stderr; with --json the error object on stdout as well."""
        text = " ".join(render.clean(line).split())
        prefix = "\x1b[31merror:\x1b[0m" if self._colour(sys.stderr) else "error:"
        print(f"{prefix} {text}", file=sys.stderr, flush=True)
        self.row("error", code=int(code), what=what, where=where, next=next_step)

    def _colour(self, stream: object) -> bool:
        isatty = getattr(stream, "isatty", None)
        return bool(isatty and isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def _dump(self, fields: Mapping[str, object]) -> None:
        self._print(json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=_plain))

    def _print(self, text: str) -> None:
        try:
            print(text)
        except BrokenPipeError:
            raise
        except OSError as error:  # Python says no more than "No space left on device"
            raise OSError(error.errno, error.strerror, "standard output") from None


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
