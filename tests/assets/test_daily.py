"""Tables of the log by day: by days, by ranges or at once they are the same, row for row.

Of ten days, and with TRACEMILL_TEST_FULL of thirty.
"""

import itertools
import os
import random
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets import automation, build, daily, log, sample_log
from assets.definitions import defs
from assets.warehouse import every
from tracemill.events import LlmCallFinished, new_id
from tracemill.log import EventLog
from tracemill.messages import Usage
from tracemill.settings import Settings

KEYS = [asset.key for asset in daily.ASSETS]
FIRST, DAYS = date(2026, 9, 3), 30 if os.environ.get("TRACEMILL_TEST_FULL") else 10
LAST = FIRST + timedelta(DAYS - 1)


@pytest.fixture(scope="module")
def events() -> list:
    """Days of the sample, retries and failures in them."""
    found, _ = sample_log.sample_events(until=LAST + timedelta(1))
    start = datetime.combine(FIRST, datetime.min.time(), UTC)
    return [event for event in found if event.occurred_at >= start]


def run(settings: Settings, first: date, last: date) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        days = [first.isoformat(), last.isoformat()]
        return build.run(settings, instance, KEYS, every(daily.DAYS, instance, days))


def tables(settings: Settings) -> dict[str, pl.DataFrame]:
    return {name: daily.table(settings, name) for name in daily.TABLES}


def files(settings: Settings) -> dict[str, int]:
    """Every file of the tables, and when it was written."""
    return {
        str(file.relative_to(settings.daily)): file.stat().st_mtime_ns
        for file in settings.daily.rglob("*.parquet")
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, events: list) -> Settings:
    """All days in one run."""
    folder = tmp_path_factory.mktemp("whole") / "warehouse"
    settings = Settings(warehouse=folder, harvest_installed=False).create()
    with EventLog(settings.log, fold_after_events=10**9) as journal:
        journal.append(events)
        journal.fold()
    assert run(settings, FIRST, LAST).success
    return settings


@pytest.fixture(scope="module")
def by_ranges(tmp_path_factory: pytest.TempPathFactory, whole: Settings) -> Settings:
    """The same log, a few days at a time and in disorder."""
    folder = tmp_path_factory.mktemp("ranges") / "warehouse"
    shutil.copytree(whole.log, folder / "log")
    settings = Settings(warehouse=folder, harvest_installed=False).create()
    bounds = [0, 1, 2, 9, 10, 17, DAYS] if DAYS == 30 else [0, 1, 4, DAYS]
    ranges = [
        (FIRST + timedelta(a), FIRST + timedelta(b - 1)) for a, b in itertools.pairwise(bounds)
    ]
    random.Random(4).shuffle(ranges)
    for first, last in ranges:
        assert run(settings, first, last).success
    return settings


def test_a_backfill_by_ranges_in_any_order_is_the_full_run_row_for_row(
    whole: Settings, by_ranges: Settings
):
    for name, table in tables(whole).items():
        assert_frame_equal(daily.table(by_ranges, name), table, check_exact=True)
        assert table["day"].n_unique() == DAYS
    assert files(by_ranges).keys() == files(whole).keys()


def test_the_days_add_up_to_the_views(whole: Settings):
    with EventLog.open(whole) as journal:
        by_day = journal.sql(
            "SELECT day, provider, request_model, calls, failed, cached, input_tokens, "
            "output_tokens, cost_usd, unpriced FROM costs_by_day ORDER BY ALL"
        )
        rates = journal.sql("FROM error_rates ORDER BY ALL")
    keys = ["day", "provider", "request_model"]
    costs = daily.table(whole, "daily_costs").group_by(keys).agg(pl.col(by_day.columns[3:]).sum())
    assert_frame_equal(costs.sort(keys), by_day.sort(keys), check_column_order=False)
    assert_frame_equal(daily.table(whole, "daily_failures"), rates, check_exact=False)


def test_each_day_has_its_own_page_and_the_plots_are_kept_once(whole: Settings):
    again = run(whole, FIRST, FIRST + timedelta(2))
    made = [
        event.step_materialization_data.materialization
        for event in again.get_asset_materialization_events()
        if event.asset_key == daily.daily_costs.key
    ]
    assert [each.partition for each in made] == [
        (FIRST + timedelta(n)).isoformat() for n in range(3)
    ]
    rows = daily.table(whole, "daily_costs")["day"].value_counts()
    counted = dict(rows.iter_rows())
    for each in made:
        own = each.metadata["dagster/partition_row_count"].value
        assert own == counted[date.fromisoformat(each.partition or "")]
        assert each.metadata["dagster/row_count"].value == sum(counted.values())
        assert each.metadata["unchanged"].value is True
    assert ["plot" in each.metadata for each in made] == [False, False, True]


