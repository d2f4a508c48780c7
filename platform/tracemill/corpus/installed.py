"""The documentation that is already installed: text that people wrote, on every machine, offline.

Docstrings become records (a question, the docstring as its answer), READMEs and Python's language
reference become documents. The same environment gives the same rows in the same order.
"""

import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.corpus import records
from tracemill.corpus.public_names import public_definitions
from tracemill.corpus.records import Batch, Document, Message, Record, Refusal
from tracemill.corpus.sources import Definition, Kind, Module

if TYPE_CHECKING:
    import polars as pl

ORIGIN = "installed"
PACKAGE = Path(__file__).parents[1]
NOT_DOCUMENTATION = {
    *("test", "tests", "conftest", "setup", "site-packages", "__pycache__"),
    *("idlelib", "lib2to3", "turtledemo", "ensurepip"),
}
QUESTIONS: dict[Kind, str] = {
    "module": "What is the module {} for?",
    "class": "What is {} and how is it used?",
    "function": "What does {} do?",
    "method": "What does the method {} do?",
    "property": "What does the property {} hold?",
}
FORMATS = {"text/markdown": "markdown", "text/plain": "text"}


def harvest() -> Iterator[Batch]:
    """The docstrings of the standard library and of what each installed package offers at its top.

    One package a batch, with what could not be read beside it. Deeper modules of the packages are
    left out: they are mostly how a package is made, and reading them takes twice the time.
    """
    for package in _packages():
        refused: list[Refusal] = []
        rows = list(_package_records(package, refused))
        yield Batch(records.record_frame(rows), records.refusal_frame(refused))


def installed_documents() -> "Iterator[pl.DataFrame]":
    """The READMEs in the installed packages' metadata and Python's language reference."""
    yield records.document_frame(list(_readmes()))
    yield records.document_frame(list(_topics()))


def installed_fingerprint() -> str:
    """A digest that changes when Python, an installed package or this package changes.

    It reads the installers' own lists of files and checksums, no file of theirs.
    """
    digest = hashlib.blake2b(_python().encode(), digest_size=16)
    for each in _distributions():
        installed = each.read_text("RECORD") or each.read_text("SOURCES.txt") or ""
        digest.update(f"\n{each.name} {each.version}\n{installed}".encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Package(NamedTuple):
    """Python, or an installed distribution."""

    title: str
    """Name and version."""
    files: dict[str, Path]
    """Dotted module name -> source file, sorted."""
    whole: bool
    """Whether every public module is read, or only what `import package` offers."""


def _packages() -> Iterator[Package]:
    stdlib = Path(sysconfig.get_path("stdlib"))
    yield Package(_python(), _modules(stdlib, stdlib.rglob("*.py")), whole=True)
    for each in _distributions():
        title = f"{each.name} {each.version}"
        if each.name == "tracemill":
            # An editable install lists no files of its own.
            files = _modules(PACKAGE.parent, PACKAGE.rglob("*.py"))
            yield Package(title, files, whole=True)
        else:
            root = Path(str(each.locate_file("")))
            listed = [root / file for file in each.files or () if file.suffix == ".py"]
            yield Package(title, _modules(root, listed), whole=False)


def _modules(root: Path, files: Iterable[Path]) -> dict[str, Path]:
    """Dotted name -> file, sorted, for the files that an import could reach."""
    found: dict[str, Path] = {}
    for path in files:
        parts = list(path.relative_to(root).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts and all(map(_is_documentation, parts)):
            found[".".join(parts)] = path
    return dict(sorted(found.items()))


def _is_documentation(part: str) -> bool:
    return part.isidentifier() and part not in NOT_DOCUMENTATION and not part.startswith("test_")


def _package_records(package: Package, refused: list[Refusal]) -> Iterator[Record]:
    found = public_definitions(package.files, refused, whole=package.whole)
    for name, module, definition in found:
        try:
            definition.doc.encode("utf-8")
        except UnicodeEncodeError as error:
            refused.append(records.refusal(str(module.path), None, str(error), definition.doc))
        else:
            yield _record(package.title, name, module, definition)


def _record(title: str, name: str, module: Module, definition: Definition) -> Record:
    modified = module.path.stat().st_mtime
    written = f"{definition.signature}\n\nmodule {module.name}".lstrip()
    asked = records.pair(QUESTIONS[definition.kind].format(name), definition.doc)
    return Record(
        messages=(Message("system", written), *asked),
        origin=ORIGIN,
        source=f"{title}: {name}",
        timestamp=datetime.fromtimestamp(modified, UTC),
        label=title.partition(" ")[0],
    )


def _readmes() -> Iterator[Document]:
    for each in _distributions():
        metadata: dict[str, Any] = each.metadata.json
        text = metadata.get("description") or ""
        if text.strip() not in ("", "UNKNOWN"):
            kind = re.split(r"[;\s]", metadata.get("description_content_type") or "")[0].lower()
            source = f"{each.name} {each.version}: README"
            yield records.document(each.name, source, FORMATS.get(kind, "rst"), text)


def _topics() -> Iterator[Document]:
    from pydoc_data import topics

    for key, text in sorted(topics.topics.items()):
        yield records.document(key, f"{_python()}: topic {key}", "rst", text)


def _distributions() -> list[Distribution]:
    """Every installed distribution once, the first on the path, sorted by normalised name.

    What an interrupted installation left behind has no name, and is passed over.
    """
    found: dict[str, Distribution] = {}
    for each in distributions():
        name: str | None = each.metadata.json.get("name")  # pyright: ignore[reportAssignmentType]
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), each)
    return [each for _, each in sorted(found.items())]


def _python() -> str:
    return "python " + ".".join(map(str, sys.version_info[:3]))
