"""How sure a figure is, and whether it changed: intervals for 95 %, paired tests, how many cases.

Shares have their own formulas, which hold for few cases and near 0 and 1; other means are resampled.
What draws is seeded, so that the same values always give the same answer.
"""
# scipy's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from tracemill.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Values = Sequence[float | None] | Array

TWO_SIDED_95 = 1.959963984540054
"""How many standard deviations hold 95 % of a normal distribution."""
FEW = 10
"""Of fewer values than these, equal ones taken for one, a resample is too often constant."""
MANY = 5_000
"""Of more values than these, Student's interval covers as well as resampling does."""
TOO_MANY = 10**9
"""So many cases nobody has."""
_RESAMPLES, _FLIPS, _FLIPS_AT_ONCE, _DRAWN_AT_ONCE = 5_000, 10_000, 500, 2_000_000


class Interval(NamedTuple):
    """A figure, and where the true one lies in 95 of 100 cases."""

    value: float
    low: float
    high: float
    n: int
    """Over how many cases."""


class Paired(NamedTuple):
    """What became of a mean between two measurements of the same cases."""

    before: float
    after: float
    difference: float
    """After less before."""
    low: float
    """Where the true difference lies in 95 of 100 cases: the lower end."""
    high: float
    p: float
    """How likely a change for the worse as large as this is where only chance is at work."""
    n: int
    """How many cases have both values."""
    changed: int
    """In how many of them they differ."""
    test: Literal["mcnemar", "bootstrap", "none"]


def wilson(share: float, n: int) -> Interval:
    """The interval of a share of n cases by Wilson (1927), for 95 %.

    Means of other values from 0 to 1 spread less than a share does: for them it is on the safe side.
    Of no case at all everything is possible.
    """
    if not n:
        return Interval(math.nan, 0.0, 1.0, 0)
    z2 = TWO_SIDED_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    spread = share * (1 - share) / n + z2 / (4 * n**2)
    half = TWO_SIDED_95 * math.sqrt(max(spread, 0)) / (1 + z2 / n)
    # The share itself is inside, which rounding would deny at 0 and at 1.
    low, high = min(share, middle - half), max(share, middle + half)
    return Interval(share, max(0.0, low), min(1.0, high), n)


def cases_needed(threshold: float, share: float = 1.0) -> int | None:
    """Of how many cases Wilson's interval of this share no longer holds the threshold.

    A perfect run needs 73 cases to pass 0.95 and 381 to pass 0.99. None where no number is enough:
    the share is the threshold, or so near that a billion cases would not tell, or the threshold is 0
    or 1, which no sample can show.
    """
    spread, apart = threshold * (1 - threshold) * TWO_SIDED_95**2, (share - threshold) ** 2
    if not 0 < threshold < 1 or spread >= apart * TOO_MANY:
        return None
    return math.ceil(spread / apart)


def cases_until(border: float, value: float, end: float, n: int) -> int | None:
    """How many cases it takes until the end of an interval that holds the border has come to it.

    Intervals shrink with the root of the number of cases. None where no number is enough, or where
    the n cases that there are do not tell how much values differ; nor where it is over a billion.
    """
    if end == value or not math.isfinite(end):
        return None
    if n * (value - end) ** 2 >= TOO_MANY * (value - border) ** 2:
        return None
    return max(n + 1, math.ceil(n * ((value - end) / (value - border)) ** 2))


def mean(values: "Values", *, unit: bool = False, seed: int = 0) -> Interval:
    """The mean of values, one for each case, with its interval for 95 %; None is left out.

    Values of 0 and 1 are a share, and get Wilson's interval. Others get a bootstrap of Student's t
    (Efron 1981), which covers skewed values such as latencies better than percentiles or BCa do
    (see docs/quality.md); fewer than 10 values beside equal ones, or more than 5,000, Student's t
    itself. Of one value the interval has no ends, of none it is (nan, -inf, inf).

    Args:
        values: shape (cases,).
        unit: whether all possible values lie from 0 to 1. Where nearly all of those seen are the
            same, Wilson's interval then says how much the rare others may matter.
        seed: of the resampling.

    Raises `UsageError` for a value that is no finite number, or with `unit` not from 0 to 1.
    """
    found = _numbers(values, unit)
    n, value = len(found), float(found.mean()) if len(found) else math.nan
    if unit and (_binary(found) or _different(found) < FEW):
        return wilson(value, n)
    low, high = _ends(found, seed)
    if unit:
        low, high = max(0.0, low), min(1.0, high)
    return Interval(value, low, high, n)


def paired(
    before: "Values", after: "Values", *, unit: bool = False, lower: bool = False, seed: int = 0
) -> Paired:
    """Whether a mean changed, on the same cases; a case that lacks a value is left out.

    Shares (all values 0 or 1) are tested by McNemar's exact test (1947), with the score interval of
    the difference by Tango (1998). Other values are tested by Fisher's randomisation of signs, and
    the interval is that of `mean` for the differences.

    Args:
        before: shape (cases,).
        after: shape (cases,), in the same order.
        unit: whether all possible values lie from 0 to 1.
        lower: whether lower is better, so that `p` is that of a rise.
        seed: of the resampling.

    Raises `UsageError` where the numbers of cases differ, and for values as `mean` does.
    """
    was, became = _both(before, after, unit)
    n, changed = len(was), became - was
    moved = int((changed != 0).sum())
    if not n:
        return Paired(math.nan, math.nan, math.nan, -math.inf, math.inf, 1.0, 0, 0, "none")
    share = unit and _binary(was) and _binary(became)
    if unit and (share or moved < FEW):
        low, high = tango(float(-changed[changed < 0].sum()), float(changed[changed > 0].sum()), n)
    else:
        low, high = _ends(changed, seed)
    if unit:
        low, high = max(-1.0, low), min(1.0, high)
    p = chance_of_fall(-changed if lower else changed)
    test = "mcnemar" if share else "bootstrap"
    means = (float(was.mean()), float(became.mean()), float(changed.mean()))
    return Paired(*means, low, high, p, n, moved, test)


