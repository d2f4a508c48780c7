"""What the readers of all syntaxes share: where a block begins, and how its names are shown."""

import re
from typing import Literal, NamedTuple

Kind = Literal["heading", "text", "list", "code", "table", "quote"]

MOST_HEADING = 200
"""Characters; what is longer is no name of a section."""

# An empty line, and then one that is not indented.
AFTER_GAP = re.compile(r"\n[ \t]*\n(?=\S)")


class Begin(NamedTuple):
    """Where a block begins; the fields are those of `Block`."""

    start: int
    kind: Kind = "text"
    level: int = 0
    heading: str = ""
    header: str = ""
    goes_on: bool = False


def shown(words: str) -> str:
    """In one line, and not longer than a name of a section is."""
    return " ".join(words.split())[:MOST_HEADING]


def cells(row: str, between: str = "|") -> str:
    """The names of a table's columns."""
    return shown(" | ".join(cell.strip() for cell in row.split(between) if cell.strip()))
