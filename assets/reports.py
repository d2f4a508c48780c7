"""Notebooks run on this warehouse's log and kept as pages that need nothing to be read."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg

from assets import log, sample_data, sample_log
from assets.warehouse import OWNERS, Made, Warehouse, code_of
from tracemill.errors import TracemillError
from tracemill.files import sha256_of, write_atomically
from tracemill.settings import Settings

GROUP = "reports"
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
ON_DATA = ("05", "06", "07")
"""Notebooks about what is built of data; the others are about calls."""
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


_STOPPED = "ancestor-stopped"


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
        # A cell that stops the rest has said why.
        for cell in page["cells"]:
            cell["outputs"] = [
                each for each in cell.get("outputs", ()) if each.get("ename") != _STOPPED
            ]
            if cell["cell_type"] != "code":
                del cell["outputs"]
        aside.write_text(json.dumps(page, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    return write_atomically(target, export)


def write_samples(folder: Path) -> dict[str, Settings]:
    """Fill a warehouse of calls and one of data, and say which numbered notebook reads which."""
    calls, data = (
        Settings(warehouse=folder / name, harvest_installed=False) for name in ("calls", "data")
    )
    sample_log.write_sample(calls)
    sample_data.write_sample_data(data)
    return {
        each.stem: data if each.stem.startswith(ON_DATA) else calls
        for each in sorted(NOTEBOOKS.glob("[0-9]*.py"))
    }


def render_sample(notebook: Path, folder: Path, samples: Mapping[str, Settings]) -> Path:
    """Render a notebook from the warehouse that `write_samples` made for it: always the same page.

    Each event of the samples says of itself that it is made up.
    """
    return render(notebook, folder / f"{notebook.stem}.ipynb", samples[notebook.stem])


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


def _render_all() -> None:
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(2) as pool:
        samples = write_samples(Path(scratch))
        notebooks = sorted(NOTEBOOKS.glob("[0-9]*.py"))
        pages = pool.map(
            lambda each: render_sample(each, NOTEBOOKS / "rendered", samples), notebooks
        )
        for page in pages:
            print(page)


if __name__ == "__main__":
    _render_all()
