"""Ours in a process alone: `python -m benchmarks.near_ours WAY PARQUET ANSWER ROUNDS`, as the peers are run.

`component` and `star` go from texts to decisions by the functions beneath `deduplicate`, stage by stage;
`records` is `deduplicate` itself on a frame of records.
"""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.near_ways import THRESHOLD
from benchmarks.peers.near import Clock, main

Found = tuple[Any, Any]


def search(texts: pa.Array, clock: Clock, policy: Any) -> Found:
    """Flags and the text that stays for each; of `star` only which texts stay."""
    import polars as pl

    from tracemill.corpus.near.bands import rule
    from tracemill.corpus.near.settle import Part, decide, tags
    from tracemill.corpus.sketch import sketch

    sketches = sketch(texts)
    clock("sketch")
    how = rule(THRESHOLD, policy)
    documents = pl.DataFrame({"record_id": np.arange(len(texts))}).select(
        pl.col("record_id").cast(pl.String),
        length=pl.Series(np.diff(sketches.offsets)),
        quality=pl.lit(None, pl.Float64),
    )
    bands = tags(sketches.signatures, how)
    clock("bands")
    kept = decide([Part(documents, *sketches, bands)], how).kept
    clock("decide")
    # A text that others are held against may have twins that stay: star names what is dropped.
    own = np.arange(len(kept))
    return _flags(kept) if policy == "component" else (None, np.where(kept == own, own, -1))


def records(texts: pa.Array, clock: Clock) -> Found:
    """As above by `deduplicate`; the frame is made before the clock starts."""
    import polars as pl

    from tracemill.corpus.dedup import deduplicate

    frame = frame_of(texts)
    clock.restart()
    judged = deduplicate(frame, fields="both", threshold=THRESHOLD, policy="component")
    clock("deduplicate")
    kept = np.arange(len(texts))
    place = pl.col("source").cast(pl.Int64)
    places = pl.concat([judged.kept, judged.dropped], how="diagonal").select("record_id", place)
    stays = judged.dropped.select("source", record_id="kept_id").with_columns(place)
    joined = stays.join(places, on="record_id", suffix="_kept").unique("source")
    kept[joined["source"].to_numpy()] = joined["source_kept"].to_numpy()
    return _flags(kept)


def frame_of(texts: pa.Array) -> Any:
    """Records whose answer is the text; the source is its place."""
    import polars as pl

    from tracemill.corpus.records import Message, record_schema, with_ids

    schema = record_schema()
    text = pl.Series("text", texts)
    turn = {name: pl.lit(None, pl.String) for name in Message._fields}
    turn |= {"weight": pl.lit(None, pl.Int8)}
    roles = [("user", pl.lit("")), ("assistant", pl.col("text"))]
    turns = [
        pl.struct(
            each.alias(name)
            for name, each in {**turn, "role": pl.lit(role), "content": said}.items()
        )
        for role, said in roles
    ]
    frame = text.to_frame().select(
        pl.concat_list(turns).alias("messages"),
        source=pl.int_range(pl.len()).cast(pl.String),
        origin=pl.lit("benchmark"),
        timestamp=pl.datetime(2026, 1, 1, time_zone="UTC"),
    )
    missing = [
        pl.lit(None, kind).alias(name)
        for name, kind in schema.items()
        if name not in {"record_id", *frame.columns}
    ]
    return with_ids(frame.with_columns(missing))


def _flags(kept: Any) -> Found:
    kept = np.asarray(kept, np.int64)
    return np.bincount(kept, minlength=len(kept))[kept] > 1, kept


WAYS = {
    "component": partial(search, policy="component"),
    "star": partial(search, policy="star"),
    "records": records,
}

if __name__ == "__main__":
    main(WAYS)
