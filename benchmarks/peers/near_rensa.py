# /// script
# requires-python = ">=3.11"
# dependencies = ["rensa==0.5.0", "numpy>=2", "pyarrow>=18"]
# ///
"""rensa: its batch pipeline with the full set (R-MinHash) or sampled (rho), and its deduplicator."""

from functools import partial

import numpy as np
from near import main, shingles


def flags(texts, clock, make, bands):
    from rensa import RMinHash, RMinHashLSH  # pyright: ignore[reportMissingImports]

    sets = [shingles(text) for text in texts.to_pylist()]
    clock("tokenise")
    matrix = getattr(RMinHash, make)(sets, 128, 42)
    clock("sketch")
    lsh = RMinHashLSH(0.8, 128, bands)
    found = np.array(lsh.query_duplicate_flags_matrix_one_shot(matrix))
    clock("LSH")
    return found, None


def keep(texts, clock, bands):
    from rensa import RMinHashDeduplicator  # pyright: ignore[reportMissingImports]

    pairs = [(str(place), shingles(text)) for place, text in enumerate(texts.to_pylist())]
    clock("tokenise")
    deduplicator = RMinHashDeduplicator(0.8, 128, True, bands)
    kept = np.array(deduplicator.add_pairs(pairs))
    clock("sketch and LSH")
    return None, np.where(kept, np.arange(len(kept)), -1)


FULL, RHO = "digest_matrix_from_token_sets", "digest_matrix_from_token_sets_rho"

if __name__ == "__main__":
    main(
        {
            "full-16": partial(flags, make=FULL, bands=16),
            "full-8": partial(flags, make=FULL, bands=8),
            "rho-16": partial(flags, make=RHO, bands=16),
            "rho-8": partial(flags, make=RHO, bands=8),
            "keep-16": partial(keep, bands=16),
        }
    )
