"""Whether cases of an evaluation stand in what a model learned from, word for word or nearly so.

The question decides: one that was learned with another answer is known all the same, while an
answer that other questions share, as the documentation of siblings does, gives nothing away.
"""

from typing import TYPE_CHECKING, Any

from tracemill.errors import InputError
from tracemill.events import ContaminationChecked
from tracemill.quality.cases import said, talks

if TYPE_CHECKING:
    import polars as pl

    from tracemill.log import EventLog
    from tracemill.quality.cases import Cases
    from tracemill.settings import Settings

LONG = 20
"""From so many words on, a question is found by a part of it too: by half of its 5-grams, and where
it is a single turn by 13 words in a row (`corpus.contamination`). Shorter ones share that much with
others by nature, and so do dialogues: of 800 in the dialogues of SGD that no other is near to, 190
have 13 words in a row with one, all of them courtesies."""
NEAR = 0.8
"""Jaccard similarity of word 5-grams from which two questions are the same: as splits are cut."""
FIRST = 100
"""So many ids of cases are told."""
PIECE = 0.9
"""So much of a text is all of it: a cut copy may end within a word."""
COLUMNS = ("id", "rule", "record_id", "overlap", "shared")


def check(
    log: "EventLog",
    settings: "Settings",
    cases: "Cases",
    trained_on: str,
    split: str = "train",
    *,
    actor: str | None = None,
) -> ContaminationChecked:
    """Look for the cases in a split of a version of the data set, and tell the log.

    Args:
        trained_on: the version's digest, or the beginning of it.

    Raises `InputError` where there is no such version or split.
    """
    from tracemill.corpus.write import version

    dataset = version(settings.splits, trained_on)
    if split not in dataset.rows:
        raise InputError(f"{dataset.path} has no split {split!r}: it has {', '.join(dataset.rows)}")
    import polars as pl

    records = pl.read_parquet(dataset.path / f"{split}.parquet", glob=False)
    found = contaminated(cases, records)
    event = ContaminationChecked(
        dataset=cases.name,
        dataset_digest=cases.digest,
        trained_on=dataset.digest,
        split=split,
        cases=len(cases),
        found=found.height,
        case_ids=tuple(found["id"].head(FIRST)),
        actor=actor,
    )
    log.append(event)
    return event


def learned_from(log: "EventLog", settings: "Settings") -> list[tuple[str, str]]:
    """What is to be searched: version and split that models here were trained on, as far as they
    are still on the disk, and the data set in force."""
    from tracemill.corpus.write import current, versions

    registered = log.arrow(
        "SELECT DISTINCT payload ->> '$.dataset_digest' AS version, payload ->> '$.split' AS split "
        "FROM events WHERE kind = 'model.registered' ORDER BY ALL"
    )
    there = {each.digest: each for each in versions(settings.splits)}
    pairs = [(row["version"], row["split"]) for row in registered.to_pylist()]
    found = [(current(settings.splits).digest, "train")]
    found += [(one, split) for one, split in pairs if one in there and split in there[one].rows]
    return list(dict.fromkeys(found))


def contaminated(cases: "Cases", records: "pl.DataFrame") -> "pl.DataFrame":
    """The cases that stand in records, with the proof.

    Cases of a split and the records of another one are siblings: they come from the same sources,
    and share phrases by nature. Of a long one a record then has to hold all, or has to be a piece
    of it; cases from elsewhere are found by every part that chance does not explain.

    Columns: id, rule (`same`: what was asked is equal but for case and blanks; `near-duplicate`; or
    a rule of `corpus.contamination`), the record_id that it was found in, overlap (the share of the
    question's 5-grams in the record) and shared (the longest run of words of both); the last two
    are null where the whole question is the same or nearly so.
    """
    import polars as pl

    asked = pl.DataFrame({"id": cases.frame["id"], "text": said(cases.frame), "talk": talks(cases)})
    parts = [
        _same(asked, records),
        _near(asked, records),
        _parts(asked, records, siblings=cases.origin == "split"),
    ]
    return pl.concat(parts).unique("id", keep="first", maintain_order=True).sort("id")


def _found(frame: "pl.DataFrame", rule: str) -> "pl.DataFrame":
    import polars as pl

    kinds = {"overlap": pl.Float64, "shared": pl.String}
    none = [pl.lit(None, kind).alias(name) for name, kind in kinds.items()]
    return frame.select("id", pl.lit(rule).alias("rule"), "record_id", *none)


