"""`python -m screening`: the command line without its script."""

from screening.cli import main

main()
