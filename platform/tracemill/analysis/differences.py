"""What changed between two measurements of the same calls, figure by figure, and how sure that is.

A figure is the same where the interval holds no change that matters, and better or worse where chance
makes a change as large more seldom than 1 in 20, over all figures together, and the interval excludes
none at all; else nobody knows yet.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from tracemill.intervals import Paired, chance_of_fall, holm, paired
from tracemill.quality.verdicts import LEVEL, RELATIVE_TOLERANCE, TOLERANCE

if TYPE_CHECKING:
    import polars as pl

Word = Literal["better", "worse", "same", "not enough data"]


class Figure(NamedTuple):
    """Something that is measured of every call."""

    name: str
    lower: bool
    """Whether less is better."""
    share: bool
    """Whether its values lie from 0 to 1."""


class Difference(NamedTuple):
    """What became of the mean of a figure."""

    figure: str
    before: float
    after: float
    difference: float
    """After less before."""
    low: float
    """The interval of the difference, for 95 %."""
    high: float
    p: float
    """Two-sided, of no change at all."""
    p_adjusted: float
    """By Holm, over all figures that were tested."""
    n: int
    """Calls that have the figure before and after."""
    verdict: Word
    why: str


def differences(
    frame: "pl.DataFrame", figures: Sequence[Figure], seed: int = 0
) -> list[Difference]:
    """Each figure's paired difference.

    Args:
        frame: one row for each call, with `NAME_before` and `NAME_after` of every figure.
        figures: what is measured; those that no call has twice are left out.
        seed: of the resampling.
    """
    pairs: list[tuple[Figure, Paired]] = []
    for figure in figures:
        was, now = (_numbers(frame[f"{figure.name}_{side}"]) for side in ("before", "after"))
        pair = paired(was, now, unit=figure.share, lower=figure.lower, seed=seed)
        if pair.n:
            pairs.append((figure, pair))
    ps = [_two_sided(frame, figure, pair) for figure, pair in pairs]
    return [
        _judged(figure, pair, p, adjusted)
        for (figure, pair), p, adjusted in zip(pairs, ps, holm(ps), strict=True)
    ]


def verdict(found: Sequence[Difference]) -> str:
    """All figures in a line, those that changed first."""
    words: Mapping[str, list[str]] = {"worse": [], "better": [], "same": [], "not enough data": []}
    for each in found:
        words[each.verdict].append(each.figure.removesuffix("_usd").removesuffix("_ms"))
    said = [f"{word}: {', '.join(names)}" for word, names in words.items() if names]
    return "; ".join(said) or "nothing was measured on both sides"


def _two_sided(frame: "pl.DataFrame", figure: Figure, pair: Paired) -> float:
    import numpy as np

    both = frame.select(f"{figure.name}_before", f"{figure.name}_after").drop_nulls()
    was, now = (np.array(_numbers(column), dtype=np.float64) for column in both)
    gained = now - was if figure.lower else was - now
    return min(1.0, 2 * min(pair.p, chance_of_fall(gained)))


def _judged(figure: Figure, pair: Paired, p: float, adjusted: float) -> Difference:
    tolerance = TOLERANCE if figure.share else RELATIVE_TOLERANCE * abs(pair.before)
    word: Word = "not enough data"
    if not pair.changed or (pair.low >= -tolerance and pair.high <= tolerance):
        word = "same"
    elif adjusted < LEVEL and (pair.low > 0 or pair.high < 0):
        word = "worse" if (pair.difference > 0) == figure.lower else "better"
    why = _why(figure, pair, word, tolerance, adjusted)
    numbers = (pair.before, pair.after, pair.difference, pair.low, pair.high)
    return Difference(figure.name, *numbers, p, adjusted, pair.n, word, why)


def _why(figure: Figure, pair: Paired, word: Word, tolerance: float, p: float) -> str:
    calls = f"{pair.n:,} call{'s' * (pair.n != 1)}"
    if not pair.changed:
        return f"none of {calls} changed"
    if not math.isfinite(pair.low):
        return f"{calls} do not tell how much others differ"
    span = f"[{pair.low:+.3g}, {pair.high:+.3g}]"
    if word == "same":
        return f"the interval {span} holds no change beyond {tolerance:.3g}"
    if word == "not enough data":
        return f"{span} on {calls} does not tell it from no change (p = {p:.2g})"
    way = "lower" if pair.difference < 0 else "higher"
    return f"{way} by {abs(pair.difference):.3g} {span} on {calls} (p = {p:.2g})"


def _numbers(column: "pl.Series") -> list[float | None]:
    return [None if value is None else float(value) for value in column]
