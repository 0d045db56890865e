"""`python -m axons` is the `axons` command."""

from axons.cli import main

main()
