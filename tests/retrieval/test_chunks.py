"""Chunks know their exact place, fit the limit, follow the structure, and give back the text."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill import tokenizer
from tracemill.errors import InputError, UsageError
from tracemill.retrieval import chunks as module
from tracemill.retrieval.chunks import SMALL, chunk, join
from tracemill.retrieval.chunks import pieces as pieces_module
from tracemill.retrieval.chunks.semantic import sections
from tracemill.retrieval.frames import chunk_schema, document_frame

SYNTAXES = ("markdown", "rst", "text", "csv", "python", "go")
STRATEGIES = ("structure", "semantic", "fixed")

words = st.sampled_from(
    [
        *("word ", "Sentence. ", "\n", "\n\n", "# head\n", "Title\n=====\n", "    x", "- item\n"),
        *("| a | b |\n", "|---|---|\n", "```\n", "def f():\n    return 1\n\n", "a,b\n", "== ==\n"),
        *(
            "👨‍👩‍👧",
            "👍🏽",
            "e\u0301",
            "東京都は日本の首都。",
            "بحث في ",
            "\u202e",
            "ß\u0308\u0323",
        ),
        *('"', "x" * 200, " " * 150, "aGVsbG8" * 20),
    ]
)
texts = st.lists(words | st.text(max_size=15), max_size=60).map("".join)
long_texts = st.builds(lambda text, times: text * times, texts, st.integers(1, 20))
sizes = st.sampled_from([(16, 0), (16, 8), (64, 10), (512, 50)])


def document(text: str, syntax: str = "markdown", **fields: Any) -> dict[str, Any]:
    named = {"document_id": "d1", "title": "The log", "source": "tracemill 0.1.0"}
    written = "csv" if syntax == "csv" else syntax if syntax in ("markdown", "rst") else "text"
    read_as = "text" if syntax == "csv" else syntax
    return {**named, "format": written, "syntax": read_as, "text": text, **fields}


def cut(text: str, syntax: str = "markdown", **settings: Any) -> pl.DataFrame:
    return chunk(document_frame([document(text, syntax)]), **settings)


@settings(deadline=None)
@given(texts | long_texts, st.sampled_from(SYNTAXES), sizes, st.sampled_from(STRATEGIES))
def test_chunks_give_back_the_text_and_fit(
    text: str, syntax: str, sizes: tuple[int, int], strategy: str
):
    limit, overlap = sizes
    chunks = cut(text, syntax, strategy=strategy, tokens=limit, overlap=overlap)
    assert chunks.schema == chunk_schema()
    if not text.strip():
        assert chunks.height == 0
        return
    rows = chunks["start", "end", "text"].rows()
    assert all(text[start:end] == part and part for start, end, part in rows)
    assert join(chunks["start", "text"].rows()) == text
    assert all(before < after for before, after in pairwise(chunks["start"]))
    assert all(before < after for before, after in pairwise(chunks["end"]))
    assert chunks["chunk_id"].is_unique().all()
    assert chunks["tokens"].to_list() == [tokenizer.count(part) for *_, part in rows]
    assert chunks["tokens"].max() <= limit  # pyright: ignore[reportOperatorIssue]
    assert cut(text, syntax, strategy=strategy, tokens=limit, overlap=overlap).equals(chunks)


edits = st.sampled_from(["", "# A\n\nword word", "# A\n\nother", "x, y\n1, 2\n", "same " * 200])
collections = st.dictionaries(
    st.sampled_from("abcd"), st.tuples(edits, st.sampled_from(SYNTAXES), st.booleans())
)
recipes = st.sampled_from([(64, 10, "structure"), (64, 0, "structure"), (64, 10, "fixed")])


@settings(deadline=None)
@given(collections, collections, recipes, recipes, st.integers(0, 3))
def test_what_is_taken_over_is_what_would_be_made(
    before: dict[str, Any], after: dict[str, Any], first: Any, then: Any, day: int
):
    def made(documents: dict[str, Any], asked: Any, **more: Any) -> pl.DataFrame:
        tokens, overlap, strategy = asked
        rows = [
            document(
                text,
                syntax,
                document_id=key,
                by_line=by_line,
                modified_at=datetime(2026, 1, 1 + len(more) * day, tzinfo=UTC),
            )
            for key, (text, syntax, by_line) in documents.items()
        ]
        return chunk(
            document_frame(rows), tokens=tokens, overlap=overlap, strategy=strategy, **more
        )

    earlier = made(before, first)
    full = made(after, then, earlier=None)
    assert made(after, then, earlier=earlier).equals(full)


def test_an_unchanged_document_is_not_tokenized_again():
    seen: list[str] = []

    def starts(text: str) -> "np.ndarray[Any, Any]":
        seen.append(text)
        return tokenizer.starts(text)

    old = document_frame([document("# A\n\none", document_id=name) for name in "ab"])
    new = document_frame(
        [
            document("# A\n\ntwo", document_id="b"),
            document("# A\n\none", document_id="a", source="moved", metadata='{"team": "x"}'),
        ]
    )
    earlier = chunk(old, starts=starts)
    seen.clear()
    chunks = chunk(new, starts=starts, earlier=earlier)
    assert {text for text in seen if "A" in text and len(text) < 50} == {"# A\n\ntwo"}
    assert chunks["document_id", "source", "metadata"].rows() == [
        ("b", "tracemill 0.1.0", "{}"),
        ("a", "moved", '{"team": "x"}'),
    ]
    assert chunks["chunk_id"][1] == earlier["chunk_id"][0]


def test_another_tokenizer_cuts_everything_again():
    def characters(text: str) -> "np.ndarray[Any, Any]":
        return np.arange(len(text))

    documents = document_frame([document("word " * 100)])
    earlier = chunk(documents, tokens=64, overlap=0)
    again = chunk(documents, tokens=64, overlap=0, starts=characters, earlier=earlier)
    assert again.equals(chunk(documents, tokens=64, overlap=0, starts=characters))
    assert again["tokens"].max() == again["text"].str.len_chars().max() == 60


def test_a_section_begins_a_chunk_unless_the_one_before_is_small():
    long = "A sentence that fills the section up. " * 20
    text = (
        f"# One\n\n{long}\n\n## Two\n\nShort.\n\n## Three\n\n{long}\n\n# Four\n\n{'Last. ' * 30}\n"
    )
    chunks = cut(text)
    assert chunks["headings"].to_list() == [["One"], ["One", "Two"], ["Four"]]
    assert chunks["text"].str.extract(r"^(.*)\n").to_list() == ["# One", "## Two", "# Four"]
    assert [count > SMALL for count in chunks["tokens"]] == [True, True, False]


def test_a_few_words_at_the_end_stay_with_the_chunk_before():
    long = "A sentence that fills the section up. " * 20
    assert cut(f"# One\n\n{long}\n\n# Two\n\nBye.\n").height == 1


def test_headings_go_where_their_text_goes():
    sentence = "A sentence that fills the section up. "
    text = f"# One\n\n{sentence * 10}\n\n# Two\n\n## Three\n\n{sentence * 25}\n"
    chunks = cut(text, tokens=256, overlap=20)
    assert [part.split("\n")[0] for part in chunks["text"]] == ["# One", "# Two"]
    assert chunks["headings"].to_list() == [["One"], ["Two", "Three"]]


@pytest.mark.parametrize(
    "block",
    ["```python\n" + "x = 1\n" * 30 + "```\n", "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 18],
    ids=["code", "table"],
)
def test_a_table_or_code_block_that_fits_is_not_cut(block: str):
    words = "Some words before the block that fill the chunk up. " * 8
    chunks = cut(f"{words}\n\n{block}", tokens=200, overlap=20)
    assert [block in part for part in chunks["text"]] == [False, True]


def test_a_table_that_is_cut_keeps_rows_whole_and_says_its_columns():
    rows = "".join(f"| {number} | value of {number} |\n" for number in range(60))
    chunks = cut(f"# T\n\n| id | what |\n|---|---|\n{rows}", tokens=100, overlap=20)
    assert chunks.height > 5
    assert chunks["headings"].to_list() == [["T"]] + [["T", "id | what"]] * (chunks.height - 1)
    assert all(part.startswith("| ") and part.endswith("|\n") for part in chunks["text"][1:])
    assert "".join(chunks["text"]) == join(chunks["start", "text"].rows())


def test_records_stay_whole_and_say_their_columns():
    text = "id,what\n" + "".join(f'{number},"a\nb {number}"\n' for number in range(60))
    chunks = cut(text, "csv", tokens=64, overlap=10)
    assert chunks["headings"].to_list() == [[]] + [["id | what"]] * (chunks.height - 1)
    assert all(part.count('"') % 2 == 0 and part.endswith("\n") for part in chunks["text"])


def test_code_says_where_it_stands():
    body = "".join(f"        value_{number} = {number} * {number}\n" for number in range(12))
    methods = "".join(f"    def method_{name}(self):\n{body}\n" for name in "ab")
    chunks = cut(f"import os\n\n\nclass Thing:\n{methods}", "python", tokens=200, overlap=0)
    assert chunks["headings"].to_list()[-1] == ["Thing", "method_b"]


def test_neighbours_in_a_section_share_whole_sentences_and_sections_share_nothing():
    sentences = "".join(f"Sentence number {number} says what it says. " for number in range(40))
    chunks = cut(f"# One\n\n{sentences}\n\n# Two\n\n{sentences}", tokens=128, overlap=20)
    for before, after in pairwise(chunks.iter_rows(named=True)):
        shared = before["text"][after["start"] - before["start"] :]
        if before["headings"] == after["headings"]:
            assert 0 < tokenizer.count(shared) <= 21
            assert shared.startswith("Sentence number")
        else:
            assert shared == ""
    assert set(map(tuple, chunks["headings"])) == {("One",), ("Two",)}


def test_a_cut_goes_through_no_emoji_and_no_accent():
    family = "👨‍👩‍👧‍👦"
    for text, whole in ((family * 100, family), ("e\u0301\u0323" * 200, "e\u0301\u0323")):
        chunks = cut(text, "text", tokens=64, overlap=0)
        assert chunks.height > 2
        assert all(part == whole * (len(part) // len(whole)) for part in chunks["text"])


def test_pages_and_lines_are_those_of_the_words():
    text = "\n\n# One\n\nfirst\n" + "word " * 30 + "\n\n# Two\n\n" + "last " * 30 + "\n\n\n"
    at = text.index("# Two")
    pages = [{"start": 0, "number": 4}, {"start": at, "number": 5}]
    one = document(text, pages=pages, by_line=True)
    chunks = chunk(document_frame([one]), tokens=64, overlap=0)
    places = chunks.select("first_page", "last_page", "first_line", "last_line").rows()
    assert places == [(4, 4, 3, 6), (5, 5, 8, 10)]
    unknown = cut(text)
    assert (
        unknown.select("first_page", "last_page", "first_line", "last_line").row(0) == (None,) * 4
    )


def test_an_id_depends_on_content_and_place_only():
    one, moved = cut("# A\n\nb"), cut("\n# A\n\nb")
    touched = chunk(document_frame([document("# A\n\nb", source="else", metadata='{"a": 1}')]))
    assert one["chunk_id"][0] == touched["chunk_id"][0] != moved["chunk_id"][0]
    renamed = chunk(document_frame([document("# A\n\nb", title="Another")]))
    assert one["chunk_id"][0] != renamed["chunk_id"][0]


def test_batches_and_stretches_of_a_text_lose_nothing(monkeypatch: pytest.MonkeyPatch):
    many = document_frame(
        [document(f"# Document {n}\n\nIts text. ", document_id=str(n)) for n in range(7)]
    )
    whole = chunk(many)
    monkeypatch.setattr(module, "_AT_ONCE", 60)
    assert chunk(many).equals(whole)
    monkeypatch.setattr(pieces_module, "STRETCH", 500)
    text = "# A\n\n" + "Some words of it. " * 100 + "\n\n## B\n\n" + "x" * 2000 + "\n\nEnd.\n"
    for strategy in STRATEGIES:
        chunks = cut(text, strategy=strategy, tokens=64, overlap=10)
        assert join(chunks["start", "text"].rows()) == text
        assert chunks["headings"].to_list()[-1] == ["A", "B"]


def test_meaning_parts_what_structure_does_not():
    cooking = (
        "Chop the onions and fry them in butter. Add salt, flour and a cup of milk to the pan. "
    )
    stars = "The telescope saw a distant galaxy. Its stars are older than the planets of our sun. "
    text = cooking * 8 + stars * 8
    chunks = cut(text, "text", strategy="semantic", tokens=400, overlap=0)
    assert chunks["text"].to_list() == [cooking * 8, stars * 8]


def test_sections_begin_at_the_deepest_gaps():
    vectors = np.eye(3, dtype=np.float32)[[0] * 6 + [1] * 6 + [2] * 6]
    between = np.zeros(18, dtype=np.bool_)
    assert sections(vectors, between) == {6, 12}
    assert sections(vectors[:5], between[:5]) == set()


def test_paragraphs_are_parted_between_rather_than_inside():
    vectors = np.repeat(np.array([[1, 0], [0.9, 0.44], [0.6, 0.8], [0.1, 1]]), 4, axis=0)
    inside = np.arange(16) == 8
    assert 8 in sections(vectors, np.zeros(16, dtype=np.bool_))
    assert 8 not in sections(vectors, inside)


@pytest.mark.parametrize("sizes", [(15, 0), (100, 51), (100, -1)])
def test_sizes_that_cannot_be_are_refused(sizes: tuple[int, int]):
    with pytest.raises(UsageError, match="at least 16 tokens are needed"):
        cut("text", tokens=sizes[0], overlap=sizes[1])


def test_an_unknown_strategy_and_a_missing_column_are_named():
    with pytest.raises(UsageError, match="no strategy 'clever'"):
        cut("text", strategy="clever")
    with pytest.raises(InputError, match="documents lack the column pages"):
        chunk(document_frame([]).drop("pages"))
