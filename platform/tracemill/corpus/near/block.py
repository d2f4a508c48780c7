"""What the loops work on: the sketches of texts that are decided together, where they lie."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint32]
Indices: TypeAlias = NDArray[np.int32]
Similarities: TypeAlias = NDArray[np.float64]
Tables: TypeAlias = NDArray[np.uint64]


class Sets(NamedTuple):
    """The sketches of n texts, each array without gaps."""

    signatures: Hashes
    """(n, 128)."""
    shingles: Hashes
    """Sorted and unique within each text."""
    offsets: NDArray[np.int64]
    """(n + 1,) into `shingles`."""


class Block(NamedTuple):
    """m texts in rank order; text i is row `rows[i]` of `parts[part[i]]`, which is not copied."""

    parts: tuple[Sets, ...]
    part: NDArray[np.int64]
    rows: NDArray[np.int64]
    digests: NDArray[np.uint64]
    tags: Hashes
    """(m, bands)."""

    def of(self, texts: NDArray[np.int64]) -> "Block":
        """Some of the texts."""
        own = self.part[texts], self.rows[texts], self.digests[texts], self.tags[texts]
        return Block(self.parts, *own)

    def shingles(self, text: int) -> Hashes:
        """Those of one text."""
        sets, row = self.parts[int(self.part[text])], self.rows[text]
        return sets.shingles[sets.offsets[row] : sets.offsets[row + 1]]

    def signature(self, text: int) -> Hashes:
        """That of one text."""
        return self.parts[int(self.part[text])].signatures[self.rows[text]]


def room(texts: int) -> int:
    """Slots of a hash table for so many texts: a power of two, at most half full."""
    return 1 << max(4, (2 * texts - 1).bit_length())


def frozen(array: Any) -> Any:
    """A view that cannot be written to: memory-mapped arrays are such, and kernels are compiled
    for each kind of array apart."""
    view = array.view()
    view.flags.writeable = False
    return view
