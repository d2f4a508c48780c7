"""The notebooks run, import only tracemill, and their committed pages are what they render now."""

import ast
import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.reports import NOTEBOOKS, render, render_sample
from tracemill.errors import TracemillError
from tracemill.settings import Settings

PAGES = sorted(NOTEBOOKS.glob("[0-9]*.py"))
named = pytest.mark.parametrize("notebook", PAGES, ids=lambda path: path.stem)


def outputs(page: Path) -> list[dict[str, Any]]:
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


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


@named
def test_the_committed_page_is_what_the_notebook_renders(notebook: Path, tmp_path: Path):
    committed = NOTEBOOKS / "rendered" / f"{notebook.stem}.ipynb"
    rendered = render_sample(notebook, tmp_path)
    if rendered.read_bytes() == committed.read_bytes():
        return
    (text, pictures), (text_before, pictures_before) = split(rendered), split(committed)
    assert text == text_before, "render it anew: python -m assets.reports"
    for picture, before in zip(pictures, pictures_before, strict=True):
        np.testing.assert_allclose(picture, before, atol=0.02)


@named
def test_it_runs_on_an_empty_log_without_a_warning(notebook: Path, tmp_path: Path):
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    page = render(notebook, tmp_path / "page.ipynb", settings)
    assert {each["output_type"] for each in outputs(page)} == {"display_data"}


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


@named
def test_marimo_finds_nothing_to_mend(notebook: Path):
    command = [sys.executable, "-m", "marimo", "check", "--strict", str(notebook)]
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
