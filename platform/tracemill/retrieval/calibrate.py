"""Fit a calibration to answers of which it is known whether they were right, and tell how well it
holds on those that were held out."""
# scipy's types are missing:
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tracemill.errors import UsageError
from tracemill.retrieval.confidence import ANY, SIGNS, Calibration, sigmoid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracemill.events import RetrievalEvaluated
    from tracemill.retrieval.judge import Judged

LEAST = 200
"""Answers that a calibration needs, `LEAST_EACH` of them right, and as many wrong: with fewer, one
odd label moves it by more than it mends."""
LEAST_EACH = 50
CURVE_FROM = 500
"""Answers from which on the curve is fitted too; below, the logistic function is the curve."""
_POINTS, _A_POINT = 20, 50  # at most so many points, of so many answers each at least
_PRIOR = 0.5  # a ridge of one observation on each weight


class Quality(NamedTuple):
    """How well probabilities hold."""

    answers: int
    ece: float
    """Expected calibration error over ten bins with as many answers each: how far, on average, a
    bin's mean probability is from its share of right answers (Naeini et al. 2015)."""
    brier: float
    """The mean squared error (Brier 1950)."""
    auroc: float
    """How often a right answer has a higher probability than a wrong one."""
    bins: tuple[tuple[float, float], ...]
    """Mean probability and share of right answers, bin by bin."""


def fit(
    signs: "NDArray[np.float64]",
    right: "NDArray[np.bool_]",
    *,
    model: str,
    provenance: dict[str, str | int | float] | None = None,
) -> Calibration:
    """Learn from answers of which it is known whether they were right.

    Args:
        signs: of shape (answers, 4), in the order of `SIGNS`.
        right: of shape (answers,).
        model: the embedding model of the passages.

    Raises `UsageError` where there are too few.
    """
    _check(right)
    return _fit(signs, right, model, {"answers": len(right)} | (provenance or {}))


def _fit(
    signs: "NDArray[np.float64]",
    right: "NDArray[np.bool_]",
    model: str,
    provenance: dict[str, str | int | float],
) -> Calibration:
    import numpy as np
    from scipy.optimize import minimize

    centre, spread = signs.mean(axis=0), signs.std(axis=0) + 1e-6
    scaled = np.c_[(signs - centre) / spread, np.ones(len(signs))]
    turned = np.where(right, 1.0, -1.0)

    def loss(weights: "NDArray[np.float64]") -> "tuple[float, NDArray[np.float64]]":
        margins = turned * (scaled @ weights)
        ridge = np.r_[weights[:-1], 0]
        value = np.logaddexp(0, -margins).sum() + _PRIOR * (ridge @ ridge)
        slope = -(turned * sigmoid(-margins)) @ scaled + 2 * _PRIOR * ridge
        return float(value), slope

    bounds = [(0, None)] * len(centre) + [(None, None)]
    start = np.zeros(len(centre) + 1)
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    logistic = sigmoid(scaled @ found)
    return Calibration(
        model=model,
        centre=_rounded(centre),
        spread=_rounded(spread),
        weights=_rounded(found[:-1]),
        intercept=round(float(found[-1]), 5),
        curve=_curve(logistic, right) if len(right) >= CURVE_FROM else (),
        provenance=provenance,
    )


def _check(right: "NDArray[np.bool_]") -> None:
    good = int(right.sum())
    bad = len(right) - good
    if len(right) < LEAST or min(good, bad) < LEAST_EACH:
        raise UsageError(
            f"{len(right)} answers, {good} right and {bad} wrong, are too few to calibrate by: it "
            f"takes {LEAST}, {LEAST_EACH} of each kind at least; label more questions, some of "
            "them without an answer"
        )


def _curve(
    logistic: "NDArray[np.float64]", right: "NDArray[np.bool_]"
) -> tuple[tuple[float, float], ...]:
    """Isotonic regression (Barlow et al. 1972) on the means of bins with as many answers each."""
    import numpy as np
    from scipy.optimize import isotonic_regression

    points = min(_POINTS, len(right) // _A_POINT)
    bins = np.array_split(np.argsort(logistic, kind="stable"), points)
    levels = isotonic_regression([right[rows].mean() for rows in bins]).x
    curve = ((float(logistic[rows].mean()), float(p)) for rows, p in zip(bins, levels, strict=True))
    return tuple((round(x, 5), round(p, 5)) for x, p in curve)


def held_out(
    signs: "NDArray[np.float64]",
    right: "NDArray[np.bool_]",
    groups: "NDArray[np.int64]",
    *,
    folds: int = 8,
) -> "NDArray[np.float64]":
    """A probability for each answer, by a calibration that saw no answer of its group.

    Args:
        groups: of shape (answers,): the article, say; a fold holds every `folds`-th group.
    """
    import numpy as np

    fold = np.unique(groups, return_inverse=True)[1] % folds
    probabilities = np.empty(len(right))
    for number in np.unique(fold):
        out = fold == number
        learned = _fit(signs[~out], right[~out], ANY, {})
        probabilities[out] = learned.probabilities(signs[out])
    return probabilities


def learn(judged: "Sequence[Judged]", event: "RetrievalEvaluated") -> Calibration:
    """A collection's own calibration, from answers to its own labelled questions.

    Its provenance tells the error before and after, on answers that were held out.

    Raises `UsageError` where there are too few, or where the questions were made, not labelled.
    """
    import numpy as np

    if event.dataset_digest.startswith("self-made:"):
        raise UsageError(
            "questions made from the text say nothing about being right: label some to calibrate by"
        )
    answers = [each for each in judged if each.signs is not None]
    right = np.array([each.right for each in answers], dtype=bool)
    _check(right)
    signs = np.array([(each.signs or ())[: len(SIGNS)] for each in answers], dtype=np.float64)
    before = quality(np.array([each.confidence for each in answers]), right)
    after = quality(held_out(signs, right, np.arange(len(right))), right)
    facts: dict[str, str | int | float] = {
        "data": f"{event.index}: {event.dataset_digest}",
        "date": f"{event.occurred_at:%Y-%m-%d}",
        "answer_model": event.answer_model or "",
        "ece_before": round(before.ece, 4),
        "ece": round(after.ece, 4),
    }
    return fit(signs, right, model=event.embedding_model, provenance=facts)


def quality(
    probabilities: "NDArray[np.float64]", right: "NDArray[np.bool_]", *, bins: int = 10
) -> Quality:
    """How well probabilities hold against what was right; both of shape (answers,)."""
    import numpy as np
    from scipy.stats import rankdata

    order = np.array_split(np.argsort(probabilities, kind="stable"), min(bins, len(right)))
    pairs = [(float(probabilities[r].mean()), float(right[r].mean())) for r in order]
    gaps = [abs(p - share) * len(rows) for (p, share), rows in zip(pairs, order, strict=True)]
    good = int(right.sum())
    above = rankdata(probabilities)[right].sum() - good * (good + 1) / 2
    return Quality(
        answers=len(right),
        ece=sum(gaps) / len(right),
        brier=float(((probabilities - right) ** 2).mean()),
        auroc=float(above / (good * (len(right) - good)))
        if 0 < good < len(right)
        else float("nan"),
        bins=tuple(pairs),
    )


def _rounded(values: "NDArray[np.float64]") -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)
