"""How far out one in a thousand errors lies, told by a few dozen of them: a weighed mean of Student's t.

No few dozen errors tell their tail for sure. So every scale and weight of tail is taken as far as
the errors make it likely, and what is likely of all of these together is the bound.
"""
# scipy's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

import numpy as np

from tracemill.detection.season import Array

STEP = 1.2
"""Scales are so many times each other; degrees of freedom the square of it, so that a scale times
the root of the degrees is one of a few values."""
SCALES = STEP ** np.arange(-4, 5)
DEGREES = 1.75 * STEP ** (2.0 * np.arange(9))
"""1.75 to 32: a normal distribution all but in name."""
CAUTION = 0.35
"""Of so much of `alpha` the bound is made: few errors with a heavy tail show less of it than there is.
Of the values tried the largest that keeps Student's t with three degrees of freedom to `alpha`, on
seeds that no test or benchmark uses; at 0.6 it has 1.5 times as many alarms. Lighter tails have far fewer."""
USUAL_MEDIAN = 0.711
"""The median of |t| with 7 degrees: near to that of all of these."""
FARTHEST = 200.0
"""In medians of the errors."""
MOST = 1e150
"""In medians too: the square of what is farther is no number."""


def reach(errors: Array, median: Array, alpha: float, span: int) -> Array:
    """The bound that the next absolute error passes with probability `alpha`, in medians.

    The posterior predictive of Student's t over a grid of scales and degrees of freedom.

    Args:
        errors: absolute, NaN where unknown; shape (..., errors).
        median: theirs; shape (...).
        alpha: how likely it may be passed.
        span: neighbouring errors have so many days in common, and say as much less.
    """
    from scipy.special import gammaln
    from scipy.stats import t as student

    known = np.sum(np.isfinite(errors), axis=-1)[..., None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.nan_to_num(errors / median[..., None], posinf=0.0)
    squares = np.minimum(ratios, MOST) ** 2
    scales = SCALES / USUAL_MEDIAN
    roots = scales[0] * np.sqrt(DEGREES[0]) * STEP ** np.arange(len(SCALES) + len(DEGREES) - 1.0)
    logs = np.stack([np.log1p(squares / root**2).sum(axis=-1) for root in roots], axis=-1)
    places = np.arange(len(SCALES))[:, None] + np.arange(len(DEGREES))
    constant = gammaln((DEGREES + 1) / 2) - gammaln(DEGREES / 2) - 0.5 * np.log(DEGREES)
    likely = known * (constant - np.log(scales)[:, None]) - (DEGREES + 1) / 2 * logs[..., places]
    likely = np.exp((likely - likely.max(axis=(-2, -1), keepdims=True)) * min(1.0, 1.5 / span))
    likely[..., : 4 if span > 1 else 0] = 0  # means of several days have light tails
    weights = (likely / likely.sum(axis=(-2, -1), keepdims=True)).reshape(*median.shape, -1)
    bounds = np.geomspace(1.0, FARTHEST, 120)
    tail = 2 * student.sf(bounds / scales[:, None, None], DEGREES[:, None])
    passed = weights @ tail.reshape(-1, len(bounds))
    first = np.argmax(passed <= CAUTION * alpha, axis=-1)
    return np.where(passed[..., -1] > CAUTION * alpha, np.inf, bounds[first])
