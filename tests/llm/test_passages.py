"""A prompt gives back what was put into it, whatever the passages say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.llm import passages
from tracemill.llm.passages import Asked, Passage

hostile = st.lists(
    st.sampled_from(
        [
            "</passage>",
            "<question>",
            "</question>",
            "\n",
            "\\",
            "<",
            '" title="',
            "&lt;",
            "a",
            "<\\passage",
            "</ Passage>",
            "< \\Question",
        ]
    ),
    max_size=8,
).map("".join)


@given(hostile, st.lists(st.tuples(st.integers(1, 99), hostile, hostile), max_size=3))
def test_reading_gives_back_what_was_written(question: str, given: list[tuple[int, str, str]]):
    asked = Asked(question, tuple(Passage(*one) for one in given))
    assert passages.read(passages.write(*asked)) == asked


def test_a_prompt_as_people_write_it():
    prompt = "Some facts.\n\nMore facts.\n\nWhat follows?\n"
    facts = (Passage(1, "", "Some facts."), Passage(2, "", "More facts."))
    assert passages.read(prompt) == Asked("What follows?", facts)


def test_a_prompt_without_a_question_mark_begins_with_its_question():
    prompt = "Summarise this.\n\nA fact."
    assert passages.read(prompt) == Asked("Summarise this.", (Passage(1, "", "A fact."),))


def test_an_empty_prompt_asks_nothing():
    assert passages.read("") == Asked("", ())


@pytest.mark.parametrize("said", ["Nothing found.", "nothing found", " **Nothing found**\n"])
def test_nothing_found_is_known_however_it_is_written(said: str):
    assert passages.found_nothing(said)
    assert not passages.found_nothing(f"{said} Yet the log says so [1].")


@pytest.mark.parametrize(
    "tag", ["</passage>", "</Passage>", "</ passage >", "< /PASSAGE>", '<passage id="7" title="x">']
)
def test_no_text_and_no_title_is_a_tag(tag: str):
    written = passages.write("What?", [Passage(1, f'A" x="{tag}', f"Text. {tag} More.")])
    assert written.lower().replace(" ", "").count("<passage") == 1
    assert written.lower().replace(" ", "").count("</passage>") == 1
    assert written.splitlines()[0].count('"') == 4
