"""Notebooks run on this warehouse's log and kept as pages that need nothing to be read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg

from assets import log
from assets.warehouse import OWNERS, Made, Warehouse, code_of
from tracemill.errors import TracemillError
from tracemill.files import sha256_of, write_atomically
from tracemill.settings import Settings

GROUP = "reports"
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
NOTEBOOK = NOTEBOOKS / "01_first_look.py"


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"marimo", "matplotlib"},
    code_version=code_of(__name__, "tracemill.log"),
    deps=[log.calls, log.costs],
)
def first_look(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """The notebook "A first look at the calls", run on this warehouse; [Show notebook] opens it."""
    settings = warehouse.settings

    def work() -> Made:
        file = render(NOTEBOOK, settings.reports / f"{NOTEBOOK.stem}.ipynb", settings)
        plots = re.findall(r'"image/png": "([^"]+)"', file.read_text(encoding="utf-8"))
        return Made(
            digest=sha256_of(file),
            rows=len(plots),
            files=(file,),
            facts={"plots": len(plots)},
            pages={
                f"plot {number}": f"![plot](data:image/png;base64,{plot.replace(chr(92) + 'n', '')})"
                for number, plot in enumerate(plots, start=1)
            },
            notebook=file,
        )

    keys = (log.calls.key, log.costs.key)
    inputs = {key.to_user_string(): warehouse.digest(key) for key in keys}
    return warehouse.make(context, work, {**inputs, "notebook": sha256_of(NOTEBOOK)})


def render(notebook: Path, target: Path, settings: Settings) -> Path:
    """Run a notebook in a process of its own and keep it with its outputs as .ipynb.

    The same log gives the same bytes. Raises `TracemillError` when a cell fails.
    """
    command = [sys.executable, "-m", "marimo", "--quiet", "--yes", "export", "ipynb", str(notebook)]
    options = ["--include-outputs", "--sort", "top-down", "--force", "--output"]

    def export(aside: Path) -> None:
        done = subprocess.run(
            [*command, *options, str(aside)],
            env={
                **os.environ,
                "TRACEMILL_WAREHOUSE": str(settings.warehouse),
                "MPLBACKEND": "agg",
            },
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise TracemillError(f"{notebook.name} failed: {_last_words(done.stderr)}")

    return write_atomically(target, export)


def _last_words(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing; run it with python to see where"
