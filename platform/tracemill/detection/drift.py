"""Whether two periods are alike in what was asked and answered: numbers, such as lengths, and vectors.

A test says whether a difference is more than chance, an effect whether it matters; of a million
rows every trifle is certain, so both are asked for.
"""
# scipy's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from tracemill.detection.season import Array
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LEAST = 20
"""With fewer on a side nothing is said."""
SAMPLE = 500
"""So many vectors of each side are compared, drawn with the seed."""
NUMBERS_APART, VECTORS_APART = 0.1, 0.002
"""The least effects that matter: a tenth of the values moved past some border; of the
distances between rows 2 in 1,000 are due to the side that they are from, as when one topic of eight
is new."""
_BINS = 10


@dataclass(frozen=True)
class Drift:
    """How far two periods are apart."""

    drifted: bool
    """More than chance, and enough to matter; False with too few rows to tell."""
    p: float
    """How likely they are this far apart where nothing changed; NaN with too few rows."""
    effect: float
    """From 0, alike, to 1: of numbers Kolmogorov's distance, the largest share that moved past any
    one border; of vectors the energy coefficient, the share of their distances that lies between
    the sides."""
    psi: float
    """Of numbers the population stability index by tenths of before; of vectors NaN."""
    n_before: int
    n_after: int
    test: Literal["kolmogorov-smirnov", "energy", "none"]


def drifted(
    before: "ArrayLike",
    after: "ArrayLike",
    alpha: float = 0.001,
    min_effect: float | None = None,
    *,
    seed: int = 0,
) -> Drift:
    """Whether values of another kind come now than before.

    Numbers are compared by the test of Kolmogorov and Smirnov. Vectors by their energy distance
    (Szekely and Rizzo 2004) on samples of 500, against 2/`alpha` permutations of who is on which
    side, so p is exact whatever the dimensions. Of quiet pairs `alpha` or fewer drift, if rows are
    drawn independently; rows of one conversation are not, so give one of each.

    Args:
        before: shape (rows,) for numbers, (rows, dimensions) for vectors; as `after`. Numbers that
            are not finite are left out, as are vectors with such.
        after: the period that is judged.
        alpha: the share of quiet pairs that may be called drifted.
        min_effect: below this a difference does not matter; by default 0.1 for numbers and 0.002
            for vectors.
        seed: of samples and permutations: the same answer to the same question.

    Raises `UsageError` where the two are not of the same kind.
    """
    old, new = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if old.ndim not in (1, 2) or old.ndim != new.ndim or old.shape[1:] != new.shape[1:]:
        raise UsageError(
            f"before is of shape {old.shape} and after of {new.shape}: two rows of numbers, or two "
            "arrays of vectors of the same length"
        )
    old, new = _known(old), _known(new)
    if min(len(old), len(new)) < LEAST:
        return Drift(False, np.nan, np.nan, np.nan, len(old), len(new), "none")
    if old.ndim == 1:
        effect, p, psi = *_numbers(old, new), _psi(old, new)
        least = NUMBERS_APART if min_effect is None else min_effect
    else:
        effect, p, psi = *_vectors(old, new, alpha, seed), np.nan
        least = VECTORS_APART if min_effect is None else min_effect
    test = "kolmogorov-smirnov" if old.ndim == 1 else "energy"
    return Drift(bool(p <= alpha and effect >= least), p, effect, psi, len(old), len(new), test)


def _known(rows: Array) -> Array:
    return rows[np.isfinite(rows) if rows.ndim == 1 else np.isfinite(rows).all(axis=1)]


def _numbers(old: Array, new: Array) -> tuple[float, float]:
    from scipy.stats import ks_2samp

    statistic, p = cast("tuple[float, float]", ks_2samp(old, new, method="asymp"))
    return float(statistic), float(p)


def _psi(old: Array, new: Array) -> float:
    """Sum of (new - old) log(new / old) over shares of tenths; half a row where a tenth has none."""
    borders = np.unique(np.quantile(old, np.linspace(0, 1, _BINS + 1)[1:-1]))
    was, became = (
        np.bincount(np.searchsorted(borders, rows), minlength=len(borders) + 1) + 0.5
        for rows in (old, new)
    )
    was, became = was / was.sum(), became / became.sum()
    return float(np.sum((became - was) * np.log(became / was)))


def _vectors(old: Array, new: Array, alpha: float, seed: int) -> tuple[float, float]:
    from scipy.spatial.distance import cdist

    draw = np.random.default_rng(seed)
    rows = np.concatenate([_drawn(old, draw), _drawn(new, draw)])
    n, m = min(len(old), SAMPLE), min(len(new), SAMPLE)
    far = cdist(rows, rows)
    permutations = int(np.ceil(2 / alpha)) - 1
    sides = np.zeros((permutations + 1, n + m))
    sides[:, :n] = 1
    sides[1:] = draw.permuted(sides[1:], axis=1)
    within_old = np.sum((sides @ far) * sides, axis=1)
    to_old = sides @ far.sum(axis=1) - within_old
    within_new = far.sum() - within_old - 2 * to_old
    # Without the distances of rows to themselves, so that two alike sides are 0 apart on average.
    between = 2 * to_old / (n * m)
    energy = between - within_old / (n * (n - 1)) - within_new / (m * (m - 1))
    as_far = int(np.sum(energy[1:] >= energy[0] - 1e-12 * max(between[0], 1e-300)))
    effect = max(0.0, float(energy[0] / between[0])) if between[0] > 0 else 0.0
    return effect, (as_far + 1) / (permutations + 1)


def _drawn(rows: Array, draw: np.random.Generator) -> Array:
    if len(rows) <= SAMPLE:
        return rows
    return rows[np.sort(draw.choice(len(rows), SAMPLE, replace=False))]
