"""Files to text by other libraries: `extract_with.py TOOL FOLDER ROUNDS` reads each file once a round.

`TOOLS` names what must be installed for a tool and which types of file it is asked for; uv runs this
file in an environment that has just that. The first file is read once before the clock starts.
"""

import json
import logging
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ENOUGH_S = 5
"""A tool that takes longer for its rounds gets no further one."""


class Tool(NamedTuple):
    """A library, the types it reads here, and how it is prepared."""

    requirements: tuple[str, ...]
    formats: tuple[str, ...]
    prepare: Callable[[], Callable[[Path], str]]
    """Imports it, and returns how it makes text of a file."""


def kreuzberg() -> Callable[[Path], str]:
    from kreuzberg import extract_file_sync

    return lambda path: extract_file_sync(path).content


def markitdown() -> Callable[[Path], str]:
    from markitdown import MarkItDown  # pyright: ignore[reportMissingImports]

    converter = MarkItDown()
    return lambda path: converter.convert(path).markdown


def pypdfium2() -> Callable[[Path], str]:
    import pypdfium2 as pdfium  # pyright: ignore[reportMissingImports]

    def read(path: Path) -> str:
        with pdfium.PdfDocument(path) as document:
            return "\n".join(page.get_textpage().get_text_bounded() for page in document)

    return read


def pypdf() -> Callable[[Path], str]:
    from pypdf import PdfReader  # pyright: ignore[reportMissingImports]

    return lambda path: "\n".join(page.extract_text() for page in PdfReader(path).pages)


def pdfminer() -> Callable[[Path], str]:
    from pdfminer.high_level import extract_text  # pyright: ignore[reportMissingImports]

    return extract_text


def docx() -> Callable[[Path], str]:
    from docx import Document  # pyright: ignore[reportMissingImports]

    return lambda path: "\n".join(each.text for each in Document(str(path)).paragraphs)


def mammoth() -> Callable[[Path], str]:
    import mammoth as library  # pyright: ignore[reportMissingImports]

    def read(path: Path) -> str:
        with path.open("rb") as file:
            return library.convert_to_markdown(file).value

    return read


def pptx() -> Callable[[Path], str]:
    from pptx import Presentation  # pyright: ignore[reportMissingImports]

    def read(path: Path) -> str:
        shapes = (shape for slide in Presentation(str(path)).slides for shape in slide.shapes)
        return "\n".join(shape.text_frame.text for shape in shapes if shape.has_text_frame)

    return read


def openpyxl() -> Callable[[Path], str]:
    from openpyxl import load_workbook  # pyright: ignore[reportMissingModuleSource]

    def read(path: Path) -> str:
        book = load_workbook(path, read_only=True, data_only=True)
        rows = (row for sheet in book.worksheets for row in sheet.iter_rows(values_only=True))
        return "\n".join("\t".join("" if cell is None else str(cell) for cell in r) for r in rows)

    return read


def trafilatura() -> Callable[[Path], str]:
    from trafilatura import extract  # pyright: ignore[reportMissingImports]

    return lambda path: extract(path.read_bytes()) or ""


def beautifulsoup() -> Callable[[Path], str]:
    from bs4 import BeautifulSoup

    return lambda path: BeautifulSoup(path.read_bytes(), "lxml").get_text("\n")


def ebooklib() -> Callable[[Path], str]:
    import ebooklib as library  # pyright: ignore[reportMissingImports]
    from bs4 import BeautifulSoup
    from ebooklib import epub  # pyright: ignore[reportMissingImports]

    def read(path: Path) -> str:
        items = epub.read_epub(str(path)).get_items_of_type(library.ITEM_DOCUMENT)
        return "\n".join(BeautifulSoup(i.get_content(), "lxml").get_text("\n") for i in items)

    return read


def docutils() -> Callable[[Path], str]:
    from docutils.core import publish_doctree  # pyright: ignore[reportMissingModuleSource]

    quiet: dict[str, Any] = {"report_level": 5, "file_insertion_enabled": False}
    return lambda path: publish_doctree(
        path.read_text(encoding="utf-8", errors="replace"), settings_overrides=quiet
    ).astext()


def nbformat() -> Callable[[Path], str]:
    import nbformat as library

    def read(path: Path) -> str:
        return "\n".join(cell.source for cell in library.read(path, as_version=4).cells)

    return read


OFFICE = ("pdf", "docx", "pptx", "xlsx", "epub", "html")
TOOLS = {
    "kreuzberg": Tool(("kreuzberg==4.10.4",), (*OFFICE, "csv", "ipynb", "md", "rst"), kreuzberg),
    "markitdown": Tool(("markitdown[all]==0.1.8",), (*OFFICE, "csv", "ipynb"), markitdown),
    "pypdfium2": Tool(("pypdfium2==5.15.2",), ("pdf",), pypdfium2),
    "pypdf": Tool(("pypdf==7.1.0",), ("pdf",), pypdf),
    "pdfminer.six": Tool(("pdfminer.six==20260107",), ("pdf",), pdfminer),
    "python-docx": Tool(("python-docx==1.2.0",), ("docx",), docx),
    "mammoth": Tool(("mammoth==1.13.0",), ("docx",), mammoth),
    "python-pptx": Tool(("python-pptx==1.0.2",), ("pptx",), pptx),
    "openpyxl": Tool(("openpyxl==3.1.5",), ("xlsx",), openpyxl),
    "trafilatura": Tool(("trafilatura==2.3.1",), ("html",), trafilatura),
    "beautifulsoup4": Tool(("beautifulsoup4==4.15.0", "lxml==6.1.3"), ("html",), beautifulsoup),
    "ebooklib": Tool(
        ("ebooklib==0.20", "beautifulsoup4==4.15.0", "lxml==6.1.3"), ("epub",), ebooklib
    ),
    "docutils": Tool(("docutils==0.23",), ("rst",), docutils),
    "nbformat": Tool(("nbformat==5.11.1",), ("ipynb",), nbformat),
}


def main() -> None:
    """Read the folder's files by one tool; print the fastest round, words, failures and memory."""
    logging.disable()
    tool, folder, rounds = TOOLS[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3])
    paths = sorted(folder.iterdir())
    read = tool.prepare()
    _words(read, paths[0])
    told = [_round(read, paths)]
    while len(told) < rounds and sum(each["seconds"] for each in told) < ENOUGH_S:
        told.append(_round(read, paths))
    fastest = min(told, key=lambda each: each["seconds"])
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**fastest, "memory_mb": memory_mb}))


def _round(read: Callable[[Path], str], paths: list[Path]) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    counts = [_words(read, path) for path in paths]
    told = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    read_ones = [count for count in counts if count >= 0]
    return {**told, "words": sum(read_ones), "failed": len(counts) - len(read_ones)}


def _words(read: Callable[[Path], str], path: Path) -> int:
    """Words of a file; -1 where the library fails."""
    try:
        return len(read(path).split())
    except Exception as error:  # noqa: BLE001 (whatever it is, it is a file not read)
        print(f"{path.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return -1


if __name__ == "__main__":
    main()
