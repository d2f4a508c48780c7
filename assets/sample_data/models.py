"""A model that names the subject of a question: a hasty first version, and the one that replaced it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from assets.sample_data.raw import ROUTER
from tracemill.events import EvaluationFinished, Expected
from tracemill.finetune import jobs, registry
from tracemill.finetune.recipe import FineTune, finetune_recipe
from tracemill.llm.client import Client
from tracemill.quality import compare, decontamination
from tracemill.quality.cases import Cases, of_split
from tracemill.quality.evaluate import evaluate
from tracemill.quality.scorers import scorer
from tracemill.quality.statistical import majority
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.log import EventLog

NAME, ACTOR = "rill-subjects", "sample"
FIRST = {"examples": {"target": "label", "origins": ["forum"]}}
"""The first version learned from the records of one source alone."""


def build(settings: Settings, log: "EventLog") -> None:
    """Train, evaluate and promote both versions, the second against the first."""
    recipe = settings.raw_models / f"{NAME}.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(ROUTER, encoding="utf-8")
    asked = finetune_recipe(recipe)
    cases = of_split(settings, NAME, asked)
    usual = majority(cases.frame["expected"].to_list())

    def always(_: object) -> str:
        return usual.label

    always.__name__ = "majority"
    _evaluate(settings, log, cases, always, {})
    need = {"accuracy": usual.share.value}
    hasty = FineTune.model_validate(asked.model_dump() | FIRST)
    before = _version(settings, log, cases, hasty, need)
    learned = registry.versions(log, NAME)[-1]  # Both versions learn from this split.
    decontamination.check(log, settings, cases, learned.dataset_digest, learned.split, actor=ACTOR)
    registry.promote(log, NAME, registry.versions(log, NAME)[-1].digest, actor=ACTOR)
    after = _version(settings, log, cases, asked, need)
    seen = before.metrics["accuracy"].value
    allowed = Expected(value=seen, direction="higher", tolerance=0.02)
    compare.compare(
        log,
        after.evaluation_id,
        before.evaluation_id,
        against="production",
        expected={"accuracy": allowed},
        actor=ACTOR,
    )
    registry.promote(log, NAME, registry.versions(log, NAME)[-1].digest, actor=ACTOR)


def _version(
    settings: Settings, log: "EventLog", cases: Cases, recipe: FineTune, need: dict[str, float]
) -> EvaluationFinished:
    """Train what the recipe asks for, and evaluate it."""
    job = jobs.run(log, settings, jobs.request(log, settings, NAME, recipe, actor=ACTOR))
    assert job.state == "succeeded", job.error_message
    version = registry.versions(log, NAME)[-1]
    return _evaluate(settings, log, cases, version.model, need)


def _evaluate(
    settings: Settings,
    log: "EventLog",
    cases: Cases,
    model: str | Callable[[Any], Any],
    need: dict[str, float],
) -> EvaluationFinished:
    made = evaluate(
        Client(log, settings),
        cases,
        model=model,
        name=NAME,
        scorers=[scorer("accuracy")],
        thresholds=need,
        actor=ACTOR,
    )
    return made.event
