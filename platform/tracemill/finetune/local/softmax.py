"""Multinomial logistic regression by Adagrad, over words that are few in each row and vectors.

A batch touches only the weights of its own words, so that an epoch costs what its text is long,
however many words there are.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tracemill.files import write_atomically
from tracemill.finetune.local.labelled import Labelled
from tracemill.llm.trained import classifier, features
from tracemill.llm.trained.classifier import Linear, Sees

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FIRST = 1e-3  # a squared gradient, so that the first step is no leap
_DENSE_RATE = 0.3  # of the words' rate: each vector touches every weight


class Measured(NamedTuple):
    """How good a classifier is on some examples."""

    loss: float
    """Nats for each example whose label is known."""
    accuracy: float
    scores: "NDArray[np.float32]"
    """Before the softmax: (examples, labels)."""


class Softmax:
    """Weights that are learned, with what Adagrad (Duchi and others, 2011) remembers of each."""

    def __init__(self, labels: int, buckets: "NDArray[np.uint32]", sees: Sees, rate: float) -> None:
        import numpy as np

        self.sees: Sees = sees
        self._rate = rate
        self.buckets = buckets if sees != "meaning" else buckets[:0]
        wide = 512 if sees != "words" else 0
        self._column = np.full(1 << features.BITS, -1, np.int32)
        self._column[self.buckets] = np.arange(len(self.buckets))
        self._slots = np.full(len(self.buckets), -1, np.int32)
        self.weights: dict[str, NDArray[np.float32]] = {}
        for name, shape in {
            "words": (len(self.buckets), labels),
            "meaning": (wide, labels),
            "bias": (labels,),
        }.items():
            self.weights[name] = np.zeros(shape, np.float32)
            self.weights[f"{name}_seen"] = np.full(shape, _FIRST, np.float32)

    def start_at(self, shares: "NDArray[np.float64]") -> None:
        """With what is known of the labels before anything is read."""
        import numpy as np

        self.weights["bias"][:] = np.log(shares)

    def epoch(
        self, data: Labelled, rows: "NDArray[np.int64]", answers: "NDArray[np.int64]", size: int
    ) -> float:
        """Learn from rows in their order, `size` at a time; returns the mean loss before each step."""

        lost = 0.0
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            lost += self._step(data, some, answers[some])
        return lost / max(len(rows), 1)

    def measure(
        self, data: Labelled, rows: "NDArray[np.int64]", answers: "NDArray[np.int64]"
    ) -> Measured:
        """Put examples to it."""
        import numpy as np

        parts = [self._scores(data, rows[at : at + 500])[0] for at in range(0, len(rows), 500)]
        scores = np.concatenate(parts)
        right = answers[rows]
        losses = -log_softmax(scores)[np.arange(len(rows)), right][right >= 0]
        accuracy = float((scores.argmax(axis=1) == right).mean())
        return Measured(float(losses.mean()) if len(losses) else np.inf, accuracy, scores)

    def linear(self) -> Linear:
        """The weights alone."""
        return Linear(self.buckets, *(self.weights[name] for name in ("words", "meaning", "bias")))

    def save(self, path: Path, state: Any) -> None:
        """Keep everything that learning goes on from, and what the caller adds as JSON."""
        from safetensors.numpy import save  # pyright: ignore[reportUnknownVariableType]

        held = {**self.weights, "buckets": self.buckets}
        told = save(held, metadata={"state": json.dumps(state, sort_keys=True)})
        write_atomically(path, lambda aside: aside.write_bytes(told))

    def restore(self, path: Path) -> None:
        """The weights of a checkpoint of the same training."""
        from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

        held = load_file(path)
        self.weights = {name: held[name] for name in self.weights}

    def _step(
        self, data: Labelled, rows: "NDArray[np.int64]", answers: "NDArray[np.int64]"
    ) -> float:
        import numpy as np

        from tracemill.finetune.local import kernels

        scores, words, vectors = self._scores(data, rows)
        logs = log_softmax(scores)
        wrong = np.exp(logs)
        wrong[np.arange(len(rows)), answers] -= 1
        wrong /= np.float32(len(rows))
        if words is not None:
            at, values, bounds = words
            held, seen = self.weights["words"], self.weights["words_seen"]
            kernels.move(at, values, bounds, wrong, held, seen, self._rate, self._slots)
        if vectors is not None:
            self._move("meaning", vectors.T @ wrong, self._rate * _DENSE_RATE)
        self._move("bias", wrong.sum(axis=0), self._rate * 0.1)
        return -float(logs[np.arange(len(rows)), answers].sum())

    def _move(self, name: str, gradient: "NDArray[np.float32]", rate: float) -> None:
        import numpy as np

        seen = self.weights[f"{name}_seen"]
        seen += gradient * gradient
        self.weights[name] -= np.float32(rate) * gradient / np.sqrt(seen)

    def _scores(self, data: Labelled, rows: "NDArray[np.int64]") -> tuple[Any, Any, Any]:
        """Scores of examples; the words in them as columns, values and bounds; their vectors."""
        import numpy as np

        from tracemill.finetune.local import kernels

        scores = np.tile(self.weights["bias"], (len(rows), 1))
        words = vectors = None
        if len(self.buckets):
            shown = data.words(rows)
            at, values, bounds = words = classifier.known(shown, self._column[shown.ids])
            kernels.add_scores(at, values, bounds, self.weights["words"], scores)
        if len(self.weights["meaning"]):
            vectors = data.vectors(rows)
            scores += vectors @ self.weights["meaning"]
        return scores, words, vectors


def state_of(path: Path) -> Any:
    """What the caller added to a checkpoint."""
    from safetensors import safe_open

    with cast(Any, safe_open)(path, "numpy") as file:
        return json.loads(file.metadata()["state"])


def log_softmax(scores: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Natural logarithms of probabilities, row by row."""
    import numpy as np

    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def temperature(scores: "NDArray[np.float32]", answers: "NDArray[np.int64]") -> float:
    """What scores are to be multiplied with, so that probabilities are what they say.

    Guo and others, On Calibration of Modern Neural Networks (2017); with one further example whose
    label is anybody's guess, so that a run without mistakes is not taken for certainty.
    """
    import numpy as np
    from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

    known = answers >= 0
    scores, answers = scores[known], answers[known]
    if not len(answers):
        return 1.0

    def loss(log_factor: float) -> float:
        logs = log_softmax(scores * np.float32(np.exp(log_factor)))
        return -float(logs[np.arange(len(answers)), answers].sum() + logs.mean())

    minimize: Any = cast(Any, optimize).minimize_scalar
    best = minimize(loss, bounds=(-2.5, 2.5), method="bounded", options={"xatol": 1e-3})
    return round(float(np.exp(best.x)), 4)


def calibration_error(scores: "NDArray[np.float32]", answers: Sequence[int]) -> float:
    """How far confidence and accuracy are apart, over 15 equal bins of confidence (Guo, 2017)."""
    import numpy as np

    logs = log_softmax(scores)
    sure, right = np.exp(logs.max(axis=1)), logs.argmax(axis=1) == np.asarray(answers)
    bins = np.minimum((sure * 15).astype(int), 14)
    gaps = np.bincount(bins, weights=sure - right, minlength=15)
    return float(np.abs(gaps).sum() / max(len(sure), 1))
