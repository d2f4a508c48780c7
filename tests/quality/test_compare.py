"""An evaluation held against another: paired by case, corrected for many figures, told once."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.quality.scored import evaluated
from tracemill import events
from tracemill.errors import UsageError
from tracemill.events import EvaluationsCompared, Expected, new_id
from tracemill.intervals import holm, paired
from tracemill.log import EventLog
from tracemill.quality.compare import compare


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as opened:
        yield opened


def expected(tolerance: float, *, lower: bool = False, relative: bool = False) -> Expected:
    return Expected(
        value=1.0, direction="lower" if lower else "higher", tolerance=tolerance, relative=relative
    )


def told(log: EventLog) -> list[EvaluationsCompared]:
    return [r.event for r in log.read(kinds={"evaluation.compared"})]  # pyright: ignore[reportReturnType]


def test_a_worse_candidate_fails_with_the_interval_that_says_so(log: EventLog) -> None:
    was = [1.0] * 900 + [0.0] * 100
    now = [0.0] * 60 + [1.0] * 840 + [1.0] * 20 + [0.0] * 80
    reference = evaluated(log, {"accuracy": was}, model="ft:local:routing:old")
    candidate = evaluated(log, {"accuracy": now}, model="ft:local:routing:new")
    found = compare(log, candidate, reference, against="production", actor="test")
    pair = paired(was, now, unit=True)
    assert found.tests == {
        "accuracy": events.Tested(
            before=0.9,
            after=0.86,
            difference=-0.04,
            low=pair.low,
            high=pair.high,
            p=pair.p,
            p_adjusted=pair.p,
            n=1000,
            test="mcnemar",
            tolerance=0.02,
            verdict="fail",
        )
    }
    assert found.reason == (
        "accuracy 0.900 -> 0.860 on 1,000 cases, -0.04 [-0.0584, -0.0231]: "
        "worse by more than 0.02 (p = 4.3e-06)"
    )
    assert (found.outcome, found.against, found.cases) == ("fail", "production", 1000)
    assert (found.model, found.reference_model) == ("ft:local:routing:new", "ft:local:routing:old")
    assert (found.evaluation_id, found.reference_id) == (candidate, reference)
    assert told(log) == [found]


def test_a_better_candidate_passes_and_a_change_by_chance_is_undecided(log: EventLog) -> None:
    reference = evaluated(log, {"accuracy": [0.0] * 60 + [1.0] * 140})
    better = evaluated(log, {"accuracy": [0.0] * 20 + [1.0] * 180})
    assert compare(log, better, reference).outcome == "pass"
    chance = evaluated(log, {"accuracy": [0.0] * 64 + [1.0] * 136})
    found = compare(log, chance, reference)
    assert found.outcome == "not_enough_data"
    assert "does not tell whether it is worse by more than 0.02" in found.reason


def test_cases_are_paired_by_their_names(log: EventLog) -> None:
    """In the order of the log, each case would seem to have changed."""
    reference = evaluated(log, {"accuracy": [1.0, 0.0, 1.0, 0.0]}, ids=list("abcd"))
    candidate = evaluated(log, {"accuracy": [0.0, 1.0, 0.0, 1.0, 1.0]}, ids=list("badcz"))
    found = compare(log, candidate, reference)
    assert (found.outcome, found.cases) == ("pass", 4)
    assert found.reason == "accuracy 0.500 -> 0.500 on 4 cases: none changed"


def test_evaluations_of_many_cases_are_told_in_parts(log: EventLog) -> None:
    draw = np.random.default_rng(1)
    was = (draw.random(2500) < 0.9).astype(float).tolist()
    now = (draw.random(2500) < 0.9).astype(float).tolist()
    found = compare(log, evaluated(log, {"accuracy": now}), evaluated(log, {"accuracy": was}))
    pair = paired(was, now, unit=True)
    tested = found.tests["accuracy"]
    assert (tested.n, tested.low, tested.high) == (2500, pair.low, pair.high)
    log.fold()
    assert log.sql("SELECT count(*) AS n FROM events WHERE kind = 'evaluation.compared'")["n"][0]


def test_less_is_better_of_costs_times_and_bits(log: EventLog) -> None:
    draw = np.random.default_rng(2)
    base = draw.lognormal(5, 0.4, 200)
    bits = draw.normal(1.4, 0.2, 200)
    reference = evaluated(log, {"latency_ms": base.tolist(), "bits_per_byte": bits.tolist()})
    faster = {"latency_ms": (base * 0.7).tolist(), "bits_per_byte": (bits - 0.2).tolist()}
    slower = {"latency_ms": (base * 1.3).tolist(), "bits_per_byte": (bits + 0.2).tolist()}
    assert compare(log, evaluated(log, faster), reference).outcome == "pass"
    found = compare(log, evaluated(log, slower), reference)
    assert {name: each.verdict for name, each in found.tests.items()} == {
        "bits_per_byte": "fail",
        "latency_ms": "fail",
    }
    assert found.tests["latency_ms"].tolerance == pytest.approx(0.05 * base.mean())
    assert found.tests["latency_ms"].test == "bootstrap"


def test_a_tolerance_and_a_direction_may_be_said(log: EventLog) -> None:
    draw = np.random.default_rng(3)
    was = (10 + draw.random(100)).tolist()
    now = [value + 1 + 0.1 * i / 100 for i, value in enumerate(was)]
    candidate, reference = (
        evaluated(log, {"words": each}, unbounded=["words"]) for each in (now, was)
    )

    def verdict(asked: Expected) -> str:
        return compare(log, candidate, reference, expected={"words": asked}).outcome

    assert verdict(expected(0.5)) == "pass"
    assert verdict(expected(0.5, lower=True)) == "fail"
    assert verdict(expected(2.0, lower=True)) == "pass"
    # Of the value that was expected, 1.0; not of what the reference has.
    assert verdict(expected(0.5, lower=True, relative=True)) == "fail"


def test_many_figures_are_corrected_and_one_alone_by_luck_fails_nothing(log: EventLog) -> None:
    same = [1.0] * 40
    fell = [0.0] * 5 + [1.0] * 35
    reference = evaluated(log, {f"figure {n}": same for n in range(8)})
    candidate = evaluated(log, {f"figure {n}": same for n in range(1, 8)} | {"figure 0": fell})
    alone = compare(log, candidate, reference, expected={"figure 0": expected(0.02)})
    assert (alone.outcome, alone.tests["figure 0"].p) == ("fail", 0.03125)
    found = compare(log, candidate, reference)
    assert found.outcome == "not_enough_data"
    ps = [each.p for each in found.tests.values()]
    assert [t.p_adjusted for t in found.tests.values()] == holm([p for p in ps if p is not None])
    assert found.tests["figure 0"].p_adjusted == 0.25


def test_what_is_missing_and_what_is_new_is_told_as_that(log: EventLog) -> None:
    reference = evaluated(log, {"accuracy": [1.0] * 9, "similarity": [0.7] * 9})
    candidate = evaluated(log, {"accuracy": [1.0] * 9, "exact_match": [0.0] * 9})
    found = compare(log, candidate, reference)
    missing, new = found.tests["similarity"], found.tests["exact_match"]
    assert (missing.verdict, missing.before, missing.after) == ("missing", 0.7, None)
    assert (new.verdict, new.before, new.after) == ("new", None, 0.0)
    assert found.outcome == "not_enough_data"
    assert found.reason == "similarity is missing: the candidate does not have it"
    assert told(log) == [found]
    # What nobody asked for does not stand in the way.
    fine = compare(log, reference, candidate, expected={"accuracy": expected(0.1)})
    assert {name: each.verdict for name, each in fine.tests.items()} == {
        "accuracy": "pass",
        "similarity": "new",
    }
    assert fine.outcome == "pass"


def test_cases_without_a_value_are_left_out(log: EventLog) -> None:
    reference = evaluated(log, {"accuracy": [1.0, None, 1.0, 0.0], "similarity": [None] * 4})
    candidate = evaluated(log, {"accuracy": [1.0, 1.0, None, 0.0], "similarity": [0.5] * 4})
    found = compare(log, candidate, reference)
    assert (found.cases, found.tests["accuracy"].n) == (4, 2)
    unknown = found.tests["similarity"]
    assert (unknown.n, unknown.verdict, unknown.p) == (0, "not_enough_data", None)
    assert found.reason == "similarity is known for no case of both"
    assert told(log) == [found]


def test_no_change_is_no_regression_but_no_proof_for_production_either(log: EventLog) -> None:
    one, other = (evaluated(log, {"accuracy": [1.0] * 30}) for _ in range(2))
    assert compare(log, one, other).outcome == "pass"
    found = compare(log, one, other, against="production")
    assert found.outcome == "not_enough_data"
    # Of 189 cases without a change, Tango's interval ends at 0.02.
    assert found.reason.endswith("about 159 more cases would, if that stays")
    enough = [evaluated(log, {"accuracy": [1.0] * 189}) for _ in range(2)]
    assert compare(log, enough[0], enough[1], against="production").outcome == "pass"


def test_the_same_comparison_is_told_once(log: EventLog) -> None:
    draw = np.random.default_rng(4)
    was, now = draw.lognormal(size=(2, 50)).tolist()
    reference, candidate = evaluated(log, {"latency_ms": was}), evaluated(log, {"latency_ms": now})
    first = compare(log, candidate, reference, actor="one")
    assert compare(log, candidate, reference, actor="two") == first
    wider = compare(log, candidate, reference, expected={"latency_ms": expected(9.0, lower=True)})
    production = compare(log, candidate, reference, against="production")
    assert told(log) == [first, wider, production]
    # What was said last counts: the same as before that is said again.
    again = compare(log, candidate, reference)
    assert (again.tests, again.event_id == first.event_id) == (first.tests, False)


def test_comparisons_at_the_same_time_are_told_once(log: EventLog) -> None:
    reference, candidate = (evaluated(log, {"accuracy": [1.0] * 50}) for _ in range(2))
    threads = [threading.Thread(target=compare, args=(log, candidate, reference)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told(log)) == 1


def test_what_cannot_be_compared_is_refused(log: EventLog) -> None:
    one = evaluated(log, {"accuracy": [1.0, 0.0]})
    with pytest.raises(UsageError, match="cannot be held against itself"):
        compare(log, one, one)
    with pytest.raises(UsageError, match="there is no finished evaluation"):
        compare(log, one, new_id())
    others = evaluated(log, {"accuracy": [1.0, 0.0]}, digest="other")
    with pytest.raises(UsageError, match=r"of different cases, cases \(d1\) and cases \(other\)"):
        compare(log, one, others)
    apart = evaluated(log, {"accuracy": [1.0, 0.0]}, ids=["x", "y"])
    with pytest.raises(UsageError, match="no case with the same figure to test"):
        compare(log, one, apart)
    with pytest.raises(UsageError, match="in common: accuracy"):
        compare(log, one, evaluated(log, {"accuracy": [1.0, 1.0]}), expected={"f1": expected(0.1)})
    assert told(log) == []
