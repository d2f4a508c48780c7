"""What is in the training data: what each step left out, what was written, and what would leak.

Read from the tables that the steps left in the warehouse; each function gives a frame, which is
empty where nothing has been built.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tracemill.errors import InputError
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.contamination import Evaluations
    from tracemill.corpus.dedup import Explanation, Fields
    from tracemill.corpus.recipe import Dataset

READ = "raw_records"
STEPS = (
    *("clean_records", "protected_records", "fitting_records", "unique_records"),
    *("distinct_records", "decontaminated_records", "training_splits"),
)
"""In the order in which records go through them, after they were read."""


class Pair(NamedTuple):
    """Two records of one family, and how much of their text is the same."""

    one: str
    other: str
    jaccard: float
    """Of their word 5-grams, 0 to 1."""


class Family(NamedTuple):
    """Records that are nearly the same: one that stayed and those that were dropped for it."""

    kept_id: str
    members: list[str]
    """Their ids, that of the record that stayed first."""
    pairs: list[Pair]
    """Each two of them."""


def steps(settings: Settings) -> "pl.DataFrame":
    """How many records each step kept and left out: step, kept, dropped; the first step reads.

    Parts into which a long record was cut count as records.
    """
    import polars as pl

    rows = [(READ, _count(settings.kept(READ)), _count(settings.quarantine / READ))]
    for step in STEPS:
        kept, dropped = settings.kept(step), settings.dropped(step)
        if step == STEPS[-1]:
            kept_now = sum(card(settings).get("rows", {}).values())
            rows.append((step, kept_now, _count(dropped)))
        elif _files(kept):
            rows.append((step, _count(kept), _count(dropped)))
    there = [row for row in rows if any(row[1:])]
    schema = {"step": pl.String, "kept": pl.Int64, "dropped": pl.Int64}
    return pl.DataFrame(there, schema, orient="row")


def left_out(settings: Settings) -> "pl.DataFrame":
    """Why lines were refused and records dropped: step, reason, records; most first in each step."""
    import polars as pl

    counted = [
        pl.scan_parquet(files, glob=False)
        .group_by(_plain("reason"))
        .len("records")
        .select(pl.lit(step).alias("step"), "reason", pl.col("records").cast(pl.Int64))
        .sort("records", "reason", descending=[True, False])
        .collect()
        for step in (READ, *STEPS)
        if (files := _files(_out(settings, step)))
    ]
    schema = {"step": pl.String, "reason": pl.String, "records": pl.Int64}
    return pl.concat([pl.DataFrame(schema=schema), *counted])


def refused(settings: Settings) -> "pl.DataFrame":
    """The lines that were no records: file, line, reason, text."""
    import polars as pl

    schema = {"file": pl.String, "line": pl.Int64, "reason": pl.String, "text": pl.String}
    files = _files(settings.quarantine / READ)
    read = [pl.read_parquet(file, columns=[*schema], glob=False) for file in files]
    return pl.concat([pl.DataFrame(schema=schema), *read]).sort("file", "line")


def written(settings: Settings) -> "pl.DataFrame":
    """The records of the version in force, with their texts.

    Columns: record_id, group_id, split, origin, label, question, answer, language (of the answer;
    null where it is too short to tell), tokens (of the whole record).
    """
    import polars as pl

    from tracemill.corpus import languages, records, tokens

    schema = {
        **dict.fromkeys(("record_id", "group_id", "split", "origin", "label"), pl.String),
        **dict.fromkeys(("question", "answer", "language"), pl.String),
        "tokens": pl.Int64,
    }
    rows = whole(settings)
    if rows is None:
        return pl.DataFrame(schema=schema)
    said = rows.with_columns(records.question(), records.answer(), tokens.count(rows))
    language = languages.identify(said["answer"]).alias("language")
    return said.with_columns(language).select(*schema).sort("split", "record_id")


def whole(settings: Settings) -> "pl.DataFrame | None":
    """The records of the version in force with all their columns; None where there is none."""
    import polars as pl

    from tracemill.corpus.write import current

    try:
        folder = current(settings.splits).path
    except InputError:
        return None
    return pl.concat(
        (pl.read_parquet(file, glob=False) for file in sorted(folder.glob("*.parquet"))),
        how="diagonal",
    )


def card(settings: Settings) -> dict[str, Any]:
    """What the card of the version in force says, as data; empty where there is no version."""
    from tracemill.corpus.write import CARD_JSON, current

    try:
        folder = current(settings.splits).path
    except InputError:
        return {}
    return cast("dict[str, Any]", json.loads((folder / CARD_JSON).read_text(encoding="utf-8")))


def personal(settings: Settings) -> "pl.DataFrame":
    """What was found about people, and what became of it: kind, became, found; most first."""
    import polars as pl

    found = card(settings).get("personal", {})
    rows = [(kind, done, count) for kind, each in found.items() for done, count in each.items()]
    schema = {"kind": pl.String, "became": pl.String, "found": pl.Int64}
    frame = pl.DataFrame(rows, schema, orient="row")
    return frame.sort("found", "kind", "became", descending=[True, False, False])


def still_personal(settings: Settings) -> int:
    """How many places of the written records still hold something personal: found anew."""
    from tracemill.corpus.personal import personal_data

    rows = whole(settings)
    return 0 if rows is None else int(personal_data(rows)["found"].sum())


def duplicates(settings: Settings) -> "pl.DataFrame":
    """The records that were dropped for another: record_id, kept_id, reason, jaccard."""
    import polars as pl

    columns = {"record_id": pl.String, "kept_id": pl.String, "reason": pl.String}
    schema = {**columns, "jaccard": pl.Float64}
    files = _files(settings.dropped("unique_records"))
    if not files:
        return pl.DataFrame(schema=schema)
    return pl.scan_parquet(files, glob=False).select(*schema).sort("kept_id", "record_id").collect()


def families(settings: Settings, most: int = 6) -> list[Family]:
    """The largest families of near-duplicates, with the likeness of each two of their members.

    Families of the same size are in the order of the ids that stayed; exact copies are left out.
    """
    import polars as pl

    near = duplicates(settings).filter(reason="near duplicate").unique("record_id")
    by_kept = near.group_by("kept_id").agg(pl.col("record_id").sort())
    size = pl.col("record_id").list.len()
    chosen = by_kept.sort(size, "kept_id", descending=[True, False]).head(most)
    known = _texts(settings, set(chosen["kept_id"]) | set(chosen["record_id"].explode()))
    return [_family(kept_id, members, known) for kept_id, members in chosen.iter_rows()]


def explained(settings: Settings, record_id: str) -> "Explanation":
    """Why a record was dropped as a duplicate, beside the one that stayed.

    Raises `UsageError` for a record that was not.
    """
    import polars as pl

    from tracemill.corpus import dedup
    from tracemill.corpus.recipe import dataset_recipe

    kept, dropped = (
        pl.scan_parquet(_files(folder), glob=False)
        for folder in (settings.kept("unique_records"), settings.dropped("unique_records"))
    )
    gone = dropped.filter(record_id=record_id).collect()
    stays = kept.filter(pl.col("record_id").is_in(gone["kept_id"].to_list())).collect()
    fields = dataset_recipe(settings.raw_dataset).dedup.fields
    return dedup.explain(record_id, stays, gone, fields=fields)


def leaks(settings: Settings) -> "pl.DataFrame":
    """What of one split stands in another, or in an evaluation set: looked for anew in the files.

    Columns: what, looked_at (records), found (records in two splits, or that hold a question), and
    alone: what would be found had every record been placed by itself; null for evaluation sets.
    """
    import polars as pl

    from tracemill.corpus import dedup, split
    from tracemill.corpus.recipe import dataset_recipe

    schema = {"what": pl.String, "looked_at": pl.Int64, "found": pl.Int64, "alone": pl.Int64}
    rows = whole(settings)
    if rows is None or rows.is_empty():
        return pl.DataFrame(schema=schema)
    asked = dataset_recipe(settings.raw_dataset)
    alone = split.split(rows.select("record_id"), asked.split.ratios, asked.split.salt).kept
    told: list[tuple[str, int, int, int | None]] = []
    compared: dict[str, Fields] = {"record": "both", "question": "prompt"}
    for what, fields in compared.items():
        groups = dedup.clusters(
            rows, fields=fields, threshold=asked.dedup.threshold, recall=dedup.STRICT
        )
        sides = (_across(rows["split"], groups), _across(alone["split"], groups))
        told.append((f"nearly the same {what}", rows.height, *sides))
    groups = rows["group_id"]
    sides = (_across(rows["split"], groups), _across(alone["split"], groups))
    told.append(("of one group", rows.height, *sides))
    told += [(f"in the evaluation {name}", rows.height, found, None)
             for name, found in _tested(settings, rows, asked)]  # fmt: skip
    return pl.DataFrame(told, schema, orient="row")


def _tested(settings: Settings, rows: "pl.DataFrame", asked: "Dataset") -> "list[tuple[str, int]]":
    """Evaluation set by set, how many records hold one of its questions."""
    from tracemill.corpus.contamination import decontaminate

    sets = _evaluations(settings, asked)
    dropped = decontaminate(rows, sets).dropped
    return [(name, dropped.filter(evaluation=name).height) for name in sets.names]


def _evaluations(settings: Settings, asked: "Dataset") -> "Evaluations":
    from tracemill.corpus.contamination import Evaluations, evaluation_texts

    files = {name: settings.raw_dataset.parent / file for name, file in asked.evaluations.items()}
    return Evaluations.of({name: evaluation_texts(path) for name, path in files.items()})


def _across(splits: "pl.Series", groups: "pl.Series") -> int:
    """How many records are of a group that has others in another split."""
    import polars as pl

    both = pl.DataFrame({"split": splits, "group": groups})
    return both.filter(pl.col("split").n_unique().over("group") > 1).height


def _family(kept_id: str, dropped: list[str], known: dict[str, str]) -> Family:
    from itertools import combinations

    from tracemill.corpus.near.explain import compare

    members = [each for each in (kept_id, *dropped) if each in known]
    pairs = [
        Pair(one, other, compare(known[one], known[other]).jaccard)
        for one, other in combinations(members, 2)
    ]
    return Family(kept_id, members, pairs)


def _texts(settings: Settings, ids: set[str]) -> dict[str, str]:
    """What of these records was compared, kept and dropped ones."""
    import polars as pl

    from tracemill.corpus import dedup
    from tracemill.corpus.recipe import dataset_recipe

    fields = dataset_recipe(settings.raw_dataset).dedup.fields
    known: dict[str, str] = {}
    for folder in (settings.kept("unique_records"), settings.dropped("unique_records")):
        if files := _files(folder):
            rows = pl.scan_parquet(files, glob=False).filter(pl.col("record_id").is_in(sorted(ids)))
            frame = rows.collect()
            known |= dict(zip(frame["record_id"], dedup.texts(frame, fields), strict=True))
    return known


def _plain(column: str) -> "pl.Expr":
    """Reasons without what is particular about one line, so that they can be counted."""
    import polars as pl

    return pl.col(column).str.replace(r"^(not JSON): .*$", "$1")


def _out(settings: Settings, step: str) -> Path:
    return settings.quarantine / READ if step == READ else settings.dropped(step)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def _count(folder: Path) -> int:
    import polars as pl

    files = _files(folder)
    return pl.scan_parquet(files, glob=False).select(pl.len()).collect().item() if files else 0
