# /// script
# requires-python = ">=3.11"
# dependencies = ["FastSketchLSH==1.0.1", "pyarrow>=18"]
# ///
"""FastSketchLSH as its README shows it: a batch of token lists, flags at once."""

from functools import partial

import numpy as np
from near import main, shingles


def flags(texts, clock, bands):
    from FastSketchLSH import LSH, FastSimilaritySketch  # pyright: ignore[reportMissingImports]

    sets = [shingles(text) for text in texts.to_pylist()]
    clock("tokenise")
    matrix = FastSimilaritySketch(size=128, seed=42).batch(sets)
    clock("sketch")
    found = LSH(num_perm=128, num_bands=bands).insert_and_query_duplicates(matrix)
    clock("LSH")
    return np.asarray(found, bool), None


if __name__ == "__main__":
    main({"16": partial(flags, bands=16)})
