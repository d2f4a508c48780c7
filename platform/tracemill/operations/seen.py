"""What a check of the doctor gives back, and how it says that something is wrong."""

from typing import NamedTuple

from tracemill.errors import TracemillError


class Seen(NamedTuple):
    """What a check saw."""

    detail: str
    odd: bool = False
    """Not wrong yet, but worth a look."""
    mend: str = ""


class Fault(TracemillError):
    """Something is wrong; `mend` is what to do about it."""

    def __init__(self, detail: str, mend: str) -> None:
        self.mend = mend
        super().__init__(detail)


def several(items: list[str], most: int = 3) -> str:
    """The first of many, and how many more there are."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
