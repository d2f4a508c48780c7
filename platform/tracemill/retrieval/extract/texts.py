"""Files that are text already: Markdown, reStructuredText, tables, notebooks, code, plain text.

Their text is kept as it is, so that a line of it is a line of the file.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from tracemill.errors import InputError
from tracemill.retrieval.extract import Extracted, properties
from tracemill.retrieval.extract.decode import clean, decode
from tracemill.retrieval.extract.kinds import Kind

MOST_FRONT_MATTER = 64_000
MOST_OUTPUT = 10_000
"""Characters of what a cell of a notebook printed; the rest is mostly logs and tables."""
_FIELD = re.compile(r"^:([A-Za-z][\w -]*):[ \t]+(\S.*)$")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def read_text(kind: Kind, content: bytes) -> Extracted:
    """The text of a file, with what it says about itself at its top.

    Raises `InputError` when it cannot be decoded or, of a notebook, is none.
    """
    if kind.format == "notebook":
        return _notebook(content)
    text = clean(decode(content))
    said: dict[str, Any] = {}
    if kind.syntax == "markdown":
        text, said = _front_matter(text)
    elif kind.syntax == "rst":
        said = _fields(text)
    lower = {str(key).lower(): value for key, value in said.items()}
    title = properties.one_line(lower.get("title")) if _is_plain(lower.get("title")) else ""
    if kind.syntax in ("markdown", "rst"):
        title = title or properties.first_heading(text, kind.syntax)
    return Extracted(
        kind.format,
        kind.syntax,
        text,
        title,
        by_line=True,
        language=properties.language(lower.get("language", lower.get("lang"))),
        created_at=_first(lower, "created_at", "created", "date", "published"),
        modified_at=_first(lower, "modified_at", "modified", "updated", "lastmod", "last_updated"),
        metadata=properties.plain({key: said[key] for key in said if str(key).lower() != "title"}),
    )


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)


def _first(said: dict[str, Any], *names: str) -> str | None:
    return next((found for name in names if (found := properties.moment(said.get(name)))), None)


def _front_matter(text: str) -> tuple[str, dict[str, Any]]:
    """YAML between two lines `---` at the top, with blank lines in its place: lines keep their
    number. What is no such thing stays text."""
    import yaml

    if not text.startswith("---\n"):
        return text, {}
    end = re.compile(r"^(---|\.\.\.)[ \t]*$", re.MULTILINE).search(text, 4, MOST_FRONT_MATTER)
    if end is None:
        return text, {}
    head = text[4 : end.start()]
    try:
        # An alias can stand for more than memory holds.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(head, yaml.SafeLoader)):
            return text, {}
        said = yaml.safe_load(head)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text, {}
    if not isinstance(said, dict):
        return text, {}
    return "\n" * text.count("\n", 0, end.end()) + text[end.end() :], cast(dict[str, Any], said)


def _fields(text: str) -> dict[str, Any]:
    """The field list near the top of reStructuredText, as `:Author: Ada`."""
    found: dict[str, Any] = {}
    for line in text[:5000].split("\n")[:50]:
        field = _FIELD.match(line)
        if field:
            found[field[1].lower()] = field[2].strip()
        elif found and line.strip():
            break
    return found


def _notebook(content: bytes) -> Extracted:
    """Cells as Markdown: code in fences, and what it printed in fences after it."""
    try:
        notebook = json.loads(decode(content))
        cells = notebook.get("cells") or notebook["worksheets"][0]["cells"]
        about = notebook.get("metadata") or {}
        spec = about.get("kernelspec") or {}
        info = about.get("language_info") or {}
        code = str(info.get("name") or spec.get("language") or "python").lower()
        parts = [part for cell in cells for part in _cell(cell, code)]
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("broken: no notebook of Jupyter, or one that was cut short") from error
    text = clean("\n\n".join(part for part in parts if part.strip()) + "\n" if parts else "")
    title = about.get("title")
    authors = [each.get("name") for each in about.get("authors") or () if isinstance(each, dict)]
    return Extracted(
        "notebook",
        "markdown",
        text,
        properties.one_line(title if _is_plain(title) else "")
        or properties.first_heading(text, "markdown"),
        metadata=properties.plain({"kernel": spec.get("display_name"), "authors": authors}),
    )


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
    data = output.get("data") or {}
    return _joined(output.get("text") or data.get("text/markdown") or data.get("text/plain") or "")


def _joined(lines: Any) -> str:
    return lines if isinstance(lines, str) else "".join(map(str, lines))


def fenced(text: str, language: str) -> str:
    """Code as Markdown, in a fence longer than any within it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
