"""The command line, `resend`. Only this package prints; it composes nothing and decides nothing.

Importing it imports nothing else: `resend --help` must not wait for the stores.
"""

from __future__ import annotations

import gc
import sys

_NEW_OBJECTS = 50_000  # between two looks for garbage; Python's 700 means hundreds of looks while modules are loaded


def main() -> None:
    """Entry point of the console script: run the command of `sys.argv` and leave with its exit code."""
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
    from resend.cli.border import run

    code = run(sys.argv[1:])
    gc.freeze()  # the end of the process needs no last look for garbage: 60 ms over the libraries' objects
    sys.exit(code)
