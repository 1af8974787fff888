"""The options that every command knows, accepted before the command and after it.

They are read here, once, before typer sees the rest. Raises UsageError for a `--home` without its directory, and for
an argument that is empty or no UTF-8.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from resend.errors import UsageError

HELP = (
    ("--home DIR", "where evidence, catalog and ledger lie"),
    ("--json", "JSON lines on stdout; the last is the summary or the error"),
    ("--unmask", "show whole addresses where they are masked"),
    ("--no-input", "never ask; take defaults or refuse"),
    ("--quiet", "no progress and no notes"),
    ("--verbose", "say more; tracebacks of defects on screen"),
    ("--version", "print the version"),
    ("--help", "help of a command"),
)
_FILES = ("--home", "--out", "--html", "--csv", "--keep", "--queue", "--follow")
_SURROGATE = re.compile("[\udc80-\udcff]")  # a byte that is no UTF-8
_FLAGS = {
    "--json": "json",
    "--unmask": "unmask",
    "--no-input": "no_input",
    "--quiet": "quiet",
    "--verbose": "verbose",
    "--version": "version",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the person asked of every command alike."""

    home: str = ""
    json: bool = False
    unmask: bool = False
    no_input: bool = False
    quiet: bool = False
    verbose: bool = False
    version: bool = False


def take(argv: Sequence[str]) -> tuple[Options, list[str]]:
    """The global options of `argv` wherever they stand before `--`, and the arguments that remain."""
    rest: list[str] = []
    flags: dict[str, bool] = {}
    home = ""
    words = iter(argv)
    before = ""
    for word in words:
        _check(before, word)
        before = word
        if word == "--":
            rest += [word, *words]
        elif word in _FLAGS:
            flags[_FLAGS[word]] = True
        elif word == "--home":
            home = next(words, "")
            if not home or home.startswith("--"):
                raise UsageError("it needs a directory", where="--home", next_step="write --home DIR")
        elif word.startswith("--home="):
            home = word.removeprefix("--home=")
            if not home:
                raise UsageError("it needs a directory", where="--home", next_step="write --home DIR")
        else:
            rest.append(word)
    return Options(home=home, **flags), rest


def _check(before: str, word: str) -> None:
    """Raise UsageError for `--release ""` and for text that is no UTF-8, which no store could keep.

    Empty is an unset variable of a script, and would mean no filter or no reason. Names of files are any bytes.
    """
    option, sign, value = word.partition("=")
    if not (option.startswith("--") and sign):
        option, value = before if before.startswith("--") else "", word
    if not value.strip():
        raise UsageError("the value is empty", where=option, next_step="leave it out, or see that its variable is set")
    if not value.isascii() and _SURROGATE.search(value) and option not in _FILES and not os.path.lexists(value):
        raise UsageError("the value is not UTF-8", where=option, next_step="see the character set of your terminal")
