"""Texts with something else in the places that were found."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from tracemill.pii.finding import Found, find


class Redacted(NamedTuple):
    """A text without what was found in it."""

    text: str
    counts: Mapping[str, int]
    """How often each kind was found."""


Change = Callable[[str], Redacted]


def redact(text: str) -> Redacted:
    """The text with a placeholder such as `[email]` for everything that `find` finds.

    Redacting again changes nothing.
    """
    found = find(text)
    if not found:
        return Redacted(text, {})
    new = replaced(text, ((place, f"[{place.kind}]") for place in found))
    return Redacted(new, Counter(place.kind for place in found))


def replaced(text: str, places: Iterable[tuple[Found, str]]) -> str:
    """The text with another in each of the places, which are in order and apart."""
    pieces: list[str] = []
    done = 0
    for (_, start, end), new in places:
        pieces += [text[done:start], new]
        done = end
    return "".join([*pieces, text[done:]])
