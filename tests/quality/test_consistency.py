"""Samples of one case: answers that fall in two halves show, which a mean similarity hides."""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from tracemill.errors import UsageError
from tracemill.intervals import wilson
from tracemill.quality.consistency import THRESHOLD, alike, consistency

YES = "Yes, you can return it within 30 days."
NO = "No, you cannot return it within 30 days."


def answers(cases: dict[str, Sequence[str | None]]) -> pl.DataFrame:
    rows = [(one, text) for one, texts in cases.items() for text in texts]
    return pl.DataFrame(rows, schema={"id": pl.String, "answer": pl.String}, orient="row")


def test_half_yes_and_half_no_are_two_clusters() -> None:
    (case,) = consistency(answers({"refund": [YES] * 5 + [NO] * 5})).cases.to_dicts()
    assert case == {
        "id": "refund",
        "samples": 10,
        "missing": 0,
        "mean": pytest.approx(20 / 45),
        "spread": pytest.approx(math.sqrt(20 * 25) / 45),
        "lowest": 0.0,
        "clusters": 2,
        "largest": 0.5,
        "entropy": 1.0,
        "sizes": [5, 5],
        "answers": [YES, NO],
    }


def test_the_same_mean_similarity_may_be_two_answers_or_a_little_noise() -> None:
    """What the mean hides: both cases have it at 0.8."""
    halves = np.kron(np.eye(2), np.ones((5, 5)))
    two = halves + (1 - halves) * 0.64
    noise = np.full((10, 10), 0.8) + np.eye(10) * 0.2

    def given(texts: Sequence[str]) -> np.ndarray:
        return two if texts[0] == "two" else noise

    frame = answers({"two": ["two"] * 10, "noise": ["noise"] * 10})
    found = consistency(frame, similarity=given).cases
    assert found["mean"].to_list() == [pytest.approx(0.8), pytest.approx(0.8)]
    assert found["sizes"].to_list() == [[5, 5], [10]]
    assert found["entropy"].to_list() == [1.0, 0.0]


def test_one_sample_says_nothing_of_consistency() -> None:
    found = consistency(answers({"one": [YES], "failed": [None], "pair": [YES, None, YES]}))
    columns = found.cases.select("samples", "missing", "mean", "spread", "clusters", "largest")
    assert columns.rows() == [
        (1, 0, None, None, 1, 1.0),
        (0, 1, None, None, 0, None),
        (2, 1, 1.0, 0.0, 1, 1.0),
    ]
    assert found.figures["same_answer"] == wilson(1.0, 1)
    assert found.figures["consistency"].n == 1


def test_no_sample_at_all_is_no_error() -> None:
    found = consistency(answers({}))
    assert found.cases.is_empty()
    assert {figure.n for figure in found.figures.values()} == {0}


def test_the_most_divided_cases_come_first() -> None:
    found = consistency(
        answers({"same": ["bank"] * 4, "one off": ["bank"] * 3 + ["alarm"], "all": list("abcd")})
    )
    assert found.split()["id"].to_list() == ["all", "one off"]
    assert found.figures["same_answer"] == wilson(1 / 3, 3)
    assert found.figures["largest"].value == pytest.approx((1 + 0.75 + 0.25) / 3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bank", " 'bank.' "),
        ("The capital of France is Paris.", "Paris is the capital of France."),
        ("Call json.dumps(value) for that.", "Use json.dumps on the value for that."),
        ("Use asyncio.gather to run them at once.", "Run them at once with asyncio.gather."),
        ("Your order ships tomorrow.", "Shipping of your order happens tomorrow."),
        ("It costs 1,200 dollars in all.", "In all it costs 1200 dollars."),
    ],
)
def test_the_same_in_other_words_is_one_answer(one: str, other: str) -> None:
    assert alike([one, other])[0, 1] >= THRESHOLD


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (YES, NO),
        ("Yes.", "No."),
        ("bank", "banks"),
        ("The answer is 42, I think.", "The answer is 43, I think."),
        ("The meeting can be moved to Monday.", "The meeting can't be moved to Monday."),
        ("the refund was approved", "the refund was denied"),
        ("Paris is the capital of France.", "It stores rows in a table on disk."),
        ("", "The answer is yes."),
    ],
)
def test_what_means_something_else_is_another_answer(one: str, other: str) -> None:
    assert alike([one, other])[0, 1] < THRESHOLD


def test_similarities_are_those_of_a_matrix() -> None:
    found = alike([YES, NO, YES, "", "Paris"])
    assert (found == found.T).all()
    assert (found.diagonal() == 1).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_all_answers_of_a_cluster_are_as_similar_as_the_threshold_asks() -> None:
    chain = np.array([[1.0, 0.8, 0.6], [0.8, 1.0, 0.8], [0.6, 0.8, 1.0]])
    found = consistency(
        answers({"chain": list("abc")}), similarity=lambda _: chain, threshold=0.8
    ).cases
    assert found["sizes"].to_list() == [[2, 1]]


def test_what_cannot_be_is_refused() -> None:
    frame = answers({"a": ["x", "y"]})
    with pytest.raises(UsageError, match="threshold is 0"):
        consistency(frame, threshold=0)
    with pytest.raises(UsageError, match=r"shape \(1, 1\) for 2 texts"):
        consistency(frame, similarity=lambda _: np.ones((1, 1)))
