"""How good the newest version of each model is: evaluated, compared, its cases looked for in training.

A model's cases are files in evals/, or the split `test`. What the checks here find is what the
registry reads: a version that fails one is not promoted.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg

from assets import models, show, sources
from assets.warehouse import MODELS, OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.errors import UsageError
from tracemill.files import write_text_atomically
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.events import EvaluationFinished
    from tracemill.finetune.recipe import FineTune
    from tracemill.finetune.registry import Version
    from tracemill.log import EventLog
    from tracemill.quality.cases import Cases

PARTS = (
    *("cases", "scorers", "ask", "evaluate", "compare", "verdicts", "statistical"),
    "decontamination",
)
FIGURES = """
    SELECT name, model, figure, value, low, high, n, outcome FROM evaluations
    WHERE figure IN ('accuracy', 'similarity', 'bits_per_byte', 'exact_match')
    QUALIFY row_number() OVER (PARTITION BY name, model, figure ORDER BY finished_at DESC) = 1
    ORDER BY name, finished_at DESC
"""


def told(settings: Settings) -> dict[str, dict[str, str]]:
    """Model -> what people said of its evaluation: the recipe's words, and digests of its cases."""
    from tracemill.finetune.recipe import recipes

    return {
        name: {
            "evaluation": recipe.evaluation.model_dump_json(),
            **{
                each: sources.fingerprint(settings.evaluation_sets / f"{each}.jsonl")
                for each in recipe.evaluation.sets
            },
        }
        for name, recipe in recipes(settings).items()
    }


def undone(warehouse: Warehouse) -> dict[str, dict[str, str]]:
    """The models whose splits, recipe, cases or jobs are not those of the last time: name -> those.

    Raises `InputError` when a recipe is wrong.
    """
    said = told(warehouse.settings)
    made = warehouse.part_inputs(models.fine_tuned_model.key)
    done = warehouse.part_inputs(evaluation.key)
    return {
        name: {**inputs, **said[name]}
        for name, inputs in models.inputs(warehouse).items()
        if made.get(name) != inputs or not said[name].items() <= done.get(name, {}).items()
    }


class Evaluated(NamedTuple):
    """What is known of the newest version of a model."""

    version: "Version"
    event: "EvaluationFinished"
    majority: "EvaluationFinished | None"
    """Of always giving the most frequent label."""
    compared: list[str] | None
    """With the version in production: the outcome, and the reason in a sentence."""
    found: int
    """Cases that stand in what the version was trained on."""


