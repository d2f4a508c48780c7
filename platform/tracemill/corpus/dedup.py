"""Exact and near duplicates: which record stays for all of them, and the evidence for each removal.

MinHash and LSH only propose pairs; every removal rests on the exact Jaccard similarity of two
texts. Longer records are taken first, then those of better quality, then the smaller id, so the
result depends on the set of the records alone.

In one pass: `deduplicate`. For a stream, or records that come day by day, twice over the batches:
`add(index, batch)` for all of them, then `decide(batch, index.decisions())`.
"""

from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from tracemill.corpus import records, sketch
from tracemill.corpus.near import index as near
from tracemill.corpus.near import settle
from tracemill.corpus.near.bands import RECALL, STRICT, Policy, Rule, bands, rule
from tracemill.corpus.near.explain import Explanation, compare
from tracemill.corpus.near.index import NearIndex
from tracemill.corpus.records import Judged
from tracemill.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "RECALL",
    "STRICT",
    "Explanation",
    "Fields",
    "NearIndex",
    "add",
    "bands",
    "clusters",
    "decide",
    "deduplicate",
    "documents",
    "explain",
    "firsts",
    "groups",
    "texts",
]

Fields: TypeAlias = Literal["both", "prompt", "answer"]


def deduplicate(
    frame: "pl.DataFrame",
    *,
    fields: Fields = "both",
    threshold: float = 0.8,
    policy: Policy = "star",
    threads: int | None = None,
) -> Judged:
    """Keep one record of those whose texts are the same, or nearly so.

    Dropped rows name the record that stays (`kept_id`), the similarity (`jaccard`), the `reason`
    and, in chains of the policy `component`, the neighbour that is as similar (`via_id`). Records
    without words stay, all of them.

    Args:
        frame: records.
        fields: what is compared: the whole conversation, what was asked, or the answer.
        threshold: least Jaccard similarity of word 5-grams for near-duplicates, in (0, 1].
        policy: `star`: each dropped record is that similar to the one that stays. `component`: to
            any of those that the same one stays for.
        threads: as many as there are cores by default; changes no result.
    """
    decisions = _decisions(frame, fields, rule(threshold, policy), threads)
    return decide(frame, decisions)


def add(index: NearIndex, frame: "pl.DataFrame") -> int:
    """The first pass: add a batch of records to an index. The number of ids that are new to it."""
    rows = documents(frame, cast(Fields, index.fields))
    return index.add(rows, sketch.sketch(rows["text"]))


def decide(
    frame: "pl.DataFrame", decisions: "pl.DataFrame", first: "pl.Series | None" = None
) -> Judged:
    """The second pass: a batch of records by the decisions on all of them.

    Of rows with one id the first by source and time stays, wherever the others are; of those the
    same in that too the first of the batch.

    Args:
        frame: a batch of records.
        decisions: of an index that has them all.
        first: for each row whether it stands for those with its id, as `firsts` finds it, where the
            index also knows places in which the records no longer are.

    Raises `UsageError` for a record that was not added.
    """
    import polars as pl

    own = decisions.join(frame.select("record_id"), on="record_id", how="semi")
    own = own.rename({"source": "_source", "timestamp": "_timestamp"})
    rows = frame.join(own, on="record_id", how="left", maintain_order="left")
    if strangers := rows.filter(pl.col("kept_id").is_null()).height:
        raise UsageError(f"{strangers} records are not in the index: add them before deciding")
    here = pl.col("_source").is_null() | (
        (pl.col("source") == pl.col("_source")) & (pl.col("timestamp") == pl.col("_timestamp"))
    )
    counts = here & pl.struct("record_id", here).is_first_distinct()
    if first is not None:
        counts = pl.lit(first)
    stays = counts & pl.col("reason").is_null()
    rows = rows.with_columns(
        pl.col("jaccard").fill_null(1.0),
        pl.col("reason").fill_null("exact duplicate"),
        _stays=stays,
    ).drop("_source", "_timestamp")
    return Judged(rows.filter("_stays").select(frame.columns), rows.remove("_stays").drop("_stays"))


def firsts(rows: "pl.LazyFrame") -> "pl.Series":
    """For each row whether it is, of those with its id, the first by source and time.

    Args:
        rows: `record_id`, `source` and `timestamp` of all records; of the same place the first row.
    """
    import polars as pl

    numbered = rows.select("record_id", "source", "timestamp").with_row_index("row")
    twice = numbered.filter(pl.col("record_id").is_duplicated())
    place = ["source", "timestamp", "row"]
    others = twice.filter(pl.col("row") != pl.col("row").sort_by(place).first().over("record_id"))
    height, late = pl.collect_all([rows.select(pl.len()), others.select("row")])
    first = pl.repeat(True, height.item(), dtype=pl.Boolean, eager=True)
    return first.scatter(late.to_series(), False)


