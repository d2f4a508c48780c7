"""Notebooks run on this warehouse's log and kept as pages that need nothing to be read."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from assets import log, quarantine, sample_data, sample_log, splits
from assets.warehouse import OWNERS, Made, Warehouse, code_of
from tracemill.errors import TracemillError
from tracemill.files import sha256_of, write_atomically
from tracemill.settings import Settings

GROUP = "reports"
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
ON_DATA = ("05", "06", "07")
"""Notebooks about what is built of data; the others are about calls."""
_EXPORT = Path(__file__).with_name("export_pages.py")


class Report(NamedTuple):
    """A notebook that is rendered from this warehouse."""

    name: str
    notebook: str
    title: str
    deps: Sequence[dg.AssetsDefinition]
    """What it reads: it is rendered again when one of these has changed."""


REPORTS = (
    Report("first_look", "01_first_look", "A first look at the calls", (log.calls, log.costs)),
    Report("spend", "02_costs", "What was spent, and elsewhere?", (log.calls, log.costs)),
    Report("failures", "03_failures", "Why do calls fail?", (log.calls,)),
    Report(
        "training_data",
        "05_training_data",
        "What is in the training data?",
        (splits.training_splits, quarantine.quarantine),
    ),
)
"""Every notebook that is worth a look each day; a new one is a line here."""
CODE = code_of(__name__, "assets.export_pages", "tracemill.log", "tracemill.analysis")


def _report(report: Report) -> dg.AssetsDefinition:
    @dg.asset(
        name=report.name,
        key_prefix=GROUP,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"marimo", "matplotlib"},
        code_version=CODE,
        deps=report.deps,
        description=f'The notebook "{report.title}", run on this warehouse: the link opens it.',
    )
    def page(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
        source = NOTEBOOKS / f"{report.notebook}.py"
        inputs = {dep.key.to_user_string(): warehouse.digest(dep.key) for dep in report.deps}
        return warehouse.make(
            context,
            lambda: _rendered(source, warehouse.settings),
            {**inputs, "notebook": sha256_of(source)},
        )

    return page


ASSETS = [_report(report) for report in REPORTS]


def _rendered(source: Path, settings: Settings) -> Made:
    file = render(source, settings.reports / f"{source.stem}.ipynb", settings)
    pictures = list(_pictures(file))
    return Made(
        digest=sha256_of(file),
        rows=None,
        files=(file,),
        facts={"plots": len(pictures)},
        pages={f"plot_{number}": each for number, each in enumerate(pictures, start=1)},
        notebook=file,
    )


_STOPPED = "ancestor-stopped"


def render(notebook: Path, target: Path, settings: Settings) -> Path:
    """Run a notebook in a process of its own and keep it with its outputs as .ipynb.

    The same log gives the same bytes. Raises `TracemillError` when a cell fails.
    """
    render_each([(notebook, target, settings)])
    return target


def render_each(jobs: Sequence[tuple[Path, Path, Settings]]) -> None:
    """`render` for several notebooks, targets and warehouses, in one process for all."""
    with tempfile.TemporaryDirectory() as scratch:
        asides = [Path(scratch) / f"{place}.ipynb" for place in range(len(jobs))]
        asked = [
            (str(notebook), str(aside), str(settings.warehouse))
            for (notebook, _, settings), aside in zip(jobs, asides, strict=True)
        ]
        done = subprocess.run(
            [sys.executable, "-P", str(_EXPORT), json.dumps(asked)],
            env={**os.environ, "MPLBACKEND": "agg"},
            check=False,
            capture_output=True,
            text=True,
        )
        for (notebook, target, _), aside in zip(jobs, asides, strict=True):
            if not aside.exists() or _errors(aside):
                raise TracemillError(f"{notebook.name} failed: {_why(aside, done.stderr)}")
            text = _tidied(aside)
            write_atomically(target, lambda file, text=text: file.write_text(text, "utf-8"))


def _tidied(page: Path) -> str:
    content = json.loads(page.read_text(encoding="utf-8"))
    # marimo names IPython's lexer, which is not there without IPython.
    content["metadata"]["language_info"]["pygments_lexer"] = "python"
    # A cell that stops the rest has said why.
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [each for each in cell["outputs"] if each.get("ename") != _STOPPED]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


class Samples(NamedTuple):
    """What the pages in notebooks/rendered/ are made from."""

    warehouses: Mapping[str, Settings]
    """Of each numbered notebook, by its name without the ending."""
    truth: sample_log.Truth
    """What is planted in the calls."""


def write_samples(folder: Path) -> Samples:
    """Fill a warehouse of calls and one of data; each event in them says that it is made up."""
    calls, data = (
        Settings(warehouse=folder / name, harvest_installed=False) for name in ("calls", "data")
    )
    truth = sample_log.write_sample(calls)
    sample_data.write_sample_data(data)
    notebooks = sorted(NOTEBOOKS.glob("[0-9]*.py"))
    return Samples(
        {n.stem: data if n.stem.startswith(ON_DATA) else calls for n in notebooks}, truth
    )


def render_samples(samples: Samples, folder: Path) -> dict[str, Path]:
    """Render every numbered notebook from its sample: always the same pages."""
    pages = {name: folder / f"{name}.ipynb" for name in samples.warehouses}
    render_each([(NOTEBOOKS / f"{n}.py", page, samples.warehouses[n]) for n, page in pages.items()])
    return pages


def _pictures(page: Path) -> Iterator[str]:
    """The plots of a rendered notebook, as Markdown."""
    for cell in json.loads(page.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                yield f"![plot](data:image/png;base64,{''.join(png).strip()})"


def _errors(page: Path) -> list[str]:
    """What cells failed with."""
    return [
        f"cell {cell['metadata']['marimo'].get('name', 'without a name')}: "
        f"{output['ename']}: {output['evalue']}"
        for cell in json.loads(page.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", ())
        if output["output_type"] == "error" and output["ename"] != _STOPPED
    ]


def _why(page: Path, stderr: str) -> str:
    """The first cell that failed, with its error; else the last thing that marimo said."""
    if page.exists() and (errors := _errors(page)):
        return errors[0]
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "marimo said nothing"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for made in render_samples(write_samples(Path(scratch)), NOTEBOOKS / "rendered").values():
            print(made)
