"""Labelled questions are read line by line, and lead to the chunks that hold what they quote."""

import json
import tracemalloc
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.errors import InputError
from tracemill.retrieval.frames import chunk_schema
from tracemill.retrieval.questions import (
    dataset_digest,
    from_records,
    labelled,
    question_schema,
    questions_file,
    read_questions,
    self_made,
)
from tracemill.retrieval.relevance import fold, holds, right_chunks, text_of
from tracemill.settings import Settings


def written(folder: Path, *lines: object) -> Path:
    path = folder / "handbook.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


QUOTED = {"question": "Who takes  the writes?", "document": "log.md", "quote": "The journal does."}


def test_every_kind_of_label_is_read(tmp_path: Path) -> None:
    read = read_questions(
        written(
            tmp_path,
            QUOTED,
            {"question": "When?", "document": "log.md", "answers": ["at noon", "12:00"]},
            {"question": "Where is it told?", "document": "log.md"},
            {"question": "Says who?", "quote": "says the log"},
            {"question": "Is there life on Mars?", "unanswerable": True},
        )
    )
    columns = ["question", "document_id", "places", "answers", "unanswerable", "line"]
    assert read.frame.schema == pl.Schema(question_schema())
    assert read.frame.select(columns).rows() == [
        ("Who takes the writes?", "log.md", ["The journal does."], [], False, 1),
        ("When?", "log.md", ["at noon", "12:00"], ["at noon", "12:00"], False, 2),
        ("Where is it told?", "log.md", [], [], False, 3),
        ("Says who?", None, ["says the log"], [], False, 4),
        ("Is there life on Mars?", None, [], [], True, 5),
    ]
    assert read.refused.is_empty()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{oops", "not JSON: Expecting property name enclosed in double quotes at character 2"),
        ("[1]", "not an object with named fields"),
        ({"quote": "it"}, "question: Field required"),
        ({"question": " ", "quote": "it"}, "question: it is blank"),
        ({"question": 7, "quote": "it"}, "question: Input should be a valid string"),
        (
            {"question": "Who?", "qoute": "it"},
            (
                "qoute: there is no such field; there are question, document, quote, answers, "
                "unanswerable"
            ),
        ),
        (
            {"question": "Who?"},
            (
                "nothing says where: add a document, a quote of the right passage, or "
                "unanswerable: true"
            ),
        ),
        (
            {"question": "Who?", "answers": ["me"]},
            (
                "answers need a document or a quote: add a document, a quote of the right passage, or "
                "unanswerable: true"
            ),
        ),
        (
            {"question": "Who?", "quote": "it", "unanswerable": True},
            "unanswerable, and yet document, quote or answers: keep one of the two",
        ),
        (QUOTED | {"question": "Who takes the  writes?"}, "the same as line 1"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(tmp_path: Path, line: object, reason: str) -> None:
    read = read_questions(written(tmp_path, QUOTED, "", line))
    assert read.frame.height == 1
    assert read.refused.select("file", "line", "reason").rows() == [("handbook.jsonl", 3, reason)]
    assert read.refused["text"][0]


def test_a_file_without_a_question_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"handbook\.jsonl holds no question; line 1: not JSON"):
        read_questions(written(tmp_path, "{oops"))
    with pytest.raises(InputError, match=r"cannot read the questions in .*missing\.jsonl"):
        read_questions(tmp_path / "missing.jsonl")


def test_what_is_refused_goes_to_the_quarantine(tmp_path: Path) -> None:
    settings = Settings(warehouse=tmp_path)
    assert labelled(settings, "handbook") is None
    settings.raw_questions.mkdir(parents=True)
    written(settings.raw_questions, QUOTED, "{oops")
    assert questions_file(settings, "handbook").is_file()
    read = labelled(settings, "handbook")
    assert read is not None
    kept = pl.read_parquet(tmp_path / "quarantine" / "questions" / "handbook.parquet")
    assert kept.equals(read.refused)
    assert kept["line"].to_list() == [2]


# Right chunks

TEXT = "# Log\n\nThe journal takes\nthe writes. Segments are Parquet.\n\nA café in İzmir reads: 12 of 120."


def cut(text: str, *borders: int, document: str = "log.md", overlap: int = 0) -> pl.DataFrame:
    """A document's chunks, cut at characters."""
    starts = [0, *borders]
    spans = [(max(a - overlap, 0), b) for a, b in zip(starts, [*borders, len(text)], strict=True)]
    rows = [
        {
            "chunk_id": f"{document}:{start}-{end}",
            "document_id": document,
            "title": "Log",
            "headings": ["Log"],
            "start": start,
            "end": end,
            "text": text[start:end],
        }
        for start, end in spans
    ]
    return pl.DataFrame(rows, schema=chunk_schema())


def right(chunks: pl.DataFrame, folder: Path, **label: object) -> list[str]:
    asked = read_questions(written(folder, {"question": "Where?", **label})).frame
    return right_chunks(asked, chunks)["chunk_id"].to_list()


def test_a_quote_is_found_whatever_its_blanks_and_capitals(tmp_path: Path) -> None:
    chunks = cut(TEXT, 45)
    assert right(chunks, tmp_path, quote="the JOURNAL takes the writes.") == ["log.md:0-45"]
    assert right(chunks, tmp_path, quote="a cafe\u0301 in İzmir") == [f"log.md:45-{len(TEXT)}"]
    assert right(chunks, tmp_path, quote="the journal reads") == []


def test_a_short_text_is_found_as_whole_words_only(tmp_path: Path) -> None:
    chunks = cut("There are 120.\n12 of them are read.", 15)
    assert right(chunks, tmp_path, document="log.md", answers=["12"]) == ["log.md:15-35"]


def test_a_quote_that_a_border_cuts_counts_for_the_chunks_that_hold_most_of_it(
    tmp_path: Path,
) -> None:
    text = "aaaa bbbb cccc dddd eeee ffff"
    assert right(cut(text, 15), tmp_path, quote="bbbb cccc dddd") == ["log.md:0-15"]
    assert right(cut(text, 12), tmp_path, quote="bbbb cccc dddd") == [
        "log.md:0-12",
        "log.md:12-29",
    ]
    assert right(cut(text, 5, 10, 15, 20), tmp_path, quote="aaaa bbbb cccc") == [
        "log.md:0-5",
        "log.md:5-10",
        "log.md:10-15",
    ]


def test_both_chunks_of_an_overlap_are_right(tmp_path: Path) -> None:
    text = "aaaa bbbb cccc dddd eeee ffff"
    assert right(cut(text, 15, overlap=10), tmp_path, quote="bbbb cccc") == [
        "log.md:0-15",
        "log.md:5-29",
    ]


def test_a_quote_counts_in_its_document_or_else_in_all(tmp_path: Path) -> None:
    chunks = pl.concat([cut(TEXT), cut(TEXT, document="copy.md")])
    assert right(chunks, tmp_path, quote="Segments are", document="copy.md") == [
        f"copy.md:0-{len(TEXT)}"
    ]
    assert sorted(right(chunks, tmp_path, quote="Segments are")) == [
        f"copy.md:0-{len(TEXT)}",
        f"log.md:0-{len(TEXT)}",
    ]
    assert right(chunks, tmp_path, document="copy.md") == [f"copy.md:0-{len(TEXT)}"]
    assert right(chunks, tmp_path, unanswerable=True) == []


words = st.text("ab\u00e4\u0130 \n", min_size=1, max_size=40)


@given(words, st.data())
def test_whatever_stands_in_a_document_has_a_right_chunk(text: str, data: st.DataObject) -> None:
    borders = sorted(data.draw(st.sets(st.integers(1, max(len(text) - 1, 1)), max_size=4)))
    chunks = cut(text, *(border for border in borders if border < len(text)))
    assert text_of(chunks) == text
    for word in set(text.split()):
        question = {"question_id": "q", "places": [word], "unanswerable": False}
        asked = pl.DataFrame([question], schema=question_schema())
        assert right_chunks(asked, chunks).height >= 1


def test_an_answer_holds_a_text_as_whole_words() -> None:
    assert holds("It was  Noon.", "it was noon")
    assert not holds("It was afternoon.", "noon")


# Questions of our own making


def library(count: int) -> pl.DataFrame:
    texts = [
        f"The clerk number {n} carries seven red ledgers from the vault to room {n * 7} every day."
        for n in range(count)
    ]
    return pl.concat([cut(text, document=f"{n}.md") for n, text in enumerate(texts)])


def test_questions_are_made_of_what_the_text_says_and_lead_back_to_it() -> None:
    chunks = library(30)
    made = self_made(chunks, 10)
    assert made.height == 10
    assert made["line"].null_count() == 10
    assert self_made(chunks.sample(fraction=1, shuffle=True, seed=1), 10).equals(made)
    right_ones = right_chunks(made, chunks)
    assert right_ones["question_id"].to_list() == made["question_id"].to_list()
    for question, (place,) in made.select("question", "places").iter_rows():
        assert set(question.split()) < set(place.rstrip(".").split())
        assert question not in place


def test_a_new_document_leaves_most_of_the_questions_as_they_are() -> None:
    before, after = self_made(library(40), 20), self_made(library(42), 20)
    assert before.join(after, on="question_id", how="semi").height >= 17


def test_a_heading_that_asks_is_a_question() -> None:
    chunks = cut("It keeps them.").with_columns(headings=pl.lit(["Log", "Who keeps the events?"]))
    asked = self_made(chunks)
    assert asked.select("question", "document_id").rows() == [("Who keeps the events?", "log.md")]
    assert right_chunks(asked, chunks)["chunk_id"].to_list() == ["log.md:0-14"]


def test_records_are_questions_with_the_first_paragraph_as_their_place() -> None:
    pairs = pl.DataFrame(
        {
            "question": ["What does f do?", "What does g do?"],
            "answer": ["It returns all that is left.\n\nOr None.", "Nothing."],
        }
    )
    made = from_records(pairs)
    assert made.select("question", "document_id", "places").rows() == [
        ("What does f do?", None, ["It returns all that is left."])
    ]


def test_the_digest_of_a_set_is_of_what_is_asked_and_not_of_the_order(tmp_path: Path) -> None:
    lines = [QUOTED, {"question": "Why?", "unanswerable": True}]
    first = read_questions(written(tmp_path, *lines)).frame
    turned = read_questions(written(tmp_path, *reversed(lines))).frame
    assert dataset_digest(first) == dataset_digest(turned) != dataset_digest(first.head(1))
    assert dataset_digest(self_made(library(9))).startswith("self-made:")


def test_folding_a_large_text_takes_a_few_times_its_room() -> None:
    text = "The Journal takes\n all writes " * 20_000
    tracemalloc.start()
    try:
        folded = fold(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert folded.text == ("the journal takes all writes " * 20_000).strip()
    assert folded.place(folded.text.rindex("writes")) == text.rindex("writes")
    assert peak < 12 * len(text)
