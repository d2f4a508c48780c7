"""Scores compare across questions: 0 is nothing in common, 1 cannot be surpassed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.llm import bm25

TEXTS = ["A journal takes the writes.", "DuckDB gives the answers.", "Writes need a lock."]
sentences = st.lists(st.sampled_from(["log", "event", "with", "lock", "the", "47"]), max_size=8)


def test_words_that_carry_no_subject_are_dropped_and_keywords_of_python_are_not():
    assert bm25.words("What does the WITH statement of Python do?") == [
        "with",
        "statement",
        "python",
    ]


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("queries", "queri"),
        ("writes", "write"),
        ("logs", "log"),
        ("process", "process"),
        ("status", "status"),
        ("gas", "gas"),
        ("is", "is"),
    ],
)
def test_words_are_compared_by_their_stems(word: str, stem: str):
    assert bm25.words(word) == [stem]


def test_the_text_that_holds_the_words_wins():
    scores = bm25.scores(bm25.build(TEXTS), "Who takes writes?")
    assert scores.argmax() == 0
    assert scores[1] == 0


def test_a_word_that_no_text_holds_lowers_every_score():
    model = bm25.build(TEXTS)
    known, unknown = (bm25.scores(model, q) for q in ("a lock", "a lock on Mars"))
    assert unknown[2] < known[2]


def test_texts_and_questions_without_words_score_nothing():
    model = bm25.build(["", "?!"])
    assert bm25.scores(model, "").tolist() == bm25.scores(model, "log").tolist() == [0, 0]


@given(st.lists(sentences, min_size=1, max_size=6), sentences)
def test_a_score_lies_between_0_and_1(texts: list[list[str]], question: list[str]):
    scores = bm25.scores(bm25.build(map(" ".join, texts)), " ".join(question))
    assert len(scores) == len(texts)
    assert ((scores >= 0) & (scores < 1)).all()
