"""What the steps before the splits know, for the card of a data set: who was left out, and why."""

from collections import defaultdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from assets import corpus, distinct, flow, sources
from assets.cleaning import protected_records
from assets.warehouse import Warehouse
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.card import Story
    from tracemill.corpus.recipe import Dataset

STEPS = (
    "clean_records",
    corpus.PROTECTED,
    corpus.FITTING,
    corpus.TWICE,
    distinct.DISTINCT,
    corpus.UNSEEN,
    corpus.SPLITS,
)
PACKAGES = ("tracemill", "datasketch", "duckdb", "ftfy", "numba", "polars", "pyarrow")
DONE = {"redact": "redacted", "pseudonym": "replaced", "drop": "dropped", "keep": "kept"}


def of(
    warehouse: Warehouse, recipe: "Dataset", placed: "pl.DataFrame", warned: tuple[str, ...]
) -> "Story":
    """The story of the data set that is about to be written.

    Args:
        placed: `origin` and `group_id` of its records.
        warned: what is wrong with the split.
    """
    import polars as pl

    from tracemill.corpus.card import Contamination, Drop, Story

    settings = warehouse.settings
    drops = flow.drops(settings, STEPS)
    by_reason = drops.group_by("step", "reason", maintain_order=True).agg(pl.col("records").sum())
    twice = by_reason.filter(pl.col("step").is_in([corpus.TWICE, distinct.DISTINCT]))
    twice = twice.select("reason", "records")
    return Story(
        sources=[_source(warehouse, origin) for origin in warehouse.parts(protected_records.key)],
        drops=[Drop(*row) for row in by_reason.iter_rows()],
        personal=_personal(warehouse),
        duplicates=recipe.dedup.model_dump(exclude_none=True) | dict(twice.iter_rows()),
        contamination=[Contamination(*row) for row in corpus.contamination(settings).iter_rows()],
        rules=_rules(warehouse),
        split=recipe.split.model_dump(exclude_none=True)
        | {"groups": placed["group_id"].n_unique()},
        warnings=warned,
        rebuild={"command": "tracemill build +training_splits", "recipe": _yaml(recipe)},
        versions={name: version(name) for name in PACKAGES},
    )


def dropped_by_step(settings: Settings) -> dict[str, int]:
    """Step -> how many records it left out."""
    import polars as pl

    drops = flow.drops(settings, STEPS).group_by("step", maintain_order=True)
    return dict(drops.agg(pl.col("records").sum()).iter_rows())


def _source(warehouse: Warehouse, origin: str) -> dict[str, Any]:
    record = warehouse.last(sources.raw_records.key, origin)
    made = record["made"] if record else {"rows": 0, "facts": {"quarantined": 0}}
    licence = flow.recipe_of(warehouse.settings, origin).licence
    return {
        "origin": origin,
        "licence": licence or "see each record",
        "read": made["rows"],
        "quarantined": made["facts"]["quarantined"],
    }


def _personal(warehouse: Warehouse) -> dict[str, dict[str, int]]:
    """Kind -> what was done -> how often, as the step counted it."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for origin in warehouse.parts(protected_records.key):
        record = warehouse.last(protected_records.key, origin)
        done = DONE[flow.recipe_of(warehouse.settings, origin).pii]
        for name, count in (record["made"]["facts"] if record else {}).items():
            if name.startswith("found_"):
                kind = name.removeprefix("found_")
                found[kind][done] = found[kind].get(done, 0) + count
    return dict(found)


def _rules(warehouse: Warehouse) -> dict[str, Any]:
    """The quality rules in force; those of one origin alone under its name."""
    from tracemill.corpus.rules import chosen

    told: dict[str, Any] = {}
    for origin in warehouse.parts(protected_records.key):
        for rule in chosen(flow.recipe_of(warehouse.settings, origin).rules):
            value = "on" if rule.threshold is None else rule.threshold
            if told.setdefault(rule.name, value) != value:
                told[f"{origin}: {rule.name}"] = value
    return told


def _yaml(recipe: "Dataset") -> str:
    import yaml

    return yaml.safe_dump(recipe.model_dump(mode="json", exclude_none=True), sort_keys=False)
