"""What is planted in the sample is found on its day, and nothing in a quiet one (in 100 with TRACEMILL_TEST_FULL)."""

import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from assets.checks import of_calls, of_tables
from assets.checks.of_calls import JUDGES
from assets.sample_log import Truth, write_sample
from tracemill.log import EventLog
from tracemill.settings import Settings

QUIET = range(8, 108 if os.environ.get("TRACEMILL_TEST_FULL") else 9)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EventLog, Truth]]:
    settings = Settings(warehouse=tmp_path_factory.mktemp("planted") / "warehouse")
    truth = write_sample(settings)
    with EventLog.open(settings) as log:
        yield log, truth


def test_the_dear_day_is_found_on_the_day_and_when_it_was_missed(planted: tuple[EventLog, Truth]):
    log, truth = planted
    assert truth.cost_day
    found = of_calls.cost_anomaly(log, truth.cost_day, None)
    assert not found.passed
    assert found.description.startswith(f"{truth.cost_day}: all models cost $")
    later = truth.cost_day + timedelta(2)
    assert of_calls.cost_anomaly(log, later, None).passed
    assert not of_calls.cost_anomaly(log, later, truth.cost_day).passed


def test_the_burst_of_one_class_is_found_and_no_other(planted: tuple[EventLog, Truth]):
    log, truth = planted
    assert truth.burst
    found = of_calls.error_rate_change(log, truth.burst[0].date(), None)
    assert not found.passed
    assert found.description.startswith(f"{truth.burst_model}: {truth.burst_class} ")
    assert ";" not in found.description


def test_longer_prompts_are_found_by_length_and_by_meaning(planted: tuple[EventLog, Truth]):
    log, truth = planted
    lengths = of_calls.length_drift(log, truth.last, None)
    assert not lengths.passed
    assert str(truth.drift_prompt) in lengths.description
    assert not of_calls.embedding_drift(log, truth.last, None).passed


@pytest.mark.parametrize("seed", QUIET)
def test_a_quiet_history_raises_nothing(seed: int, tmp_path: Path):
    settings = Settings(warehouse=tmp_path / "warehouse")
    truth = write_sample(settings, seed=seed, quiet=True)
    with EventLog.open(settings) as log:
        found = {name: judge(log, truth.last, None) for name, judge in JUDGES.items()}
    assert {name: each.description for name, each in found.items() if not each.passed} == {}
    assert not any("not enough history" in each.description for each in found.values())


def test_with_no_calls_every_check_passes_and_says_so(tmp_path: Path):
    with EventLog(tmp_path) as log:
        found = [JUDGES[n](log, date(2026, 11, 1), None) for n in list(JUDGES)[:4]]
    assert all(each.passed and "not enough history" in each.description for each in found)


def test_a_table_that_lost_more_than_half_of_its_rows_warns():
    assert of_tables.row_count("t", [100]).passed
    assert of_tables.row_count("t", [100, 50]).passed
    assert of_tables.row_count("t", [0, 5]).passed
    assert not of_tables.row_count("t", [10, 100, 49]).passed


def test_columns_that_came_went_or_changed_are_named():
    found = of_tables.schema("t", {"a": "int64", "b": "string"}, {"a": "double", "c": "string"})
    assert (found.passed, found.description) == (
        False,
        "new: c; gone: b; other type: a: int64 -> double",
    )
    assert of_tables.schema("t", {"a": "int64"}, {"a": "int64"}).passed


def test_a_step_that_drops_more_than_it_used_to_warns():
    assert of_tables.dropped_share([0.1]).passed
    assert of_tables.dropped_share([0.1, 0.12, 0.15]).passed
    assert not of_tables.dropped_share([0.1, 0.12, 0.5]).passed
