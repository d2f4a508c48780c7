"""Vectors in a quarter of the room: numbers of 8 bits, and a scale for each vector.

A scale of its own costs a vector four bytes and leaves none to suffer from another's outlier.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Quantised(NamedTuple):
    """Vectors in 8 bits: `codes * scale[:, None]` is nearly what they were."""

    codes: "NDArray[np.int8]"
    """Shape (vectors, dimensions), from -127 to 127."""
    scale: "NDArray[np.float32]"
    """Shape (vectors,); 0 for the zero vector."""


def quantise(vectors: "NDArray[np.float32]") -> Quantised:
    """Each number to the nearest of 255 steps between minus and plus the vector's largest."""
    import numpy as np

    scale = (np.abs(vectors).max(axis=1, initial=0) / 127).astype(np.float32)
    steps = vectors / np.where(scale > 0, scale, 1)[:, None]
    return Quantised(np.rint(steps).astype(np.int8), scale)


def dequantise(quantised: Quantised) -> "NDArray[np.float32]":
    """The vectors again: float32, of length 1 (zeros stay zeros)."""
    import numpy as np

    vectors = quantised.codes.astype(np.float32) * quantised.scale[:, None]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
