"""The closed loop through Dagster: splits to a model, evaluated, promoted or refused, and served.

A warehouse with 320 labelled questions is built once; each test changes a copy and builds again.
"""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pytest
import yaml

from assets import build, models
from assets.definitions import fine_tunes
from assets.warehouse import Warehouse
from tests.assets.labelled import questions, write_cases, write_questions
from tracemill.events import (
    ContaminationChecked,
    EvaluationFinished,
    EvaluationsCompared,
    FineTuneCreated,
    ModelPromoted,
    PromotionRefused,
)
from tracemill.finetune import jobs
from tracemill.finetune.job import state
from tracemill.finetune.recipe import finetune_recipe
from tracemill.finetune.registry import production, rollback, versions
from tracemill.llm.client import Client
from tracemill.log import EventLog
from tracemill.messages import Request
from tracemill.settings import Settings

NAME = "departments"
RECIPE = {
    "method": "classify",
    "examples": {"target": "label"},
    "evaluation": {"tolerance": 0.02},
}
KEYS = [key for key in build.selected("+group:models") if key.path[0] != "retrieval"]


class Built(NamedTuple):
    """What the runs left."""

    results: list[dg.ExecuteInProcessResult]

    @property
    def made(self) -> set[str]:
        """The assets of models that were not left as they were."""
        events = [e for run in self.results for e in run.get_asset_materialization_events()]
        return {
            each.asset_key.path[-1]
            for each in (event.materialization for event in events)
            if each.asset_key.path[0] == models.GROUP and not each.metadata["unchanged"].value
        }

    @property
    def checks(self) -> dict[str, tuple[bool, str]]:
        """Check of models -> whether it passed, and what it says."""
        found = [each for run in self.results for each in run.get_asset_check_evaluations()]
        return {
            each.check_name: (each.passed, each.description or "")
            for each in found
            if each.asset_key.path[0] == models.GROUP
        }

    def page(self, asset: str) -> dict[str, Any]:
        """What an asset's page shows."""
        events = [e for run in self.results for e in run.get_asset_materialization_events()]
        (metadata,) = (
            each.materialization.metadata
            for each in events
            if each.asset_key and each.asset_key.path == [models.GROUP, asset]
        )
        return {name: value.value for name, value in metadata.items()}


def run(settings: Settings) -> Built:
    with dg.DagsterInstance.ephemeral() as instance:
        results = [
            build.run(settings, instance, stage.keys, stage.tags(settings, instance))
            for stage in build.stages(KEYS)
        ]
    assert all(result.success for result in results)
    return Built(results)


class First(NamedTuple):
    settings: Settings
    built: Built


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> First:
    folder = tmp_path_factory.mktemp("models") / "warehouse"
    settings = Settings(warehouse=folder, harvest_installed=False).create()
    write_questions(settings.raw_records / "desk.jsonl")
    (settings.raw_dataset).write_text(
        yaml.safe_dump({"split": {"ratios": {"train": 0.6, "validation": 0.1, "test": 0.3}}})
    )
    settings.raw_models.mkdir(parents=True)
    (settings.raw_models / f"{NAME}.yaml").write_text(yaml.safe_dump(RECIPE))
    return First(settings, run(settings))


@pytest.fixture
def settings(first: First, tmp_path: Path) -> Settings:
    copy = shutil.copytree(first.settings.warehouse, tmp_path / "warehouse", symlinks=True)
    return Settings(warehouse=copy, harvest_installed=False)


def happened(settings: Settings, kind: type[Any]) -> list[Any]:
    with EventLog.open(settings) as log:
        return [each.event for each in log.read(kinds=[kind.model_fields["kind"].default])]


def rename(settings: Settings, **changed: Any) -> None:
    (settings.raw_models / f"{NAME}.yaml").write_text(yaml.safe_dump({**RECIPE, **changed}))


# The loop


