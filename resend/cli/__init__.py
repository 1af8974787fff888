"""The command line, `resend`. Only this package prints; it composes nothing and decides nothing.

Importing it imports nothing else: `resend --help` must not wait for the stores.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

_NEW_OBJECTS = 50_000  # between two looks for garbage; Python's 700 means hundreds of looks while modules are loaded


def main() -> NoReturn:
    """Entry point of the console script: run the command of `sys.argv` and leave with its exit code."""
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
    _open_streams()
    from resend.cli.border import run

    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # the reader is gone, or the disk is full
        code = code or 1
    os._exit(code)  # everything is closed by now; taking the libraries' objects apart would take another 60 ms


def _open_streams() -> None:
    """Give a process without standard streams (`>&-`) empty ones: else a file of ours would take their number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))
