"""Days that stand out: each is judged by the days before it, as it could have been on the day.

The errors that the same expectation made on past days say how far it is usually out, and how often
much farther; so a series that jumps about has to jump higher.
"""
# scipy's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracemill.detection import tails
from tracemill.detection.season import (
    Array,
    Days,
    before,
    calendar,
    medians,
    nanmean,
    quantile,
    scaled,
    seasonal,
    unscaled,
)
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

ERRORS = 91
"""Of so many days before the errors are looked at."""
LEAST_ERRORS = 14
"""With fewer there is no verdict: five weeks of history, with a season of a week."""
LEAST_SCALE = 0.01
"""Where the past never erred, one in a hundred counts as a usual error."""
MEDIAN_OF_NORMAL = 0.6744897501960817
"""Of the absolute values of a normal distribution, in standard deviations."""
PASSES, WITHIN = 3, 0.6
"""Errors that stood out count as this share of their bound, which is as far out as a heavy tail goes
now and then, or earlier anomalies would hide later ones; gone over so often, as each may hide others."""
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Anomalies:
    """A verdict for each day, all of the shape of the values."""

    expected: Array
    low: Array
    """Below this a day stands out, in the unit of the values."""
    high: Array
    score: Array
    """How many robust standard deviations of past errors the day is away, on the scale on which it
    was judged; NaN without a verdict."""
    verdict: NDArray[np.str_]
    """`usual`, `high`, `low`; `unknown` where the value is missing, there is too little history, or
    what was before tells nothing: zero on most days, or as expected to the cent on most."""

    @property
    def is_anomaly(self) -> NDArray[np.bool_]:
        """Where the verdict is high or low."""
        return (self.verdict == "high") | (self.verdict == "low")


def daily_anomalies(
    days: Days, values: "ArrayLike", season: int = 7, alpha: float = 0.001, *, span: int = 1
) -> Anomalies:
    """Which days stand out from the days before them.

    Expected is the median of the last `season` days plus what the same weekday was above its own
    such median in the last eight weeks (medians, so that an anomaly does not spoil the days after
    it). Errors of this on the 91 days before give the scale (median absolute deviation) and, by
    the ratio of their 95th percentile to their median, the weight of the tail as degrees of freedom
    of Student's t; the bounds are its `alpha`/2 and 1 - `alpha`/2. Money and counts are judged in
    proportion (logarithms), so growth and heavy tails do no harm; a series that has negative values
    as it is.

    Of 1,000 quiet days with a verdict 1,000 x `alpha` alarm, or fewer: see `docs/detection.md`, where it is
    measured. A day is judged after five weeks at the earliest.

    Args:
        days: dates, in any order, each once; what is missing between them is unknown, not zero.
        values: of shape (days,) or (series, days); NaN where unknown.
        season: days after which things repeat.
        alpha: the share of quiet days that may alarm, both sides together.
        span: judge the mean of the last so many days instead of one; 7 finds a dear week of which
            each day is still within its bounds. A first alarm is followed by others, as the spans
            overlap: take the first.

    Raises `UsageError` where days and values do not fit, or `alpha` is no share.
    """
    if not 0 < alpha < 1 or season < 1 or span < 1:
        raise UsageError(
            f"alpha={alpha}, season={season}, span={span}: alpha is from 0 to 1, days from 1"
        )
    _, every, places = calendar(days, values)
    if not every.size:
        none = np.empty(np.shape(values))
        return Anomalies(none, none, none, none, none.astype(str))
    at_once = max(1, _AT_ONCE // max(1, every.shape[1] * ERRORS))
    parts = [
        _judged(every[i : i + at_once], season, alpha, span) for i in range(0, len(every), at_once)
    ]
    shape = np.shape(values)
    columns = [
        np.concatenate(c, axis=0)[:, places].reshape(shape) for c in zip(*parts, strict=True)
    ]
    expected, low, high, score, value = columns
    verdict = np.select(
        [np.isnan(score), value > high, value < low], ["unknown", "high", "low"], "usual"
    )
    return Anomalies(expected, low, high, score, verdict)


def _judged(values: Array, season: int, alpha: float, span: int) -> tuple[Array, ...]:
    """Expected, low, high, score, and the value that is compared with them."""
    if span > 1:
        padded = np.pad(values, ((0, 0), (span - 1, 0)), constant_values=np.nan)
        values = np.lib.stride_tricks.sliding_window_view(padded, span, axis=1).mean(axis=2)
    y, start = scaled(values)
    expected = _expected(y, season, span)
    error = y - expected
    floor = np.where(np.isnan(start), LEAST_SCALE * np.abs(expected), LEAST_SCALE)
    width, scale = _bounds(np.abs(error), floor, span, alpha)
    for _ in range(PASSES):
        # What stood out counts as within, or it would hide the next such day.
        out = (np.abs(error) > width) & (width > 0)
        again = np.flatnonzero(out.any(axis=1))
        if not len(again):
            break
        counted = np.where(out[again], WITHIN * width[again], np.abs(error[again]))
        width[again], scale[again] = _bounds(counted, floor[again], span, alpha)
    width, scale = np.maximum(width, floor), np.maximum(scale, floor)
    width[_seldom(values, start)] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(error == 0, 0.0, error / scale)
    score = np.where(np.isnan(width), np.nan, score)
    low, middle, high = (unscaled(v, start) for v in (expected - width, expected, expected + width))
    return middle, low, high, score, values


def _seldom(values: Array, start: Array) -> NDArray[np.bool_]:
    """Days before which something was spent, but on fewer than half of the days."""
    share = nanmean(before(np.where(np.isfinite(values), values > 0, np.nan), ERRORS))
    return (share > 0) & (share < 0.5) & np.isfinite(start)


def _expected(y: Array, season: int, span: int) -> Array:
    """Of each day by the days before it; of a span by those before the span."""
    known = np.pad(y, ((0, 0), (span - 1, 0)), constant_values=np.nan)[:, : y.shape[1]]
    rough = medians(known, season, least=(season + 1) // 2)
    above = seasonal(y - rough, season)
    # Without its season every day tells the level, and with more days the level is surer.
    even = np.pad(y - above, ((0, 0), (span - 1, 0)), constant_values=np.nan)[:, : y.shape[1]]
    level = medians(even, 2 * season, least=season // 2 + 1)
    late = np.pad(y - level - above, ((0, 0), (span - 1, 0)), constant_values=np.nan)
    # What grows is always a little above a level that is of the past, and always by as much.
    return level + above + np.nan_to_num(medians(late[:, : y.shape[1]], 4 * season, least=season))


def _bounds(errors: Array, floor: Array, span: int, alpha: float) -> tuple[Array, Array]:
    """How far a day may be out, and the robust standard deviation."""
    # A day of this span is no past error yet.
    past = before(errors, ERRORS)[..., : ERRORS - (span - 1)]
    middle = quantile(past, 0.5, least=LEAST_ERRORS)
    width = middle * tails.reach(past, middle, alpha, span)
    # Where most days are the same and some are not, no few of them tell one in a thousand.
    same = np.where(np.max(np.nan_to_num(past), axis=-1) > floor, np.nan, 0.0)
    width = np.where(middle > 0, width, np.where(np.isnan(middle), np.nan, same))
    return width, middle / MEDIAN_OF_NORMAL
