"""A step of Adagrad over sparse rows, compiled: only the weights of the words that are there move."""

import numpy as np
from numpy.typing import NDArray

from tracemill.corpus.kernels.jit import kernel

Floats = NDArray[np.float32]
Places = NDArray[np.int32]


@kernel
def add_scores(
    columns: Places, values: Floats, bounds: NDArray[np.int64], weights: Floats, scores: Floats
) -> None:
    """Add to each row of scores the weights of its columns, times their values.

    Args:
        columns: those of the first row, then those of the next.
        values: one for each column.
        bounds: the columns of row n are those from `bounds[n]` to `bounds[n + 1]`.
        weights: shape (columns, labels).
        scores: shape (rows, labels).
    """
    labels = scores.shape[1]
    for row in range(scores.shape[0]):
        for at in range(bounds[row], bounds[row + 1]):
            column, value = columns[at], values[at]
            for label in range(labels):
                scores[row, label] += value * weights[column, label]


@kernel
def move(
    columns: Places,
    values: Floats,
    bounds: NDArray[np.int64],
    wrong: Floats,
    weights: Floats,
    seen: Floats,
    rate: float,
    slots: Places,
) -> None:
    """Move the weights of the columns that are there against their gradient.

    Args:
        wrong: what each score should have been less: shape (rows, labels).
        seen: sums of squared gradients, shape of the weights; grows.
        slots: one for each column, all -1, and all -1 again afterwards.
    """
    labels = wrong.shape[1]
    used = np.empty(len(columns), np.int32)
    count = 0
    for at in range(len(columns)):
        if slots[columns[at]] < 0:
            slots[columns[at]] = count
            used[count] = columns[at]
            count += 1
    gradient = np.zeros((count, labels), np.float32)
    for row in range(wrong.shape[0]):
        for at in range(bounds[row], bounds[row + 1]):
            slot, value = slots[columns[at]], values[at]
            for label in range(labels):
                gradient[slot, label] += value * wrong[row, label]
    step = np.float32(rate)
    for slot in range(count):
        column = used[slot]
        slots[column] = -1
        for label in range(labels):
            slope = gradient[slot, label]
            seen[column, label] += slope * slope
            weights[column, label] -= step * slope / np.sqrt(seen[column, label])
