"""Commands that drive Dagster: demo, build, ui. Their work is in `assets.run`, in a checkout.

The platform does not know its host, so the host is looked for when it is asked for: the folder
with `assets/definitions.py`, from here upward.
"""

import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from tracemill.cli.options import Warehouse, settings_for
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from tracemill.settings import Settings


def demo(warehouse: Warehouse = None) -> None:
    """Harvest real text, build every asset, ask 200 questions, and say what to open next.

    It reads the documentation that is installed with Python and with our dependencies: it needs
    neither network nor key. A second run makes only what has changed.
    """
    run = _assets_run()
    raise typer.Exit(run.demo(_prepared(warehouse)))


def build(
    selection: Annotated[
        str | None, typer.Argument(help="Dagster's asset selection; everything, when left out.")
    ] = None,
    warehouse: Warehouse = None,
) -> None:
    """Make what has changed: every asset but housekeeping, or the selected ones.

    Housekeeping (retention, compaction, a backup, verification, health) is done when it is named,
    and by its schedules while `tracemill ui` runs.

    Examples:

      tracemill build                        everything
      tracemill build corpus                 a group
      tracemill build housekeeping           what schedules do: compact, back up, verify
      tracemill build "corpus/unique_records+"  an asset and what follows from it
    """
    run = _assets_run()
    raise typer.Exit(run.build(_prepared(warehouse), selection))


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the browser finds it.")] = 3000,
    warehouse: Warehouse = None,
) -> None:
    """Open Dagster's UI on this machine: assets, runs, checks, schedules. Ctrl-C ends it."""
    run = _assets_run()
    raise typer.Exit(run.ui(_prepared(warehouse), port))


def find_checkout(start: Path) -> Path | None:
    """The nearest folder upward that holds `assets/definitions.py`."""
    folders = (start, *start.parents)
    return next((f for f in folders if (f / "assets" / "definitions.py").is_file()), None)


def _prepared(warehouse: Path | None) -> "Settings":
    return settings_for(warehouse).create()


def _assets_run() -> ModuleType:
    root = find_checkout(Path.cwd())
    if root is None:
        raise UsageError(
            f"no assets/definitions.py in {Path.cwd()} or above it: "
            "demo, build and ui work inside a checkout of tracemill"
        )
    if find_spec("dagster") is None:
        raise UsageError(
            f"Dagster is not installed for {sys.executable}: run `make setup` in {root}, "
            "then .venv/bin/tracemill"
        )
    sys.path.insert(0, str(root))
    # A terminal that closes must not leave a run or Dagster's processes behind: unwind instead.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _unwind)
    return import_module("assets.run")


def _unwind(number: int, _: object) -> None:
    raise SystemExit(128 + number)
