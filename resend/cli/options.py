"""The options that every command knows, accepted before the command and after it.

They are read here, once, before typer sees the rest. Raises UsageError for a `--home` without its directory, and for
an empty argument.
"""

from __future__ import annotations

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
        _not_empty(before, word)
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


def _not_empty(before: str, word: str) -> None:
    """Raise UsageError for `--release ""`: an unset variable of a script, which would mean no filter and no reason."""
    option, sign, value = word.partition("=")
    if word.strip() and not (option.startswith("--") and sign and not value.strip()):
        return
    where = option if sign else before if before.startswith("--") else ""
    raise UsageError("the value is empty", where=where, next_step="leave it out, or see that its variable is set")
