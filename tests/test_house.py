"""The house's rules that no other tool checks: what lies where, who knows whom, what the pages say."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import typer

import tracemill
from tracemill.cli import app
from tracemill.events import KINDS, Happened
from tracemill.settings import README

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "platform" / "tracemill"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _files() -> list[Path]:
    """What git tracks, and what it would."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found = [ROOT / name for name in sorted(set(listed.stdout.split("\0"))) if name]
    return [path for path in found if path.is_file()]


# What lies where


def test_platform_holds_the_package_and_nothing_else() -> None:
    # An __init__.py, conftest.py or test here would shadow the standard library's `platform`.
    assert [path.name for path in (ROOT / "platform").iterdir()] == ["tracemill"]


def test_no_module_lies_at_the_root() -> None:
    # Dagster's children have the root on their path: a stray gql.py would shadow a package.
    assert list(ROOT.glob("*.py")) == []


def test_names_say_what_is_inside() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "base", "core", "misc", "manager"}
    names = {part for path in _files() for part in path.relative_to(ROOT).with_suffix("").parts}
    assert names & vague == set()


def test_no_top_level_module_is_named_like_one_of_the_standard_library() -> None:
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix in {".py", ""}}
    assert names & (sys.stdlib_module_names - {"__init__", "__main__"}) == set()


def test_test_files_have_names_of_their_own() -> None:
    # Without packages in tests/, two files of one name would be one module.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_no_file_speaks_of_the_machine_it_was_written_on() -> None:
    machine = re.compile(r"/(?:work|root|home/\w+|Users/\w+)/")
    texts = {path: path.read_bytes().decode(errors="replace") for path in _files()}
    found = {path.name: machine.findall(text) for path, text in texts.items()}
    assert {name: hits for name, hits in found.items() if hits} == {}


# Who knows whom


def test_layers_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run(
        [lint, "--no-cache", "--no-logo"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_importing_tracemill_imports_nothing_heavy() -> None:
    program = (
        "import sys, tracemill; tracemill.Settings, tracemill.EventLog\n"
        "print(sorted({'duckdb', 'polars', 'pyarrow', 'numpy', 'dagster'} & sys.modules.keys()))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert ran.stdout == "[]\n"


def test_every_public_name_exists() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        module = import_module(".".join(path.parent.relative_to(ROOT / "platform").parts))
        for name in getattr(module, "__all__", ()):
            assert getattr(module, name) is not None
    for name in tracemill.__all__:
        assert getattr(tracemill, name).__name__ == name


# Adding things


def _kinds_of(event: type[Happened]) -> Iterator[type[Happened]]:
    """The subclasses that can happen; the others only share fields."""
    for cls in event.__subclasses__():
        if cls.__module__.startswith("tracemill.events.") and "kind" in cls.model_fields:
            yield cls
        yield from _kinds_of(cls)


def test_every_event_is_in_the_union() -> None:
    events = set(_kinds_of(Happened))
    assert events == set(KINDS.values())
    assert {event.model_fields["kind"].default for event in events} == set(KINDS)


def test_every_field_of_an_event_has_its_line() -> None:
    silent = {
        f"{event.__name__}.{name}"
        for event in KINDS.values()
        for name, field in event.model_fields.items()
        if name != "kind" and not field.description
    }
    assert silent == set()


def test_every_file_with_assets_is_in_modules() -> None:
    from assets.definitions import MODULES

    def defines_assets(path: Path) -> bool:
        functions = (
            n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)
        )
        decorators = (ast.unparse(d) for f in functions for d in f.decorator_list)
        return any(re.match(r"dg\.(multi_)?asset(_check)?\b|asset\(", d) for d in decorators)

    with_assets = {path.stem for path in (ROOT / "assets").glob("*.py") if defines_assets(path)}
    assert with_assets <= {module.__name__.removeprefix("assets.") for module in MODULES}
    assert with_assets


def test_the_data_model_page_is_what_the_code_says() -> None:
    spec = spec_from_file_location("data_model", ROOT / "docs" / "data_model.py")
    assert spec is not None
    assert spec.loader is not None
    generator = module_from_spec(spec)
    spec.loader.exec_module(generator)
    written = (ROOT / "docs" / "data-model.md").read_text(encoding="utf-8")
    assert written == generator.render(), "run `make docs`"


# What the pages say


def _make_targets() -> dict[str, str]:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    matches = (re.match(r"([a-z]+):.*?(?:## (.*))?$", line) for line in lines)
    return {match[1]: match[2] for match in matches if match}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join(a or b for a, b in re.findall(r"(?ms)^```\w*\n(.*?)^```|`([^`\n]+)`", text))
    targets = set(re.findall(r"(?m)^(?:\$ )?make ([a-z]+)", code))
    assert targets <= _make_targets().keys()
    commands = set(
        re.findall(r"(?m)^(?:\$ )?(?:\.venv/bin/)?tracemill ([a-z]+)(?: ([a-z]+))?", code)
    )
    group = typer.main.get_command(app)
    for first, second in commands:
        assert first in group.commands  # type: ignore
        if first == "log" and second:
            assert second in group.commands["log"].commands  # type: ignore


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_on_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_make_help_names_every_target() -> None:
    targets = _make_targets()
    assert {name for name, text in targets.items() if not text} == set()
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert [line.split()[1] for line in shown.stdout.splitlines()] == list(targets)


def test_the_readme_shows_two_commands_that_ci_runs() -> None:
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("make demo", "make test"):
        assert re.search(rf"(?m)^{command}$", gate)
        assert re.search(rf"(?m)^{command}\b", readme)


def test_the_changelog_begins_with_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^## (\S+)", changelog)[0] == version


def test_the_warehouse_in_a_checkout_has_the_page_that_init_writes() -> None:
    assert (ROOT / "warehouse" / "README.md").read_text(encoding="utf-8") == README


# What ships


def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(tmp_path: Path) -> None:
    uv = ROOT / ".uv" / "bin" / "uv"
    builder = str(uv) if uv.exists() else shutil.which("uv")
    if builder is None:
        pytest.skip("no uv here; `make test` brings one")
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    command = [builder, "build", "--wheel", "--offline", "--quiet", "--out-dir", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, env=environment)
    (wheel,) = tmp_path.glob("*.whl")
    entries = [e.filename for e in zipfile.ZipFile(wheel).infolist() if not e.is_dir()]
    shipped = {name for name in entries if ".dist-info/" not in name}
    source = {
        str(path.relative_to(ROOT / "platform"))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped == source
    assert {"tracemill/py.typed", "tracemill/log/views/calls.sql"} <= shipped
