"""Chunks know their exact place, fit the limit, follow the structure, and give back the text."""

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill import tokenizer
from tracemill.errors import UsageError
from tracemill.retrieval import chunks as module
from tracemill.retrieval.chunks import SMALL, chunk, join, searchable, spans
from tracemill.retrieval.documents import COLUMNS, FORMATS

words = st.sampled_from(
    ["word ", "Sentence. ", "\n", "\n\n", "# head\n", "Title\n=====\n", "    x"]
)
texts = st.lists(words | st.text(max_size=15), max_size=60).map("".join)
long_texts = st.builds(lambda text, times: text * times, texts, st.integers(1, 20))


def document(text: str, format: str = "markdown") -> pl.DataFrame:
    row = ("d1", "The log", "tracemill 0.1.0", format, text)
    return pl.DataFrame([row], schema=list(COLUMNS), orient="row")


@given(texts | long_texts, st.sampled_from(FORMATS), st.sampled_from([(16, 0), (16, 8), (64, 10)]))
def test_chunks_give_back_the_text(text: str, format: str, sizes: tuple[int, int]):
    limit, overlap = sizes
    chunks = chunk(document(text, format), tokens=limit, overlap=overlap)
    if not text.strip():
        assert chunks.height == 0
        return
    assert all(
        text[start:end] == part for start, end, part in chunks["start", "end", "text"].rows()
    )
    assert join(chunks["start", "text"].rows()) == text
    assert chunks["start"].is_sorted()
    assert chunks["end"].is_sorted()
    assert chunks["end"][-1] == len(text)
    assert chunks["chunk_id"].is_unique().all()
    assert chunks["start"].is_unique().all()


@given(long_texts.filter(str.strip), st.sampled_from(FORMATS))
def test_no_chunk_is_longer_than_the_limit(text: str, format: str):
    found = list(spans(text, format, tokens=32, overlap=8))
    assert max(span.tokens for span in found) <= 32
    # Alone, a chunk may count a few tokens more: a word at its beginning gets a mark.
    assert max(tokenizer.count(text[span.start : span.end]) for span in found) <= 32 + 4


def test_a_block_that_nearly_fills_a_chunk_is_kept_whole_and_shares_less():
    paragraph = "One two three four five six seven eight nine ten eleven. " * 2
    text = "\n\n".join([paragraph] * 4)
    found = list(spans(text, "markdown", tokens=32, overlap=16))
    assert [text[span.start : span.end].count(paragraph.rstrip()) for span in found] == [1, 1, 1, 1]
    assert max(span.tokens for span in found) <= 32


def test_a_section_begins_a_chunk_unless_the_one_before_is_small():
    long = "A sentence that fills the section up. " * 20
    text = f"# One\n\n{long}\n\n## Two\n\nShort.\n\n## Three\n\n{long}\n\n# Four\n\nLast.\n"
    chunks = chunk(document(text))
    assert chunks["headings"].to_list() == [["One"], ["One", "Two"], ["Four"]]
    assert chunks["text"].str.extract(r"^(.*)\n").to_list() == ["# One", "## Two", "# Four"]
    assert [count > SMALL for count in chunks["tokens"]] == [True, True, False]


def test_a_heading_goes_where_its_text_goes():
    sentence = "A sentence that fills the section up. "
    text = f"# One\n\n{sentence * 5}\n\n# Two\n\n## Three\n\n{sentence * 10}\n"
    found = list(spans(text, "markdown", tokens=128, overlap=20))
    assert [(text[span.start : span.end].split()[:2], span.headings) for span in found] == [
        (["#", "One"], ("One",)),
        (["#", "Two"], ("Two",)),
    ]


def test_a_table_or_code_block_that_fits_is_not_cut():
    words = "Some words before the code that fill the chunk up. " * 8
    code = "```python\n" + "x = 1\n" * 30 + "```\n"
    chunks = chunk(document(f"{words}\n\n{code}"), tokens=200, overlap=20)
    assert [code in part for part in chunks["text"]] == [False, True]


def test_neighbours_in_a_section_share_whole_words_and_sections_share_nothing():
    sentences = [f"Sentence number {n} says what it says. " for n in range(40)]
    text = "# One\n\n" + "".join(sentences) + "\n\n# Two\n\n" + "".join(sentences)
    found = list(spans(text, "markdown", tokens=128, overlap=20))
    by_section = {name: [s for s in found if s.headings == (name,)] for name in ("One", "Two")}
    assert sum(map(len, by_section.values())) == len(found)
    for section in by_section.values():
        for before, after in pairwise(section):
            shared = text[after.start : before.end]
            assert 0 < tokenizer.count(shared) <= 21
            assert shared.startswith("Sentence number")
    assert by_section["One"][-1].end == by_section["Two"][0].start


def test_the_title_and_the_headings_are_searchable():
    chunks = chunk(document("# Fold\n\n## When\n\nAt night."))
    assert searchable(chunks).to_list() == ["The log\nFold\n# Fold\n\n## When\n\nAt night."]


def test_an_id_depends_on_content_and_position_only():
    one, same = (chunk(document("# A\n\nb")) for _ in range(2))
    assert one.equals(same)
    moved = chunk(document("\n# A\n\nb"))
    assert one["chunk_id"][0] != moved["chunk_id"][0]


def test_batches_of_documents_do_not_change_a_chunk(monkeypatch: pytest.MonkeyPatch):
    many = pl.concat([document(f"# Document {n}\n\nIts text.") for n in range(7)])
    whole = chunk(many)
    monkeypatch.setattr(module, "_DOCUMENTS_AT_ONCE", 3)
    assert chunk(many).equals(whole)
    assert whole.height == 7


def test_documents_without_text_give_an_empty_frame_of_the_same_columns():
    assert chunk(document("  \n")).schema == chunk(document("text")).schema


@pytest.mark.parametrize("sizes", [(15, 0), (100, 51), (100, -1)])
def test_sizes_that_cannot_be_are_refused(sizes: tuple[int, int]):
    with pytest.raises(UsageError, match="at least 16 tokens are needed"):
        chunk(document("text"), tokens=sizes[0], overlap=sizes[1])
