"""Recall, reciprocal rank and nDCG are what their definitions say, and chance fails no build."""

import math
from itertools import product

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy.stats import binomtest

from tracemill.retrieval.metrics import Change, changes, figure, figures, outcomes

FOUND = {"question_id": pl.String, "rank": pl.Int64, "chunk_id": pl.String}
RIGHT = {"question_id": pl.String, "chunk_id": pl.String}


def measured(
    rankings: dict[str, list[str]], right: dict[str, set[str]], k: int = 10
) -> pl.DataFrame:
    found = [(q, n, c) for q, ranking in rankings.items() for n, c in enumerate(ranking, 1)]
    pairs = [(q, c) for q, chunks in right.items() for c in sorted(chunks)]
    return outcomes(
        pl.Series(list(right), dtype=pl.String),
        pl.DataFrame(found, schema=FOUND, orient="row"),
        pl.DataFrame(pairs, schema=RIGHT, orient="row"),
        k,
    )


def test_an_example_worked_out_by_hand() -> None:
    table = measured(
        {"first": list("abc"), "third": list("abc"), "two": list("abcd"), "never": list("xyz")},
        {"first": {"a"}, "third": {"c"}, "two": {"b", "d", "e"}, "never": {"a"}, "unasked": set()},
    )
    two = (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / math.log2(4))
    expected = pl.DataFrame(
        [
            ("first", 1, 1.0, 1.0, 1.0, 1.0, 1.0),
            ("third", 3, 0.0, 1.0, 1.0, 1 / 3, 0.5),
            ("two", 2, 0.0, 1.0, 1.0, 0.5, two),
            ("never", None, 0.0, 0.0, 0.0, 0.0, 0.0),
            ("unasked", None, 0.0, 0.0, 0.0, 0.0, 0.0),
        ],
        schema=["question_id", "first", "recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10"],
        orient="row",
    )
    assert_frame_equal(table, expected)
    assert {name: round(each.value, 4) for name, each in figures(table).items()} == {
        "recall@1": 0.2,
        "recall@5": 0.6,
        "recall@10": 0.6,
        "mrr@10": round((1 + 1 / 3 + 0.5) / 5, 4),
        "ndcg@10": round((1.5 + two) / 5, 4),
    }


def by_definition(ranking: list[str], right: set[str], k: int) -> tuple[float, ...]:
    """Reciprocal rank and nDCG, each the slow way."""
    ranking = ranking[:k]
    firsts = [n for n, chunk in enumerate(ranking, 1) if chunk in right]
    gain = sum(1 / math.log2(n + 1) for n in firsts)
    best = sum(1 / math.log2(n + 1) for n in range(1, min(len(right), k) + 1))
    recalls = [float(bool(firsts) and firsts[0] <= depth) for depth in (1, 5, 10) if depth <= k]
    return (*recalls, 1 / firsts[0] if firsts else 0.0, gain / best if best else 0.0)


chunks = st.sampled_from("abcdefghijklmnop")
rankings = st.lists(chunks, unique=True, max_size=14)


@given(st.lists(st.tuples(rankings, st.sets(chunks)), min_size=1, max_size=6), st.integers(1, 12))
def test_every_measure_is_what_its_definition_says(
    cases: list[tuple[list[str], set[str]]], k: int
) -> None:
    table = measured(
        {f"q{n}": ranking for n, (ranking, _) in enumerate(cases)},
        {f"q{n}": right for n, (_, right) in enumerate(cases)},
        k,
    )
    found = table.drop("question_id", "first").rows()
    expected = [by_definition(ranking, right, k) for ranking, right in cases]
    assert found == [pytest.approx(row) for row in expected]


def test_a_chunk_that_is_found_twice_counts_once() -> None:
    table = measured({"q": ["a", "a", "b"]}, {"q": {"a"}})
    assert table["ndcg@10"].to_list() == [1.0]


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_the_one_of_the_library(shares: tuple[int, int]) -> None:
    hits, asked = shares
    ours = figure(hits / asked, asked)
    theirs = binomtest(hits, asked).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    assert ours.low <= ours.value <= ours.high


def shares(name: str, values: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"question_id": [f"q{n}" for n in range(len(values))], name: values})


def test_a_fall_of_shares_is_mcnemars_exact_test() -> None:
    before, after = [1.0] * 12 + [0.0] * 88, [0.0] * 10 + [1.0] * 3 + [0.0] * 87
    (change,) = changes(shares("recall@1", before), shares("recall@1", after))
    # Of 11 that changed, one rose: P(at most one of 11 fair coins) = 12 / 2048.
    assert change == Change("recall@1", 0.12, 0.03, change.p, 100)
    assert change.p == pytest.approx(12 / 2048)
    assert change.fell(tolerance=0.01)
    assert not change.fell(tolerance=0.1)


def test_a_fall_of_other_measures_is_judged_by_all_signs() -> None:
    before, after = [1.0, 0.5, 1.0, 0.2, 1.0, 0.7], [0.5, 0.3, 1.0, 0.5, 0.2, 0.5]
    (change,) = changes(shares("mrr@10", before), shares("mrr@10", after))
    sizes = [0.5, 0.2, 0.3, 0.8, 0.2]
    sums = [
        sum(s * x for s, x in zip(signs, sizes, strict=True))
        for signs in product((-1, 1), repeat=5)
    ]
    exact = sum(total <= -1.4 + 1e-9 for total in sums) / len(sums)
    assert change.p == pytest.approx(exact, abs=0.01)


def test_chance_fails_no_build() -> None:
    before, after = [1.0] * 6 + [0.0] * 4, [1.0] * 4 + [0.0] * 6
    (change,) = changes(shares("recall@1", before), shares("recall@1", after))
    assert (change.before, change.after, change.p) == (0.6, 0.4, 0.25)
    assert not change.fell(tolerance=0.01)


def test_only_questions_that_both_were_asked_are_compared() -> None:
    before = shares("recall@1", [1.0, 1.0, 1.0])
    after = pl.DataFrame({"question_id": ["q2", "new"], "recall@1": [0.0, 1.0]})
    assert changes(before, after) == [Change("recall@1", 1.0, 0.0, 0.5, 1)]
    assert changes(before, after.tail(1)) == []
