"""Housekeeping of a small log, in one run; and what sensors do without launching anything."""

from pathlib import Path

import dagster as dg
import pytest

from assets import automation, build, housekeeping
from tracemill.events import LlmCallStarted, new_id
from tracemill.log import EventLog, backups
from tracemill.messages import Message
from tracemill.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(warehouse=tmp_path / "warehouse", harvest_installed=False).create()
    with EventLog.open(made) as log:
        log.append([started() for _ in range(5)])
    return made


def started() -> LlmCallStarted:
    hello = Message(role="user", content="Hello?")
    return LlmCallStarted(
        call_id=new_id(), provider="openai", request_model="m-1", messages=(hello,)
    )


def test_the_log_is_compacted_backed_up_verified_and_old_copies_go(settings: Settings):
    keys = build.selected("housekeeping")
    settings.raw_retention.write_text("keep_backups: 1\n", encoding="utf-8")
    with dg.DagsterInstance.ephemeral() as instance:
        first, second = (build.run(settings, instance, keys, {}) for _ in range(2))
    assert first.success
    assert second.success
    [kept] = backups(settings.backups)
    facts = {
        event.asset_key.path[-1]: event.step_materialization_data.materialization.metadata
        for event in second.get_asset_materialization_events()
        if event.asset_key
    }
    assert facts["backup"]["backup"].value == kept.name
    assert facts["backup"]["deleted"].value == 1
    assert facts["verification"]["problems"].value == 0
    assert facts["health"]["failed"].value == 0
    assert {check.check_name: check.passed for check in second.get_asset_check_evaluations()} == {
        "backup_holds": True,
        "all_sound": True,
        "all_well": True,
    }


def test_a_backup_that_was_altered_is_told(settings: Settings):
    warehouse = build.warehouse_of(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        build.run(settings, instance, build.selected("housekeeping"), {})
    [copy] = backups(settings.backups)
    file = copy.folder / copy.manifest.files[0].name
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    told = housekeeping.backup_holds(warehouse)
    assert isinstance(told, dg.AssetCheckResult)
    assert not told.passed
    assert copy.manifest.files[0].name in (told.description or "")


RULE = """\
rules:
  - name: started
    query: SELECT count(*) FROM events WHERE kind = 'llm.call.started'
    comparison: ">"
    threshold: 3
"""


def test_alerts_are_looked_at_and_what_came_of_it_is_told(settings: Settings):
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(
            instance=instance, resources={"warehouse": build.warehouse_of(settings)}
        )
        none = automation.alerts(context)
        settings.raw_alerts.write_text("rules: 3\n", encoding="utf-8")
        wrong = automation.alerts(context)
        settings.raw_alerts.write_text(RULE, encoding="utf-8")
        raised = automation.alerts(context)
    assert isinstance(none, dg.SkipReason)
    assert "error-rate: quiet" in (none.skip_message or "")
    assert isinstance(wrong, dg.SkipReason)
    assert "alerts.yaml" in (wrong.skip_message or "")
    assert isinstance(raised, dg.SkipReason)
    assert "started: raised" in (raised.skip_message or "")
    with EventLog.open(settings) as log:
        assert log.sql("SELECT rule FROM alerts")["rule"].to_list() == ["started"]


def test_no_batch_is_asked_after_when_none_runs(settings: Settings):
    assert automation.follow_batches(build.warehouse_of(settings)) == []