def _same(asked: "pl.DataFrame", records: "pl.DataFrame") -> "pl.DataFrame":
    """Whole questions, of any length: alike but for case and blanks."""
    import polars as pl

    from tracemill.corpus.records import prompt

    plain = pl.col("text").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars(" ")
    learned = records.select("record_id", prompt().fill_null("").alias("text"))
    learned = learned.with_columns(plain).sort("record_id").unique("text", keep="first")
    both = asked.with_columns(plain).filter(pl.col("text") != "").join(learned, on="text")
    return _found(both, "same")


def _near(asked: "pl.DataFrame", records: "pl.DataFrame") -> "pl.DataFrame":
    """Questions that near-duplicates lead to from a record's: the groups that splits keep whole."""
    import polars as pl

    from tracemill.corpus import dedup

    rows = records.select("record_id", "source", "timestamp", "messages")
    turn: Any = {name: None for name in rows.schema["messages"].inner.to_schema()}  # pyright: ignore
    prompts = [
        [{**turn, "role": "user", "content": text}, {**turn, "role": "assistant", "content": ""}]
        for text in asked["text"]
    ]
    own = pl.DataFrame(
        {
            "record_id": pl.Series([f"case {at}" for at in range(asked.height)], dtype=pl.String),
            "source": pl.Series([""] * asked.height, dtype=pl.String),
            "timestamp": pl.Series([None] * asked.height, dtype=rows.schema["timestamp"]),
            "messages": pl.Series(prompts, dtype=rows.schema["messages"]),
        }
    )
    both = pl.concat([own, rows])
    groups = both.select("record_id").with_columns(
        group=dedup.clusters(both, fields="prompt", threshold=NEAR)
    )
    learned = groups.slice(asked.height).group_by("group").agg(pl.col("record_id").min())
    mine = groups.head(asked.height).select("group").with_columns(asked["id"])
    return _found(mine.join(learned, on="group"), "near-duplicate")


def _parts(asked: "pl.DataFrame", records: "pl.DataFrame", *, siblings: bool) -> "pl.DataFrame":
    """Long questions of which a record holds a part, or the whole among other things."""
    import polars as pl

    from tracemill.corpus.contamination import Evaluations, decontaminate
    from tracemill.corpus.records import BATCH_ROWS

    left = asked.filter(pl.col("text").str.split(" ").list.len() >= LONG)
    parts = [_found(asked.head(0).with_columns(record_id=pl.lit("")), "")]
    prepared = Evaluations.of({"cases": left["text"].to_list()})
    for batch in records.iter_slices(BATCH_ROWS):
        batch = batch.with_columns(messages=_question()) if siblings else batch
        # Of several cases in one record only the one that overlaps most is named: so once more.
        while left.height and (held := decontaminate(batch, prepared).dropped).height:
            named = left.with_columns(pl.int_range(1, pl.len() + 1).alias("eval_id"))
            proof = _whole_piece() if siblings else _more_than_chance()
            best = held.join(named, on="eval_id").filter(proof)
            best = best.sort("overlap", "record_id", descending=[True, False])
            hits = best.unique("id", keep="first", maintain_order=True)
            if hits.is_empty():
                break
            parts.append(hits.select(COLUMNS))
            left = left.join(hits, on="id", how="anti")
            prepared = Evaluations.of({"cases": left["text"].to_list()})
            batch = held.select(batch.columns)
    return pl.concat(parts)


def _question() -> "pl.Expr":
    """The turns before the answer, without the system's."""
    import polars as pl

    from tracemill.corpus.records import STANDING

    asked = pl.col("messages").list.head(pl.col("messages").list.len() - 1)
    return asked.list.filter(~pl.element().struct.field("role").is_in(list(STANDING)))


def _more_than_chance() -> "pl.Expr":
    """Half of the question; or words in a row of a single turn that few records have."""
    import polars as pl

    from tracemill.corpus.contamination import CONTAINED, TEMPLATE_ITEMS

    few = pl.len().over("shared") <= TEMPLATE_ITEMS
    return (pl.col("overlap") >= CONTAINED) | (~pl.col("talk") & few)


def _whole_piece() -> "pl.Expr":
    """All of the question, or a record's question that is a piece of it and half of it at least."""
    import polars as pl

    from tracemill.corpus.contamination import CONTAINED

    texts = pl.col("messages").list.eval(pl.element().struct.field("content").fill_null(""))
    words = texts.list.join(" ").str.count_matches(r"\w+")
    run = pl.col("shared").str.count_matches(r"\w+")
    piece = (pl.col("overlap") >= CONTAINED - 0.1) & (run >= PIECE * words)
    return (pl.col("overlap") >= PIECE) | piece
