"""From protected records to training splits: each once, unseen by evaluations, never moved.

These steps look at all origins together. Each has what it dropped beside what it kept.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from assets import flow, show, sources
from assets.cleaning import GROUP, clean_records, protected_records
from assets.warehouse import OWNERS, Made, Warehouse, code_of
from tracemill.errors import InputError
from tracemill.files import write_text_atomically
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.contamination import Evaluations
    from tracemill.corpus.dedup import NearIndex

PROTECTED, TWICE, UNSEEN, FITTING, SPLITS = (
    *("protected_records", "unique_records", "decontaminated_records", "fitting_records"),
    "training_splits",
)


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numba", "parquet"},
    code_version=code_of(
        __name__,
        *(f"tracemill.corpus.{name}" for name in ("records", "sketch", "kernels", "dedup", "near")),
    ),
    deps=[protected_records],
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
        records = flow.records_of(settings, PROTECTED)
        made = flow.sift(settings, TWICE, (dedup.decide(batch, decisions) for batch in records))
        questions = _index(warehouse, "prompt", asked.threshold, "component")
        groups = write_table(dedup.groups(questions.decisions()), groups_file(settings))
        return made.with_more(files=[groups.path], pages=_likeness(settings))

    inputs = {
        "protected_records": warehouse.digest(protected_records.key),
        "recipe": asked.model_dump_json(),
    }
    return warehouse.make(context, work, inputs)


@dg.asset_check(asset=unique_records, blocking=True, name="no_record_lost")
def none_lost_as_duplicates(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every protected record was kept, or dropped as a duplicate."""
    return flow.accounted(warehouse.settings, unique_records.key, protected_records.key)


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


def _index(warehouse: Warehouse, fields: str, threshold: float, policy: str) -> "NearIndex":
    """The index of exactly the records that there are now. Origins that it knows are not read.

    Other rules for what a record's text is are another index. One that holds records that are gone
    is made anew, for what they decided must go with them.
    """
    settings = warehouse.settings
    texts = "\n".join([fields, str(threshold), policy, *_makers_of_texts(settings)])
    name = f"{fields}-{policy}-{hashlib.sha256(texts.encode()).hexdigest()[:12]}"
    folder = settings.corpus / "near" / name
    for other in folder.parent.glob(f"{fields}-{policy}-*"):
        if other != folder:
            shutil.rmtree(other)
    index = _filled(warehouse, folder, fields, threshold, policy)
    if len(index) == _distinct(settings):
        return index
    shutil.rmtree(folder)
    return _filled(warehouse, folder, fields, threshold, policy)


def _filled(
    warehouse: Warehouse, folder: Path, fields: str, threshold: float, policy: str
) -> "NearIndex":
    from tracemill.corpus import dedup
    from tracemill.corpus.tables import read_batches

    index = dedup.NearIndex(folder, fields=fields, threshold=threshold, policy=policy)  # pyright: ignore[reportArgumentType]
    file = folder / "origins.json"
    known = set(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else set()
    now = warehouse.parts(protected_records.key)
    for origin, digest in now.items():
        if digest not in known:
            for batch in read_batches(
                [flow.kept_file(warehouse.settings, PROTECTED, origin)], 50_000
            ):
                dedup.add(index, batch)
    write_text_atomically(file, json.dumps(sorted({*known, *now.values()})))
    return index


def _makers_of_texts(settings: Settings) -> Iterator[str]:
    """What decides how a record's text reads, apart from the record."""
    for step in (clean_records, protected_records):
        yield step.code_versions_by_key[step.key] or ""
    for file in sorted(settings.raw_records.glob("*.yaml")):
        recipe = flow.recipe_of(settings, file.stem)
        if (recipe.pii, recipe.names) != ("redact", False):
            yield f"{file.stem} {recipe.pii} {recipe.names}"


def _distinct(settings: Settings) -> int:
    import polars as pl

    files = flow.kept_files(settings, PROTECTED)
    if not files:
        return 0
    return (
        pl.scan_parquet(files, glob=False).select(pl.col("record_id").n_unique()).collect().item()
    )


def groups_file(settings: Settings) -> Path:
    """Which records ask nearly the same: `record_id`, `group_id`."""
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
    deps=[unique_records],
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
        records = flow.records_of(settings, TWICE)
        judged = (decontaminate(batch, sets) for batch in records)
        made = flow.sift(settings, UNSEEN, judged)
        found = contamination(settings)
        return made.with_more(pages={"evaluations": show.sample(found, rows=20)})

    inputs = {name: sources.fingerprint(path) for name, path in files.items()}
    inputs |= {"unique_records": warehouse.digest(unique_records.key)}
    return warehouse.make(context, work, inputs)


@dg.asset_check(asset=decontaminated_records, blocking=True, name="no_record_lost")
def none_lost_as_contaminated(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every unique record was kept, or dropped for what it shares with an evaluation set."""
    return flow.accounted(warehouse.settings, decontaminated_records.key, unique_records.key)


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
    raw = settings.raw_dataset.parent
    files = {name: raw / file for name, file in flow.dataset_recipe(settings).evaluations.items()}
    for name, file in files.items():
        if not file.is_file():
            raise InputError(f"{settings.raw_dataset}: evaluations.{name}: there is no file {file}")
    return files


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=code_of(
        __name__, *(f"tracemill.corpus.{name}" for name in ("records", "tokens", "parts"))
    ),
    deps=[decontaminated_records],
)
def fitting_records(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> dg.MaterializeResult:
    """Records that are no longer than a model takes; longer ones are dropped, or cut into several."""
    import polars as pl

    from tracemill.corpus.records import Judged
    from tracemill.corpus.tokens import limit

    settings = warehouse.settings
    asked = flow.dataset_recipe(settings).tokens

    def judge(batch: "pl.DataFrame") -> Judged:
        if asked.max_tokens is None:
            none = batch.clear().with_columns(reason=pl.lit(None, pl.String))
            return Judged(batch.with_columns(part_of=pl.lit(None, pl.String)), none)
        return limit(batch, asked.max_tokens, asked.tokenizer, asked.over)

    inputs = {
        "decontaminated_records": warehouse.digest(decontaminated_records.key),
        "recipe": asked.model_dump_json(),
    }
    records = flow.records_of(settings, UNSEEN)
    return warehouse.make(
        context, lambda: flow.sift(settings, FITTING, map(judge, records)), inputs
    )


@dg.asset_check(asset=fitting_records, blocking=True, name="no_record_lost")
def none_lost_as_too_long(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every record is there whole, in parts, or dropped as too long."""
    return flow.accounted(warehouse.settings, fitting_records.key, decontaminated_records.key)
