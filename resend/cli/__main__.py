"""`python -m resend.cli`: the command where no console script is installed."""

from resend.cli import main

main()
