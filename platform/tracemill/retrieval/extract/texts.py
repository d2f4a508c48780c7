"""Files that are text already: Markdown, reStructuredText, tables, code, plain text.

Their text is kept as it is, so that a line of it is a line of the file.
"""

import re
from collections.abc import Iterable
from typing import Any, cast

from tracemill.retrieval.extract import Extracted, properties
from tracemill.retrieval.extract.decode import clean, decode
from tracemill.retrieval.extract.kinds import Kind

MOST_FRONT_MATTER = 64_000
_FIELD = re.compile(r"^:([A-Za-z][\w -]*):[ \t]+(\S.*)$")


def read_text(kind: Kind, content: bytes) -> Extracted:
    """The text of a file, with what it says about itself at its top.

    Raises `InputError` when it cannot be decoded.
    """
    text = clean(decode(content))
    said: dict[str, Any] = {}
    if kind.syntax == "markdown":
        text, said = _front_matter(text)
    elif kind.syntax == "rst":
        said = _fields(text)
    lower = {str(key).lower(): value for key, value in said.items()}
    title = (
        properties.one_line(lower.get("title")) if properties.is_plain(lower.get("title")) else ""
    )
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
        events = cast("Iterable[object]", yaml.parse(head, yaml.SafeLoader))  # pyright: ignore[reportUnknownMemberType]
        if any(isinstance(event, yaml.AliasEvent) for event in events):
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
