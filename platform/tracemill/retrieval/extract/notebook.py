"""Notebooks of Jupyter as Markdown: the cells in their order, and what they printed.

Pictures are left out; of a long print its beginning is kept.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from tracemill.errors import InputError
from tracemill.retrieval.extract import Extracted, properties
from tracemill.retrieval.extract.decode import clean, decode

MOST_OUTPUT = 10_000
"""Characters of what a cell printed; the rest is mostly logs and tables."""
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def read_notebook(content: bytes) -> Extracted:
    """Cells as Markdown: code in fences, and what it printed in fences after it.

    Raises `InputError` when it is no notebook, or was cut short.
    """
    try:
        notebook: dict[str, Any] = json.loads(decode(content))
        cells: list[Any] = notebook.get("cells") or notebook["worksheets"][0]["cells"]
        about: dict[str, Any] = notebook.get("metadata") or {}
        kernel: dict[str, Any] = about.get("kernelspec") or {}
        info: dict[str, Any] = about.get("language_info") or {}
        code = str(info.get("name") or kernel.get("language") or "python").lower()
        parts = [part for cell in cells for part in _cell(cell, code) if part.strip()]
        metadata = {"kernel": kernel.get("display_name"), "authors": _authors(about)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("broken: no notebook of Jupyter, or one that was cut short") from error
    text = clean("\n\n".join(parts) + "\n" if parts else "")
    title = properties.one_line(about["title"]) if properties.is_plain(about.get("title")) else ""
    title = title or properties.first_heading(text, "markdown")
    metadata = properties.plain(metadata)
    return Extracted("notebook", "markdown", text, title, metadata=metadata)


def _authors(about: dict[str, Any]) -> list[Any]:
    return [author.get("name") for author in about.get("authors") or ()]


def _cell(cell: dict[str, Any], code: str) -> Iterator[str]:
    source = _joined(cell.get("source", cell.get("input", "")))
    if cell["cell_type"] != "code":
        yield source.strip("\n")
        return
    yield fenced(source.strip("\n"), code) if source.strip() else ""
    for output in cell.get("outputs") or ():
        printed = _ESCAPES.sub("", _printed(output)).strip("\n")
        if printed.strip():
            short = printed[:MOST_OUTPUT] + ("\n…" if len(printed) > MOST_OUTPUT else "")
            yield fenced(short, "text")


def _printed(output: dict[str, Any]) -> str:
    if output.get("output_type") in ("error", "pyerr"):
        return f"{output.get('ename', '')}: {output.get('evalue', '')}"
    data: dict[str, Any] = output.get("data") or {}
    return _joined(output.get("text") or data.get("text/markdown") or data.get("text/plain") or "")


def _joined(lines: Any) -> str:
    return lines if isinstance(lines, str) else "".join(map(str, lines))


def fenced(text: str, language: str) -> str:
    """Code as Markdown, in a fence longer than any within it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