def chance_of_fall(changed: "Array") -> float:
    """One-sided p of a sum of paired differences this low, when each sign was as likely.

    For shares that is McNemar's exact test (1947), a binomial of the cases that changed. For other
    values, Fisher's randomisation (1935): signs are flipped 10,000 times, always the same; of more
    than 5,000 that changed the sums are normal.
    """
    import numpy as np
    from scipy.stats import binom, norm

    changed = changed[changed != 0]
    if not len(changed):
        return 1.0
    if (np.abs(changed) == 1).all():
        return float(binom.cdf(int((changed > 0).sum()), len(changed), 0.5))
    if len(changed) > MANY:
        return float(norm.cdf(changed.sum() / math.sqrt(float(changed @ changed))))
    flips = np.random.default_rng(0)
    sums = np.empty(_FLIPS)
    for start in range(0, _FLIPS, _FLIPS_AT_ONCE):
        signs = flips.integers(0, 2, (_FLIPS_AT_ONCE, len(changed)), dtype=np.int8) * 2 - 1
        sums[start : start + _FLIPS_AT_ONCE] = signs @ np.abs(changed)
    as_low = int((sums <= changed.sum() + 1e-12).sum())
    return (as_low + 1) / (_FLIPS + 1)


def tango(fell: float, rose: float, n: int) -> tuple[float, float]:
    """The score interval of a difference of paired shares by Tango (1998), for 95 %.

    The ends are the differences at which the score statistic, with the shares that are then most
    likely, is at the border. Of n pairs `fell` went from 1 to 0 and `rose` from 0 to 1. Sums of
    smaller changes may stand for them, which is on the safe side as they spread less.
    """
    from scipy.optimize import brentq

    # Where all changed or none did, the statistic is also 0/0 at what was seen: begin beside it.
    seen, beside = (rose - fell) / n, 1e-9

    def over(true: float, border: float) -> float:
        return rose - fell - n * true - border * _score_deviation(fell, rose, n, true)

    def end(least: float, most: float, border: float) -> float:
        return cast("float", brentq(over, least, most, args=(border,)))

    low = -1.0 if fell == n else end(-1.0, seen - beside, TWO_SIDED_95)
    high = 1.0 if rose == n else end(seen + beside, 1.0, -TWO_SIDED_95)
    return low, high


def _score_deviation(fell: float, rose: float, n: int, true: float) -> float:
    """By Tango: the deviation of rose - fell where the difference of shares is `true`."""
    b = -fell - rose + (2 * n - rose + fell) * true
    root = math.sqrt(max(0.0, b * b + 8 * n * fell * true * (1 - true)))
    falls = max(0.0, (root - b) / (4 * n))
    return math.sqrt(max(0.0, n * (2 * falls + true * (1 - true))))


def holm(ps: Sequence[float]) -> list[float]:
    """p values of several tests, raised so that all together err as seldom as one (Holm 1979)."""
    adjusted, least = [0.0] * len(ps), 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = least
    return adjusted


def _numbers(values: "Values", unit: bool) -> "Array":
    import numpy as np

    found = np.array([v for v in values if v is not None], dtype=np.float64)
    wrong = ~np.isfinite(found) | ((found < 0) | (found > 1) if unit else False)
    if wrong.any():
        what = "no number from 0 to 1" if unit else "no finite number"
        raise UsageError(f"{found[wrong][0]} is {what}: give None where a case has no value")
    return found


def _both(before: "Values", after: "Values", unit: bool) -> "tuple[Array, Array]":
    if len(before) != len(after):
        raise UsageError(f"{len(before)} values before and {len(after)} after: give pairs")
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    return _numbers([b for b, _ in pairs], unit), _numbers([a for _, a in pairs], unit)


def _binary(found: "Array") -> bool:
    return bool(((found == 0) | (found == 1)).all())


def _different(found: "Array") -> int:
    """How many values there are where all that are the commonest one count as one."""
    import numpy as np

    return len(found) - max(0, int(np.unique(found, return_counts=True)[1].max(initial=0)) - 1)


def _ends(found: "Array", seed: int) -> tuple[float, float]:
    from scipy.stats import t as student

    n = len(found)
    if n < 2:
        return -math.inf, math.inf
    middle, error = float(found.mean()), float(found.std(ddof=1)) / math.sqrt(n)
    if _different(found) >= FEW and n <= MANY:
        below, above = _studentised(found, seed)
    else:
        above = float(student.ppf(0.975, n - 1))
        below = -above
    return middle - above * error, middle - below * error


def _studentised(found: "Array", seed: int) -> tuple[float, float]:
    """Where 95 % of Student's t of resamples lie, about the mean of the values."""
    import numpy as np

    draw, n = np.random.default_rng(seed), len(found)
    at_once = max(1, _DRAWN_AT_ONCE // n)
    ts = []
    for start in range(0, _RESAMPLES, at_once):
        drawn = found[draw.integers(0, n, (min(at_once, _RESAMPLES - start), n))]
        error = drawn.std(axis=1, ddof=1) / math.sqrt(n)
        with np.errstate(divide="ignore", invalid="ignore"):
            ts.append((drawn.mean(axis=1) - found.mean()) / error)
    # A resample of one value alone says nothing of t; among ten that differ there hardly is one.
    known = np.concatenate(ts)
    low, high = np.quantile(known[np.isfinite(known)], [0.025, 0.975])
    return float(low), float(high)
