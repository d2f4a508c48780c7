"""What the next days bring, and how sure that is: as far as forecasts made on past days were out.

Each day of the past is a place to stand at: the same rule is asked there for the days after it,
which are known by now. What it erred by is the interval, and whether it beats a naive rule is said.
"""
# scipy's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracemill.detection.season import Array, Days, calendar, nanmean, quantile, scaled, unscaled
from tracemill.errors import UsageError
from tracemill.intervals import Interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LEAST_WEEKS = 3
"""So many seasons must lie before a day to forecast from it."""
LEAST_BACKTESTS = 7
"""From so many days forecasts over the whole time ahead must have been possible."""
WEEKS = 8
"""The trend is that of the last eight seasons."""
DAYS_APART, TOTALS_APART, LEAST_DEGREES = 3, 14, 2.0
"""Errors of a day that were made so many days apart count as independent, and those of totals."""
TRENDS = (0.0, 0.5, 1.0)
"""How much of the trend goes on; the past says which share does best."""


@dataclass(frozen=True)
class Forecast:
    """The next days."""

    days: NDArray[np.datetime64]
    median: Array
    """Of each day, in the unit of the values."""
    low: Array
    high: Array
    total: Interval
    """Of all the days together; its interval is narrower than that of the sum of the ends."""
    level: float
    """How many of 100 days, or totals, should lie within."""
    trend: float
    """How the level grows, per day, as a share of it; 0 where the past does better without."""
    backtests: int
    """From how many past days the whole time ahead was forecast; they overlap."""
    coverage: float
    """Of the days forecast from these, the share within the interval that was known at the time; NaN
    where none was yet."""
    mape: float
    """Mean absolute error of past totals in per cent of the totals."""
    naive_mape: float
    """The same of a naive rule: each day as the last of the same weekday was."""


def forecast(
    days: Days, values: "ArrayLike", ahead: int, level: float = 0.9, season: int = 7
) -> Forecast:
    """The `ahead` days after the last one.

    Median of the last two seasons, plus the median of each weekday about the level, plus as much of the
    Theil-Sen slope of the last eight weeks as did best in the past (none, half or all), on the
    logarithm where nothing is negative. Errors of the same rule from each past day give intervals: the
    root of their mean square at each distance, by Student's t with one degree of freedom
    for every 3 days (of totals: 14) that were forecast from, as neighbours err alike.

    Args:
        days: dates, in any order, each once; missing ones are unknown, not zero.
        values: shape (days,); NaN where unknown.
        ahead: how many days, from the day after the last.
        level: of the interval.
        season: days after which things repeat.

    Raises `UsageError` with too little history: three seasons, `ahead` and a week.
    """
    if ahead < 1 or not 0 < level < 1 or np.ndim(values) != 1:
        raise UsageError(f"ahead={ahead}, level={level}: at least 1 day, a share, and one series")
    every, known, _ = calendar(days, values)
    least = LEAST_WEEKS * season + ahead + LEAST_BACKTESTS
    if len(every) < least or np.isfinite(known).mean() < 0.5:
        raise UsageError(
            f"a forecast of {ahead} days needs {least} days of history, half of them known; "
            f"there are {len(every)}, {int(np.isfinite(known).sum())} known: ask for fewer days ahead"
        )
    y, starts = scaled(known)
    start = starts[:, -1:]
    origins = np.arange(LEAST_WEEKS * season, len(every) - ahead + 1)
    truth = known[0, origins[:, None] + np.arange(ahead)]
    slopes = _slopes(y[0], np.append(origins, len(every)), season)
    flat = _flat(y[0], np.append(origins, len(every)), ahead, season)
    steps = np.arange(1, ahead + 1) + season
    paths: list[Array] = [flat + t * slopes[:, None] * steps for t in TRENDS]
    best = int(np.argmin([_mape(unscaled(path[:-1], start), truth) for path in paths]))
    with_start = np.log(np.maximum(truth, 0) + np.nan_to_num(start))
    scaled_truth: Array = np.where(np.isnan(start), truth, with_start)
    errors: Array = np.subtract(scaled_truth, paths[best][:-1])  # pyright: ignore[reportUnknownArgumentType]
    halves = _halves(errors, level)
    low, median, high = (unscaled(paths[best][-1] + k * halves, start)[0] for k in (-1, 0, 1))
    backtest = unscaled(paths[best][:-1], start)
    naive = _naive(known[0], origins, ahead, season)
    return Forecast(
        every[-1] + np.arange(1, ahead + 1),
        median,
        low,
        high,
        _total(backtest, truth, median, level),
        level,
        float(TRENDS[best] * slopes[-1]),
        len(origins),
        _coverage(errors, level),
        _mape(backtest, truth),
        _mape(naive, truth),
    )


