"""Python source files read as text: what they define, what they document, what they re-export.

Nothing is imported: `ast` reads the files, so a harvest has no side effects.
"""

import ast
import inspect
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

_COLON = re.compile(r":\s*(#[^\n]*)?\s*$")

Kind = Literal["module", "class", "function", "method", "property"]


class Definition(NamedTuple):
    """A documented object of a module."""

    kind: Kind
    qualname: str
    """Its name inside the module, as `DataFrame.join`; empty for the module itself."""
    signature: str
    """As written, from `def` or `class`; empty for the module itself."""
    doc: str


class Module(NamedTuple):
    """One source file."""

    name: str
    path: Path
    is_package: bool
    definitions: tuple[Definition, ...]
    exports: dict[str, str]
    """Alias -> dotted target, of `from ... import` at the top level."""
    stars: tuple[str, ...]
    """The modules of `from ... import *`."""

    @property
    def tops(self) -> set[str]:
        """The top-level names under which something is documented."""
        return {each.qualname.partition(".")[0] for each in self.definitions if each.qualname}


def parse(name: str, path: Path) -> Module:
    """Read one source file.

    Raises OSError, SyntaxError, ValueError or RecursionError when it is not readable Python.
    """
    data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(data)
    is_package = path.name == "__init__.py"
    lines = data.splitlines()
    definitions: dict[str, Definition] = {}
    doc = ast.get_docstring(tree)
    if doc:
        definitions[""] = Definition("module", "", "", doc)
    for found in _definitions(tree.body, "", lines):
        definitions.setdefault(found.qualname, found)
    exports, stars = _imports(tree.body, name if is_package else name.rpartition(".")[0])
    return Module(name, path, is_package, tuple(definitions.values()), exports, stars)


def is_private(dotted: str) -> bool:
    """Whether any part of a dotted name begins with an underscore."""
    return any(part.startswith("_") for part in dotted.split("."))


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, those inside `if` and `try` included."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _statements(node.body + node.orelse)
        elif isinstance(node, ast.Try):
            yield from _statements(node.body + node.orelse + node.finalbody)
        else:
            yield node


def _definitions(body: list[ast.stmt], owner: str, lines: list[bytes]) -> Iterator[Definition]:
    for node in _statements(body):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        qualname = f"{owner}.{node.name}" if owner else node.name
        doc = ast.get_docstring(node)
        if doc:
            yield Definition(_kind(node, owner), qualname, _signature(node, lines), doc)
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, qualname, lines)


def _kind(node: ast.stmt, owner: str) -> Kind:
    if isinstance(node, ast.ClassDef):
        return "class"
    if not owner:
        return "function"
    decorators = getattr(node, "decorator_list", [])
    names = {getattr(each, "attr", getattr(each, "id", "")) for each in decorators}
    return "property" if names & {"property", "cached_property"} else "method"


def _signature(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[bytes]
) -> str:
    """The source from `def` or `class` up to the docstring, without the final colon."""
    body = node.body[0]
    taken = lines[node.lineno - 1 : body.lineno]
    taken[-1] = taken[-1][: body.col_offset]
    written = inspect.cleandoc(b"\n".join(taken).decode("utf-8", "replace"))
    return _COLON.sub("", written)


def _imports(body: list[ast.stmt], package: str) -> tuple[dict[str, str], tuple[str, ...]]:
    exports: dict[str, str] = {}
    stars: list[str] = []
    for node in _statements(body):
        if not isinstance(node, ast.ImportFrom):
            continue
        origin = _absolute(node, package)
        for alias in node.names:
            if alias.name == "*":
                stars.append(origin)
            else:
                exports[alias.asname or alias.name] = f"{origin}.{alias.name}"
    return exports, tuple(stars)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that an import names, with the leading dots resolved."""
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - (node.level - 1)]
    return ".".join([*base, node.module] if node.module else base)