@asset_by(
    MODELS,
    key_prefix=models.GROUP,
    group_name=models.GROUP,
    owners=OWNERS,
    kinds={"polars"},
    code_version=code_of(
        __name__, "tracemill.intervals", *(f"tracemill.quality.{name}" for name in PARTS)
    ),
    deps=[models.fine_tuned_model],
)
def evaluation(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """How good the newest version of each model is, beside the majority and the one in production.

    Each figure has its interval of 95 %. Cases that stand in the training data are counted.
    """
    from tracemill.finetune.recipe import recipes

    settings = warehouse.settings
    wanted, parts = recipes(settings), warehouse.parts(models.fine_tuned_model.key)

    def work(name: str) -> Made:
        with warehouse.open_log() as log:
            actor = warehouse.origin(context)["actor"]
            done = _evaluate(log, settings, name, wanted[name], actor)
        said = _in_words(done)
        file = _file(settings, name)
        write_text_atomically(file, json.dumps(said, indent=1))
        rows = done.event.cases if isinstance(done, Evaluated) else 0
        return Made(digest=said["evaluation_id"], rows=rows, files=(file,))

    trained = models.fine_tuned_model.key.to_user_string()
    asked = {
        name: {trained: parts[name], **each}
        for name, each in told(settings).items()
        if name in parts
    }

    def whole() -> dict[str, str]:
        with warehouse.open_log() as log:
            return _pages(log)

    return warehouse.make_each(context, work, asked, whole)


@dg.asset_check(asset=evaluation)
def no_regression(warehouse: Warehouse) -> dg.AssetCheckResult:
    """No newest version is worse than its baseline, or than the one in production, beyond chance.

    One that is stays a candidate: the registry reads the same comparisons.
    """
    from tracemill.quality import baselines

    said = _said(warehouse.settings, warehouse.parts(evaluation.key))
    worse: dict[str, str] = {}
    unknown: dict[str, str] = {}
    with warehouse.open_log() as log:
        for name, each in said.items():
            against = each["compared"]
            held = baselines.baseline(log, name) if each["model"] else None
            if held and held.evaluation_id != each["evaluation_id"]:
                try:
                    compared = baselines.check(log, each["evaluation_id"])
                    against += [[compared.outcome, f"baseline: {compared.reason}"]]
                except UsageError as error:
                    unknown[name] = str(error)
            if failed := [reason for outcome, reason in against if outcome == "fail"]:
                worse[name] = "; ".join(failed)
    if unknown and not worse:
        warn = dg.AssetCheckSeverity.WARN
        return verdict(unknown, said, "not comparable with its baseline", "", warn)
    return verdict(worse, said, "worse than before", "none is worse than before")


@dg.asset_check(asset=evaluation)
def no_contamination(warehouse: Warehouse) -> dg.AssetCheckResult:
    """No case stands in what the newest version was trained on; one that does blocks promotion."""
    said = _said(warehouse.settings, warehouse.parts(evaluation.key))
    lines = {
        name: f"{each['found']} of {each['cases']} cases of {each['dataset']}: "
        f"`tracemill evals contamination {each['dataset']}`"
        for name, each in said.items()
        if each["found"]
    }
    return verdict(lines, said, "trained on its cases", "none has seen its cases")


def figures(log: "EventLog") -> "pl.DataFrame":
    """The figures that decide, of each model and what it was held against: the newest first.

    Columns: name, version, figure, value, low, high, n, said.
    """
    import polars as pl

    state = {row["version"]: row["state"] for row in versions(log).iter_rows(named=True)}
    found = log.sql(FIGURES)
    version = [str(model).rpartition(":")[2][:8] for model in found["model"]]
    said = [state.get(each, "") for each in version]
    return found.with_columns(version=pl.Series(version), said=pl.Series(said))


def _evaluate(
    log: "EventLog", settings: Settings, name: str, recipe: "FineTune", actor: str
) -> Evaluated | str:
    """Evaluate the newest version of a model; in a sentence, why that cannot be."""
    from tracemill.events import Expected
    from tracemill.finetune.registry import production
    from tracemill.quality import baselines, compare, decontamination

    version = models.newest(log, name)
    if version is None:
        return f"{models.NOTHING}: `tracemill finetune start {name}` begins one"
    cases = _cases(settings, name, recipe)
    figure = _figure(recipe, version)
    majority = _majority(log, settings, name, cases, actor) if figure == "accuracy" else None
    need = recipe.evaluation.at_least
    if need is None and majority is not None:
        need = majority.metrics[figure].value
    if need is None and figure == "bits_per_byte":
        need = _of_base(log, settings, name, version, cases, actor)
    thresholds = {} if need is None else {figure: need}
    event = _once(log, settings, name, version.model, cases, figure, thresholds, actor)
    found = decontamination.check(log, settings, cases, version.dataset_digest, version.split).found
    with suppress(UsageError):  # No baseline, or one of other cases: the check tells.
        baselines.check(log, event.evaluation_id, actor=actor)
    serving, compared = production(log, name), None
    if serving and serving.digest != version.digest:
        before = _once(log, settings, name, serving.model, cases, figure, thresholds, actor)
        seen = before.metrics[figure].value
        allowed = Expected(
            value=seen,
            direction="lower" if figure == "bits_per_byte" else "higher",
            tolerance=recipe.evaluation.tolerance,
        )
        held = compare.compare(
            log,
            event.evaluation_id,
            before.evaluation_id,
            against="production",
            expected={figure: allowed},
            actor=actor,
        )
        compared = [held.outcome, f"production: {held.reason}"]
    return Evaluated(version, event, majority, compared, found)


def _cases(settings: Settings, name: str, recipe: "FineTune") -> "Cases":
    """What a model is asked: the sets that its recipe names, else the split `test`."""
    import polars as pl

    from tracemill.quality.cases import Cases, named_set, of_split

    asked = recipe.evaluation
    if not asked.sets:
        return of_split(settings, name, recipe, asked.max_cases)
    sets = [named_set(settings, each) for each in asked.sets]
    whole = Cases("+".join(asked.sets), pl.concat(each.frame for each in sets))
    return whole.sample(asked.max_cases)


def _figure(recipe: "FineTune", version: "Version") -> str:
    """The figure that decides."""
    of_method = {"classify": "accuracy", "lm": "bits_per_byte"}
    return recipe.evaluation.metric or of_method.get(version.method, "similarity")


def _once(
    log: "EventLog",
    settings: Settings,
    name: str,
    model: str | Callable[[Any], Any],
    cases: "Cases",
    figure: str,
    thresholds: dict[str, float],
    actor: str,
) -> "EvaluationFinished":
    """The evaluation of a model by these cases; the one that there is, where there is one."""
    from tracemill.llm.client import Client
    from tracemill.quality.evaluate import evaluate, latest
    from tracemill.quality.scorers import scorer

    known = latest(
        log,
        name=name,
        model=model if isinstance(model, str) else model.__name__,
        dataset_digest=cases.digest,
        figures=[figure],
        thresholds=thresholds,
    )
    if known:
        return known
    return evaluate(
        Client(log, settings),
        cases,
        model=model,
        name=name,
        scorers=[scorer(figure)],
        thresholds=thresholds,
        actor=actor,
    ).event


def _majority(
    log: "EventLog", settings: Settings, name: str, cases: "Cases", actor: str
) -> "EvaluationFinished":
    """How often always the same answer is right: the one that is right most often."""
    expected = cases.frame["expected"].explode()
    label = str(expected.value_counts().sort("count", "expected")["expected"][-1])

    def majority(_: object) -> str:
        return label

    return _once(log, settings, name, majority, cases, "accuracy", {}, actor)


def _of_base(
    log: "EventLog",
    settings: Settings,
    name: str,
    version: "Version",
    cases: "Cases",
    actor: str,
) -> float:
    """What the base model takes for a byte of the same cases; without a base, all that a byte has."""
    from tracemill.finetune.local import python_help
    from tracemill.llm.trained.artefact import folder_of, load

    python_help.base(settings.models)  # It may have been deleted.
    base = load(folder_of(settings.models, name, version.digest)).about["base"]
    if not base:
        return 8.0
    model = f"ft:local:{base['name']}:{base['digest']}"
    found = _once(log, settings, name, model, cases, "bits_per_byte", {}, actor)
    return found.metrics["bits_per_byte"].value


def _in_words(done: Evaluated | str) -> dict[str, Any]:
    """What the checks and the page need, as JSON."""
    if isinstance(done, str):
        empty = {"model": None, "dataset": None, "cases": 0, "compared": [], "found": 0}
        return {"evaluation_id": done, **empty}
    return {
        "evaluation_id": done.event.evaluation_id,
        "model": done.version.model,
        "dataset": done.event.dataset,
        "cases": done.event.cases,
        "compared": [done.compared] if done.compared else [],
        "found": done.found,
    }


def _file(settings: Settings, name: str) -> Path:
    return settings.models / name / "evaluation.json"


def _said(settings: Settings, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    files = {name: _file(settings, name) for name in sorted(names)}
    return {
        name: json.loads(file.read_text(encoding="utf-8"))
        for name, file in files.items()
        if file.is_file()
    }


def verdict(
    lines: Mapping[str, str],
    known: Collection[str],
    bad: str,
    good: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    told = "\n".join(f"- {name}: {line}" for name, line in lines.items())
    return dg.AssetCheckResult(
        passed=not lines,
        severity=severity,
        description=(
            "; ".join(f"{name} is {bad}: {line}" for name, line in lines.items())
            if lines
            else f"{good} ({len(known)} looked at)"
        ),
        metadata={"lines": dg.MetadataValue.md(told)},
    )


def versions(log: "EventLog") -> "pl.DataFrame":
    """Every version, the newest first: model, version, state, why, since."""
    return log.sql(
        "SELECT name AS model, digest[:8] AS version, state, reason AS why, changed_at AS since "
        "FROM models ORDER BY name, registered_at DESC"
    )


def _pages(log: "EventLog") -> dict[str, str]:
    import polars as pl

    found = figures(log)
    plots = {
        f"plot_{name}": show.intervals(
            f"{name}: {figure}, with its interval of 95 %",
            [
                (f"{row['version']} {row['said']}", row["value"], row["low"], row["high"])
                for row in part.head(8).iter_rows(named=True)
            ],
            f"{figure}, {part['n'][0]:,} cases",
        )
        for (name, figure), part in found.group_by("name", "figure", maintain_order=True)
    }
    shown = found.with_columns(pl.col("value", "low", "high").round(4)).drop("model")
    return {"figures": show.sample(shown, rows=30), **plots}
