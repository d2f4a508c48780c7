"""Trainers that run here: files of examples in, an artefact out, the same bytes for the same seed.

After each epoch a checkpoint is on the disk before anybody hears of it, so that a training that was
stopped there goes on as if nothing had happened.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

Hyperparameters = Mapping[str, bool | int | float | str]


class Epoch(NamedTuple):
    """A pass over the examples that is done."""

    step: int
    """How many are done."""
    total_steps: int
    """How many there will be at most."""
    loss: float
    """On the examples that are learned from: nats for each example, or bits for each byte."""
    metrics: Mapping[str, float]
    """What was measured on the others, such as `validation_loss`."""
    checkpoint: str
    """The name of the file in `checkpoints/`."""


class Trained(NamedTuple):
    """What came of a training; the artefact lies in `model/`."""

    metrics: Mapping[str, float]
    """Of the artefact as it will be served."""
    trained_tokens: int
    """All epochs together."""


class Train(Protocol):
    """What a trainer offers as `train`."""

    def __call__(
        self,
        training: Path,
        validation: Path | None,
        folder: Path,
        *,
        hyperparameters: Hyperparameters,
        seed: int,
        report: Callable[[Epoch], None],
        resume: bool = False,
    ) -> Trained:
        """Learn from a file of examples.

        Args:
            training: JSON lines in OpenAI's form: `{"messages": [...]}`.
            validation: what the loss is watched on; None: a part of the examples.
            folder: of the job: gets `checkpoints/` and `model/`.
            report: hears of each epoch once its checkpoint is on the disk; may raise to stop.
            resume: go on from the last checkpoint in the folder, where there is one.

        Raises:
            InputError: nothing can be learned from the examples; names the line, or what is lacking.
            UsageError: a hyperparameter is unknown or out of bounds.
        """
        ...
