"""A classifier from rows whose assistant's turn is one of few labels, learned in seconds.

Whether words, meaning or both tell the labels apart best is measured on held-out examples before
the training proper; which it was stands in the metrics.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from tracemill.errors import InputError, UsageError
from tracemill.files import sha256_of
from tracemill.finetune.local import Epoch, Hyperparameters, Trained
from tracemill.finetune.local.labelled import Labelled
from tracemill.finetune.local.softmax import (
    Softmax,
    calibration_error,
    state_of,
    temperature,
)
from tracemill.llm.trained import artefact, classifier
from tracemill.llm.trained.classifier import Linear, Sees

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 2
"""Of this module: a checkpoint of another one is not gone on from."""

_CHOICES: tuple[Sees, ...] = get_args(Sees)
_MOST_LABELS = 2_000
_MOST_BUCKETS, _MOST_WEIGHTS = 250_000, 12_000_000  # the artefact stays below 20 MB
_ENOUGH = 100  # rows, of which a part can be spared to watch the loss on
_HELD_OUT, _MOST_WATCHED = 0.1, 5_000
_PILOT_ROWS, _PILOT_EPOCHS = 2_000, 4
_PATIENCE, _LEAST_GAIN = 3, 0.005  # of the best loss


class _Asked(NamedTuple):
    """The hyperparameters; each name is one."""

    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 1.0
    features: str = "auto"


class _Watched(NamedTuple):
    """The examples that the loss is watched on."""

    data: Labelled
    rows: "NDArray[np.int64]"
    answers: "NDArray[np.int64]"


class _Best(NamedTuple):
    """Where learning stands."""

    step: int = 0
    loss: float = float("inf")
    best_step: int = 0
    best_loss: float = float("inf")
    training_loss: float = float("inf")


def train(
    training: Path,
    validation: Path | None,
    folder: Path,
    *,
    hyperparameters: Hyperparameters,
    seed: int,
    report: Callable[[Epoch], None],
    resume: bool = False,
) -> Trained:
    """As `Train` says. Hyperparameters: `epochs`, `batch_size`, `learning_rate`, `features` (`auto`,
    `words`, `meaning` or `both`)."""
    asked = _checked(hyperparameters)
    scratch = folder / "features"
    data = Labelled(training, scratch / "training")
    labels = _labels(data, training)
    watching = Labelled(validation, scratch / "validation") if validation else None
    answers = data.coded(labels)
    rows, watched = _held_out(data, answers, watching, labels, seed)
    run = _Run(folder, data, labels, answers, rows, watched, asked, seed, report)
    key = json.dumps(
        [VERSION, sha256_of(training), validation and sha256_of(validation), asked, seed]
    )
    run.learn(hashlib.sha256(key.encode()).hexdigest(), resume=resume)
    metrics = run.finish()
    shutil.rmtree(scratch)
    return Trained(metrics, data.tokens * run.best.step)


class _Run:
    """One training: what it learns from, and how far it is."""

    def __init__(
        self,
        folder: Path,
        data: Labelled,
        labels: list[str],
        answers: "NDArray[np.int64]",
        rows: "NDArray[np.int64]",
        watched: _Watched | None,
        asked: _Asked,
        seed: int,
        report: Callable[[Epoch], None],
    ) -> None:
        self._folder, self._checkpoints = folder, folder / "checkpoints"
        self._data, self._labels, self._answers = data, labels, answers
        self._rows, self._watched = rows, watched
        self._asked, self._seed, self._report = asked, seed, report
        self._compared: dict[str, float] = {}
        self.best = _Best()

    def learn(self, key: str, *, resume: bool) -> None:
        """Epoch after epoch, until the watched loss falls no more."""
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        kept = self._last(key) if resume else None
        if kept is None:
            for old in self._checkpoints.glob("epoch-*.safetensors"):
                old.unlink()
            self._head = self._new(self._choose())
        else:
            path, state = kept
            self._compared, self.best = state["compared"], _Best(*state["best"])
            self._head = self._new(state["sees"])
            self._head.restore(path)
            # Whoever was stopped may not have heard of it.
            self._report(Epoch(*state["epoch"]))
        while not self._ended:
            self._report(self._epoch(key))

    def finish(self) -> Mapping[str, float]:
        """Write the artefact of the best epoch; what was measured of it as it will be served."""
        best = self.best
        if best.step != best.best_step:
            self._head.restore(self._checkpoint(best.best_step))
        factor = 1.0
        if self._watched:
            scores = self._head.measure(*self._watched).scores
            factor = temperature(scores, self._watched.answers[self._watched.rows])
        linear = self._head.linear()
        packed = classifier.packed(linear, self._labels, factor, self._head.sees)
        artefact.save(self._folder / "model", *packed)
        metrics: dict[str, float] = {
            "loss": best.training_loss,
            "epochs": best.step,
            "best_epoch": best.best_step,
            "labels": len(self._labels),
            "rows": len(self._rows),
            **{f"validation_loss_{name}": loss for name, loss in self._compared.items()},
        }
        if self._watched:
            metrics |= self._measured(self._watched, _as_served(linear, packed[1]), factor)
        return {name: round(float(value), 6) for name, value in metrics.items()}

    def _measured(
        self, watched: _Watched, served: "Mapping[str, NDArray[np.float32]]", factor: float
    ) -> dict[str, float]:
        """How good the artefact is on the watched examples."""
        import numpy as np

        self._head.weights = {
            name: served.get(name, learned) * np.float32(factor)
            for name, learned in self._head.weights.items()
        }
        measured = self._head.measure(*watched)
        right = watched.answers[watched.rows]
        common = np.bincount(self._answers[self._rows]).argmax()
        return {
            "validation_loss": measured.loss,
            "validation_accuracy": measured.accuracy,
            "validation_ece": calibration_error(measured.scores, right.tolist()),
            "validation_rows": len(right),
            "majority_accuracy": float((right == common).mean()),
        }

    def _new(self, sees: Sees) -> Softmax:
        import numpy as np

        head = Softmax(len(self._labels), self._buckets(), sees, self._asked.learning_rate)
        counted = np.bincount(self._answers[self._rows], minlength=len(self._labels)) + 0.5
        head.start_at(counted / counted.sum())
        return head

    def _buckets(self) -> "NDArray[np.uint32]":
        """The features that get weights: those in two examples but not in all, the commonest."""
        import numpy as np

        often = self._data.frequencies
        found = np.flatnonzero((often > 1) & (often < len(self._data)))
        most = min(_MOST_BUCKETS, _MOST_WEIGHTS // len(self._labels))
        common = found[np.argsort(-often[found], kind="stable")[:most]]
        return np.sort(common).astype(np.uint32)

    def _choose(self) -> Sees:
        """What tells the labels apart best, by a short training on a part of the examples."""
        if self._asked.features != "auto":
            return cast(Sees, self._asked.features)
        if not self._watched:
            return "both"
        pilot = self._order(0)[:_PILOT_ROWS]
        for sees in _CHOICES:
            head = self._new(sees)
            losses: list[float] = []
            for _ in range(_PILOT_EPOCHS):
                head.epoch(self._data, pilot, self._answers, self._asked.batch_size)
                losses.append(head.measure(*self._watched).loss)
            self._compared[sees] = min(losses)
        return min(_CHOICES, key=lambda sees: self._compared[sees])

    def _epoch(self, key: str) -> Epoch:
        step = self.best.step + 1
        lost = self._head.epoch(
            self._data, self._order(step), self._answers, self._asked.batch_size
        )
        metrics: dict[str, float] = {}
        watched_loss = lost
        if self._watched:
            measured = self._head.measure(*self._watched)
            watched_loss = measured.loss
            metrics = {
                "validation_loss": measured.loss,
                "validation_accuracy": measured.accuracy,
            }
        before, self.best = self.best, self.best._replace(step=step, loss=watched_loss)
        if watched_loss < before.best_loss * (1 - _LEAST_GAIN):
            self.best = _Best(step, watched_loss, step, watched_loss, lost)
        path = self._checkpoint(step)
        epoch = Epoch(step, self._asked.epochs, lost, metrics, path.name)
        state = {
            "key": key,
            "sees": self._head.sees,
            "compared": self._compared,
            "best": self.best,
            "epoch": epoch,
        }
        self._head.save(path, state)
        for old in {before.step, before.best_step} - {step, self.best.best_step, 0}:
            self._checkpoint(old).unlink(missing_ok=True)
        return epoch

    @property
    def _ended(self) -> bool:
        late = self.best.step - self.best.best_step >= _PATIENCE
        return late or self.best.step >= self._asked.epochs

    def _order(self, step: int) -> "NDArray[np.int64]":
        import numpy as np

        return self._rows[np.random.default_rng([self._seed, step]).permutation(len(self._rows))]

    def _checkpoint(self, step: int) -> Path:
        return self._checkpoints / f"epoch-{step:04}.safetensors"

    def _last(self, key: str) -> tuple[Path, Any] | None:
        """The newest checkpoint of this very training."""
        for path in sorted(self._checkpoints.glob("epoch-*.safetensors"), reverse=True):
            state = state_of(path)
            if state["key"] == key:
                return path, state
        return None


def _checked(hyperparameters: Hyperparameters) -> _Asked:
    """Raises `UsageError`, which names the hyperparameter and what it may be."""
    if unknown := sorted(hyperparameters.keys() - set(_Asked._fields)):
        raise UsageError(
            f"a classifier has no hyperparameter {', '.join(unknown)}: it has "
            + ", ".join(_Asked._fields)
        )
    asked = _Asked(**cast(dict[str, Any], dict(hyperparameters)))
    for name, fits, what in (
        ("epochs", _whole(asked.epochs, 200), "a whole number from 1 to 200"),
        ("batch_size", _whole(asked.batch_size, 4096), "a whole number from 1 to 4096"),
        ("learning_rate", _number(asked.learning_rate), "a number above 0, at most 10"),
        ("features", asked.features in ("auto", *_CHOICES), f"auto, {', '.join(_CHOICES)}"),
    ):
        if not fits:
            raise UsageError(f"{name} is {what}: not {getattr(asked, name)!r}")
    return asked


def _whole(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _number(value: object) -> bool:
    return type(value) in (int, float) and 0 < cast(float, value) <= 10


def _labels(data: Labelled, path: Path) -> list[str]:
    if not len(data):
        raise InputError(f"{path.name}: there is no example to learn from")
    if len(data.labels) < 2:
        raise InputError(
            f"{path.name}: all {len(data):,} examples have the label {data.labels[0][:80]!r}: "
            "a classifier needs two labels at least"
        )
    if len(data.labels) > _MOST_LABELS:
        raise InputError(
            f"{path.name}: the {len(data):,} examples have {len(data.labels):,} different answers, "
            f"and a classifier takes {_MOST_LABELS:,} labels at most: train with the method `lm`"
        )
    return sorted(data.labels)


def _held_out(
    data: Labelled,
    answers: "NDArray[np.int64]",
    watching: Labelled | None,
    labels: list[str],
    seed: int,
) -> "tuple[NDArray[np.int64], _Watched | None]":
    """The rows that are learned from, and those that are watched: of the validation file, else a
    tenth of the examples, where equal conversations stay together and no label goes whole."""
    import numpy as np

    every = np.arange(len(data))
    if watching is not None and len(watching):
        coded = watching.coded(labels)
        some = np.sort(np.argsort(watching.keys, kind="stable")[:_MOST_WATCHED])
        return every, _Watched(watching, some, coded)
    if len(data) < _ENOUGH:
        return every, None
    drawn = np.random.default_rng([seed, 1 << 20]).integers(1, 1 << 31) | 1
    spread = (data.keys.astype(np.uint64) * np.uint64(drawn)) % np.uint64(1 << 32)
    out = spread < min(_HELD_OUT, _MOST_WATCHED / len(data)) * (1 << 32)
    out[np.unique(answers, return_index=True)[1]] = False
    if not out.any():
        return every, None
    return every[~out], _Watched(data, every[out], answers)


def _as_served(linear: Linear, weights: Mapping[str, Any]) -> "dict[str, NDArray[np.float32]]":
    """The weights with what packing has rounded away."""
    import numpy as np

    words = np.zeros_like(linear.words)
    words[np.isin(linear.buckets, weights["buckets"])] = (
        weights["words"].astype(np.float32) * weights["scales"][:, None]
    )
    return {"words": words, "meaning": weights["meaning"].astype(np.float32)}