def test_a_split_becomes_a_model_that_beats_the_majority_and_answers(first: First) -> None:
    with EventLog.open(first.settings) as log:
        (version,) = versions(log, NAME)
        serving = production(log, NAME)
        answer = Client(log, first.settings).generate(
            Request.of("Please refund the setup fee, I paid it twice.", model=f"ft:local:{NAME}")
        )
    assert serving is not None
    assert version.digest == serving.digest
    assert answer.text == "billing"
    assert answer.response_model == version.model
    evaluated = {each.model: each for each in happened(first.settings, EvaluationFinished)}
    ours, majority = evaluated[version.model], evaluated["majority"]
    assert ours.metrics["accuracy"].low > majority.metrics["accuracy"].value
    assert ours.outcome == "pass"
    assert ours.dataset_digest == majority.dataset_digest
    (checked,) = happened(first.settings, ContaminationChecked)
    assert (checked.found, checked.trained_on) == (0, version.dataset_digest)
    assert all(passed for passed, _ in first.built.checks.values())


def test_the_pages_show_versions_losses_and_figures_with_intervals(first: First) -> None:
    trained = first.built.page("fine_tuned_model")
    assert NAME in trained["versions"]
    assert "data:image/png;base64," in trained[f"loss_{NAME}"]
    evaluated = first.built.page("evaluation")
    assert "majority" in evaluated["figures"]
    assert "data:image/png;base64," in evaluated[f"plot_{NAME}"]
    assert "production" in first.built.page("production_model")["versions"]


def test_built_again_nothing_is_trained_evaluated_or_promoted_again(settings: Settings) -> None:
    kinds = (FineTuneCreated, EvaluationFinished, ModelPromoted, ContaminationChecked)
    before = [len(happened(settings, kind)) for kind in kinds]
    assert run(settings).made == set()
    assert [len(happened(settings, kind)) for kind in kinds] == before


def test_a_model_that_was_deleted_is_trained_again_to_the_same_bytes(settings: Settings) -> None:
    (version,) = _versions(settings)
    shutil.rmtree(settings.models / NAME / version.digest[:16])
    run(settings)
    (again,) = _versions(settings)
    assert again == version
    assert (settings.models / NAME / version.digest[:16] / "model.json").is_file()


def test_a_language_model_has_to_beat_its_base_on_the_same_cases(settings: Settings) -> None:
    (settings.raw_models / f"{NAME}.yaml").unlink()
    (settings.raw_models / "writer.yaml").write_text("method: lm\n")
    run(settings)
    with EventLog.open(settings) as log:
        (version,) = versions(log, "writer")
    assert version.state == "production"
    done = {each.model: each for each in happened(settings, EvaluationFinished)}
    base = next(each for model, each in done.items() if model.startswith("ft:local:python-help:"))
    ours = done[version.model]
    assert ours.thresholds == {"bits_per_byte": base.metrics["bits_per_byte"].value}
    assert ours.metrics["bits_per_byte"].high < base.metrics["bits_per_byte"].low
    assert ours.dataset_digest == base.dataset_digest


# What is worse is refused


def test_a_worse_data_set_is_refused_with_the_reason_and_the_interval(settings: Settings) -> None:
    (good,) = _versions(settings)
    write_questions(settings.raw_records / "desk.jsonl", wrong=0.6, seed=1)
    write_cases(settings.evaluation_sets / "held-out.jsonl", questions(held_out=True))
    rename(settings, evaluation={"sets": ["held-out"], "at_least": 0.1})
    built = run(settings)
    bad = _versions(settings)[-1]
    assert bad.digest != good.digest
    assert bad.state == "candidate"
    with EventLog.open(settings) as log:
        serving = production(log, NAME)
    assert serving
    assert serving.digest == good.digest
    refused = happened(settings, PromotionRefused)[-1]
    assert refused.digest == bad.digest
    compared = happened(settings, EvaluationsCompared)[-1]
    test = compared.tests["accuracy"]
    assert compared.outcome == "fail"
    assert test.high is not None
    assert test.high < -0.02
    assert f"{test.high:.3f}"[1:] in refused.reason
    passed, told = built.checks["no_regression"]
    assert not passed
    assert NAME in told
    assert not built.checks["newest_is_in_production"][0]


