"""Which version of a model is in production, and what later ones are held against.

Promotion is the registry's: it reads the log, and refuses version by version.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

import dagster as dg

from assets import models, show
from assets.model_evaluation import evaluation, verdict, versions
from assets.warehouse import MODELS, OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.errors import PromotionRefused

if TYPE_CHECKING:
    from tracemill.log import EventLog


@asset_by(
    MODELS,
    key_prefix=models.GROUP,
    group_name=models.GROUP,
    owners=OWNERS,
    kinds={"duckdb"},
    code_version=code_of(__name__, "tracemill.quality.baselines"),
    deps=[evaluation],
)
def baseline(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """What each model is held against: the evaluation that somebody chose, with its provenance.

    Only `tracemill evals baseline set` changes it.
    """
    from tracemill.quality import baselines

    settings = warehouse.settings
    with warehouse.open_log() as log:
        found = {name: baselines.baseline(log, name) for name in models.names(settings)}
    rows = [
        {
            "baseline": name,
            "model": each.model,
            "cases": len(each.case_ids),
            "figure": figure,
            "value": round(expected.value, 4),
            "may fall by": expected.tolerance,
            "set": f"{each.occurred_at:%Y-%m-%d %H:%M}",
            "why": each.reason,
        }
        for name, each in found.items()
        if each
        for figure, expected in each.metrics.items()
    ]

    def work(name: str) -> Made:
        each = found[name]
        return Made(digest=each.event_id if each else "none", rows=1 if each else 0, files=())

    def whole() -> dict[str, str]:
        import polars as pl

        return {"baselines": show.sample(pl.DataFrame(rows, infer_schema_length=None), rows=20)}

    asked = {name: {"set": each.event_id if each else ""} for name, each in found.items()}
    return warehouse.make_each(context, work, asked, whole)


@asset_by(
    MODELS,
    key_prefix=models.GROUP,
    group_name=models.GROUP,
    owners=OWNERS,
    kinds={"duckdb"},
    code_version=code_of(__name__, "tracemill.finetune.registry"),
    deps=[evaluation, baseline],
)
def production_model(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> dg.MaterializeResult:
    """Which version of each model answers as `ft:local:NAME`, and why.

    The newest version is promoted where its evaluation, the comparison with the one in production
    and the search for its cases in the training data speak for it, and its recipe does not say
    `promote: manual`.
    """
    from tracemill.finetune.recipe import recipes

    settings = warehouse.settings
    wanted = recipes(settings)
    evaluated, held = warehouse.parts(evaluation.key), warehouse.parts(baseline.key)

    def work(name: str) -> Made:
        from tracemill.finetune.registry import production

        with warehouse.open_log() as log:
            if wanted[name].promote == "automatic":
                _promote(log, name, warehouse.origin(context)["actor"])
            serving = production(log, name)
        return Made(digest=serving.digest if serving else "none", rows=int(bool(serving)), files=())

    asked = {
        name: {
            evaluation.key.to_user_string(): evaluated[name],
            baseline.key.to_user_string(): held[name],
            "promote": wanted[name].promote,
        }
        for name in wanted
        if name in evaluated and name in held
    }

    def whole() -> dict[str, str]:
        with warehouse.open_log() as log:
            return {"versions": show.sample(versions(log), rows=30, width=200)}

    return warehouse.make_each(context, work, asked, whole)


@dg.asset_check(asset=production_model)
def newest_is_in_production(warehouse: Warehouse) -> dg.AssetCheckResult:
    """The newest version of each model is the one that answers; else a warning says why not."""
    with warehouse.open_log() as log:
        known = versions(log)
    lines = {
        row["model"]: row["why"]
        for row in known.unique("model", keep="first", maintain_order=True).iter_rows(named=True)
        if row["state"] == "candidate"
    }
    warn = dg.AssetCheckSeverity.WARN
    return verdict(lines, set(known["model"]), "not in production", "the newest of each is", warn)


def _promote(log: "EventLog", name: str, actor: str) -> None:
    """Promote the newest version, where it is a candidate; a refusal is in the log."""
    from tracemill.finetune.registry import promote

    version = models.newest(log, name)
    if version and version.state == "candidate":
        with suppress(PromotionRefused):
            promote(log, name, version.digest, actor=actor)
