"""Train, validation and test: placed once and for all, written with a card, checked for leaks."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import dagster as dg

from assets import corpus, distinct, flow, show, story
from assets.cleaning import GROUP
from assets.warehouse import OWNERS, Made, Warehouse, code_of
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.recipe import Dataset
    from tracemill.corpus.records import Judged

PLACING = ("record_id", "source", "origin", "label", "conversation_id", "user_id", "part_of")
"""What decides where a record goes; its texts do not."""
SPARED = 10_000


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"parquet", "json"},
    code_version=code_of(
        __name__,
        *(f"tracemill.corpus.{name}" for name in ("records", "split", "write", "shards", "export")),
        "tracemill.corpus.card",
    ),
    deps=[corpus.decontaminated_records],
)
def training_splits(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> dg.MaterializeResult:
    """Train, validation and test, as Parquet and JSONL, in a folder named by its content.

    Records that ask nearly the same, or are of one conversation, are on one side. What an earlier
    version placed stays there; a newcomer between two sides is left out.
    """
    from tracemill.corpus import split, write
    from tracemill.events import DatasetBuilt

    settings = warehouse.settings
    recipe = flow.dataset_recipe(settings)
    folder = settings.splits
    inputs = {"corpus/decontaminated_records": warehouse.digest(corpus.decontaminated_records.key)}

    def work() -> Made:
        placed = _placed(settings, recipe)
        warned = split.warnings(placed.kept, recipe.split.ratios)
        left_out = flow.write_dropped(settings, corpus.SPLITS, _torn(settings, placed))
        built = write.write_splits(
            _sided(settings, placed),
            folder,
            name=recipe.name,
            inputs=inputs,
            salt=recipe.split.salt,
            splits=recipe.split.ratios,
            formats=recipe.formats,
            story=story.of(warehouse, recipe, placed.kept, warned),
        )
        write.settle(folder, _rule(recipe), placed.kept)
        with warehouse.open_log() as log:
            event = DatasetBuilt(
                name=recipe.name,
                digest=built.digest,
                rows=built.rows,
                salt=recipe.split.salt,
                dropped=story.dropped_by_step(settings),
                inputs=tuple(inputs.values()),
                log_position=log.position(),
                **warehouse.origin(context),
            )
            log.append(event)
        rows = sum(built.rows.values())
        return Made(
            digest=built.digest,
            rows=rows,
            files=(*sorted(each for each in built.path.rglob("*") if each.is_file()), left_out),
            facts={**built.rows, "version": built.path.name, "warnings": ". ".join(warned)},
            pages={
                "sample": show.sample(_sample(_files(settings)), rows=8),
                "card": (built.path / write.CARD).read_text(encoding="utf-8"),
                "plot": show.bars(
                    "Records by split", list(built.rows), list(built.rows.values()), "records"
                ),
            },
        )

    return warehouse.make(context, work, inputs | {"recipe": recipe.model_dump_json()})


@dg.asset_check(asset=training_splits, blocking=True, name="no_record_lost")
def none_lost_in_splitting(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every decontaminated record is in one split, or left out because it would join two."""
    import polars as pl

    settings = warehouse.settings
    came = pl.scan_parquet(flow.kept_files(settings, corpus.UNSEEN), glob=False)
    came = came.select("record_id").collect()
    rows = _written(settings)
    left_out = pl.read_parquet(flow.dropped_file(settings, corpus.SPLITS), glob=False)[
        "record_id"
    ].n_unique()
    return dg.AssetCheckResult(
        passed=came.height == rows.height + left_out and rows["record_id"].is_unique().all(),
        description=f"{came.height:,} in = {rows.height:,} placed + {left_out:,} left out",
    )


