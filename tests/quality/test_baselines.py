"""A baseline moves only when somebody says so, says what it stands on, and fails what falls behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.quality.scored import evaluated
from tracemill.errors import UsageError
from tracemill.events import BaselineSet, Expected, ModelRegistered, new_id
from tracemill.log import EventLog
from tracemill.quality.baselines import (
    Tolerance,
    baseline,
    baselines,
    check,
    set_baseline,
    tolerance,
)

MODEL = "ft:local:routing:ab"
SCORES = {"accuracy": [1.0] * 90 + [0.0] * 10, "latency_ms": [20.0 + n % 5 for n in range(100)]}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as opened:
        yield opened


def registered(model: str) -> ModelRegistered:
    return ModelRegistered(
        name="routing",
        digest="ab",
        model=model,
        provider="local",
        base_model="local/classify",
        method="classify",
        job_id=new_id(),
        dataset="routing",
        dataset_digest="s1",
        split="train",
        training_sha256="0" * 64,
        rows=900,
    )


def test_a_baseline_says_what_it_stands_on(log: EventLog) -> None:
    log.append(registered(MODEL))
    one = evaluated(log, SCORES, prompt_name="route", prompt_version="3")
    made = set_baseline(log, "routing", one, reason="the first that is in use", actor="me")
    assert made == BaselineSet(
        event_id=made.event_id,
        occurred_at=made.occurred_at,
        actor="me",
        name="routing",
        evaluation_id=one,
        model=MODEL,
        prompt_name="route",
        prompt_version="3",
        dataset="cases",
        dataset_digest="d1",
        trained_on="s1",
        case_ids=tuple(f"c{n}" for n in range(100)),
        metrics={
            "accuracy": Expected(value=0.9, direction="higher", tolerance=0.02),
            "latency_ms": Expected(value=22.0, direction="lower", tolerance=0.05, relative=True),
        },
        reason="the first that is in use",
    )
    assert baseline(log, "routing") == made
    assert baselines(log) == {"routing": made}


def test_no_evaluation_moves_the_baseline(log: EventLog) -> None:
    one = evaluated(log, SCORES)
    made = set_baseline(log, "routing", one, reason="first")
    better = evaluated(
        log, {"accuracy": [1.0] * 100, "latency_ms": [1.0 + n % 3 for n in range(100)]}
    )
    assert check(log, better).outcome == "pass"
    assert baseline(log, "routing") == made
    moved = set_baseline(log, "routing", better, reason="better, and faster")
    assert baseline(log, "routing") == moved
    assert len(list(log.read(stream="baseline:routing"))) == 2


def test_an_evaluation_that_falls_behind_its_baseline_fails(log: EventLog) -> None:
    one = evaluated(log, SCORES)
    set_baseline(log, "routing", one, reason="first")
    worse = evaluated(log, SCORES | {"accuracy": [0.0] * 30 + SCORES["accuracy"][30:]})
    held = check(log, worse, actor="ci")
    assert (held.outcome, held.against, held.reference_id) == ("fail", "baseline", one)
    assert held.reason.startswith(
        "accuracy 0.900 -> 0.600 on 100 cases, -0.3 [-0.396, -0.219]: worse"
    )
    assert held.tests["latency_ms"].verdict == "pass"
    assert check(log, worse) == held


def test_only_figures_with_a_tolerance_are_held_against_it(log: EventLog) -> None:
    one = evaluated(log, SCORES)
    made = set_baseline(
        log, "routing", one, reason="first", tolerances={"accuracy": tolerance("5%")}
    )
    assert made.metrics == {
        "accuracy": Expected(value=0.9, direction="higher", tolerance=0.05, relative=True)
    }
    slower = evaluated(log, SCORES | {"latency_ms": [90.0] * 100})
    held = check(log, slower)
    assert (held.outcome, list(held.tests)) == ("pass", ["accuracy"])
    assert held.tests["accuracy"].tolerance == pytest.approx(0.045)


def test_a_figure_without_scores_by_case_is_no_part_of_it(log: EventLog) -> None:
    one = evaluated(log, SCORES)
    extra = evaluated(log, {"accuracy": SCORES["accuracy"]})
    assert list(set_baseline(log, "routing", extra, reason="first").metrics) == ["accuracy"]
    with pytest.raises(UsageError, match="has no figure 'latency_ms'"):
        set_baseline(
            log, "routing", extra, reason="first", tolerances={"latency_ms": Tolerance(0.1)}
        )
    assert check(log, one).tests["latency_ms"].verdict == "new"


def test_what_has_no_baseline_or_another_one_is_refused(log: EventLog) -> None:
    one = evaluated(log, SCORES)
    with pytest.raises(UsageError, match=f"`tracemill evals baseline set routing {one}`"):
        check(log, one)
    with pytest.raises(UsageError, match="needs a reason"):
        set_baseline(log, "routing", one, reason=" ")
    with pytest.raises(UsageError, match="is of routing, not of triage"):
        set_baseline(log, "triage", one, reason="first")
    with pytest.raises(UsageError, match="no finished evaluation"):
        set_baseline(log, "routing", new_id(), reason="first")
    assert baseline(log, "routing") is None
    set_baseline(log, "routing", one, reason="first")
    with pytest.raises(UsageError, match=r"is of other cases \(cases, d1\)"):
        check(log, evaluated(log, SCORES, digest="d2"))
    with pytest.raises(UsageError, match="cannot be held against itself"):
        check(log, one)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.02", Tolerance(0.02)),
        (" 5%", Tolerance(0.05, relative=True)),
        ("lower:10%", Tolerance(0.1, relative=True, direction="lower")),
        ("higher:0", Tolerance(0.0, direction="higher")),
    ],
)
def test_a_tolerance_as_people_write_it(text: str, value: Tolerance) -> None:
    assert tolerance(text) == value


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "inf", "5%%", "up:3", "%"])
def test_what_is_no_tolerance(text: str) -> None:
    with pytest.raises(UsageError, match="is no tolerance: write"):
        tolerance(text)
