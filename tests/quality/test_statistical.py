"""A threshold is reached, missed, or undecided, and then the number of lacking cases is right."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.errors import UsageError
from tracemill.events import Measured
from tracemill.intervals import Interval, mean, paired, wilson
from tracemill.quality.statistical import (
    Decision,
    Direction,
    Majority,
    decide,
    majority,
    measured,
    outcome,
)


def test_thirty_of_thirty_do_not_show_95_percent_and_43_more_would() -> None:
    assert outcome(wilson(1.0, 30), 0.95) == Decision(
        "not_enough_data",
        "accuracy 1.000 [0.886, 1.000] of 30 cases does not tell whether it is at least 0.95: "
        "43 more cases would show that it is, if the figure stays",
        43,
    )


@pytest.mark.parametrize(("threshold", "need"), [(0.95, 73), (0.99, 381)])
def test_a_perfect_run_passes_with_so_many_cases_and_not_with_one_less(
    threshold: float, need: int
) -> None:
    assert outcome(wilson(1.0, need), threshold).outcome == "pass"
    less = outcome(wilson(1.0, need - 1), threshold)
    assert (less.outcome, less.more) == ("not_enough_data", 1)
    assert "1 more case would" in less.reason
    # Of what should be rare, none among so many cases shows the same.
    assert outcome(wilson(0.0, need), 1 - threshold, direction="lower").outcome == "pass"
    assert outcome(wilson(0.0, need - 1), 1 - threshold, direction="lower").more == 1


@given(
    st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.floats(0.001, 0.999),
    st.sampled_from(["higher", "lower"]),
)
def test_so_many_more_cases_decide(
    counts: tuple[int, int], place: float, direction: Direction
) -> None:
    hits, n = counts
    _, low, high, _ = seen = wilson(hits / n, n)
    threshold = low + place * (high - low)
    now = outcome(seen, threshold, direction=direction)
    assert now.outcome == "not_enough_data"
    if now.more is None:
        assert abs(threshold - hits / n) < 1e-4
        assert "it is the threshold itself" in now.reason
        return
    later = outcome(wilson(hits / n, n + now.more), threshold, direction=direction)
    good = (hits / n > threshold) == (direction == "higher")
    assert later.outcome == ("pass" if good else "fail")
    assert ("show that it is not" in now.reason) == (not good)


def test_what_misses_a_threshold_beyond_chance_fails() -> None:
    assert outcome(wilson(0.8, 100), 0.95) == Decision(
        "fail", "accuracy 0.800 [0.711, 0.867] of 100 cases is below 0.95", 0
    )
    slow = Interval(310.0, 290.0, 330.0, 50)
    assert outcome(slow, 250, name="latency_ms", direction="lower").reason == (
        "latency_ms 310.000 [290.000, 330.000] of 50 cases is above 250"
    )
    assert outcome(slow, 330, name="latency_ms", direction="lower").outcome == "pass"
    assert outcome(slow, 290).outcome == "pass"


@pytest.mark.parametrize(
    ("interval", "threshold", "words"),
    [
        (wilson(1.0, 30), 1.0, "no number of cases can show 1, give another threshold"),
        (wilson(0.95, 20), 0.95, "it is the threshold itself"),
        (wilson(0.0, 0), 0.95, "no case has the figure accuracy: a perfect run takes 73"),
        (mean([3.0]), 4.0, "one case does not tell how much others differ; take 10 at least"),
        (mean([]), 4.0, "no case has the figure accuracy"),
    ],
)
def test_what_no_number_of_cases_can_tell_is_said(
    interval: Interval, threshold: float, words: str
) -> None:
    decision = outcome(interval, threshold)
    assert decision.outcome == "not_enough_data"
    assert words in decision.reason


def test_the_lacking_cases_of_other_means_follow_from_the_width_of_the_interval() -> None:
    draw = np.random.default_rng(1)
    seen = mean(draw.normal(1.40, 0.3, 60))
    more = outcome(seen, 1.45, name="bits_per_byte", direction="lower").more
    assert more is not None
    later = mean(np.concatenate([draw.normal(seen.value, 0.3, 60 + 3 * more)]))
    assert outcome(later, 1.45, direction="lower").outcome == "pass"


def test_one_threshold_that_is_missed_fails_and_all_have_to_be_reached() -> None:
    figures = {
        "accuracy": wilson(0.99, 1000),
        "latency_ms": mean([90.0] * 20),
        "format": wilson(1, 9),
    }
    lower: dict[str, Direction] = {"latency_ms": "lower"}
    reached = {"accuracy": 0.95, "latency_ms": 100.0}
    assert decide(figures, reached, lower).outcome == "pass"
    assert decide(figures, {}, lower).outcome == "pass"
    undecided = decide(figures, reached | {"format": 0.9}, lower)
    assert (undecided.outcome, undecided.more) == ("not_enough_data", 26)
    assert undecided.reason.startswith("format 1.000")
    failed = decide(figures, reached | {"format": 0.9, "latency_ms": 80.0}, lower)
    assert failed == Decision(
        "fail", "latency_ms 90.000 [90.000, 90.000] of 20 cases is above 80", 0
    )
    unknown = decide(figures, {"similarity": 0.5})
    assert unknown.outcome == "not_enough_data"
    assert "no case has the figure similarity" in unknown.reason


def test_a_threshold_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match="the threshold of accuracy is nan"):
        outcome(wilson(1, 9), math.nan)


def test_the_majority_is_what_a_model_has_to_beat() -> None:
    labels = ["bank"] * 6 + ["alarm"] * 3 + ["media"]
    assert majority(labels) == Majority("bank", wilson(0.6, 10), [1.0] * 6 + [0.0] * 4)
    against = paired(majority(labels).right, [1.0] * 10, unit=True)
    assert (against.difference, against.changed) == (pytest.approx(0.4), 4)


def test_equal_majorities_are_told_by_name_and_any_right_answer_counts() -> None:
    assert majority(["b", "a"]).label == "a"
    assert majority([["b", "a"], "b", [], "c"]) == Majority("b", wilson(0.5, 4), [1, 1, 0, 0])
    with pytest.raises(UsageError, match="no label"):
        majority([[]])


def test_an_event_has_only_intervals_that_say_something() -> None:
    assert measured(wilson(1.0, 30)) == Measured(value=1.0, low=wilson(1.0, 30).low, high=1.0, n=30)
    assert measured(mean([1.0])) is None
    assert measured(wilson(1.0, 0)) is None
