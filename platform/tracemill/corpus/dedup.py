"""Exact and near duplicates: which record stays for all of them, and the evidence for each removal.

MinHash and LSH only propose pairs; every removal rests on the exact Jaccard similarity to a record
that stays. Longer records are taken first, so the result does not depend on the order of the input.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from tracemill.corpus.shingles import Hashes, jaccard, normalised, shingle_sets

if TYPE_CHECKING:
    import polars as pl

PERMUTATIONS = 128
RECALL = 0.998
"""The least share of pairs just at the threshold that LSH must propose."""


class Deduplicated(NamedTuple):
    """Rows in = rows kept + rows dropped; both sorted by id, whatever the order of the input."""

    kept: "pl.DataFrame"
    """The columns of the input and `group_id`, the record's own id."""
    dropped: "pl.DataFrame"
    """The columns of the input and `kept_id`, `jaccard` (0 to 1), `reason`."""


def deduplicate(frame: "pl.DataFrame", threshold: float = 0.8) -> Deduplicated:
    """Keep one record of those whose question and answer together are the same, or nearly so.

    The longest stays, of two as long the one with the smaller id. Each dropped record is at least
    `threshold` similar to the one it names: chains of neighbours do not drag others along (the
    "star" policy).

    Args:
        frame: records.
        threshold: least Jaccard similarity of word 5-grams for near-duplicates, in (0, 1].
    """
    import polars as pl

    ranked = _ranked(frame)
    texts = ranked.unique("text", keep="first", maintain_order=True).select("text", "record_id")
    found = _representatives(texts, threshold)
    judged = ranked.join(found, on="text", how="left", maintain_order="left")
    first = pl.int_range(pl.len()).over("text") == 0
    judged = judged.with_columns(stays=first & pl.col("exact"))
    kept = judged.filter("stays").drop("stays", "text", "jaccard", "exact")
    dropped = judged.remove("stays").with_columns(reason=_reason()).drop("stays", "text", "exact")
    return Deduplicated(
        kept.rename({"kept_id": "group_id"}).sort("record_id"), dropped.sort("record_id", "source")
    )


def _ranked(frame: "pl.DataFrame") -> "pl.DataFrame":
    """The frame with the text to compare, in the order in which records may stay."""
    import polars as pl

    both = pl.concat_str("user_query", pl.lit("\n"), "assistant_response")
    by = [-both.str.len_chars().cast(pl.Int64), "record_id", "source", "timestamp"]
    return frame.with_columns(normalised(both).alias("text")).sort(by)


def _reason() -> "pl.Expr":
    import polars as pl

    exact, near = pl.lit("exact duplicate"), pl.lit("near duplicate")
    return pl.when("exact").then(exact).otherwise(near)


def _representatives(texts: "pl.DataFrame", threshold: float) -> "pl.DataFrame":
    """For each text, in rank order: kept_id, jaccard, and whether it stays itself (exact)."""
    import polars as pl

    found = _stars(shingle_sets(texts["text"]), threshold)
    stars = pl.Series([at for at, _ in found], dtype=pl.UInt32)
    return texts.select(
        "text",
        kept_id=texts["record_id"].gather(stars),
        jaccard=pl.Series([similarity for _, similarity in found], dtype=pl.Float64),
        exact=stars == pl.int_range(pl.len(), dtype=pl.UInt32),
    )


def _stars(sets: list[Hashes], threshold: float) -> list[tuple[int, float]]:
    """For each set the index of the set that stays for it, which may be its own."""
    import datasketch  # pyright: ignore[reportMissingTypeStubs]

    untyped = cast(Any, datasketch)
    lsh = untyped.MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))
    low = ((each >> np.uint64(32)).tolist() for each in sets)
    found: list[tuple[int, float]] = []
    sketches = untyped.MinHash.generator(low, num_perm=PERMUTATIONS, hashfunc=int)
    for index, sketch in enumerate(sketches):
        candidates: list[int] = lsh.query(sketch)
        near = [(at, jaccard(sets[index], sets[at])) for at in candidates]
        star = max(near, key=lambda pair: (pair[1], -pair[0]), default=(index, 0.0))
        if star[1] < threshold:
            lsh.insert(index, sketch, check_duplication=False)
            star = (index, 1.0)
        found.append(star)
    return found


def bands(threshold: float) -> tuple[int, int]:
    """Bands and rows of the LSH table: the most rows that still reach `RECALL` at the threshold.

    A pair of similarity s meets in one of b bands of r rows with probability 1 - (1 - s^r)^b
    (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4.2).
    """
    for rows in range(PERMUTATIONS // 2, 1, -1):
        count = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** count >= RECALL:
            return count, rows
    return PERMUTATIONS, 1
