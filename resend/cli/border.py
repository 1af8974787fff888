"""The one place where a command ends: result, error or interruption becomes an exit code and the last JSON line.

Catches everything. A ResendError is one line; anything else is a defect of ours, whose traceback goes to a file.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from resend import __version__
from resend.cli.options import Options, take
from resend.cli.screen import Screen
from resend.errors import Exit, ResendError, StoreError, UsageError

_PLAINER = (  # typer's and pydantic's words for people
    ("Value error, ", ""),
    (". Choose from:", "; one of"),
    ("Input should be a valid integer, unable to parse string as an integer", "not a whole number"),
    ("Input should be a valid number, unable to parse string as a number", "not a number"),
    ("Input should be ", "must be "),
)
_MAKE_ROOM = "check owner, mode and free space"
_NAMED = re.compile(r'file \\*"([^"\\]+)')
_OPTION = re.compile(r"(--[a-z][a-z-]*): ")
_ENVIRONMENT = {errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended: its exit code, and the fields of the JSON summary."""

    exit: Exit = Exit.DONE
    summary: dict[str, object] = field(default_factory=dict)


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code. Never raises, never shows a traceback without --verbose."""
    screen = Screen(Options(json="--json" in argv))
    try:
        options, rest = take(argv)
        screen = Screen(options)
        done = _dispatch(rest, screen)
    except ResendError as error:
        return _failed(screen, error)
    except KeyboardInterrupt:
        return _interrupted(screen)
    except BrokenPipeError:
        return _reader_gone()
    except Exception as error:
        if _stopped(error):
            return _interrupted(screen)
        outside = _environment(error)
        return _defect(screen, error) if outside is None else _failed(screen, outside)
    try:
        if done.exit is Exit.INTERRUPTED and not done.summary:
            return _interrupted(screen)
        screen.summary(done.exit, done.summary)
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        what = error.strerror or str(error)
        return _failed(screen, StoreError(what, where="standard output", next_step=_MAKE_ROOM))
    return int(done.exit)


def _dispatch(args: list[str], screen: Screen) -> Done:
    if screen.options.version:
        screen.row("version", version=__version__)
        screen.line(f"resend {__version__}")
        return Done()
    import typer
    from typer.exceptions import TyperException

    from resend.cli.app import LATER_OPTIONS, root

    words = args or ["--help"]
    try:
        with _help_as_row(screen, words):
            result = typer.main.get_command(root).main(words, prog_name="resend", standalone_mode=False, obj=screen)
    except TyperException as error:  # typer's word for a wrong command line
        ctx = getattr(error, "ctx", None)
        path, option = ctx.command_path if ctx else f"resend {args[0]}", getattr(error, "option_name", "")
        if (path.removeprefix("resend "), option) in LATER_OPTIONS:
            step = f"'{path} --help' lists what is"
            raise UsageError(f"'{path} {option}' is not built yet", where=path, next_step=step) from None
        raise _usage(error.format_message(), path) from None
    except typer.Abort:
        return Done(Exit.INTERRUPTED)
    if isinstance(result, Done):
        return result
    return Done(Exit(int(result or 0)))  # --help, or typer's own end


@contextmanager
def _help_as_row(screen: Screen, words: list[str]) -> Iterator[None]:
    """With --json each line on stdout is JSON; the text of a help page, which typer prints by itself, too."""
    asked = words[: words.index("--")] if "--" in words else words
    if not (screen.json and {"--help", "-h"} & set(asked)):
        yield
        return
    with redirect_stdout(io.StringIO()) as page:
        yield
    screen.row("help", text=page.getvalue().strip())


def _usage(message: str, path: str) -> UsageError:
    """typer's complaint as one line of ours."""
    words, _, hint = " ".join(message.split()).rstrip(".").partition(". Did you mean ")
    for theirs, ours in _PLAINER:
        words = words.replace(theirs, ours)
    help_ = f"run '{path} --help'"
    next_step = f"did you mean {hint} see '{path} --help'" if hint else help_
    return UsageError(words[:1].lower() + words[1:], where=path, next_step=next_step)


def _stopped(error: Exception) -> bool:
    """Whether Ctrl-C met DuckDB at work, which says so in its own ways."""
    return (isinstance(error, RuntimeError) and "Query interrupted" in str(error)) or (
        type(error).__name__ == "InterruptException"
    )


def _environment(error: Exception) -> StoreError | None:
    """What the machine refuses is no defect of ours; None for anything else."""
    if isinstance(error, OSError) and error.errno in _ENVIRONMENT:
        return StoreError(error.strerror or str(error), where=str(error.filename or ""), next_step=_MAKE_ROOM)
    if type(error).__module__.partition(".")[0] not in ("duckdb", "_duckdb"):  # not imported for its names' sake
        return None
    text = str(error)
    if type(error).__name__ == "OutOfMemoryException":
        return StoreError("not enough memory", next_step="end other programs, or use a machine that has more")
    refusal = next((os.strerror(code) for code in _ENVIRONMENT if os.strerror(code) in text), "")
    named = _NAMED.search(text)
    return StoreError(refusal, where=named.group(1) if named else "", next_step=_MAKE_ROOM) if refusal else None


def _failed(screen: Screen, error: ResendError) -> int:
    where, what = error.where, error.what
    if not where:  # the option that it is about, else the command
        option = _OPTION.match(what)
        where, what = (option.group(1), what[option.end() :]) if option else (screen.command, what)
    code = Exit.USAGE if error.exit is Exit.ERROR and where.startswith("--") else error.exit
    line = ResendError(what, where=where, next_step=error.next_step).line()
    return _said(screen, line, what=what, where=where, next_step=error.next_step, code=code)


def _said(screen: Screen, line: str, *, what: str, where: str, next_step: str, code: Exit) -> int:
    try:
        screen.error(line, what=what, where=where, next_step=next_step, code=code)
        sys.stdout.flush()
    except OSError:  # the reader is gone, or the error is that nothing can be written
        _reader_gone()
    return int(code)


def _interrupted(screen: Screen) -> int:
    what, next_step = "interrupted", "run the same command again"
    place = screen.command
    return _said(screen, f"{what}; {next_step}", what=what, where=place, next_step=next_step, code=Exit.INTERRUPTED)


def _reader_gone() -> int:
    """The reader of our output closed it (`resend ... | head`): be quiet, also when Python closes the stream."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
    return int(Exit.ERROR)


def _defect(screen: Screen, error: Exception) -> int:
    text = "".join(traceback.format_exception(error))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "resend" in frame.filename]
    place = f"{Path(frames[-1].filename).stem}:{frames[-1].lineno}" if frames else "unknown place"
    what = f"unexpected {type(error).__name__} at {place}: {' '.join(str(error).split())[:200]}"
    saved = _save(text, screen.options.home)
    next_step = f"the details are in {saved}; please report it" if saved else "run it again with --verbose"
    if screen.options.verbose:
        screen.note(text)
    return _said(screen, f"{what}; {next_step}", what=what, where=place, next_step=next_step, code=Exit.ERROR)


def _save(text: str, home: str) -> str:
    """Keep a traceback in the home, else in the temporary directory; "" where neither can be written."""
    name = f"traceback-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    for folder in (home, tempfile.gettempdir()):
        if not folder or not Path(folder).is_dir():
            continue
        path = Path(folder) / name
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            continue
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        return str(path)
    return ""
