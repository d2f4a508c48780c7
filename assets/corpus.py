"""From protected records to training splits: each once, unseen by evaluations, never moved.

These steps look at all origins together. Each has what it dropped beside what it kept.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from assets import distinct, flow, show, sources
from assets.cleaning import GROUP, clean_records, protected_records, stand_ins
from assets.warehouse import ORIGINS, OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.files import write_text_atomically
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.contamination import Evaluations
    from tracemill.corpus.dedup import NearIndex
    from tracemill.corpus.recipe import Dedup, Source
    from tracemill.corpus.records import Judged

PROTECTED, FITTING, TWICE, UNSEEN, SPLITS = (
    *("protected_records", "fitting_records", "unique_records", "decontaminated_records"),
    "training_splits",
)
SKETCHED_ROWS = 20_000
"""At a time: fewer are compared with all known ids too often, more take memory that is kept."""
RATINGS = "ratings.parquet"
"""In the folder of an index: what each record was rated that it has."""


@asset_by(
    ORIGINS,
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=code_of(
        __name__, *(f"tracemill.corpus.{name}" for name in ("records", "tokens", "parts"))
    ),
    deps=[protected_records],
)
def fitting_records(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> dg.MaterializeResult:
    """Records that are no longer than a model takes; longer ones are dropped, or cut into several.

    Before duplicates are looked for: two long conversations can have a part in common.
    """
    import polars as pl

    from tracemill.corpus.records import Judged
    from tracemill.corpus.tokens import limit

    asked = flow.dataset_recipe(warehouse.settings).tokens

    def judge(batch: "pl.DataFrame", recipe: "Source", facts: Counter[str]) -> Judged:
        if asked.max_tokens is None:
            none = batch.clear().with_columns(reason=pl.lit(None, pl.String))
            return Judged(batch.with_columns(part_of=pl.lit(None, pl.String)), none)
        return limit(batch, asked.max_tokens, asked.tokenizer, asked.over)

    also = {"tokens": asked.model_dump_json()}
    return flow.sift_each(context, warehouse, protected_records.key, set(), judge, also)


@dg.asset_check(asset=fitting_records, blocking=True, name="no_record_lost")
def none_lost_as_too_long(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every record is there whole, in parts, or dropped as too long."""
    settings = warehouse.settings
    return flow.accounted(settings, fitting_records.key, protected_records.key, cut=True)


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numba", "parquet"},
    code_version=code_of(
        __name__,
        *(f"tracemill.corpus.{name}" for name in ("records", "sketch", "kernels", "dedup", "near")),
    ),
    deps=[fitting_records],
)
def unique_records(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Records that are not nearly the same as another; each removal names the one that stayed.

    Two indexes remember the sketches of all that came before, so that new records are compared
    without old text: one of whole records, to drop by; one of questions, to split by.
    """
    from tracemill.corpus import dedup
    from tracemill.corpus.tables import write_table

    settings = warehouse.settings
    asked = flow.dataset_recipe(settings).dedup

    def work() -> Made:
        decisions = _index(warehouse, asked.fields, asked.threshold, asked.policy).decisions()
        made = flow.sift(settings, TWICE, _decided(settings, decisions))
        questions = _index(warehouse, "prompt", asked.threshold, "component")
        groups = dedup.groups(questions.decisions())
        groups = groups.join(_alike(warehouse, asked), on="record_id", how="left")
        groups = write_table(groups, groups_file(settings))
        return made.with_more(files=[groups.path], pages=_likeness(settings))

    inputs = {
        "fitting_records": warehouse.digest(fitting_records.key),
        "recipe": asked.model_dump_json(),
    }
    return warehouse.make(context, work, inputs)


@dg.asset_check(asset=unique_records, blocking=True, name="no_record_lost")
def none_lost_as_duplicates(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every fitting record was kept, or dropped as a duplicate."""
    return flow.accounted(warehouse.settings, unique_records.key, fitting_records.key)


@dg.asset_check(asset=unique_records, blocking=True)
def duplicates_explained(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Each removal names a record that stayed and their likeness, at the threshold or above."""
    import polars as pl

    settings = warehouse.settings
    least = flow.dataset_recipe(settings).dedup.threshold
    kept = pl.scan_parquet(flow.kept_files(settings, TWICE), glob=False).select("record_id")
    dropped = pl.scan_parquet(flow.dropped_files(settings, TWICE), glob=False).select(
        "kept_id", "jaccard"
    )
    lost = dropped.join(kept, left_on="kept_id", right_on="record_id", how="anti").select(pl.len())
    likeness = dropped.select(pl.len(), pl.col("jaccard").min()).collect().row(0)
    strangers = lost.collect().item()
    return dg.AssetCheckResult(
        passed=strangers == 0 and (likeness[1] is None or likeness[1] >= least),
        description=f"{likeness[0]:,} duplicates, {strangers:,} of a record that did not stay",
    )


def _decided(settings: Settings, decisions: "pl.DataFrame") -> "Iterator[Judged]":
    import polars as pl

    from tracemill.corpus import dedup

    files = flow.kept_files(settings, FITTING)
    first = (
        dedup.firsts(pl.scan_parquet(files, glob=False))
        if files
        else pl.Series([], dtype=pl.Boolean)
    )
    start = 0
    for batch in flow.records_of(settings, FITTING):
        yield dedup.decide(batch, decisions, first[start : start + batch.height])
        start += batch.height


def _alike(warehouse: Warehouse, asked: "Dedup") -> "pl.DataFrame":
    """Records that are nearly the same as a whole and yet stay, for other fields were compared."""
    import polars as pl

    from tracemill.corpus import dedup

    if asked.fields == "both":
        return pl.DataFrame(schema={"record_id": pl.String, "alike": pl.String})
    wholes = _index(warehouse, "both", asked.threshold, "component")
    return dedup.groups(wholes.decisions()).rename({"group_id": "alike"})


def _index(warehouse: Warehouse, fields: str, threshold: float, policy: str) -> "NearIndex":
    """The index of exactly the records that there are now. Origins that it knows are not read.

    Other rules for what a record's text is are another index. One that holds records that are gone,
    or that were rated higher, is made anew, for what they decided must go with them.
    """
    settings = warehouse.settings
    texts = "\n".join([fields, str(threshold), policy, *_makers_of_texts(settings)])
    name = f"{fields}-{policy}-{hashlib.sha256(texts.encode()).hexdigest()[:12]}"
    folder = settings.corpus / "near" / name
    for other in folder.parent.glob(f"{fields}-{policy}-*"):
        if other != folder:
            shutil.rmtree(other)
    if _rated_as_before(settings, folder):
        index = _filled(warehouse, folder, fields, threshold, policy)
        if len(index) == _distinct(settings):
            return index
    shutil.rmtree(folder)
    return _filled(warehouse, folder, fields, threshold, policy)


def _filled(
    warehouse: Warehouse, folder: Path, fields: str, threshold: float, policy: str
) -> "NearIndex":
    import polars as pl

    from tracemill.corpus import dedup
    from tracemill.corpus.tables import read_batches, write_table

    index = dedup.NearIndex(folder, fields=fields, threshold=threshold, policy=policy)  # pyright: ignore[reportArgumentType]
    file = folder / "origins.json"
    known = set(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else set()
    now = warehouse.parts(fitting_records.key)
    write_table(_ratings(warehouse.settings), folder / RATINGS)
    # Lines and times of files change from day to day; where a record is, `_decided` looks up.
    nowhere = {"source": pl.lit(""), "timestamp": pl.lit(datetime.fromtimestamp(0, UTC))}
    for origin, digest in now.items():
        if digest not in known:
            table = flow.kept_file(warehouse.settings, FITTING, origin)
            for batch in read_batches([table], SKETCHED_ROWS):
                dedup.add(index, batch.with_columns(**nowhere))
    write_text_atomically(file, json.dumps(sorted({*known, *now.values()})))
    return index


def _rated_as_before(settings: Settings, folder: Path) -> bool:
    """Whether no rating that the index was told is lower now: it remembers the highest."""
    import polars as pl

    if not (folder / RATINGS).is_file():
        return not (folder / "origins.json").is_file()
    told = pl.read_parquet(folder / RATINGS, glob=False)
    both = told.join(_ratings(settings), on="record_id", how="left", suffix="_now")
    return both.filter(~(pl.col("rating_now") >= pl.col("rating")).fill_null(False)).is_empty()


def _ratings(settings: Settings) -> "pl.DataFrame":
    """The highest rating of each record that has one."""
    import polars as pl

    files = flow.kept_files(settings, FITTING)
    if not files:
        return pl.DataFrame(schema={"record_id": pl.String, "rating": pl.Float64})
    rated = pl.scan_parquet(files, glob=False).filter(pl.col("rating").is_not_null())
    return rated.group_by("record_id").agg(pl.col("rating").max()).sort("record_id").collect()


def _makers_of_texts(settings: Settings) -> Iterator[str]:
    """What decides how a record's text reads, apart from the record."""
    for step in (clean_records, protected_records):
        yield step.code_versions_by_key[step.key] or ""
    for file in sorted(settings.raw_records.glob("*.y*ml")):
        recipe = flow.recipe_of(settings, file.stem)
        if (recipe.pii, recipe.names) != ("redact", False):
            yield f"{file.stem} {recipe.pii} {recipe.names} {stand_ins(settings)}"


def _distinct(settings: Settings) -> int:
    import polars as pl

    files = flow.kept_files(settings, FITTING)
    if not files:
        return 0
    return (
        pl.scan_parquet(files, glob=False).select(pl.col("record_id").n_unique()).collect().item()
    )


def groups_file(settings: Settings) -> Path:
    """`record_id`; `group_id` of those that ask nearly the same; `alike` of those that are."""
    return settings.corpus / "near" / "questions.parquet"


def _likeness(settings: Settings) -> dict[str, str]:
    import polars as pl

    dropped = pl.scan_parquet(flow.dropped_files(settings, TWICE), glob=False)
    near = dropped.filter(reason="near duplicate").select("jaccard").collect()["jaccard"]
    if near.is_empty():
        return {}
    unit = "Jaccard similarity to the record that stayed"
    return {"likeness": show.histogram("Likeness of removed near-duplicates", near, unit)}


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=code_of(
        __name__, *(f"tracemill.corpus.{name}" for name in ("records", "sketch", "contamination"))
    ),
    deps=[distinct.distinct_records],
)
def decontaminated_records(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> dg.MaterializeResult:
    """Records that share no passage with the evaluation sets that `raw/dataset.yaml` names."""
    from tracemill.corpus.contamination import decontaminate

    settings = warehouse.settings
    files = _evaluation_files(settings)

    def work() -> Made:
        sets = evaluations(settings)
        records = flow.records_of(settings, distinct.step(warehouse))
        judged = (decontaminate(batch, sets) for batch in records)
        made = flow.sift(settings, UNSEEN, judged)
        found = contamination(settings)
        return made.with_more(pages={"evaluations": show.sample(found, rows=20)})

    inputs = {f"evaluation {name}": sources.fingerprint(path) for name, path in files.items()}
    inputs |= {"distinct_records": warehouse.digest(distinct.distinct_records.key)}
    return warehouse.make(context, work, inputs)


@dg.asset_check(asset=decontaminated_records, blocking=True, name="no_record_lost")
def none_lost_as_contaminated(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every distinct record was kept, or dropped for what it shares with an evaluation set."""
    before = dg.AssetKey([GROUP, distinct.step(warehouse)])
    return flow.accounted(warehouse.settings, decontaminated_records.key, before)


def evaluations(settings: Settings) -> "Evaluations":
    """The evaluation sets that the data set's recipe names, prepared for looking up."""
    from tracemill.corpus.contamination import Evaluations, evaluation_texts

    files = _evaluation_files(settings)
    return Evaluations.of({name: evaluation_texts(path) for name, path in files.items()})


def contamination(settings: Settings) -> "pl.DataFrame":
    """Evaluation set by set, how many records were dropped for it."""
    import polars as pl

    from tracemill.corpus.contamination import report

    dropped = pl.scan_parquet(flow.dropped_files(settings, UNSEEN), glob=False).select(
        "evaluation", "rule"
    )
    return report(evaluations(settings), dropped.collect())


def _evaluation_files(settings: Settings) -> dict[str, Path]:
    return flow.evaluation_files(settings, flow.dataset_recipe(settings))
