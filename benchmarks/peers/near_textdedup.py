# /// script
# requires-python = ">=3.11"
# dependencies = ["text-dedup==0.4.0", "pyarrow>=18"]
# ///
"""text-dedup's own command line in one round; its loading and saving are part of it."""

import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from near import WORDS, Clock, memory, tell


def main() -> None:
    from text_dedup import minhash  # pyright: ignore[reportMissingImports]

    _, _, parquet, answer, _ = sys.argv
    with tempfile.TemporaryDirectory() as folder, memory() as most:
        arguments = (
            f"--path parquet --data_files {parquet} --split train --column text --num_proc 2"
        )
        arguments += f" --cache_dir {folder}/cache --output {folder}/kept --ngram {WORDS}"
        arguments += " --min_length 1 --num_perm 128 --threshold 0.8 --hash_func xxh3"
        clock = Clock()
        minhash.main(arguments.split(), standalone_mode=False)
        clock("all")
    import pyarrow.parquet as pq

    texts = pq.read_metadata(parquet).num_rows
    groups = np.array([minhash.uf.find(place) for place in range(texts)])
    flags = np.bincount(groups, minlength=texts)[groups] > 1
    tell(Path(answer), [clock.stages], (flags, groups), most())


if __name__ == "__main__":
    main()
