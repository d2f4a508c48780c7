"""The notebooks run, find what is planted, and their committed pages are what they render now.

Each page is held against its notebook's cells, and one is rendered: `make notebooks` renders all of
them, which CI compares with what is committed, and so does this with TRACEMILL_TEST_FULL.
"""

import ast
import base64
import inspect
import io
import json
import os
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from assets.reports import NOTEBOOKS, ON_DATA, Samples, render, render_samples, write_samples
from assets.sample_log import Truth, write_sample
from tracemill.errors import TracemillError
from tracemill.settings import Settings

PAGES = sorted(NOTEBOOKS.glob("[0-9]*.py"))
FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))
ON_CALLS = [page for page in PAGES if not page.stem.startswith(ON_DATA)]
RENDERED = PAGES if FULL else PAGES[:1]
named = pytest.mark.parametrize("notebook", PAGES, ids=lambda path: path.stem)


def split(page: Path) -> tuple[str, list[np.ndarray]]:
    """The page without its pictures, and the pictures as pixels: encoders differ by platform."""
    from matplotlib import image

    content = json.loads(page.read_text(encoding="utf-8"))
    pictures = []
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            png = output.get("data", {}).pop("image/png", None)
            if png:
                data = io.BytesIO(base64.b64decode("".join(png)))
                pictures.append(image.imread(data, format="png"))
    return json.dumps(content, sort_keys=True, indent=1), pictures


def test_there_are_notebooks():
    assert PAGES


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """What the pages are made from; nobody writes to it. Of data, only where all are rendered."""
    folder = tmp_path_factory.mktemp("samples")
    if FULL:
        return write_samples(folder)
    calls = Settings(warehouse=folder / "calls", harvest_installed=False)
    return Samples({page.stem: calls for page in ON_CALLS}, write_sample(calls))


@pytest.fixture(scope="module")
def truth(samples: Samples) -> Truth:
    return samples.truth


@pytest.fixture(scope="module")
def rendered(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Notebook to its page."""
    chosen = {page.stem: samples.warehouses[page.stem] for page in RENDERED}
    return render_samples(samples._replace(warehouses=chosen), tmp_path_factory.mktemp("rendered"))


def run(notebook: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """What a notebook's cells show, and what they define, run as a script in this process."""
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(settings.warehouse))
    monkeypatch.setenv("MPLBACKEND", "agg")
    return runpy.run_path(str(notebook))["app"].run()


