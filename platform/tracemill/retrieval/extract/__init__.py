"""Files of every common kind as text: what a file says, with its title, pages, dates and metadata.

A file is read in a process of its own that can be killed, so that one which hangs, crashes or eats
memory costs itself alone. Whatever happens there ends as an `Extracted` or as a reason.
"""

from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple


class Page(NamedTuple):
    """Where a page, slide or sheet begins."""

    start: int
    """Character of the text."""
    number: int
    """From 1."""


class Extracted(NamedTuple):
    """What was read out of a file."""

    format: str
    syntax: str
    text: str
    title: str = ""
    """Empty where the document names none."""
    pages: tuple[Page, ...] = ()
    by_line: bool = False
    """Whether lines of the text are lines of the file."""
    language: str | None = None
    """As the document declares it, ISO 639-1."""
    created_at: str | None = None
    modified_at: str | None = None
    """ISO 8601 in UTC, as the document says."""
    metadata: dict[str, Any] = {}  # noqa: RUF012 - never changed


def version() -> str:
    """What a text depends on beside its file: a digest of this code, and kreuzberg's version."""
    from importlib.metadata import version as installed

    return f"{_code()} kreuzberg {installed('kreuzberg')}"


@cache
def _code() -> str:
    digest = blake2b(digest_size=8)
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
