"""Chunks that hold a question's words together come before those that scatter them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.llm.serving import say, serving
from tracemill.llm.client import Client
from tracemill.log import EventLog
from tracemill.retrieval import lexical
from tracemill.retrieval.rerank import CANDIDATES, by_closeness, by_provider, closeness

FAR = " ".join(f"filler{n}" for n in range(40))
TEXTS = [
    "The journal lock is kept.",
    "A lock of the journal.",
    f"The journal is kept. {FAR} A lock.",
    "Nothing of it.",
]


def test_words_in_one_stretch_and_in_order_are_closest():
    near = closeness(lexical.build(TEXTS), "journal lock", np.arange(4))
    assert near.window.tolist() == pytest.approx([1, 1, near.window[2], 0])
    assert 0.3 < near.window[2] < 0.7
    assert near.adjacent.tolist() == [1, 0, 0, 0]


def test_of_a_question_of_one_word_the_stretch_alone_counts():
    near = closeness(lexical.build(TEXTS), "lock", np.arange(4))
    assert near.window.tolist() == near.adjacent.tolist() == [1, 1, 1, 0]


def test_a_word_that_no_chunk_holds_is_missing_from_every_stretch():
    near = closeness(lexical.build(TEXTS), "journal lock Mars", np.arange(2))
    assert (near.window < 1).all()
    assert 0 < near.adjacent[0] < 1


def test_closeness_decides_between_equals_and_not_against_the_clearly_better():
    words = lexical.build(TEXTS)
    equal = by_closeness(words, "journal lock", np.arange(4), np.full(4, 0.5))
    assert np.argsort(-equal).tolist() == [0, 1, 2, 3]
    better = by_closeness(words, "journal lock", np.arange(4), np.array([0.5, 0.5, 0.5, 0.9]))
    assert better.argmax() == 3


def test_only_the_best_are_looked_at():
    words = lexical.build(["lock"] * (CANDIDATES + 10))
    scores = np.linspace(1, 0.5, CANDIDATES + 10)
    found = by_closeness(words, "lock", np.arange(CANDIDATES + 10), scores)
    assert np.allclose(found * 1.15 - scores, [0.15] * CANDIDATES + [0] * 10)


@given(
    st.lists(st.text("ab 日.", max_size=12), min_size=1, max_size=8),
    st.text("ab c日.", max_size=12),
    st.data(),
)
@settings(deadline=None)
def test_candidates_in_another_order_get_the_same_scores(
    texts: list[str], question: str, data: st.DataObject
):
    words = lexical.build(texts)
    rows = np.array(data.draw(st.permutations(range(len(texts)))))
    scores = lexical.scores(words, question).astype(np.float64)
    found = by_closeness(words, question, np.arange(len(texts)), scores)
    assert np.array_equal(by_closeness(words, question, rows, scores[rows]), found[rows])
    near = closeness(words, question, rows)
    assert all(((side >= 0) & (side <= 1 + 1e-9)).all() for side in near)


def test_no_candidates_have_no_scores():
    none = np.empty(0, dtype=np.int64)
    assert by_closeness(lexical.build(TEXTS), "lock", none, none.astype(float)).shape == (0,)


FOUND = pl.DataFrame(
    {
        "rank": [1, 2, 3],
        "score": [0.9, 0.8, 0.7],
        "title": ["Lyon", "Bread", "Paris"],
        "headings": [[], [], ["Facts"]],
        "text": ["It is large.", "It is white.", "It is the capital."],
    }
)


def test_a_providers_ranking_replaces_ours_and_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results = [{"index": 2, "relevance_score": 0.95}, {"index": 0, "relevance_score": 0.25}]
    with serving(lambda seen: say({"results": results})) as server, EventLog(tmp_path) as log:
        monkeypatch.setenv("COHERE_BASE_URL", server.url)
        monkeypatch.setenv("COHERE_API_KEY", "of-a-test")
        client = Client(log)
        ranked = by_provider(client, "cohere/rerank-v3.5", "the capital?", FOUND, 2)
        client.close()
        calls = log.sql("SELECT operation, status FROM calls").rows()
    assert ranked.select("rank", "score", "title").rows() == [(1, 0.95, "Paris"), (2, 0.25, "Lyon")]
    assert ranked.columns == FOUND.columns
    [seen] = server.seen
    assert seen.json["documents"][2] == "Paris\nFacts\nIt is the capital."
    assert (seen.json["query"], seen.json["top_n"]) == ("the capital?", 2)
    assert calls == [("rerank", "finished")]


def test_nothing_found_is_not_sent(tmp_path: Path):
    with EventLog(tmp_path) as log:
        client = Client(log)
        assert by_provider(client, "cohere/rerank-v3.5", "?", FOUND.clear(), 5).is_empty()
        client.close()
        assert log.position() == 0