@dg.asset_check(asset=training_splits, blocking=True)
def splits_disjoint(warehouse: Warehouse) -> dg.AssetCheckResult:
    """No group of records that belong together is in two splits."""
    import polars as pl

    rows = _written(warehouse.settings)
    torn = rows.group_by("group_id").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1)
    return dg.AssetCheckResult(
        passed=torn.is_empty(),
        description=f"{rows['group_id'].n_unique():,} groups, {torn.height} in more than one split",
        metadata={"records": rows.height, "torn_groups": torn.height},
    )


@dg.asset_check(asset=training_splits)
def no_split_empty(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Each split has records, and no group is most of them; else a warning says the mend."""
    record = warehouse.last(training_splits.key)
    warned = record["made"]["facts"]["warnings"] if record else "nothing has been split yet"
    return dg.AssetCheckResult(
        passed=not warned, severity=dg.AssetCheckSeverity.WARN, description=warned or "none is"
    )


@dg.asset_check(asset=training_splits, blocking=True)
def no_leakage(warehouse: Warehouse) -> dg.AssetCheckResult:
    """No record of one split is nearly the same as a record of another: found anew, in the files.

    By stricter bands than those that kept groups together, which see of near-duplicates just at
    the threshold all but 1 in 500. One leak in `SPARED` records is theirs, and only told; more are
    a fault.
    """
    from tracemill.corpus import dedup, sketch

    settings = warehouse.settings
    recipe = flow.dataset_recipe(settings)
    sides = _written(settings)
    if sides.height > sketch.FEW_TEXTS:
        sketch.warm()  # The first file may be of few records.
    with TemporaryDirectory() as folder:
        indexes = {
            fields: dedup.NearIndex(
                Path(folder, fields),
                fields=fields,
                threshold=recipe.dedup.threshold,
                policy="component",
                recall=dedup.STRICT,
            )
            for fields in ("both", *(["prompt"] if "duplicates" in recipe.split.by else []))
        }
        for batch in _batches(settings):
            for index in indexes.values():
                dedup.add(index, batch)
        leaks = {
            fields: _across(sides, dedup.groups(index.decisions()))
            for fields, index in indexes.items()
        }
    return dg.AssetCheckResult(
        passed=all(count * SPARED <= sides.height for count in leaks.values()),
        description=", ".join(
            f"{count} {'records' if fields == 'both' else 'questions'} nearly the same in two splits"
            for fields, count in leaks.items()
        ),
        metadata=leaks,
    )


@dg.asset_check(asset=training_splits, blocking=True)
def no_personal_data(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Nothing personal is found in what was written, but where a recipe keeps it."""
    import polars as pl

    from tracemill.corpus.personal import personal_data

    settings = warehouse.settings
    kept = {o for o in _origins(settings) if flow.recipe_of(settings, o).pii == "keep"}
    batches = (batch.filter(~pl.col("origin").is_in(kept)) for batch in _batches(settings))
    found = sum(int(personal_data(batch)["found"].sum()) for batch in batches)
    return dg.AssetCheckResult(
        passed=found == 0, description=f"something personal in {found} places"
    )


@dg.asset_check(asset=training_splits, blocking=True)
def no_contamination(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Nothing that was written holds a question of an evaluation set."""
    from tracemill.corpus.contamination import decontaminate

    settings = warehouse.settings
    sets = corpus.evaluations(settings)
    found = sum(decontaminate(batch, sets).dropped.height for batch in _batches(settings))
    names = ", ".join(sets.names) or "no evaluation set named in raw/dataset.yaml"
    return dg.AssetCheckResult(passed=found == 0, description=f"{found} records: {names}")


def _placed(settings: Settings, recipe: "Dataset") -> "Judged":
    """Which records go where, by all that is known of them but their texts."""
    import polars as pl

    from tracemill.corpus import split, write

    files = flow.kept_files(settings, corpus.UNSEEN)
    light = pl.scan_parquet(files, glob=False).select(PLACING).collect()
    groups = pl.read_parquet(corpus.groups_file(settings), glob=False)
    light = light.join(groups, on="record_id", how="left", maintain_order="left")
    asked = recipe.split
    return split.split(
        light.drop("group_id"),
        asked.ratios,
        asked.salt,
        by=(*asked.by, "part_of", "alike"),
        clusters=light["group_id"] if "duplicates" in asked.by else None,
        stratify=asked.stratify,
        settled=_settled(settings, write.settled(settings.splits, _rule(recipe))),
    )


def _rule(recipe: "Dataset") -> str:
    return recipe.split.model_dump_json()


def _settled(settings: Settings, placed: "pl.DataFrame") -> "pl.DataFrame":
    """Where records were placed; one that stays for a placed duplicate takes over its place.

    Of duplicates on two sides the one that was not trained on decides.
    """
    import polars as pl

    heirs = (
        _stand_ins(settings)
        .join(placed, on="record_id")
        .select(record_id="kept_id", split="split")
        .join(placed, on="record_id", how="anti")
        .sort(pl.col("split") == "train", "record_id", "split")
        .unique("record_id", keep="first", maintain_order=True)
    )
    return pl.concat([placed, heirs])


def _stand_ins(settings: Settings) -> "pl.DataFrame":
    """Each duplicate that was dropped and the record that stays for it in the end."""
    import polars as pl

    ids = pl.DataFrame(schema={"record_id": pl.String, "kept_id": pl.String})
    twice, alike = (
        pl.scan_parquet(files, glob=False).select(ids.columns).unique().collect() if files else ids
        for files in (
            flow.dropped_files(settings, name) for name in (corpus.TWICE, distinct.DISTINCT)
        )
    )
    then = alike.rename({"record_id": "kept_id", "kept_id": "then_id"})
    followed = twice.join(then, on="kept_id", how="left")
    return pl.concat(
        [followed.select("record_id", kept_id=pl.coalesce("then_id", "kept_id")), alike]
    )


def _sided(settings: Settings, placed: "Judged") -> "Iterator[pl.DataFrame]":
    sides = placed.kept.select("record_id", "group_id", "split")
    for batch in flow.records_of(settings, corpus.UNSEEN):
        yield batch.join(sides, on="record_id", how="inner", maintain_order="left")


def _torn(settings: Settings, placed: "Judged") -> "Iterator[pl.DataFrame]":
    reasons = placed.dropped.select("record_id", "reason")
    records = flow.records_of(settings, corpus.UNSEEN)
    # Mostly there are none, and one batch tells the columns.
    for batch in records if reasons.height else [next(records)]:
        yield batch.join(reasons, on="record_id", how="inner", maintain_order="left")


def _origins(settings: Settings) -> list[str]:
    return [file.stem for file in flow.kept_files(settings, corpus.PROTECTED)]


def _files(settings: Settings) -> list[Path]:
    """The Parquet of the version in force."""
    from tracemill.corpus.write import current

    return sorted(current(settings.splits).path.glob("*.parquet"))


def _batches(settings: Settings) -> "Iterator[pl.DataFrame]":
    from tracemill.corpus.tables import read_batches

    return read_batches(_files(settings))


def _written(settings: Settings) -> "pl.DataFrame":
    import polars as pl

    return (
        pl.scan_parquet(_files(settings), glob=False)
        .select("record_id", "group_id", "split")
        .collect()
    )


def _sample(files: list[Path]) -> "pl.DataFrame":
    import polars as pl

    from tracemill.corpus import records

    said = ("split", records.question(), records.answer(), "source")
    return (
        pl.concat([pl.scan_parquet(file, glob=False).head(3) for file in files])
        .select(said)
        .collect()
    )


def _across(sides: "pl.DataFrame", groups: "pl.DataFrame") -> int:
    """How many records are in a group that has others in another split."""
    import polars as pl

    joined = sides.select("record_id", "split").join(groups, on="record_id")
    return joined.filter(pl.col("split").n_unique().over("group_id") > 1).height
