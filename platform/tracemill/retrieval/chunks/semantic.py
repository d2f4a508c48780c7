"""Sections by meaning: one begins where neighbouring sentences have least in common.

TextTiling (Hearst 1997, "TextTiling: segmenting text into multi-paragraph subtopic passages",
Computational Linguistics 23), with the light model's vectors where it counts words.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from tracemill.retrieval.chunks.pieces import PROSE, SENTENCE_END, Marks, Piece, fitting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 3
"""Sentences on each side of a gap that are compared."""
DEEP = 0.5
"""Standard deviations above the mean depth from which a gap parts two sections."""
INSIDE = 0.5
"""What the depth of a gap inside a paragraph counts beside that of one between two."""
_LEAST = 40  # characters; a shorter sentence goes with the next


def by_meaning(
    text: str, stretch: list[Piece], marks: Marks, limit: int, room: int
) -> Iterator[Piece]:
    """Sentences, and the blocks that are not prose, with new sections where the meaning changes."""
    import numpy as np

    from tracemill.retrieval.embed import compute

    units = [
        part
        for piece in stretch
        for unit in _sentences(text, piece)
        for part in fitting(text, unit, marks, limit, room)
    ]
    inside = np.array([unit.goes_on for unit in units], dtype=np.bool_)
    begins = sections(compute([text[unit.start : unit.end] for unit in units]), inside)
    for number, unit in enumerate(units):
        yield unit._replace(begins=number in begins)


def _sentences(text: str, piece: Piece) -> Iterator[Piece]:
    if piece.kind in PROSE:
        for found in SENTENCE_END.finditer(text, piece.start, piece.end):
            if found.end() - piece.start >= _LEAST and text[found.end() : piece.end].strip():
                yield piece._replace(end=found.end())
                piece = piece._replace(start=found.end(), goes_on=True)
    yield piece


def sections(vectors: "NDArray[np.float32]", inside: "NDArray[np.bool_]") -> set[int]:
    """Which sentences begin a section.

    Args:
        vectors: shape (sentences, dimensions), of length 1 or 0.
        inside: shape (sentences,), whether each goes on with the paragraph of the one before.

    The depth of a gap is how far the likeness of its two sides lies below the peaks next to it.
    """
    import numpy as np

    if len(vectors) < 2 * WINDOW:
        return set()
    shape = (len(vectors) - 1, vectors.shape[1])
    left, right = np.zeros(shape, np.float64), np.zeros(shape, np.float64)
    for away in range(WINDOW):
        left[away:] += vectors[: len(vectors) - 1 - away]
        right[: len(right) - away] += vectors[1 + away :]
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    # Rounded, so that machines that add in another order agree.
    likeness = np.sum(left * right, axis=1) / np.maximum(lengths, 1e-9)
    alike = cast("NDArray[np.float64]", np.round(likeness, 6))
    depths = _peaks(alike) + _peaks(alike[::-1])[::-1] - 2 * alike
    depths *= np.where(inside[1:], INSIDE, 1.0)
    deep = depths > depths.mean() + DEEP * depths.std()
    lowest = (alike <= np.append(np.inf, alike[:-1])) & (alike < np.append(alike[1:], np.inf))
    return {int(gap) + 1 for gap in np.flatnonzero(deep & lowest)}


def _peaks(alike: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """For each gap, what one climbs to from it, going left."""
    peaks = alike.copy()
    for gap in range(1, len(peaks)):
        if alike[gap - 1] >= alike[gap]:
            peaks[gap] = peaks[gap - 1]
    return peaks