def test_a_case_in_the_training_data_blocks_promotion(settings: Settings) -> None:
    write_cases(settings.evaluation_sets / "seen.jsonl", questions()[::6])
    rename(settings, seed=5, evaluation={"sets": ["seen"]})
    built = run(settings)
    assert len(_versions(settings)) == 2
    assert _versions(settings)[-1].state == "candidate"
    passed, told = built.checks["no_contamination"]
    assert not passed
    assert "of 54 cases of seen" in told
    assert "seen" in happened(settings, PromotionRefused)[-1].reason


def test_a_version_that_was_rolled_back_is_not_promoted_again(settings: Settings) -> None:
    rename(settings, seed=5, evaluation={"tolerance": 0.2})
    run(settings)
    first, second = _versions(settings)
    assert second.state == "production"
    with EventLog.open(settings) as log:
        rollback(log, NAME, reason="people complain")
    run(settings)
    with EventLog.open(settings) as log:
        serving = production(log, NAME)
    assert serving
    assert serving.digest == first.digest


def test_with_promote_manual_a_version_waits(settings: Settings) -> None:
    rename(settings, seed=5, promote="manual")
    run(settings)
    assert [each.state for each in _versions(settings)] == ["production", "candidate"]


def _versions(settings: Settings) -> list[Any]:
    with EventLog.open(settings) as log:
        return versions(log, NAME)


# Recipes and the sensor


def test_a_wrong_recipe_is_told_and_stops_the_models_alone(settings: Settings) -> None:
    (settings.raw_models / f"{NAME}.yaml").write_text("methode: classify\n")
    with pytest.raises(Exception, match="method"):
        models.names(settings)


def look(settings: Settings) -> dg.RunRequest | dg.SkipReason:
    warehouse = Warehouse(changed=settings.model_dump(mode="json", exclude_none=True))
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"warehouse": warehouse})
        seen = fine_tunes(context)
    assert isinstance(seen, dg.RunRequest | dg.SkipReason)
    return seen


def test_the_sensor_asks_for_a_run_when_a_recipe_changed_and_else_for_none(
    settings: Settings,
) -> None:
    seen = look(settings)
    assert isinstance(seen, dg.SkipReason)
    rename(settings, seed=9)
    seen = look(settings)
    assert isinstance(seen, dg.RunRequest)
    again = look(settings)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key == seen.run_key


def test_a_model_that_costs_money_is_begun_by_nobody_but_a_person(settings: Settings) -> None:
    _hosted(settings)
    before = len(happened(settings, FineTuneCreated))
    built = run(settings)
    assert len(happened(settings, FineTuneCreated)) == before
    assert all(passed for passed, _ in built.checks.values())


def test_the_sensor_asks_after_every_job_though_the_key_of_one_is_missing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    hosted = finetune_recipe(_hosted(settings))
    slow = finetune_recipe(settings.raw_models / f"{NAME}.yaml").model_copy(update={"seed": 11})
    with EventLog.open(settings) as log:
        jobs.request(log, settings, "hosted", hosted)
        waiting = jobs.request(log, settings, NAME, slow)
        before = state(log, waiting)
    warehouse = Warehouse(changed=settings.model_dump(mode="json", exclude_none=True))
    models.follow(warehouse)  # The first step looks at the examples, and needs no key.
    told = models.follow(warehouse)
    assert "OPENAI_API_KEY" in told[0]
    with EventLog.open(settings) as log:
        assert state(log, waiting).version >= before.version + 2


def _hosted(settings: Settings) -> Path:
    recipe = {**RECIPE, "provider": "openai", "base_model": "gpt-4.1-mini", "method": "supervised"}
    file = settings.raw_models / "hosted.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return file
