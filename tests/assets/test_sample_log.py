"""The sample log is the same each time, holds what its truth says, and nothing of it when quiet."""

import time
from collections import Counter
from datetime import date, timedelta

import pytest

from assets.sample_log import ACTOR, Truth, sample_events, write_sample
from tracemill.analysis.opened import Opened
from tracemill.analysis.opened import open as open_warehouse
from tracemill.detection import drifted
from tracemill.events import Happened, LlmCallFinished, parse
from tracemill.settings import Settings


@pytest.fixture(scope="module")
def made() -> tuple[list[Happened], Truth]:
    return sample_events()


@pytest.fixture(scope="module")
def quiet() -> tuple[list[Happened], Truth]:
    return sample_events(seed=8, quiet=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Opened, Truth, float]:
    folder = tmp_path_factory.mktemp("sample") / "warehouse"
    before = time.process_time()
    truth = write_sample(Settings(warehouse=folder))
    return open_warehouse(folder), truth, time.process_time() - before


def test_the_same_seed_gives_the_same_bytes(made: tuple[list[Happened], Truth]):
    again, truth = sample_events()
    assert [each.model_dump_json() for each in again] == [
        each.model_dump_json() for each in made[0]
    ]
    assert truth == made[1]


def test_another_seed_gives_another_log(
    made: tuple[list[Happened], Truth], quiet: tuple[list[Happened], Truth]
):
    assert {each.event_id for each in quiet[0]}.isdisjoint(each.event_id for each in made[0])


def test_every_event_says_that_it_is_made_up_and_reads_back(made: tuple[list[Happened], Truth]):
    events, truth = made
    assert {each.actor for each in events} == {ACTOR}
    assert [each.occurred_at for each in events] == sorted(each.occurred_at for each in events)
    assert truth.first <= events[0].occurred_at.date()
    assert events[-1].occurred_at.date() == truth.last == truth.first + timedelta(59)
    for each in events[::500]:
        assert parse(each.model_dump()) == each


def test_it_is_of_a_size_and_there_soon(written: tuple[Opened, Truth, float]):
    tm, truth, took_s = written
    calls = tm.sql("SELECT count(*) AS n, count(DISTINCT call_id) AS distinct FROM calls")
    assert calls.row(0) == (truth.calls, truth.calls)
    assert 6_000 <= truth.calls <= 10_000
    assert took_s < 6


def test_recorded_costs_are_those_of_the_prices(written: tuple[Opened, Truth, float]):
    tm, *_ = written
    odd = tm.sql("FROM call_costs WHERE cost_usd IS DISTINCT FROM round(repriced_usd, 9)")
    assert odd["request_model"].unique().to_list() == []
    unpriced = tm.sql("SELECT DISTINCT request_model FROM call_costs WHERE repriced_usd IS NULL")
    assert unpriced["request_model"].to_list() == ["rill-rewriter-3b"]


def test_it_has_something_of_everything(made: tuple[list[Happened], Truth]):
    kinds = Counter(getattr(each, "kind") for each in made[0])  # noqa: B009
    few = {"llm.call.crashed", "prompt.version_added", "prompt.label_moved"}
    assert min(kinds[kind] for kind in kinds.keys() - few) >= 50
    assert kinds.keys() >= {
        "llm.call.cached",
        "llm.call.aborted",
        "llm.call.retried",
        "llm.feedback.given",
        "llm.batch.collected",
    }
    answers = [each for each in made[0] if isinstance(each, LlmCallFinished)]
    assert sum(each.usage.cache_read_input_tokens > 0 for each in answers) > 1_000
    assert sum(each.time_to_first_chunk_ms is not None for each in answers) > 1_000
    assert sum(each.service_tier == "batch" for each in answers) > 300


def test_each_root_cause_is_told_in_several_ways(written: tuple[Opened, Truth, float]):
    tm, truth, _ = written
    found = tm.sql("SELECT call_id, error_type, signature FROM failures")
    assert set(found.filter(found["error_type"] != "crashed")["call_id"]) == set(truth.causes)
    ways: dict[str, set[str]] = {}
    for call_id, _, signature in found.filter(found["error_type"] != "crashed").rows():
        ways.setdefault(truth.causes[call_id], set()).add(signature)
    assert min(map(len, ways.values())) >= 3
    assert len(ways) == 8


def test_what_is_planted_is_there(written: tuple[Opened, Truth, float]):
    tm, truth, _ = written
    assert truth.burst
    by_day = dict(tm.costs(by="day").frame.select("day", "cost_usd").rows())
    others = [usd for day, usd in by_day.items() if day != truth.cost_day]
    assert by_day[truth.cost_day] > 3 * max(others)
    begin, end = truth.burst
    inside, outside = (
        tm.sql(
            "SELECT avg((error_type = $class)::INT) AS share FROM events "
            "WHERE kind IN ('llm.call.failed', 'llm.call.finished') AND request_model = $model "
            "AND (occurred_at BETWEEN $begin AND $end) = $within",
            {
                "within": within,
                "class": truth.burst_class, "model": truth.burst_model,
                "begin": begin.replace(tzinfo=None), "end": end.replace(tzinfo=None),
            },
        )["share"][0]
        for within in (True, False)
    )  # fmt: skip
    assert inside > 0.5
    assert (outside or 0) < 0.01


def test_the_worse_version_is_worse(written: tuple[Opened, Truth, float]):
    tm, truth, _ = written
    first, last = truth.trial
    rows = tm.sql(
        """
        SELECT calls.prompt_version, avg((status = 'failed')::INT) AS failed, avg(score) AS score
        FROM calls LEFT JOIN feedback USING (call_id)
        WHERE calls.prompt_name = ? AND started_at::DATE BETWEEN ? AND ? GROUP BY ALL
        """,
        [truth.prompt, first, last],
    ).rows()
    (good_failed, good), (bad_failed, bad) = (
        next((failed, score) for version, failed, score in rows if version == each)
        for each in truth.versions
    )
    assert truth.worse_version == truth.versions[1]
    assert bad_failed > good_failed + 0.03
    assert bad < good - 0.2


@pytest.mark.parametrize("which", ["made", "quiet"])
def test_lengths_drift_where_they_should_and_nowhere_else(
    which: str, request: pytest.FixtureRequest
):
    events, truth = request.getfixturevalue(which)
    assert (truth.drift is None) == (which == "quiet")
    last: date = truth.last
    lengths: dict[tuple[str, bool], list[int]] = {}
    for each in events:
        if (
            isinstance(each, LlmCallFinished)
            and each.prompt_name
            and each.metadata.get("purpose") is None
        ):
            late = each.occurred_at.date() > last - timedelta(7)
            if late or each.occurred_at.date() > last - timedelta(28):
                name = f"{each.metadata['feature']}: {each.prompt_name}"
                lengths.setdefault((name, late), []).append(each.usage.input_tokens)
    found = {
        name
        for name, late in lengths
        if late and drifted(lengths[name, False], lengths[name, True]).drifted
    }
    assert found == (set() if truth.drift is None else {f"search: {truth.drift_prompt}"})


def test_a_quiet_log_has_nothing_planted(quiet: tuple[list[Happened], Truth]):
    truth = quiet[1]
    assert (truth.cost_day, truth.burst, truth.drift, truth.worse_version) == (None,) * 4
    assert "overloaded" not in truth.causes.values()
