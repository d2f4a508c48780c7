"""What was refused, with its reason: lines of JSON beside the other refused records."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic_core import to_json

MAX_CHARACTERS = 20_000
"""Of a refused record; the rest of it is cut."""
MAX_BYTES = 100 * 2**20
"""Of one file: whoever sends only rubbish must not fill the disk."""


class Refused(NamedTuple):
    """One record that was refused."""

    source: str
    """The file, table or key that it came from."""
    row: int
    """Which of its records: 1, 2 ..."""
    reason: str
    raw: str


def keep(path: Path, refused: Iterable[Refused]) -> None:
    """Append to the file at `path`; beyond `MAX_BYTES` nothing more is kept of them."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    lines = b"".join(
        to_json({"at": now, **one._asdict(), "raw": one.raw[:MAX_CHARACTERS]}) + b"\n"
        for one in refused
    )
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if file.tell() < MAX_BYTES:
            file.write(lines)
