"""The code that an asset of retrieval depends on, found by walking its imports: its `code_version`
must name all of it, or an edit would leave what was made by the code before.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from assets import definitions

ROOT = Path(definitions.__file__).parent.parent
NAMED = """
import json
from assets import warehouse
warehouse.code_of = lambda *names: " ".join(names)
from assets.definitions import defs
graph = defs.resolve_asset_graph()
print(json.dumps({
    key.path[-1]: graph.get(key).code_version.split()
    for key in graph.materializable_asset_keys if key.path[0] == "retrieval"
}))
"""
ASSETS = {
    "documents": "documents",
    "chunks": "retrieval",
    "embeddings": "retrieval",
    "chunk_index": "indexes",
    "evaluation": "evaluation",
}
"""Each asset, and its module."""
RECIPES = "origins"
"""Reads recipes: what they say is an input of each asset."""
CHANGES_NOTHING = {
    *(f"tracemill.{name}" for name in ("errors", "events", "files", "log", "messages", "settings")),
    *(f"tracemill.{name}" for name in ("pii", "prices")),
    *(f"tracemill.corpus.{name}" for name in ("json_rows", "recipe", "records", "tables")),
    *(f"tracemill.llm.{name}" for name in ("cache", "client", "embedding", "options", "sse")),
    *("tracemill.llm.providers", "tracemill.retrieval.recipe"),
}
"""Where data lies, how it is written and told, how a model is called: not what is made."""


BY_NAME = {
    "tracemill.corpus.records",
    *(f"tracemill.llm.{name}" for name in ("asked_for", "providers.local")),
}
"""What is used, and not found so: the columns of what is harvested, and who answers."""


def source(module: str) -> Path | None:
    root = ROOT / "platform" if module.startswith("tracemill") else ROOT
    path = root.joinpath(*module.split("."))
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in found if file.is_file()), None)


def nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All that runs: what is imported for types alone is left out."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from nodes(child)


def imported(tree: ast.AST) -> dict[str, str]:
    """Name -> the module of ours that it is, or is of."""
    found: dict[str, str] = {}
    for node in nodes(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tracemill"):
            for each in node.names:
                whole = f"{node.module}.{each.name}"
                found[each.asname or each.name] = whole if source(whole) else str(node.module)
    return found


def of_function(module: str, name: str) -> set[str]:
    """What a function of a module uses, itself or by other functions of the module."""
    file = source(module)
    assert file
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    on_top = imported(
        ast.Module([node for node in tree.body if node not in functions.values()], [])
    )
    found: set[str] = set()
    waiting, seen = [name], {RECIPES, *ASSETS} - {name}
    while waiting:
        function = waiting.pop()
        seen.add(function)
        for statement in functions[function].body:
            found |= set(imported(statement).values())
            used = {node.id for node in nodes(statement) if isinstance(node, ast.Name)}
            found |= {on_top[each] for each in used & on_top.keys()}
            waiting += (used & functions.keys()) - seen
    return found


def closure(modules: Iterable[str]) -> set[str]:
    """These modules and all that they import, but for what changes nothing."""
    waiting, seen = [*modules], set[str]()
    while waiting:
        module = waiting.pop()
        if module in seen or _covered(module, CHANGES_NOTHING):
            continue
        seen.add(module)
        file = source(module)
        assert file, module
        waiting += imported(ast.parse(file.read_text(encoding="utf-8"))).values()
    return seen


def _covered(module: str, names: Iterable[str]) -> bool:
    """Whether a module is one of these, or in a package that is."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


@pytest.fixture(scope="module")
def named() -> dict[str, list[str]]:
    command = [sys.executable, "-c", NAMED]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(said.stdout)


def test_every_asset_of_retrieval_is_looked_at(named: dict[str, list[str]]):
    assert named.keys() == ASSETS.keys()


@pytest.mark.parametrize("asset", ASSETS)
def test_the_code_version_names_all_that_the_asset_is_made_by(
    asset: str, named: dict[str, list[str]]
):
    needed = closure(of_function(f"assets.{ASSETS[asset]}", asset))
    assert {module for module in needed if not _covered(module, named[asset])} == set()
    assert {*named[asset]} - needed <= {f"assets.{ASSETS[asset]}", *BY_NAME}