def clusters(
    frame: "pl.DataFrame",
    *,
    fields: Fields = "prompt",
    threshold: float = 0.8,
    recall: float = RECALL,
    threads: int | None = None,
) -> "pl.Series":
    """For each record the id of its group: records that near-duplicates lead to from one another.

    Splits that keep groups together have no near-duplicates across. A group is named by its
    smallest record id.

    Args:
        frame: records.
        fields: what is compared.
        threshold: least Jaccard similarity of word 5-grams, in (0, 1].
        recall: least share of the pairs at the threshold that are compared, below 1; of all pairs
            above it more. `STRICT` checks what was split by the default.
        threads: as many as there are cores by default; changes no result.
    """
    by = rule(threshold, "component", recall)
    found = groups(_decisions(frame, fields, by, threads))
    rows = frame.select("record_id").join(found, on="record_id", how="left", maintain_order="left")
    return rows["group_id"]


def groups(decisions: "pl.DataFrame") -> "pl.DataFrame":
    """`record_id` and `group_id`, as of `clusters`, by the decisions of the policy `component`."""
    import polars as pl

    return decisions.select("record_id", group_id=pl.col("record_id").min().over("kept_id"))


def explain(
    record_id: str, kept: "pl.DataFrame", dropped: "pl.DataFrame", *, fields: Fields = "both"
) -> Explanation:
    """Why a record was dropped: it and the one that stays, with what they share.

    Args:
        record_id: of a dropped record.
        kept: records, the one that stays among them.
        dropped: what `deduplicate` or `decide` dropped, or `semantic.decide`.
        fields: what was compared.

    Raises `UsageError` where the record was not dropped or the other is not in `kept`.
    """
    import polars as pl

    rows = dropped.filter(record_id=record_id).head(1)
    if rows.is_empty():
        raise UsageError(f"{record_id} was not dropped as a duplicate")
    [(kept_id, reason)] = rows.select("kept_id", "reason").rows()
    # A semantic duplicate has its cosine in place of the neighbour it came through.
    via_id, similarity = (
        rows[name].item() if name in rows.columns else None for name in ("via_id", "similarity")
    )
    stays = kept.filter(record_id=kept_id).head(1)
    if stays.is_empty():
        raise UsageError(f"{kept_id}, which stays for {record_id}, is not among the kept records")
    text, kept_text = texts(pl.concat([rows.select(kept.columns), stays]), fields)
    found = compare(text, kept_text)
    return Explanation(
        record_id=record_id,
        kept_id=kept_id,
        via_id=via_id,
        reason=reason,
        similarity=similarity,
        jaccard=found.jaccard,
        shared=found.shared,
        shingles=found.left,
        kept_shingles=found.right,
        text=text,
        kept_text=kept_text,
    )


def texts(frame: "pl.DataFrame", fields: Fields) -> "pl.Series":
    """What of each record is compared; a record without it has the empty text."""
    chosen = {"both": records.whole, "prompt": records.prompt, "answer": records.answer}[fields]
    return frame.select(chosen().fill_null("").alias("text")).to_series()


def _decisions(
    frame: "pl.DataFrame", fields: Fields, by: Rule, threads: int | None
) -> "pl.DataFrame":
    """As `NearIndex.decisions`, with nothing on disk."""
    import polars as pl

    rows = documents(frame, fields)
    columns = ["record_id", "source", "timestamp"]
    once = rows.sort(columns).unique("record_id", keep="first", maintain_order=True)
    best = rows.group_by("record_id").agg(pl.col("quality").max())
    ranked = once.drop("quality").join(best, on="record_id", how="left", maintain_order="left")
    found = sketch.sketch(ranked["text"], threads=threads)
    tags = settle.tags(found.signatures, by)
    part = settle.Part(ranked.drop("text"), *found, tags)
    decided = settle.decide([part], by, threads=threads)
    twice = rows.filter(pl.col("record_id").is_duplicated())
    return near.frame([part], decided, once.select(columns).join(twice, on="record_id", how="semi"))


def documents(frame: "pl.DataFrame", fields: Fields) -> "pl.DataFrame":
    """The texts, and what ranks them: length in characters; quality, else rating."""
    import polars as pl

    quality = next((name for name in ("quality", "rating") if name in frame.columns), None)
    text = texts(frame, fields)
    return frame.select(
        "record_id",
        "source",
        "timestamp",
        text.alias("text"),
        text.str.len_chars().cast(pl.Int64).alias("length"),
        (pl.col(quality) if quality else pl.lit(None))
        .cast(pl.Float64)
        .fill_nan(None)
        .alias("quality"),
    )
