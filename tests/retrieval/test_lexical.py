"""Words that grow from version to version score as if they had been read at once."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.errors import InputError
from tracemill.llm import bm25, words
from tracemill.retrieval import lexical

TEXTS = ["A journal takes the writes.", "DuckDB gives the answers.", "Writes need a lock."]
QUESTIONS = ["Who takes writing?", "a lock on Mars", "DuckDB", ""]


def files(built: lexical.Lexical, folder: Path) -> dict[str, bytes]:
    lexical.save(built, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_scores_are_those_of_bm25s_over_the_weight_of_the_question():
    import bm25s

    theirs = bm25s.BM25(k1=bm25.K1, b=bm25.B)
    theirs.index([bm25.words(text) for text in TEXTS], show_progress=False)
    built = lexical.build(TEXTS)
    asked = bm25.terms(built.model, "takes writes lock")
    expected = theirs.get_scores([word for (word,) in asked]) / sum(asked.values())
    assert np.allclose(lexical.scores(built, "takes writes lock"), expected)


def test_a_word_that_no_text_holds_counts_fully():
    built = lexical.build(TEXTS)
    known, unknown = (lexical.scores(built, asked)[2] for asked in ("lock", "lock Mars"))
    absent, held = bm25.terms(built.model, "mars lock").values()
    assert unknown == pytest.approx(known * held / (absent + held))


def test_there_may_be_more_languages_than_there_are():
    languages = [a + b for a in "abcdefghijklm" for b in "nopqrstuvwxyzabcdefghij"]
    built = lexical.build(["a lock"] * len(languages), languages)
    assert set(built.languages) - {"other"} <= words.STEMMERS.keys()
    assert (lexical.scores(built, "lock") > 0).all()


class Change(NamedTuple):
    """Texts, which of them a next version keeps, and what comes to them."""

    before: list[tuple[str, str | None]]
    rows: list[int]
    new: list[tuple[str, str | None]]


text = st.lists(
    st.sampled_from(
        ["log", "logs", "Häuser", "the", "asyncio.gather", "東京都", "x_y", "1,000", "?"]
    ),
    max_size=6,
).map(" ".join)
spoken = st.tuples(text, st.sampled_from(["en", "de", None, "xx"]))


@st.composite
def changes(draw: st.DrawFn) -> Change:
    before = draw(st.lists(spoken, max_size=5))
    kept = draw(st.lists(st.sampled_from(range(len(before))), unique=True)) if before else []
    new = draw(st.lists(spoken, max_size=3))
    return Change(before, draw(st.permutations([*kept, *[-1] * len(new)])), new)


@given(changes())
@settings(deadline=None)
def test_an_update_is_what_building_anew_gives_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, change: Change
):
    before, rows, new = change
    coming = iter(new)
    after = [before[row] if row >= 0 else next(coming) for row in rows]
    earlier = lexical.build([one for one, _ in before], [language for _, language in before])
    updated = lexical.update(
        earlier,
        np.array(rows, dtype=np.int64),
        [one for one, _ in new],
        [language for _, language in new],
    )
    anew = lexical.build([one for one, _ in after], [language for _, language in after])
    folders = (tmp_path_factory.mktemp("words"), tmp_path_factory.mktemp("words"))
    assert files(updated, folders[0]) == files(anew, folders[1])


@given(st.lists(spoken, max_size=6), text)
@settings(deadline=None)
def test_a_score_lies_between_0_and_1(texts: list[tuple[str, str | None]], question: str):
    built = lexical.build([one for one, _ in texts], [language for _, language in texts])
    scores = lexical.scores(built, question)
    assert scores.shape == (len(texts),)
    assert ((scores >= 0) & (scores < 1)).all()


def test_new_texts_must_be_as_many_as_new_rows():
    with pytest.raises(ValueError, match="1 rows are new, with 0 texts"):
        lexical.update(lexical.build(TEXTS), np.array([0, -1]), [])


def test_what_was_saved_is_mapped_and_scores_as_before(tmp_path: Path):
    built = lexical.build(TEXTS)
    lexical.save(built, tmp_path / "words")
    opened = lexical.load(tmp_path / "words")
    many = lexical.scores_many(opened, QUESTIONS)
    assert many.shape == (4, 3)
    for row, question in enumerate(QUESTIONS):
        assert np.array_equal(many[row], lexical.scores(built, question))


@pytest.mark.parametrize("name", ["ids.npy", "data.npy", "words.json"])
def test_a_damaged_or_missing_file_is_refused(tmp_path: Path, name: str):
    lexical.save(lexical.build(TEXTS), tmp_path)
    (tmp_path / name).write_bytes(b"\x93NUMPY not")
    with pytest.raises(InputError, match="is not a word index"):
        lexical.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match="build it again"):
        lexical.load(tmp_path)


def test_words_that_were_found_another_way_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lexical.save(lexical.build(TEXTS), tmp_path)
    monkeypatch.setattr(lexical, "FORMAT", 0)
    with pytest.raises(InputError, match="build the collection again"):
        lexical.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "language", "question"),
    [
        ("die Häuser der Stadt", "de", "Haus"),
        ("les télécommunications", "fr", "telecommunication"),
        ("l'économie du pays", "fr", "économies"),
        ("東京都に住む", "ja", "東京"),
        ("call asyncio.gather here", "en", "what does gather do?"),
        ("the class HTTPServer", "en", "http server"),
        ("read foo_bar", "en", "FOO_BAR"),
        ("a population of 1,000,000", "en", "1000000"),
        ("in the U.S.A. today", "en", "USA"),
        ("Tesla\u2019s motor", "en", "tesla"),
        ("the caf\u00e9", "en", "cafe"),
        ("\uff26\uff55ll width", "en", "full"),
    ],
)
def test_a_question_finds_what_is_written_otherwise(text: str, language: str, question: str):
    built = lexical.build([text, "nothing of this"], [language, "en"])
    found, other = lexical.scores(built, question)
    assert found > 0 == other


def test_the_whole_name_beats_its_parts():
    built = lexical.build(["gather in asyncio", "asyncio.gather", "gather"])
    assert lexical.scores(built, "asyncio.gather").argmax() == 1


def test_little_words_do_not_count_where_a_chunk_speaks_another_language_or_an_unknown_one():
    texts = [
        "The lamp is red when the boiler has no water.",
        "when are they",
        "Der Kessel steht im Keller, when ist ein englisches Wort.",
        *(f"Die Seite {number} handelt von Gärten und Wegen." for number in range(9)),
    ]
    languages = ["en", None, *["de"] * 10]
    found = lexical.scores(lexical.build(texts, languages), "When is the lamp red?")
    assert found.argmax() == 0
    assert not found[1:].any()