def found(stem: str, samples: Samples, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """What a notebook defines on its sample."""
    notebook = next(page for page in PAGES if page.stem == stem)
    return run(notebook, samples.warehouses[stem], monkeypatch)[1]


@pytest.mark.parametrize("notebook", RENDERED, ids=lambda path: path.stem)
def test_the_committed_page_is_what_the_notebook_renders(notebook: Path, rendered: dict[str, Path]):
    committed = NOTEBOOKS / "rendered" / f"{notebook.stem}.ipynb"
    page = rendered[notebook.stem]
    if page.read_bytes() == committed.read_bytes():
        return
    (text, pictures), (text_before, pictures_before) = split(page), split(committed)
    assert text == text_before, "render it anew: python -m assets.reports"
    for picture, before in zip(pictures, pictures_before, strict=True):
        np.testing.assert_allclose(picture, before, atol=0.02)


@named
def test_the_committed_page_has_the_cells_of_the_notebook(notebook: Path):
    page = json.loads((NOTEBOOKS / "rendered" / f"{notebook.stem}.ipynb").read_text("utf-8"))
    shown = {each["metadata"]["marimo"]["name"]: "".join(each["source"]) for each in page["cells"]}
    cells = runpy.run_path(str(notebook))["app"]._cell_manager.cell_data()
    written = {cell.name: as_shown(cell.code) for cell in cells}
    assert written == {name: each.strip() for name, each in shown.items()}, "run `make notebooks`"


def as_shown(code: str) -> str:
    """A cell's code, or its text where it is nothing but text."""
    match ast.parse(code).body:
        case [ast.Expr(ast.Call(ast.Attribute(attr="md"), [ast.Constant(str(text))]))]:
            return inspect.cleandoc(text).strip()
    return code.strip()


@named
def test_it_runs_on_an_empty_log_and_says_what_to_do(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    shown, _ = run(notebook, settings, monkeypatch)  # warnings are errors here
    said = [each.text for each in shown if each is not None and hasattr(each, "text")]
    assert any("tracemill " in text and "<code>" in text for text in said[1:]), said
    assert not [each for each in shown if hasattr(each, "savefig")], "a plot of nothing"


@named
def test_its_page_opens_elsewhere(notebook: Path):
    page = NOTEBOOKS / "rendered" / f"{notebook.stem}.ipynb"
    nbformat.validate(nbformat.read(page, as_version=4))
    assert page.stat().st_size < 500_000
    kinds = {
        output["output_type"]
        for cell in json.loads(page.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", ())
    }
    assert kinds == {"display_data"}


def test_the_costs_are_those_of_the_log(samples: Samples, monkeypatch: pytest.MonkeyPatch):
    seen = found("02_costs", samples, monkeypatch)
    keys = seen["shares"].filter(seen["shares"]["by"] == "key")
    assert set(keys["name"]) == {"support-prod", "search-prod", "nightly"}
    assert seen["what"]["unpriced"] == seen["compared"]["unpriced"].min() > 50
    assert seen["total"] == seen["recorded"]


def test_the_burst_and_the_causes_are_found(
    samples: Samples, truth: Truth, monkeypatch: pytest.MonkeyPatch
):
    seen = found("03_failures", samples, monkeypatch)
    assert truth.burst
    assert [(each["error_type"], each["day"]) for each in seen["bursts"]] == [
        (truth.burst_class, truth.burst[0].date())
    ]
    hours = seen["counted"].filter(seen["counted"][truth.burst_model] > 0)["hour"]
    assert hours.to_list() == list(range(truth.burst[0].hour, truth.burst[1].hour))
    clusters = dict(seen["causes"].calls.rows())
    together = Counter((clusters[call], cause) for call, cause in truth.causes.items())
    largest = Counter[int]()
    for (cluster, _), n in together.items():
        largest[cluster] = max(largest[cluster], n)
    assert sum(largest.values()) >= 0.95 * len(truth.causes), together


def test_the_worse_version_is_named(
    samples: Samples, truth: Truth, monkeypatch: pytest.MonkeyPatch
):
    seen = found("04_prompt_versions", samples, monkeypatch)
    assert (seen["prompt"], seen["worse"]) == (truth.prompt, truth.worse_version)
    assert (seen["since"], seen["until"]) >= (truth.trial[0], truth.trial[0])
    assert seen["on_same"]["n"][0] >= 100


def test_the_dear_day_is_found_and_no_other(
    samples: Samples, truth: Truth, monkeypatch: pytest.MonkeyPatch
):
    seen = found("08_forecast", samples, monkeypatch)
    assert seen["outside"]["day"].to_list() == [truth.cost_day]
    assert seen["different"]["key"][0] == truth.cost_key
    assert seen["days_ahead"] == 30
    assert seen["next_days"].mape < seen["next_days"].naive_mape


@named
def test_its_page_names_no_place_on_this_machine(notebook: Path):
    text = (NOTEBOOKS / "rendered" / f"{notebook.stem}.ipynb").read_text(encoding="utf-8")
    for place in (str(Path.home()), str(NOTEBOOKS.parent), "/tmp/", "site-packages"):
        assert place not in text


@named
def test_it_imports_tracemill_and_what_draws(notebook: Path):
    tree = ast.parse(notebook.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    assert found <= {"tracemill", "marimo", "matplotlib", "polars"}


def test_marimo_finds_nothing_to_mend():
    command = [sys.executable, "-m", "marimo", "check", "--strict", *map(str, PAGES)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_cell_that_fails_is_told_in_a_line(tmp_path: Path):
    notebook = tmp_path / "broken.py"
    cell = "@app.cell\ndef one():\n    raise ValueError('no such thing')\n"
    notebook.write_text(f"import marimo\n\napp = marimo.App()\n\n\n{cell}", encoding="utf-8")
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    with pytest.raises(
        TracemillError, match=r"broken\.py failed: cell one: ValueError: no such thing"
    ):
        render(notebook, tmp_path / "page.ipynb", settings)
    assert not (tmp_path / "page.ipynb").exists()
