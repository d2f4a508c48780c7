"""Batches of records through one step: what is kept and what is dropped, each in its table.

Steps are named as their assets are. A table of a step lies in `corpus/<step>/<origin>.parquet`, what
it dropped in `corpus/dropped/<step>/`; a step over all origins has one table, `all`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from assets import show
from assets.warehouse import Fact, Made, Warehouse
from tracemill.errors import InputError
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.recipe import Dataset, Source
    from tracemill.corpus.records import Judged

ALL = "all"
SAMPLE_ROWS = 5
DROPS = ["step", "origin", "reason", "records"]


def kept_file(settings: Settings, step: str, origin: str = ALL) -> Path:
    return settings.kept(step) / f"{origin}.parquet"


def dropped_file(settings: Settings, step: str, origin: str = ALL) -> Path:
    return settings.dropped(step) / f"{origin}.parquet"


def kept_files(settings: Settings, step: str) -> list[Path]:
    """The tables of a step, in the order of their origins."""
    return sorted(settings.kept(step).glob("*.parquet"))


def dropped_files(settings: Settings, step: str) -> list[Path]:
    return sorted(settings.dropped(step).glob("*.parquet"))


def records_of(settings: Settings, step: str) -> "Iterator[pl.DataFrame]":
    """The records that a step kept, batch by batch; the first batch is empty."""
    from tracemill.corpus.records import record_frame
    from tracemill.corpus.tables import read_batches

    files = kept_files(settings, step)
    return read_batches(files) if files else iter([record_frame([])])


def recipe_of(settings: Settings, origin: str) -> "Source":
    """How an origin is read, cleaned and protected; `InputError` when its YAML is wrong."""
    from tracemill.corpus.recipe import source_recipe

    file = settings.raw_records / f"{origin}.yaml"
    recipe = source_recipe(file if file.is_file() else file.with_suffix(".yml"))
    if origin == "calls" and recipe.min_rating is None:
        # An answer that people disliked is nothing to learn.
        return recipe.model_copy(update={"min_rating": 0.0})
    return recipe


def dataset_recipe(settings: Settings) -> "Dataset":
    """How all become a data set; `InputError` when it is wrong, or names a file that is not there."""
    from tracemill.corpus import recipe

    found = recipe.dataset_recipe(settings.raw_dataset)
    for name, file in evaluation_files(settings, found).items():
        if not file.is_file():
            raise InputError(f"{settings.raw_dataset}: evaluations.{name}: there is no file {file}")
    return found


def evaluation_files(settings: Settings, recipe: "Dataset") -> dict[str, Path]:
    """Evaluation set -> its file."""
    return {name: settings.raw_dataset.parent / file for name, file in recipe.evaluations.items()}


def sift_each(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    before: dg.AssetKey,
    asked: set[str],
    judge: "Callable[[pl.DataFrame, Source, Counter[str]], Judged]",
    also: Mapping[str, str] | None = None,
) -> dg.MaterializeResult:
    """`sift` each origin of the asset before this one, by the recipe of the origin.

    Args:
        asked: the fields of the recipe that this step looks at.
        judge: the step; it may count what it finds.
        also: what else it depends on.
    """
    from tracemill.corpus.tables import read_batches

    settings, step = warehouse.settings, context.asset_key.path[-1]
    parts = warehouse.parts(before)
    recipes = {origin: recipe_of(settings, origin) for origin in parts}

    def work(origin: str) -> Made:
        facts: Counter[str] = Counter()
        batches = read_batches([kept_file(settings, before.path[-1], origin)])
        judged = ((judge(batch, recipes[origin], facts)) for batch in batches)
        return sift(settings, step, judged, facts, origin)

    inputs = {
        origin: {
            before.to_user_string(): digest,
            "recipe": recipes[origin].model_dump_json(include=asked),
            **(also or {}),
        }
        for origin, digest in parts.items()
    }
    return warehouse.make_each(context, work, inputs, lambda: whole_pages(settings, step))


def sift(
    settings: Settings,
    step: str,
    judged: "Iterable[Judged]",
    facts: Mapping[str, Fact] | None = None,
    origin: str = ALL,
) -> Made:
    """Put both halves of each batch into their tables.

    Args:
        judged: batch by batch; the first may be empty, and gives the columns.
        facts: what was counted on the way, complete when the last batch is through.
    """
    from tracemill.corpus.tables import write_tables

    reasons: Counter[str] = Counter()
    samples: list[Judged] = []

    def parts() -> "Iterator[Mapping[str, pl.DataFrame]]":
        for batch in judged:
            reasons.update(dict(batch.dropped["reason"].value_counts().iter_rows()))
            if len(samples) < 2:  # The first batch is often empty.
                samples.append(batch)
            yield {"kept": batch.kept, "dropped": batch.dropped}

    paths = {
        "kept": kept_file(settings, step, origin),
        "dropped": dropped_file(settings, step, origin),
    }
    tables = write_tables(parts(), paths)
    return Made(
        digest=tables["kept"].digest,
        rows=tables["kept"].rows,
        files=tuple(paths.values()),
        facts={"dropped": tables["dropped"].rows, **(facts or {})},
        pages=_pages(samples[-1], reasons),
    )


def whole_pages(settings: Settings, step: str) -> dict[str, str]:
    """A sample and why records were dropped, over all origins."""
    import polars as pl

    from tracemill.corpus.records import Judged

    files = kept_files(settings, step), dropped_files(settings, step)
    if not all(files):
        return {}
    kept, dropped = (pl.scan_parquet(each, glob=False) for each in files)
    reasons = dropped.group_by("reason").len().collect()
    sample = Judged(kept.head(SAMPLE_ROWS).collect(), dropped.head(SAMPLE_ROWS).collect())
    return _pages(sample, dict(reasons.iter_rows()))


def write_dropped(settings: Settings, step: str, batches: "Iterator[pl.DataFrame]") -> Path:
    """What a step left out, for steps that do not `sift`."""
    from tracemill.corpus.tables import write_table

    return write_table(batches, dropped_file(settings, step)).path


def drops(settings: Settings, steps: Sequence[str]) -> "pl.DataFrame":
    """What each step left out: `step`, `origin`, `reason`, `records`."""
    import polars as pl

    counted = [
        pl.scan_parquet(files, glob=False)
        .group_by("origin", "reason")
        .len("records")
        .collect()
        .select(pl.lit(step).alias("step"), "origin", "reason", pl.col("records").cast(pl.Int64))
        .sort("records", "origin", "reason", descending=[True, False, False])
        for step in steps
        if (files := dropped_files(settings, step))
    ]
    return pl.concat(counted) if counted else pl.DataFrame(schema=DROPS)


def accounted(
    settings: Settings, step: dg.AssetKey, before: dg.AssetKey, *, cut: bool = False
) -> dg.AssetCheckResult:
    """Whether each record that went into a step came out of it once, kept or dropped.

    With `cut` the step may put parts in the place of a record: they count as that record.
    """
    name = step.path[-1]
    tables = kept_files(settings, before.path[-1]), kept_files(settings, name)
    came, stayed, left = map(_ids, (*tables, dropped_files(settings, name)))
    if cut:
        came, stayed = _wholes(came, stayed)
    into, kept, dropped = map(_tally, (came, stayed, left))
    return dg.AssetCheckResult(
        passed=into == (kept[0] + dropped[0], kept[1] + dropped[1]),
        description=f"{into[0]:,} in = {kept[0]:,} kept + {dropped[0]:,} dropped",
    )


def _ids(files: list[Path]) -> "pl.LazyFrame":
    """`record_id` and, of parts, the id of the whole."""
    import polars as pl

    columns = {"record_id": pl.String, "part_of": pl.String}
    if not files:
        return pl.LazyFrame(schema=columns)
    rows = pl.scan_parquet(files, glob=False)
    known = rows.collect_schema()
    return rows.select(
        name if name in known else pl.lit(None, kind).alias(name) for name, kind in columns.items()
    )


def _wholes(came: "pl.LazyFrame", stayed: "pl.LazyFrame") -> "tuple[pl.LazyFrame, pl.LazyFrame]":
    """Both sides with each record that was cut there once."""
    import polars as pl

    cut = stayed.select(record_id="part_of").drop_nulls().unique()
    ids, whole = came.select("record_id"), stayed.filter(pl.col("part_of").is_null())
    once = ids.join(cut, on="record_id", how="semi").unique()
    before = pl.concat([ids.join(cut, on="record_id", how="anti"), once])
    return before, pl.concat([whole.select("record_id"), cut])


def _tally(rows: "pl.LazyFrame") -> tuple[int, int]:
    """How many records, and the sum of their ids' hashes, which no order changes."""
    import polars as pl

    hashed = (pl.col("record_id").hash() % 2**32).sum()
    return rows.select(pl.len().cast(pl.UInt64), hashed).collect().row(0)


def _pages(sample: "Judged", reasons: Mapping[str, int]) -> dict[str, str]:
    import polars as pl

    from tracemill.corpus import records

    said = (records.question(), records.answer(), "source")
    why = sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
    plot = show.bars(
        "Why records were dropped",
        [reason for reason, _ in why[:15]],
        [count for _, count in why[:15]],
        "records",
    )
    table = pl.DataFrame(why, ["reason", "records"], orient="row")
    return {
        "sample": show.sample(sample.kept.select(*said), SAMPLE_ROWS),
        "left_out": show.sample(sample.dropped.select(*said, "reason"), SAMPLE_ROWS),
        "reasons": show.sample(table, rows=40, width=200),
        "plot": plot,
    }
