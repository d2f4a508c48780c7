"""Seeded histories in which nothing happens but what always does: weekdays, growth, noise of many kinds."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FIRST = np.datetime64("2026-01-01")
NOISES = ("normal", "Laplace", "Student, 3 degrees")


class Errors(NamedTuple):
    """Calls of each day, and how many failed; shape (series, days)."""

    failed: NDArray[np.int64]
    n: NDArray[np.int64]


def days(count: int) -> NDArray[np.datetime64]:
    """So many in a row."""
    return FIRST + np.arange(count)


def spending(
    series: int, count: int, noise: str, *, seed: int = 0, spread: float = 0.1, kept: float = 0.3
) -> Array:
    """USD a day: a week's pattern, growth or decline by up to 2 % a day, noise in proportion.

    Args:
        series: how many histories.
        count: days of each.
        noise: one of `NOISES`.
        seed: of all.
        spread: standard deviation of the noise, of logarithms.
        kept: correlation of the noise of two days.
    """
    draw = np.random.default_rng(seed)
    shape = (series, count)
    step = {
        "normal": lambda: draw.normal(size=shape),
        "Laplace": lambda: draw.laplace(size=shape) / np.sqrt(2),
        "Student, 3 degrees": lambda: draw.standard_t(3, shape) / np.sqrt(3),
    }[noise]()
    for day in range(1, count):
        step[:, day] = kept * step[:, day - 1] + np.sqrt(1 - kept**2) * step[:, day]
    week = 0.5 * draw.normal(size=(series, 7))[:, np.arange(count) % 7]
    growth = np.clip(0.01 * draw.normal(size=(series, 1)), -0.02, 0.02) * np.arange(count)
    return 100 * np.exp(week + growth + spread * step)


def errors(
    series: int, count: int, *, rate: float, calls: int, scatter: float, seed: int = 0
) -> Errors:
    """Calls that fail at a rate drawn anew each day, lognormal with this standard deviation."""
    draw = np.random.default_rng(seed)
    shape = (series, count)
    each = np.minimum(rate * np.exp(scatter * draw.normal(size=shape) - scatter**2 / 2), 0.95)
    n = draw.poisson(calls, shape)
    return Errors(draw.binomial(n, each), n)


def topics(
    rows: int, draw: np.random.Generator, *, new: float = 0.0, dimensions: int = 64
) -> Array:
    """Vectors of length 1 about eight topics; a share `new` about one more."""
    middles = np.random.default_rng(99).normal(size=(9, dimensions))
    chosen = np.where(draw.random(rows) < new, 8, draw.integers(0, 8, rows))
    found = middles[chosen] + draw.normal(size=(rows, dimensions))
    return found / np.linalg.norm(found, axis=1, keepdims=True)