def test_an_event_that_comes_late_makes_its_day_anew_and_no_other(
    by_ranges: Settings, tmp_path: Path
):
    folder = shutil.copytree(by_ranges.warehouse, tmp_path / "warehouse")
    settings = Settings(warehouse=folder, harvest_installed=False)
    warehouse = build.warehouse_of(settings)
    day = FIRST + timedelta(DAYS // 3)
    before = files(settings)
    assert daily.due(warehouse) == [LAST.isoformat()]
    with EventLog.open(settings) as journal:
        journal.append(late(day))
    assert daily.due(warehouse) == [day.isoformat()]
    run(settings, day - timedelta(2), day + timedelta(2))
    after = files(settings)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {f"{name}/{day}.parquet" for name in daily.TABLES}
    late_rows = daily.table(settings, "daily_costs").filter(pl.col("request_model") == "late-1")
    assert late_rows.select("day", "calls").rows() == [(day, 1)]


def late(day: date) -> LlmCallFinished:
    when = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=9)
    return LlmCallFinished(
        call_id=new_id(),
        occurred_at=when,
        provider="openai",
        request_model="late-1",
        response_model="late-1",
        content="Here I am.",
        finish_reasons=("stop",),
        usage=Usage(input_tokens=3, output_tokens=4),
        latency_ms=12.0,
    )


def test_a_file_that_is_gone_is_made_again(whole: Settings):
    file = whole.daily / "daily_latency" / f"{FIRST}.parquet"
    before = file.read_bytes()
    file.unlink()
    assert daily.due(build.warehouse_of(whole)) == [FIRST.isoformat()]
    run(whole, FIRST, FIRST)
    assert file.read_bytes() == before


def test_a_day_without_calls_has_no_file(whole: Settings):
    result = run(whole, LAST + timedelta(1), LAST + timedelta(1))
    assert result.success
    assert not list(whole.daily.rglob(f"{LAST + timedelta(1)}.parquet"))


def test_the_log_is_sealed_and_its_days_are_made_when_it_grew_or_a_day_ended(
    whole: Settings, monkeypatch: pytest.MonkeyPatch
):
    warehouse = build.warehouse_of(whole)
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(cursor: str | None):
            context = dg.build_sensor_context(
                instance=instance, cursor=cursor, resources={"warehouse": warehouse}
            )
            return automation.log_growth(context), context.cursor

        nothing, _ = tick(None)
        assert isinstance(nothing, dg.SkipReason)
        assert "tracemill build" in (nothing.skip_message or "")
        build.run(whole, instance, [log.log_fold.key], {})
        first, cursor = tick(None)
        assert isinstance(first, dg.RunRequest)
        assert first.tags == every(daily.DAYS, instance, [LAST.isoformat()])
        second, _ = tick(cursor)
        assert isinstance(second, dg.SkipReason)
        assert "0 new events" in (second.skip_message or "")
        today, position = (cursor or "").split()
        ended, _ = tick(f"2026-01-01 {position}")
        assert isinstance(ended, dg.RunRequest)
        grown, _ = tick(f"{today} {int(position) - automation.GROWN}")
        assert isinstance(grown, dg.RunRequest)
        monkeypatch.setattr(automation, "GROWN", 10**9)
        small, cursor = tick(None)
        assert isinstance(small, dg.SkipReason)
        assert cursor == f"{today} 0"
        instance.add_run(dg.DagsterRun("refresh_days", status=dg.DagsterRunStatus.STARTED))
        busy, _ = tick("2026-01-01 0")
        assert isinstance(busy, dg.SkipReason)
        assert "under way" in (busy.skip_message or "")


def test_calls_follow_a_fold_and_not_a_run_that_made_them_itself():
    graph = defs.resolve_asset_graph()
    wanted = dg.AssetSelection.assets(log.calls, log.costs)

    def tick(cursor: Any = None) -> dg.EvaluateAutomationConditionsResult:
        return dg.evaluate_automation_conditions(
            defs=defs, instance=instance, asset_selection=wanted, cursor=cursor
        )

    def made(*keys: dg.AssetKey) -> None:
        for key in keys:
            instance.report_runless_asset_event(dg.AssetMaterialization(key))

    assert wanted.resolve(graph) == {log.calls.key, log.costs.key}
    with dg.DagsterInstance.ephemeral() as instance:
        made(log.log_fold.key, log.calls.key, log.costs.key)
        start = tick()
        assert start.total_requested == 0
        made(log.log_fold.key)
        folded = tick(start.cursor)
        assert folded.total_requested == 2
        made(log.calls.key, log.costs.key)
        followed = tick(folded.cursor)
        assert followed.total_requested == 0
        made(log.log_fold.key, log.calls.key, log.costs.key)
        assert tick(followed.cursor).total_requested == 0
