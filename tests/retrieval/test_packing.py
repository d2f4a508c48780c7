"""Passages are whole stretches of documents, none twice, as many as there is room for."""

from itertools import pairwise

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tests.retrieval.passages import passages
from tracemill import tokenizer
from tracemill.llm.passages import write_passage
from tracemill.retrieval.packing import Source, pack, passage

DOCUMENT = "\n".join(
    f"Sentence {n} speaks of the journal and of number {n * 7}." for n in range(40)
)


def found(spans: list[tuple[int, int]], text: str = DOCUMENT) -> pl.DataFrame:
    """The rows of a search, best first."""
    rows = passages((f"{n}", text[start:end]) for n, (start, end) in enumerate(spans))
    return rows.with_columns(
        pl.lit("guide").alias("document_id"),
        pl.Series("start", [start for start, _ in spans], dtype=pl.Int64),
        pl.Series("end", [end for _, end in spans], dtype=pl.Int64),
        pl.int_range(1, pl.len() + 1).alias("rank"),
        (1.0 - pl.int_range(pl.len()) / 100).alias("score"),
        pl.lit(0.5).alias("lexical"),
        pl.lit(None, pl.Float64).alias("dense"),
    )


def packed(
    rows: pl.DataFrame, question: str = "the journal", threshold: float = 0, tokens: int = 3000
) -> tuple[Source, ...]:
    return pack(question, rows, threshold=threshold, tokens=tokens)


spans = st.lists(
    st.tuples(st.integers(0, 1500), st.integers(1, 400)).map(lambda each: (each[0], sum(each))),
    max_size=8,
)


@given(spans, st.integers(20, 2000))
def test_passages_are_stretches_of_the_document_without_repetition(
    each: list[tuple[int, int]], tokens: int
):
    sources = packed(found(each), tokens=tokens)
    assert [source.number for source in sources] == list(range(1, len(sources) + 1))
    for source in sources:
        assert source.text == DOCUMENT[source.start : source.end]
    held = sorted((source.start, source.end) for source in sources)
    assert all(before[1] < after[0] for before, after in pairwise(held))
    cost = sum(tokenizer.count(write_passage(passage(source))) for source in sources)
    assert cost <= tokens or (len(sources) == 1 and len(sources[0].text) == 1)
    assert bool(sources) == bool(each)


def test_neighbours_become_one_passage_where_the_best_of_them_stood():
    sources = packed(found([(0, 100), (900, 1000), (90, 200), (200, 300)]))
    assert [(s.start, s.end, s.chunk_id, s.chunk_ids) for s in sources] == [
        (0, 300, "c:0", ("c:0", "c:2", "c:3")),
        (900, 1000, "c:1", ("c:1",)),
    ]


def test_what_does_not_fit_is_left_for_what_does():
    rows = found([(0, 300), (400, 2000), (2001, 2060)])
    assert [source.chunk_id for source in packed(rows, tokens=250)] == ["c:0", "c:2"]


def test_a_first_passage_that_is_too_long_is_cut():
    (source,) = packed(found([(0, 2000)]), tokens=100)
    assert source.text == DOCUMENT[: source.end]
    assert 80 < tokenizer.count(write_passage(passage(source))) <= 100


def test_what_holds_too_little_of_the_question_stays_out():
    rows = passages([("a", "The journal takes the writes."), ("b", "Rain falls on the roof.")])
    rows = rows.with_columns(
        pl.int_range(1, 3).alias("rank"),
        *(pl.lit(0.9).alias(name) for name in ("score", "lexical", "dense")),
    )
    (source,) = packed(rows, "Which writes does the journal take?", threshold=0.45)
    assert (source.document_id, source.fit > 0.8) == ("a", True)


def test_equal_texts_of_two_documents_are_given_once():
    rows = found([(0, 100), (900, 1000)]).with_columns(text=pl.lit(DOCUMENT[:100]))
    assert [source.chunk_id for source in packed(rows)] == ["c:0"]
