"""What the loops work on: the sketches of texts that are decided together, as plain arrays."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint32]
Indices: TypeAlias = NDArray[np.int32]
Similarities: TypeAlias = NDArray[np.float64]
Tables: TypeAlias = NDArray[np.uint64]


class Block(NamedTuple):
    """Text i of a block has the row `rows[i]` of the other arrays; texts are in rank order."""

    rows: NDArray[np.int64]
    signatures: Hashes
    """(n, 128)."""
    shingles: Hashes
    """Sorted and unique within each row."""
    offsets: NDArray[np.int64]
    """(n + 1,) into `shingles`."""
    digests: NDArray[np.uint64]
    tags: Hashes
    """(n, bands)."""


def room(texts: int) -> int:
    """Slots of a hash table for so many texts: a power of two, at most half full."""
    return 1 << max(4, (2 * texts - 1).bit_length())


def frozen(array: Any) -> Any:
    """A view that cannot be written to: memory-mapped arrays are such, and kernels are compiled
    for each kind of array apart."""
    view = array.view()
    view.flags.writeable = False
    return view
