"""`python -m convae` runs the command `convae`."""

from convae.cli import main

main()
