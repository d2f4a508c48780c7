"""Export notebooks as .ipynb with their outputs, one after the other in one process.

What they import is loaded once, which is most of the time. Run as a script, with the jobs as JSON.
"""

import json
import os
import sys

_OPTIONS = ("--include-outputs", "--sort", "top-down", "--force", "--output")


def main() -> int:
    """How many failed; why is in their pages, or was written to stderr."""
    from marimo._cli.cli import main as marimo

    failed = 0
    for notebook, target, warehouse in json.loads(sys.argv[1]):
        os.environ["TRACEMILL_WAREHOUSE"] = warehouse
        arguments = ["--quiet", "--yes", "export", "ipynb", notebook, *_OPTIONS, target]
        try:
            # Outside of standalone mode click returns the status of an exit.
            failed += bool(marimo(arguments, standalone_mode=False))
        except Exception as error:  # noqa: BLE001 (the others are still to be exported)
            failed += 1
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
