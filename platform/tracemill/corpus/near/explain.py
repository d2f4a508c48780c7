"""A dropped record and the one that stays, side by side: what they share and what they do not."""

import difflib
import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tracemill.corpus.sketch import sketch

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN_WORDS = 12
"""Of a longer passage that both share, so many words are shown at each end."""


class Passage(NamedTuple):
    """Some words of both texts: the same, or what each has in this place."""

    dropped: str
    kept: str
    shared: bool


@dataclass(frozen=True)
class Explanation:
    """Why a record was dropped; a notebook and `rich.print` show it side by side."""

    record_id: str
    kept_id: str
    via_id: str | None
    """The neighbour through which the two belong together, in a chain of the policy `component`."""
    reason: str
    similarity: float | None
    """Of a semantic duplicate: the cosine of the two vectors."""
    jaccard: float
    """Of these two texts; with `via_id` it may be below the threshold."""
    shared: int
    """Shingles (word 5-grams) that both have."""
    shingles: int
    """Of the dropped record."""
    kept_shingles: int
    text: str
    kept_text: str

    @property
    def rule(self) -> str:
        """The finding as one sentence."""
        through = f", through {self.via_id}" if self.via_id else ""
        either = self.shingles + self.kept_shingles - self.shared
        cosine = "" if self.similarity is None else f"cosine {self.similarity:.3f}; "
        return (
            f"{self.reason}: {cosine}{self.shared} of {either} word 5-grams are in both "
            f"(Jaccard {self.jaccard:.3f}){through}"
        )

    def passages(self) -> list[Passage]:
        """Both texts from beginning to end, cut where they begin or cease to agree."""
        left, right = self.text.split(), self.kept_text.split()
        matcher = difflib.SequenceMatcher(None, _lower(left), _lower(right), autojunk=False)
        return [
            Passage(" ".join(left[a:b]), " ".join(right[c:d]), tag == "equal")
            for tag, a, b, c, d in matcher.get_opcodes()
        ]

    def __str__(self) -> str:
        lines = [self.rule, f"  dropped {self.record_id}", f"  kept    {self.kept_id}"]
        for passage in self.passages():
            if passage.shared:
                lines.append(f"    {_short(passage.dropped)}")
            else:
                lines += [f"  - {passage.dropped}"] * bool(passage.dropped)
                lines += [f"  + {passage.kept}"] * bool(passage.kept)
        return "\n".join(lines)

    def __rich__(self) -> "RenderableType":
        from rich.table import Table
        from rich.text import Text

        sides = Text(), Text()
        for passage in self.passages():
            for side, own, style in zip(sides, passage[:2], ("red", "green"), strict=True):
                if passage.shared:
                    side.append(_short(own) + " ")
                elif own:
                    side.append(own, f"bold {style}").append(" ")
        table = Table(title=self.rule, title_justify="left", expand=True)
        table.add_column(f"dropped {self.record_id}", ratio=1)
        table.add_column(f"kept {self.kept_id}", ratio=1)
        table.add_row(*sides)
        return table

    def _repr_html_(self) -> str:
        sides = [" ".join(side) for side in zip(*map(_marked, self.passages()), strict=True)]
        heads = f"dropped {self.record_id}", f"kept {self.kept_id}"
        cell = '<td style="vertical-align:top;text-align:left;white-space:normal;width:50%">'
        return (
            f"<p>{html.escape(self.rule)}</p><table style='width:100%'><tr>"
            + "".join(f"<th style='text-align:left'>{html.escape(head)}</th>" for head in heads)
            + "</tr><tr>"
            + "".join(f"{cell}{side}</td>" for side in sides)
            + "</tr></table>"
        )


class Compared(NamedTuple):
    """Two texts as sets of shingles."""

    jaccard: float
    shared: int
    left: int
    right: int


def compare(left: str, right: str) -> Compared:
    """The exact Jaccard similarity of two texts, and its parts; 0 where one has no words."""
    import polars as pl

    found = sketch(pl.Series([left, right]), plain=True)
    one, other = (found.shingles[a:b] for a, b in zip(found.offsets, found.offsets[1:]))  # noqa: B905
    shared = np.intersect1d(one, other, assume_unique=True).size
    either = one.size + other.size - shared
    return Compared(shared / either if either else 0.0, shared, one.size, other.size)


def _lower(words: list[str]) -> list[str]:
    return [word.lower() for word in words]


def _short(text: str) -> str:
    words = text.split()
    left_out = len(words) - 2 * SHOWN_WORDS
    if left_out < SHOWN_WORDS:
        return text
    ends = " ".join(words[:SHOWN_WORDS]), " ".join(words[-SHOWN_WORDS:])
    return f"{ends[0]} […{left_out} words…] {ends[1]}"


def _marked(passage: Passage) -> Iterator[str]:
    for own, colour in zip(passage[:2], ("#fdd", "#dfd"), strict=True):
        if passage.shared or not own:
            yield html.escape(_short(own))
        else:
            yield f'<mark style="background:{colour}">{html.escape(own)}</mark>'
