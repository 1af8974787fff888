"""`python -m resend` is the command line."""

from resend.cli import main

main()
