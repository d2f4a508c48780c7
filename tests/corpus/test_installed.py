import os
import shutil
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import polars as pl
import pytest

from tracemill.corpus import installed, records
from tracemill.corpus.public_names import public_definitions
from tracemill.corpus.records import Refusal

FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))
FEW = ("httpx", "polars", "tracemill")


@pytest.fixture(scope="module")
def harvested() -> pl.DataFrame:
    """Python and three packages; all that is installed, 20 s of it, with TRACEMILL_TEST_FULL."""
    with pytest.MonkeyPatch.context() as patch:
        if not FULL:
            patch.setattr(installed, "distributions", lambda: map(distribution, FEW))
        return pl.concat(batch.kept for batch in installed.harvest())


def package(folder: Path, **modules: str) -> dict[str, Path]:
    """Module files, `__` in a keyword for the dot; a name without its parent's file is a package."""
    files: dict[str, Path] = {}
    for key, source in modules.items():
        name = key.replace("__", ".")
        is_package = any(other.startswith(key + "__") for other in modules)
        path = folder.joinpath(*name.split("."))
        path = path / "__init__.py" if is_package else path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        files[name] = path
    return files


def names(files: dict[str, Path], *, whole: bool = False) -> dict[str, str]:
    found = public_definitions(files, [], whole=whole)
    return {each.name: each.definition.doc for each in found}


def test_an_object_has_the_shortest_name_under_which_it_can_be_imported(tmp_path: Path):
    files = package(
        tmp_path,
        acme="from acme._impl.frame import Frame\nfrom ._impl import *\n",
        acme___impl="from .deep import helper\ndef star():\n    'By a star.'\n",
        acme___impl__frame="class Frame:\n    'A table.'\n    def join(self):\n        'Join.'\n",
        acme___impl__deep="def helper():\n    'Two hops.'\ndef unseen():\n    'Never.'\n",
        acme__io="def save():\n    'Deeper.'\n",
    )
    offered = {
        "acme.Frame": "A table.",
        "acme.Frame.join": "Join.",
        "acme.star": "By a star.",
        "acme.helper": "Two hops.",
    }
    assert names(files) == offered
    assert names(files, whole=True) == offered | {"acme.io.save": "Deeper."}


def test_private_and_undocumented_objects_are_left_out(tmp_path: Path):
    source = (
        '"""The module."""\n'
        "def _private():\n    'no'\n"
        "def bare(): pass\n"
        "class Open:\n    def __init__(self):\n        'no'\n    def bare(self): pass\n"
        "if True:\n    def either():\n        'Under a condition.'\n"
    )
    found = names(package(tmp_path, acme=source))
    assert found == {"acme": "The module.", "acme.either": "Under a condition."}


def test_imports_in_a_circle_end(tmp_path: Path):
    files = package(
        tmp_path,
        acme="from .a import x\nfrom .a import *\n",
        acme__a="from .b import x\nfrom .b import *\n",
        acme__b="from .a import x\nfrom .a import *\ndef y():\n    'Here.'\n",
    )
    assert names(files) == {"acme.y": "Here."}


def test_a_file_that_is_not_python_is_refused_with_its_reason(tmp_path: Path):
    files = package(tmp_path, acme="def broken(:\n", other="'''Fine.'''\n", nul="x = 1\0\n")
    refused: list[Refusal] = []
    found = [each.name for each in public_definitions(files, refused, whole=True)]
    assert found == ["other"]
    assert [(each.file, each.line) for each in refused] == [
        (str(files["acme"]), None),
        (str(files["nul"]), None),
    ]
    assert refused[0].reason.startswith("SyntaxError: ")


@pytest.mark.parametrize(
    ("source", "signature"),
    [
        ("def f(a: int = 1) -> str:  # noqa: E501\n    'doc'\n", "def f(a: int = 1) -> str"),
        ("def f(a): 'doc'\n", "def f(a)"),
        ("async def f(\n    a,\n    *b,\n):\n    'doc'\n", "async def f(\n    a,\n    *b,\n)"),
        ("class f(dict[str, int]):\n    'doc'\n", "class f(dict[str, int])"),
    ],
)
def test_a_signature_is_what_was_written(tmp_path: Path, source: str, signature: str):
    [found] = public_definitions(package(tmp_path, acme=source), [], whole=True)
    assert found.definition.signature == signature


