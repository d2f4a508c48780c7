"""Fine-tuned models: what each recipe in raw/models asks for, trained on the splits in force.

A build trains what costs nothing. Jobs that a provider bills are begun by `tracemill finetune
start`; what they give is found here, evaluated and promoted like any other.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from assets import show, splits
from assets.warehouse import MODELS, OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.errors import InputError, TracemillError
from tracemill.finetune.providers.table import HERE
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.finetune.job import JobState
    from tracemill.finetune.recipe import FineTune
    from tracemill.finetune.registry import Version
    from tracemill.log import EventLog

GROUP = "models"
NOTHING = "no version yet"


def names(settings: Settings) -> list[str]:
    """The names of all models that are wanted. Raises `InputError` when a recipe is wrong."""
    from tracemill.finetune.recipe import recipes

    return sorted(recipes(settings))


def asked(recipe: "FineTune") -> str:
    """What of a recipe decides how a model is trained."""
    return recipe.model_dump_json(exclude={"evaluation", "promote"})


def inputs(warehouse: Warehouse) -> dict[str, dict[str, str]]:
    """Model -> what it is made of: the splits, its recipe, and the jobs that others began.

    Raises `InputError` when a recipe is wrong.
    """
    from tracemill.finetune.recipe import recipes

    split = warehouse.digest(splits.training_splits.key)
    return {
        name: {
            splits.training_splits.key.to_user_string(): split,
            "recipe": asked(recipe),
            "jobs": "" if recipe.provider in HERE else _ended(warehouse, name),
        }
        for name, recipe in recipes(warehouse.settings).items()
    }


def follow(warehouse: Warehouse) -> list[str]:
    """Ask after each fine-tune that runs, and record what is new; what became of each, in words."""
    from tracemill.finetune import jobs
    from tracemill.finetune.job import states

    told: list[str] = []
    with warehouse.open_log() as log:
        for state in states(log):
            if not state.ended:
                try:
                    now = jobs.advance(log, warehouse.settings, state.job_id)
                except TracemillError as error:  # A key that is missing keeps no other job waiting.
                    told.append(f"{state.name}: {error}")
                else:
                    told.append(f"{now.name}: {now.trouble or now.state}, step {now.step or 0}")
    return told


@asset_by(
    MODELS,
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numpy", "safetensors"},
    code_version=code_of(
        __name__,
        "tracemill.finetune.examples",
        "tracemill.finetune.local",
        "tracemill.finetune.worker",
        "tracemill.llm.trained",
    ),
    deps=[splits.training_splits],
)
def fine_tuned_model(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> dg.MaterializeResult:
    """The newest version of each model, with what it was trained on and how the loss went.

    Each recipe in raw/models is a model. What has not changed is not trained again, and a training
    that was killed goes on where it was.
    """
    from tracemill.finetune.recipe import recipes

    settings = warehouse.settings
    wanted = recipes(settings)

    def work(name: str) -> Made:
        with warehouse.open_log() as log:
            actor = warehouse.origin(context)["actor"]
            job = _trained(log, settings, name, wanted[name], actor)
            version = newest(log, name)
        if version is None:
            return _none_yet(name, job)
        files = _artefact(settings, version)
        return Made(digest=version.digest, rows=version.rows, files=files)

    def whole() -> dict[str, str]:
        with warehouse.open_log() as log:
            return _pages(log, sorted(warehouse.parts(context.asset_key)))

    return warehouse.make_each(context, work, inputs(warehouse), whole)


def newest(log: "EventLog", name: str) -> "Version | None":
    """The version of a model that was registered last."""
    from tracemill.finetune.registry import versions

    found = versions(log, name)
    return found[-1] if found else None


def _trained(
    log: "EventLog", settings: Settings, name: str, recipe: "FineTune", actor: str
) -> "JobState | None":
    """The job that gives what the recipe asks for; None where somebody has to begin it."""
    from tracemill.finetune import jobs

    if recipe.provider not in HERE:
        return None
    state = jobs.run(log, settings, jobs.request(log, settings, name, recipe, actor=actor))
    if state.state == "succeeded" and not _artefact(settings, newest(log, name)):
        # Somebody deleted the model: the log knows that it was there, and how to make it.
        again = jobs.request(log, settings, name, recipe, actor=actor, again=True)
        state = jobs.run(log, settings, again)
    if state.state != "succeeded":
        raise InputError(f"the fine-tune {state.job_id} is {state.state}: {state.error_message}")
    return state


def _artefact(settings: Settings, version: "Version | None") -> tuple[Path, ...]:
    """The files of a version that was trained here."""
    if version is None:
        return ()
    return tuple(sorted(settings.models.joinpath(version.name, version.digest[:16]).glob("*")))


def _none_yet(name: str, job: "JobState | None") -> Made:
    facts = {"state": job.state if job else f"begin it: `tracemill finetune start {name}`"}
    return Made(digest=NOTHING, rows=0, files=(), facts=facts)


def _ended(warehouse: Warehouse, name: str) -> str:
    """The jobs of a model that have ended: with one more there may be a version more."""
    with warehouse.open_log() as log:
        ended = log.sql(
            "SELECT job_id FROM finetunes WHERE name = $name AND ended_at IS NOT NULL "
            "ORDER BY requested_at",
            {"name": name},
        )
    return " ".join(ended["job_id"])


def _pages(log: "EventLog", made: list[str]) -> dict[str, str]:
    """Which versions there are, and how the loss of the newest went."""
    import polars as pl

    from tracemill.finetune.registry import versions

    rows = [
        {
            "model": each.name,
            "version": each.digest[:8],
            "state": each.state,
            "method": each.method,
            "rows": each.rows,
            "trained on": each.dataset_digest[:8],
            **{
                name.replace("_", " "): each.metrics.get(name)
                for name in ("validation_loss", "validation_accuracy", "epochs")
            },
            "registered": f"{each.registered_at:%Y-%m-%d %H:%M}",
        }
        for name in made
        for each in reversed(versions(log, name))
    ]
    losses = log.sql(
        "SELECT requested.payload ->> '$.name' AS name, told.step AS step, told.loss, told.validation "
        "FROM (SELECT stream, position, CAST(payload ->> '$.step' AS INTEGER) AS step, "
        "CAST(payload ->> '$.loss' AS DOUBLE) AS loss, "
        "CAST(payload ->> '$.metrics.validation_loss' AS DOUBLE) AS validation "
        "FROM events WHERE kind = 'finetune.progressed') AS told "
        "JOIN (SELECT * FROM events WHERE kind = 'finetune.requested' QUALIFY row_number() OVER "
        "(PARTITION BY payload ->> '$.name' ORDER BY position DESC) = 1) AS requested USING (stream) "
        "WHERE told.loss IS NOT NULL ORDER BY name, told.position"
    )
    plots = {
        f"loss_{name}": show.lines(
            f"{name}: loss by epoch",
            {
                "training": _points(part, "loss"),
                "validation": _points(part, "validation"),
            },
            ("epoch", "loss"),
        )
        for (name,), part in losses.filter(pl.col("name").is_in(made)).group_by(
            "name", maintain_order=True
        )
    }
    shown = pl.DataFrame(rows, infer_schema_length=None)
    return {"versions": show.sample(shown, rows=20), **plots}


def _points(part: object, column: str) -> list[tuple[float, float]]:
    import polars as pl

    assert isinstance(part, pl.DataFrame)
    return [
        *part.select("step", column).drop_nulls().unique("step", keep="last").sort("step").rows()
    ]
