# /// script
# requires-python = ">=3.11"
# dependencies = ["daft==0.7.26", "numpy>=2", "pyarrow>=18"]
# ///
"""Daft as its documentation deduplicates: normalise, minhash, bands, group by, components."""

import os
from functools import partial

os.environ["DAFT_ANALYTICS_ENABLED"] = os.environ["DAFT_PROGRESS_BAR"] = "0"
os.environ["DO_NOT_TRACK"] = "true"

import pyarrow as pa
from near import WORDS, components, main


def search(texts, clock, bands, rows):
    import daft  # pyright: ignore[reportMissingImports]
    from daft import col, lit  # pyright: ignore[reportMissingImports]
    from daft.functions import chunk, minhash, normalize, slice  # pyright: ignore[reportMissingImports]

    frame = daft.from_arrow(pa.table({"id": pa.array(range(len(texts))), "text": texts}))
    plain = normalize(col("text"), lowercase=True, white_space=True)
    sketch = minhash(plain, num_hashes=128, ngram_size=WORDS)
    frame = frame.select("id", sketch.alias("sketch")).collect()
    clock("sketch")
    cut = chunk(slice(col("sketch"), 0, bands * rows), rows)
    tables = frame.select("id", cut.alias("rows"), lit(list(range(bands))).alias("band"))
    # Grouped by a hash of each band's rows: several times as fast as by the lists.
    keys = tables.explode("rows", "band").select("id", "band", col("rows").hash().alias("key"))
    tables = keys.groupby("band", "key").agg(col("id").list_agg())
    buckets = tables.where(col("id").list_count() > 1).select("id").to_arrow()["id"].to_pylist()
    clock("group by")
    found = components(len(texts), buckets)
    clock("components")
    return found


if __name__ == "__main__":
    main({"16x8": partial(search, bands=16, rows=8), "9x13": partial(search, bands=9, rows=13)})
