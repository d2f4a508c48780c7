"""A language model from conversations: counts of what the assistant said, mixed with a base.

The counting is one pass. Then each epoch either lets n-grams be a byte longer, until what is watched
gains too little from it, or learns how far examples, base and copies are to be trusted.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tracemill.errors import UsageError
from tracemill.files import sha256_of, write_text_atomically
from tracemill.finetune.local import Epoch, Hyperparameters, Trained, counts, mixing
from tracemill.finetune.local.material import Material, gather
from tracemill.finetune.local.python_help import base as base_model
from tracemill.llm.trained import artefact, ngram, trie
from tracemill.llm.trained.conversation import Rendered
from tracemill.llm.trained.ngram import Model, Parts
from tracemill.llm.trained.trie import Level

_VERSION = 1
"""Of the way in which models are trained: another one cannot go on from its checkpoints."""
_BYTES_A_GRAM = 4
_STATES = "[0-9][0-9][0-9][0-9].epoch"
# Bits per byte that an epoch must gain for another one to follow.
_LEAST_GAIN = {"grow": 0.002, "mix": 0.0002}
_PATIENCE = 2
"""So many epochs in which longer n-grams gain too little end their growth."""


class Wanted(NamedTuple):
    """The hyperparameters."""

    order: int = counts.LONGEST
    """The longest n-gram, in bytes."""
    passes: int = 10
    """Epochs that learn the mixture, at most."""
    megabytes: float = 12.0
    """How large the model may be: what is rare goes first."""
    base: bool = True
    """Whether the base has a say."""


class State(NamedTuple):
    """Where a training stands after an epoch."""

    step: int = 0
    phase: str = "grow"
    """Then `mix`, then `done`."""
    order: int = 0
    """The best so far."""
    loss: float = 0.0
    """Bits per byte on a sample of the examples, as the best has it."""
    watched: float | None = None
    """Bits per byte on what is watched; None where nothing is."""
    mixture: list[Any] | None = None
    passes: int = 0
    """Over the mixture."""


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
    """As `Train` says. Where the folder lies in `jobs/`, the base is kept beside that."""
    wanted = _wanted(hyperparameters)
    asked = _asked(training, validation, wanted, seed)
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    state = _resumed(checkpoints, asked) if resume else _afresh(checkpoints)
    most = int((wanted.megabytes - 1) * 1e6 / _BYTES_A_GRAM)
    counted = checkpoints / f"counts-{asked}.safetensors"
    material = gather(training, validation, counted, order=wanted.order, most=most, seed=seed)
    models = folder.parent.parent if folder.parent.name == "jobs" else None
    known = base_model(models) if wanted.base else None
    epochs = _Epochs(material, wanted, trie.unpacked(known.weights, "own") if known else (), state)
    while state.phase != "done":
        state = epochs.after(state)
        name = f"{state.step:04d}.epoch"
        write_text_atomically(checkpoints / name, json.dumps([asked, *state]))
        metrics = {} if state.watched is None else {"validation_loss": state.watched}
        report(Epoch(state.step, wanted.order + wanted.passes, state.loss, metrics, name))
    about = {
        "kind": ngram.KIND,
        "order": state.order,
        "seed": seed,
        "base": known and {"name": known.about["name"], "digest": known.digest},
        "trained_bytes": material.learned_bytes,
    }
    artefact.save(folder / "model", about, ngram.packed(epochs.model(state)))
    return Trained(epochs.metrics(state), material.learned_bytes)


class _Epochs:
    """Takes a training from one state to the next."""

    def __init__(
        self, material: Material, wanted: Wanted, base: tuple[Level, ...], state: State
    ) -> None:
        self._material, self._wanted, self._base = material, wanted, base
        self._told = _Growing(material.told, material.inner) if material.told else None
        self._sample = _Growing(material.sample, material.inner)
        self._parts: dict[str, Parts] = {}
        for n in range(1, state.step + 1) if state.phase == "grow" else ():
            self._grown(n)

    def after(self, state: State) -> State:
        """Do an epoch."""
        return self._grow(state) if state.phase == "grow" else self._mix(state)

    def model(self, state: State) -> Model:
        """The model at a state."""
        inner, tops = self._material.inner, self._material.tops
        own = (*inner[: state.order - 1], tops[state.order - 1])
        if state.mixture is None:
            return Model(own, self._base, mixing.first(state.order, base=bool(self._base)))
        return Model(own, self._base, np.array(state.mixture))

    def metrics(self, state: State) -> dict[str, float]:
        """Of the model at the end: bits for each byte that the assistant says."""
        metrics = {"loss": state.loss, "order": float(state.order)}
        if state.watched is not None:
            metrics |= {
                "validation_loss": state.watched,
                "validation_bits_per_byte": state.watched,
                "validation_perplexity": 2**state.watched,
            }
        if state.watched is not None and self._base:
            untrained = self._of("told", state).probabilities[:, 1]
            metrics["base_bits_per_byte"] = float(-np.log2(untrained).mean())
        return metrics

    def _grow(self, state: State) -> State:
        """Let n-grams be a byte longer."""
        n = state.step + 1
        loss, watched = self._grown(n)
        is_better = _gain(state.watched, watched) >= _LEAST_GAIN["grow"]
        order = n if is_better else state.order
        over = n == self._wanted.order or n - order >= _PATIENCE
        phase = "grow" if not over else "mix" if watched is not None else "done"
        if not is_better:
            return state._replace(step=n, phase=phase)
        return State(n, phase, order, loss, watched)

    def _grown(self, n: int) -> tuple[float, float | None]:
        levels = self._material.inner[n - 1], self._material.tops[n - 1]
        return self._sample.bits(*levels), self._told.bits(*levels) if self._told else None

    def _mix(self, state: State) -> State:
        """Learn the mixture, starting from what it was."""
        model = self.model(state)
        mixture = mixing.learned(model.mixture, self._of("fitted", state))
        model = model._replace(mixture=mixture)
        loss, watched = (_bits(model, self._of(of, state)) for of in ("sample", "told"))
        # The first is taken in any case: what is watched may lack what the base and copies are for.
        gain = 1.0 if state.mixture is None else _gain(state.watched, watched)
        passes = state.passes + 1
        over = passes >= self._wanted.passes or gain < _LEAST_GAIN["mix"]
        state = state._replace(step=state.step + 1, phase="done" if over else "mix", passes=passes)
        if gain > 0:
            return state._replace(loss=loss, watched=watched, mixture=mixture.tolist())
        return state

    def _of(self, name: Literal["fitted", "told", "sample"], state: State) -> Parts:
        """What there is to mix in some of the conversations."""
        if name not in self._parts:
            rows: list[Rendered] = getattr(self._material, name)
            self._parts[name] = ngram.parts(self.model(state).own, self._base, rows)
        return self._parts[name]


class _Growing:
    """Some conversations under n-grams that become longer and longer."""

    def __init__(self, rows: list[Rendered], inner: tuple[Level, ...]) -> None:
        data, self._said = ngram.joined(rows)
        self._steps = trie.walk(inner, data)
        self._shorter = np.full(len(data), trie.UNKNOWN)

    def bits(self, inner: Level, top: Level) -> float:
        """Bits per byte with the next level; called once for each, from the first on."""
        contexts, found = next(self._steps)
        longest = top.probability(contexts, found, self._shorter)
        self._shorter = inner.probability(contexts, found, self._shorter)
        return float(-np.log2(longest[self._said]).mean())


def _bits(model: Model, parts: Parts) -> float:
    return float(-np.log2(ngram.mixed(model, parts)).mean())


def _gain(before: float | None, after: float | None) -> float:
    """In bits per byte; where nothing can be compared, there is always one."""
    return 1.0 if before is None or after is None else before - after


def _wanted(hyperparameters: Hyperparameters) -> Wanted:
    """Raises `UsageError` for those that are unknown or out of bounds."""
    unknown = sorted(set(hyperparameters) - set(Wanted._fields))
    if unknown:
        raise UsageError(
            f"a local language model has no hyperparameter {unknown[0]!r}: "
            f"it has {', '.join(Wanted._fields)}"
        )
    wanted = Wanted(**dict(hyperparameters))  # pyright: ignore[reportArgumentType]
    for name, low, high in (("order", 1, counts.LONGEST), ("passes", 1, 1_000)):
        value = getattr(wanted, name)
        if type(value) is not int or not low <= value <= high:
            raise UsageError(f"{name} is a whole number from {low} to {high}, not {value!r}")
    megabytes = wanted.megabytes
    if isinstance(megabytes, bool | str) or not 2 <= megabytes <= 20:
        raise UsageError(f"megabytes is a number from 2 to 20, not {megabytes!r}")
    if type(wanted.base) is not bool:
        raise UsageError(f"base is true or false, not {wanted.base!r}")
    return wanted


def _asked(training: Path, validation: Path | None, wanted: Wanted, seed: int) -> str:
    """A digest of all that decides what comes of a training."""
    files = [sha256_of(path) if path else None for path in (training, validation)]
    asked = json.dumps([_VERSION, *files, *wanted, seed])
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def _afresh(checkpoints: Path) -> State:
    for left in (*checkpoints.glob(_STATES), *checkpoints.glob("counts-*.safetensors")):
        left.unlink()
    return State()


def _resumed(checkpoints: Path, asked: str) -> State:
    """The state after the last epoch that is on the disk, of this training."""
    for path in sorted(checkpoints.glob(_STATES), reverse=True):
        named, *state = json.loads(path.read_bytes())
        if named == asked:
            return State(*state)
    return State()
