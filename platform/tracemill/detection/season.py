"""Days in a row, and what their weekday and the days before let expect of each: medians of the past.

The level is the median of the last week, the season the median of how the same weekday lay above
that level in the weeks before; whatever grows steadily is in both alike, and so needs no slope.
"""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracemill.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Array = NDArray[np.float64]
Days = Sequence[date] | NDArray[np.datetime64]

SEASONS = 8
"""So many weeks tell how a weekday differs."""
LEAST_SEASONS = 2
"""Of fewer of the same weekday nothing is said of the next."""
STARTED = 0.1
"""Logarithms are of the value plus this share of the usual one, so that next to nothing is not far
from nothing (a started logarithm: Tukey 1977)."""
USUAL = 91
"""What is usual is the median of what is positive in so many days."""


def calendar(
    days: Days, values: "ArrayLike"
) -> tuple[NDArray[np.datetime64], Array, NDArray[np.intp]]:
    """Every day from the first to the last; the values there, NaN where there is none; where each
    of the given days is.

    Raises `UsageError` where days and values do not fit, or a day is there twice.
    """
    given = np.asarray(days, "datetime64[D]")
    found = np.atleast_2d(np.asarray(values, np.float64))
    if given.ndim != 1 or found.ndim != 2 or found.shape[1] != len(given):
        raise UsageError(
            f"{len(given):,} days and values of shape {np.shape(values)}: give one value for each "
            "day, or an array of series x days"
        )
    if not len(given):
        return given, found, np.empty(0, np.intp)
    places = (given - given.min()).astype(np.intp)
    if len(np.unique(places)) < len(places):
        raise UsageError("a day is there twice: add up what belongs to one day")
    every = np.full((len(found), int(places.max()) + 1), np.nan)
    every[:, places] = np.where(np.isfinite(found), found, np.nan)
    return given.min() + np.arange(every.shape[1]), every, places


def scaled(values: Array) -> tuple[Array, Array]:
    """On the scale on which a series varies evenly, and what was added before the logarithm.

    The latter, of each day, is by the days up to it; NaN where a series stays as it is, for it
    goes below zero.
    """
    positive = np.where(values > 0, values, np.nan)
    usual = quantile(before(positive, USUAL), 0.5)
    first = np.argmax(positive > 0, axis=1)[:, None]
    usual = np.where(np.isnan(usual), np.take_along_axis(positive, first, 1), usual)
    negative = np.any(values < 0, axis=1, keepdims=True)
    # Of nothing but zeros any start does.
    start = np.where(negative, np.nan, STARTED * np.where(np.isnan(usual), 1.0, usual))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(negative, values, np.log(values + start)), start


def unscaled(values: Array, start: Array) -> Array:
    """The inverse; never below nothing where it was a logarithm."""
    with np.errstate(over="ignore"):
        back = np.maximum(np.exp(values) - start, 0.0)
    return np.where(np.isnan(start), values, back)


def medians(values: Array, days: int, *, least: int) -> Array:
    """Of each day the median of so many days before it; NaN where fewer than `least` are known."""
    return quantile(before(values, days), 0.5, least=least)


def seasonal(values: Array, season: int) -> Array:
    """Of each day the median of the same weekday in up to 8 weeks before it."""
    past = np.full((*values.shape, SEASONS), np.nan)
    for back in range(1, SEASONS + 1):
        if back * season < values.shape[1]:
            past[:, back * season :, back - 1] = values[:, : -back * season]
    return quantile(past, 0.5, least=LEAST_SEASONS)


def before(values: Array, days: int) -> Array:
    """Series x days x the days before each; NaN where there were none yet."""
    padded = np.pad(values, ((0, 0), (days, 0)), constant_values=np.nan)
    return np.lib.stride_tricks.sliding_window_view(padded, days, axis=1)[:, :-1]


def quantile(values: Array, q: float, *, least: int = 1) -> Array:
    """Along the last axis, of what is known; NaN where that is fewer than `least`.

    NumPy's own is a hundred times as slow where something is missing.
    """
    ordered = np.sort(values, axis=-1)  # what is missing comes last
    known = np.sum(np.isfinite(ordered), axis=-1)
    place = np.maximum(known - 1, 0) * q
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, np.maximum(known - 1, 0))
    below, above = (np.take_along_axis(ordered, i[..., None], -1)[..., 0] for i in (low, high))
    with np.errstate(invalid="ignore"):
        between = below + (above - below) * (place - low)
    return np.where(known >= max(least, 1), between, np.nan)


def nanmean(values: Array) -> Array:
    """Along the last axis, of what is known; NaN where nothing is, without a warning."""
    known = np.isfinite(values).sum(axis=-1)
    mean = np.nansum(values, axis=-1) / np.maximum(known, 1)
    return np.where(known > 0, mean, np.nan)
