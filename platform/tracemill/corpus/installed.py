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
from typing import TYPE_CHECKING

from tracemill.corpus import records
from tracemill.corpus.public_names import public_definitions
from tracemill.corpus.records import Batch, Document, Record, Refusal
from tracemill.corpus.sources import Definition, Kind, Module

if TYPE_CHECKING:
    import polars as pl

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


def installed_records() -> "Iterator[pl.DataFrame]":
    """The docstrings of the standard library and of every installed package, as records."""
    return (batch.kept for batch in harvest())


def harvest() -> Iterator[Batch]:
    """`installed_records` with what could not be read beside it, one package or less a batch."""
    for title, files in _packages():
        refused: list[Refusal] = []
        rows = list(_package_records(title, files, refused))
        for start in range(0, max(len(rows), 1), records.BATCH_ROWS):
            part = rows[start : start + records.BATCH_ROWS]
            yield Batch(records.record_frame(part), records.refusal_frame(refused))
            refused = []


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


def _packages() -> Iterator[tuple[str, dict[str, Path]]]:
    """Title with version, and module name -> file, of Python and of each distribution."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    yield _python(), _modules(stdlib, stdlib.rglob("*.py"))
    for each in _distributions():
        root = Path(str(each.locate_file("")))
        files = [root / file for file in each.files or () if file.suffix == ".py"]
        if each.name == "tracemill":
            root, files = PACKAGE.parent, list(PACKAGE.rglob("*.py"))
        yield f"{each.name} {each.version}", _modules(root, files)


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


def _package_records(
    title: str, files: dict[str, Path], refused: list[Refusal]
) -> Iterator[Record]:
    for name, module, definition in public_definitions(files, refused):
        try:
            yield _record(title, name, module, definition)
        except UnicodeEncodeError:
            line = f"the docstring of {name} is not valid Unicode"
            refused.append(records.refusal(str(module.path), None, line, definition.doc))


def _record(title: str, name: str, module: Module, definition: Definition) -> Record:
    definition.doc.encode("utf-8")
    modified = module.path.stat().st_mtime
    return records.record(
        QUESTIONS[definition.kind].format(name),
        definition.doc,
        f"{definition.signature}\n\nmodule {module.name}",
        f"{title}: {name}",
        datetime.fromtimestamp(modified, UTC),
    )


def _readmes() -> Iterator[Document]:
    for each in _distributions():
        metadata = each.metadata
        text = metadata.get("Description") or str(each.metadata.get_payload() or "")  # pyright: ignore
        if text.strip() and text.strip() != "UNKNOWN":
            kind = re.split(r"[;\s]", metadata.get("Description-Content-Type") or "")[0].lower()
            source = f"{each.name} {each.version}: README"
            yield records.document(each.name, source, FORMATS.get(kind, "rst"), text)


def _topics() -> Iterator[Document]:
    from pydoc_data import topics

    for key, text in sorted(topics.topics.items()):
        yield records.document(key, f"{_python()}: topic {key}", "rst", text)


def _distributions() -> list[Distribution]:
    """Every installed distribution once, the first on the path, sorted by normalised name."""
    found: dict[str, Distribution] = {}
    for each in distributions():
        found.setdefault(re.sub(r"[-_.]+", "-", each.name).lower(), each)
    return [each for _, each in sorted(found.items())]


def _python() -> str:
    return "python " + ".".join(map(str, sys.version_info[:3]))
