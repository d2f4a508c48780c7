"""`python -m tracemill` is the command line."""

from tracemill.cli import main

main()
