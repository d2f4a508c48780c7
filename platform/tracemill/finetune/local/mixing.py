"""How far n-grams of examples, of the base, and copies are trusted: learned by EM on held-out text.

One weight of each for every combination of how much of the context is known and how long the copy
agrees; where a combination is rare, what is usual speaks for it (Jelinek and Mercer 1980).
"""

from typing import TYPE_CHECKING

import numpy as np

from tracemill.llm.trained.copies import KINDS
from tracemill.llm.trained.ngram import Parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Before anything is learned: the base's share by how many levels know the context, and a copy's by
# its kind, as dialogue showed them.
_BASE = (0.5, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
_COPY = (0.0, 0.18, 0.3, 0.38, 0.44, 0.45, 0.45, 0.45, 0.5)
_PRIOR = 20.0
"""Bytes that the mixture from before stands for in each combination."""
_ROUNDS = 3


def first(order: int, *, base: bool) -> "Floats":
    """The mixture before anything is learned; its shape is that of `Model.mixture`."""
    mixture = np.zeros((order + 1, KINDS, 3))
    for matched in range(order + 1):
        rest = _BASE[min(matched, len(_BASE) - 1)] if base else 0.0
        for kind, copy in enumerate(_COPY):
            mixture[matched, kind] = (1 - copy) * (1 - rest), (1 - copy) * rest, copy
    return mixture


def own_alone(order: int) -> "Floats":
    """The mixture of a model that trusts its own n-grams and nothing else."""
    mixture = np.zeros((order + 1, KINDS, 3))
    mixture[:, :, 0] = 1.0
    return mixture


def learned(mixture: "Floats", parts: Parts) -> "Floats":
    """A mixture under which what was said is likelier."""
    prior = first(len(mixture) - 1, base=bool(parts.probabilities[:, 1].any()))
    places = parts.matched * KINDS + parts.kinds
    for _ in range(_ROUNDS):
        shares = parts.probabilities * mixture[parts.matched, parts.kinds]
        shares /= shares.sum(axis=1, keepdims=True)
        counted = np.stack(
            [np.bincount(places, share, mixture.shape[0] * KINDS) for share in shares.T], axis=1
        ).reshape(mixture.shape)
        counted += _PRIOR * prior
        mixture = counted / counted.sum(axis=2, keepdims=True)
    return mixture
