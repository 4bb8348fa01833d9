"""`python -m convae` is the command `convae`."""

from convae.cli import main

main()
