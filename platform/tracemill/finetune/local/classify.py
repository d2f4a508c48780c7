"""A classifier from rows whose assistant's turn is one of few labels."""

from collections.abc import Callable
from pathlib import Path

from tracemill.finetune.local import Epoch, Hyperparameters, Trained


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
    """As `Train` says."""
    raise NotImplementedError
