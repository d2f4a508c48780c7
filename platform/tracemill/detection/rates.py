"""Whether a share changed, such as that of calls that fail, where shares differ from day to day anyway.

What comes next is predicted from what was: binomial around a rate that itself is drawn anew each
day. How much it is scattered is learnt from past days.
"""
# scipy's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracemill.detection.season import Array
from tracemill.errors import UsageError
from tracemill.intervals import TWO_SIDED_95

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LEAST_DAYS = 7
"""Fewer do not tell how rates differ from day to day."""
_CAUTION = 0.35
"""The scatter that is taken is one which the true one passes so seldom, for few days tell it badly."""
_NODES = np.linspace(-8, 8, 161)


@dataclass(frozen=True)
class Change:
    """What became of a share; each of the shape of what was given, one or many series."""

    before: Array
    after: Array
    difference: Array
    """After less before."""
    low: Array
    """Where the true difference lies in 95 of 100 cases: the lower end."""
    high: Array
    p: Array
    """How likely a share as far out as this is where nothing changed, both sides together; NaN
    where there was nothing before or after."""
    changed: NDArray[np.bool_]
    """p is at most alpha."""
    scatter: Array
    """How alike the calls of a day are, from 0 to 1 (their correlation); 0 is a pure binomial."""


def rate_changed(
    failed_before: "ArrayLike",
    n_before: "ArrayLike",
    failed_after: "ArrayLike",
    n_after: "ArrayLike",
    alpha: float = 0.001,
    *,
    history: "tuple[ArrayLike, ArrayLike] | None" = None,
    days_after: int = 1,
) -> Change:
    """Whether the rate after is another than the rate before.

    The number that fails after is binomial around a rate that is lognormal: spread by what n_before
    cases leave open (Jeffreys' prior) and, with a history, by how much daily rates differ more than
    chance makes them (the intra-class correlation, by moments: Kleinman 1973; taken at its upper
    65 % limit). Of quiet periods `alpha` are called changed, or fewer where counts are small; without a
    history that holds for rates that do not differ from day to day, which those of real errors do.

    Args:
        failed_before: how many failed, a number or shape (series,); as the others.
        n_before: of how many.
        failed_after: in the period that is judged.
        n_after: of how many.
        alpha: the share of quiet periods that may be called changed.
        history: failed and n of past days, each of shape (days,) or (series, days); a week at least.
        days_after: over how many days the period that is judged goes.

    Raises `UsageError` where more failed than there were.
    """
    given = (failed_before, n_before, failed_after, n_after)
    x0, n0, x1, n1 = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in given))
    if np.any((x0 < 0) | (x0 > n0) | (x1 < 0) | (x1 > n1)) or not 0 < alpha < 1:
        raise UsageError("more failed than there were, or fewer than none, or alpha is no share")
    alike, days = (np.zeros(x0.shape), 1.0) if history is None else _scatter(*history)
    alike = np.broadcast_to(alike, x0.shape)
    p = _p(x0, n0, x1, n1, alike, days, days_after)
    with np.errstate(divide="ignore", invalid="ignore"):
        was, became = x0 / n0, x1 / n1
        size0 = n0 / (1 + np.maximum(n0 / days - 1, 0) * alike)
        size1 = n1 / (1 + np.maximum(n1 / days_after - 1, 0) * alike)
    low, high = _newcombe(was, size0, became, size1)
    return Change(was, became, became - was, low, high, p, p <= alpha, alike)


def _scatter(failed: "ArrayLike", n: "ArrayLike") -> tuple[Array, float]:
    """The upper limit of the correlation of a day's calls, and how many days it is from."""
    from scipy.stats import chi2

    x, size = np.asarray(failed, np.float64), np.asarray(n, np.float64)
    if x.shape != size.shape or x.shape[-1] < LEAST_DAYS:
        raise UsageError(
            f"the history is of shapes {x.shape} and {size.shape}: failed and n of the same days, "
            f"{LEAST_DAYS} at least"
        )
    total = np.maximum(size.sum(-1, keepdims=True), 1)
    rate = x.sum(-1, keepdims=True) / total
    spread = rate * (1 - rate)
    seen = np.sum((x - size * rate) ** 2, -1)
    days = np.maximum(np.sum(size > 0, -1), 2)
    upper = seen * days / chi2.ppf(_CAUTION, days - 1)
    # The sum is of n pq (1 + (n - 1) alike), by day.
    even = np.sum(size * spread, -1)
    pairs = np.sum(size * np.maximum(size - 1, 0) * spread, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        alike = np.where(pairs > 0, (upper - even) / pairs, 0.0)
    return np.clip(alike, 0.0, 0.99), float(np.min(days))


def _p(
    x0: Array, n0: Array, x1: Array, n1: Array, alike: Array, days: float, days_after: int
) -> Array:
    from scipy.stats import binom
    from scipy.stats import t as student

    rate = (x0 + 0.5) / (n0 + 1)
    share = np.minimum(1 / (n0 + 2) + alike / days + alike / days_after, 0.99)
    # Of the rarer outcome, so that what is drawn stays below 1.
    rarer = np.minimum(rate, 1 - rate)[..., None]
    wide = np.log1p((1 - rarer) / rarer * share[..., None])
    drawn = np.minimum(rarer * np.exp(np.sqrt(wide) * _NODES - wide / 2), 1.0)
    nodes = np.where(rate[..., None] > 0.5, 1 - drawn, drawn)
    weights = student.pdf(_NODES, max(days - 1, 1) if days > 1 else 1e6)
    weights = weights / weights.sum()
    below = np.sum(binom.cdf(x1[..., None], n1[..., None], nodes) * weights, -1)
    above = np.sum(binom.sf(x1[..., None] - 1, n1[..., None], nodes) * weights, -1)
    p = np.minimum(1.0, 2 * np.minimum(below, above))
    return np.where((n0 > 0) & (n1 > 0), p, np.nan)


def _newcombe(was: Array, n0: Array, became: Array, n1: Array) -> tuple[Array, Array]:
    """The interval of a difference of two shares from Wilson's of each (Newcombe 1998, method 10)."""
    low0, high0 = _wilson(was, n0)
    low1, high1 = _wilson(became, n1)
    difference = became - was
    low = difference - np.sqrt((became - low1) ** 2 + (high0 - was) ** 2)
    high = difference + np.sqrt((high1 - became) ** 2 + (was - low0) ** 2)
    return low, high


def _wilson(share: Array, n: Array) -> tuple[Array, Array]:
    z2 = TWO_SIDED_95**2
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = (share + z2 / (2 * n)) / (1 + z2 / n)
        half = TWO_SIDED_95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return middle - half, middle + half
