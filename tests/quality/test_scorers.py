"""Scorers: what counts as right, figure by figure."""

from typing import Any

import polars as pl
import pytest

from tracemill.errors import UsageError
from tracemill.quality import scorers
from tracemill.quality.scorers import Scorer


def scored(scorer: Scorer, *pairs: tuple[str, list[str]]) -> list[float]:
    assert scorer.score is not None
    schema: Any = {"answer": pl.String, "expected": pl.List(pl.String)}
    return scorer.score(pl.DataFrame(pairs, schema=schema, orient="row")).to_list()


PAIRS: list[tuple[str, list[str]]] = [
    ("Paris", ["Paris"]),
    (' "paris". ', ["Paris"]),
    ("It is Paris, of course", ["Rome", "Paris"]),
    ("Parisian", ["Paris"]),
    ("C", ["C++"]),
    ("", ["x"]),
]


@pytest.mark.parametrize(
    ("scorer", "right"),
    [
        (scorers.exact_match(), [1, 0, 0, 0, 0, 0]),
        (scorers.normalised(), [1, 1, 0, 0, 0, 0]),
        (scorers.accuracy(), [1, 1, 0, 0, 0, 0]),
        (scorers.contains(), [1, 1, 1, 0, 0, 0]),
    ],
    ids=lambda each: each.name if isinstance(each, Scorer) else "",
)
def test_what_counts_as_right(scorer: Scorer, right: list[float]) -> None:
    assert scored(scorer, *PAIRS) == right


def test_a_text_is_right_in_any_of_its_unicode_forms() -> None:
    assert scored(scorers.normalised(), ("cafe\u0301", ["Caf\u00e9"])) == [1]


def test_json_is_compared_by_value() -> None:
    right = ['{"a": 1, "b": [true]}']
    pairs = [
        ('{"b": [true], "a": 1.0}', right),
        ('```json\n{"b":[true],"a":1}\n```', right),
        ('{"b": [1], "a": 1}', right),
        ('{"a": 1}', right),
        ("no json", right),
        ("1", ["true"]),
    ]
    assert scored(scorers.json_match(), *pairs) == [1, 1, 0, 0, 0, 0]


def test_format_compliance_is_held_against_the_schema() -> None:
    scorer = scorers.json_schema({"type": "object", "required": ["label"]})
    assert (scorer.name, scorer.needs_expected) == ("format_compliance", False)
    pairs: list[tuple[str, list[str]]] = [('{"label": 1}', []), ("{}", []), ("label", [])]
    assert scored(scorer, *pairs) == [1, 0, 0]
    with pytest.raises(UsageError, match="is not a JSON Schema"):
        scorers.json_schema({"type": "nothing"})


def test_similarity_is_that_to_the_nearest_right_answer() -> None:
    same, near, far, none = scored(
        scorers.similarity(),
        ("The cat sleeps.", ["The moon is far.", "The cat sleeps."]),
        ("The cat is asleep.", ["The cat sleeps."]),
        ("Interest rates rose.", ["The cat sleeps."]),
        ("", ["The cat sleeps."]),
    )
    assert same == pytest.approx(1, abs=1e-3)
    assert same > near > far
    assert none == 0


def test_a_function_is_a_scorer() -> None:
    shorter = scorers.by("words", lambda answer, right: len(answer.split()), unit=False)
    assert scored(shorter, ("a b c", [])) == [3.0]


def test_figures_are_known_by_name() -> None:
    assert [scorers.scorer(name).name for name in scorers.SCORERS] == list(scorers.SCORERS)
    lower = {name for name in scorers.SCORERS if scorers.direction(name) == "lower"}
    assert lower == {name for name in scorers.SCORERS if scorers.scorer(name).direction == "lower"}
    with pytest.raises(UsageError, match="no figure is called 'acuracy': there are accuracy, "):
        scorers.scorer("acuracy")


def test_no_answer_at_all_is_no_error() -> None:
    for name in scorers.SCORERS:
        if scorers.scorer(name).score:
            assert scored(scorers.scorer(name)) == []