def _flat(y: Array, origins: NDArray[np.intp], ahead: int, season: int) -> Array:
    """From each origin the days ahead, without trend: origins x ahead."""
    padded = np.pad(y, (WEEKS * season, 0), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WEEKS * season)[origins]
    weeks = windows.reshape(len(origins), WEEKS, season)
    above = quantile(np.swapaxes(weeks - quantile(weeks, 0.5)[..., None], 1, 2), 0.5)
    above = np.nan_to_num(above)
    level = quantile((weeks[:, -2:] - above[:, None]).reshape(len(origins), -1), 0.5)
    level = np.where(np.isnan(level), quantile(windows, 0.5), level)
    return level[:, None] + above[:, np.arange(ahead) % season]


def _slopes(y: Array, origins: NDArray[np.intp], season: int) -> Array:
    """Theil and Sen's, per day, of the levels of the last weeks before each origin."""
    padded = np.pad(y, (WEEKS * season, 0), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WEEKS * season)[origins]
    levels = quantile(windows.reshape(len(origins), WEEKS, season), 0.5)
    one, other = np.triu_indices(WEEKS, 1)
    slopes = (levels[:, other] - levels[:, one]) / ((other - one) * season)
    return np.nan_to_num(quantile(slopes, 0.5))


def _naive(values: Array, origins: NDArray[np.intp], ahead: int, season: int) -> Array:
    return values[origins[:, None] - season + np.arange(ahead) % season]


def _mape(paths: Array, truth: Array) -> float:
    """Of totals, over the days that are known in both."""
    made, real = _sums(paths, truth)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.abs(made / real - 1)
    return (
        float(100 * np.mean(errors[np.isfinite(errors)])) if np.isfinite(errors).any() else np.nan
    )


def _sums(paths: Array, truth: Array) -> tuple[Array, Array]:
    both = np.isfinite(paths) & np.isfinite(truth)
    return np.where(both, paths, 0).sum(axis=1), np.where(both, truth, 0).sum(axis=1)


def _halves(errors: Array, level: float) -> Array:
    """Half the interval at each distance; never less far out than nearer ones."""
    square = np.fmax.accumulate(nanmean((errors**2).T))
    return _quantile(level, len(errors) / DAYS_APART) * np.sqrt(square)


def _total(paths: Array, truth: Array, median: Array, level: float) -> Interval:
    made, real = _sums(paths, truth)
    in_proportion = bool(((made > 0) & (real > 0)).all())
    errors = np.log(real / made) if in_proportion else real - made
    half = float(_quantile(level, len(errors) / TOTALS_APART) * np.sqrt(np.mean(errors**2)))
    middle, n = float(np.sum(median)), len(median)
    if in_proportion:
        return Interval(middle, middle * float(np.exp(-half)), middle * float(np.exp(half)), n)
    return Interval(middle, middle - half, middle + half, n)


def _coverage(errors: Array, level: float) -> float:
    """With intervals as they were known on the day that the forecast would have been made."""
    inside: list[NDArray[np.bool_]] = []
    for far, error in enumerate(errors.T, start=1):
        first = (
            far + LEAST_BACKTESTS - 1
        )  # what was forecast from earlier days has come true by then
        if len(error) > first:
            count = np.arange(first, len(error)) - far
            square = np.nancumsum(error**2) / np.maximum(np.cumsum(np.isfinite(error)), 1)
            half = _quantile(level, (count + 1) / DAYS_APART) * np.sqrt(square[count])
            inside.append((np.abs(error[first:]) <= half)[np.isfinite(error[first:])])
    return float(np.mean(np.concatenate(inside))) if inside else np.nan


def _quantile(level: float, errors: "ArrayLike") -> Array:
    """Student's t by how many errors there are that have little to do with each other."""
    from scipy.stats import t as student

    return np.asarray(student.ppf(0.5 + level / 2, np.maximum(LEAST_DEGREES, errors)))