def test_invalid_escapes_in_installed_source_do_not_warn(tmp_path: Path):
    assert names(package(tmp_path, acme="def f():\n    '\\d is a digit.'\n"))


@pytest.fixture
def a_little_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if three parts were the whole standard library, which takes seconds to read."""
    library = Path(sysconfig.get_path("stdlib"))
    little = tmp_path / "library"
    for name in ("email", "json"):
        shutil.copytree(library / name, little / name)
    shutil.copy2(library / "antigravity.py", little)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(little))
    return little


def test_python_itself_answers_questions(harvested: pl.DataFrame):
    asked = records.question() == "What does json.dumps do?"
    row = harvested.row(by_predicate=asked, named=True)
    written, question, answer = row["messages"]
    assert (written["role"], question["role"], answer["role"]) == ("system", "user", "assistant")
    assert answer["content"].startswith("Serialize ``obj`` to a JSON formatted ``str``.")
    assert written["content"].startswith("def dumps(obj, *, skipkeys=False,")
    assert written["content"].endswith("module json")
    assert (row["origin"], row["label"]) == ("installed", "python")
    version = ".".join(map(str, sys.version_info[:3]))
    assert row["source"] == f"python {version}: json.dumps"


def test_packages_answer_under_the_names_their_users_type(harvested: pl.DataFrame):
    queries = set(harvested.select(records.question()).to_series())
    assert "What does the method polars.DataFrame.join do?" in queries
    assert "What is httpx.Client and how is it used?" in queries
    assert "What is tracemill.Settings and how is it used?" in queries


def test_the_harvest_is_large_and_each_record_is_there_once(harvested: pl.DataFrame):
    assert harvested.height > (10_000 if FULL else 5_000)
    assert harvested["record_id"].is_unique().all()
    known = ["record_id", "messages", "origin", "source", "timestamp", "label"]
    assert harvested[known].null_count().sum_horizontal().item() == 0
    assert harvested.schema["timestamp"] == pl.Datetime("us", "UTC")
    private = harvested["source"].str.contains(r": (.*\.)?_")
    assert harvested.filter(private).is_empty()


def test_harvesting_imports_nothing_and_gives_the_same_rows_again(
    harvested: pl.DataFrame, a_little_of_python: Path
):
    python = next(installed.harvest())
    parts = pl.col("source").str.contains(r"^python [\d.]+: (antigravity|email|json)\b")
    assert python.kept.height > 100
    assert python.kept.equals(harvested.filter(parts))
    assert "antigravity" not in sys.modules


def test_installed_documents_are_readmes_and_the_language_reference():
    documents = pl.concat(list(installed.installed_documents()))
    assert documents["document_id"].is_unique().all()
    assert set(documents["format"]) <= {"markdown", "rst", "text"}
    topic = documents.row(by_predicate=pl.col("title") == "assert", named=True)
    assert "AssertionError" in topic["text"]
    assert documents.filter(pl.col("source").str.starts_with("duckdb ")).height == 1


def install(folder: Path, version: str) -> None:
    """What an installer leaves: a module, and metadata with the list of files."""
    (folder / "acme.py").write_text("def run():\n    'Run it.'\n")
    info = folder / "acme-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Name: acme\nVersion: {version}\n\nThe *acme* package.\n")
    (info / "RECORD").write_text("acme.py,,\nacme-1.dist-info/METADATA,,\n")


def test_a_new_package_shows_in_records_documents_and_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, a_little_of_python: Path
):
    before = installed.installed_fingerprint()
    assert installed.installed_fingerprint() == before
    install(tmp_path, "1.0")
    (tmp_path / "interrupted-1.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    first = installed.installed_fingerprint()
    assert first != before
    _, acme = (batch.kept for batch in installed.harvest())
    written = pl.col("messages").list.first().struct.field("content")
    said = acme.select(records.question(), records.answer(), written, pl.col("source"))
    assert said.rows() == [
        ("What does acme.run do?", "Run it.", "def run()\n\nmodule acme", "acme 1.0: acme.run")
    ]
    readme = next(installed.installed_documents())
    assert readme.select("title", "source", "format", "text").rows() == [
        ("acme", "acme 1.0: README", "rst", "The *acme* package.\n")
    ]
    install(tmp_path, "1.1")
    assert installed.installed_fingerprint() != first
