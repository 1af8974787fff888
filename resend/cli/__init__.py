"""The command line, `resend`. Only this package prints; it composes nothing and decides nothing.

Importing it imports nothing else: `resend --help` must not wait for the stores.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console script: run the command of `sys.argv` and leave with its exit code."""
    from resend.cli.border import run

    sys.exit(run(sys.argv[1:]))
