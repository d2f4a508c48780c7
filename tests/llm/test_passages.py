"""A prompt gives back what was put into it, whatever the passages say."""

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


def test_citations_are_numbers_in_brackets():
    assert passages.cited("One [1], two [12] and x[i], [a], [ 3 ].") == {1, 12}
