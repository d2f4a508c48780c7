"""Notebooks run on this warehouse's log and kept as pages that need nothing to be read."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from assets import log
from assets.warehouse import OWNERS, Made, Warehouse, code_of
from tracemill.errors import TracemillError
from tracemill.events import parse
from tracemill.files import sha256_of, write_atomically
from tracemill.log import EventLog
from tracemill.settings import Settings

GROUP = "reports"
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
SAMPLE = NOTEBOOKS / "sample.jsonl"
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
    """The notebook "A first look at the calls", run on this warehouse.

    The link `notebook` opens it.
    """
    settings = warehouse.settings

    def work() -> Made:
        file = render(NOTEBOOK, settings.reports / f"{NOTEBOOK.stem}.ipynb", settings)
        pictures = list(_pictures(file))
        return Made(
            digest=sha256_of(file),
            rows=None,
            files=(file,),
            facts={"plots": len(pictures)},
            pages={f"plot_{number}": each for number, each in enumerate(pictures, start=1)},
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
    warehouse = {"TRACEMILL_WAREHOUSE": str(settings.warehouse), "MPLBACKEND": "agg"}

    def export(aside: Path) -> None:
        done = subprocess.run(
            [*command, *options, str(aside)],
            env={**os.environ, **warehouse},
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise TracemillError(f"{notebook.name} failed: {_why(aside, done.stderr)}")
        page = json.loads(aside.read_text(encoding="utf-8"))
        # marimo names IPython's lexer, which is not there without IPython.
        page["metadata"]["language_info"]["pygments_lexer"] = "python"
        aside.write_text(json.dumps(page, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    return write_atomically(target, export)


def render_sample(notebook: Path, folder: Path) -> Path:
    """Render a notebook from the events in notebooks/sample.jsonl, which give the same page always.

    Each event of the sample says of itself where it comes from, so the page says so too.
    """
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(warehouse=Path(scratch)).create()
        lines = SAMPLE.read_text(encoding="utf-8").splitlines()
        with EventLog.open(settings) as events:
            events.append([parse(json.loads(line)) for line in lines])
        return render(notebook, folder / f"{notebook.stem}.ipynb", settings)


def _pictures(page: Path) -> Iterator[str]:
    """The plots of a rendered notebook, as Markdown."""
    for cell in json.loads(page.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                yield f"![plot](data:image/png;base64,{''.join(png).strip()})"


def _why(page: Path, stderr: str) -> str:
    """The first cell that failed, with its error; else the last thing that marimo said."""
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"] if page.exists() else []
    for cell in cells:
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                name = cell["metadata"]["marimo"].get("name", "without a name")
                return f"cell {name}: {output['ename']}: {output['evalue']}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "marimo said nothing"


if __name__ == "__main__":
    for each in sorted(NOTEBOOKS.glob("[0-9]*.py")):
        print(render_sample(each, NOTEBOOKS / "rendered"))
