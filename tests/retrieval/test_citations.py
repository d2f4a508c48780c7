"""A citation holds when its passage says what its sentence says; else it is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.retrieval.citations import ENOUGH, Cited, check, cited, support, uncited, unknown
from tracemill.retrieval.packing import Source

PASSAGE = (
    "The old bridge was opened in 1911. It was designed by Ada Stone, an engineer from Leeds, and "
    "rests on seven arches of brick.\n\nTraffic over the bridge is not allowed at night. "
    "Repairs took 2,500 workers three years."
)


def source(text: str = PASSAGE, number: int = 1, title: str = "Old bridge") -> Source:
    return Source(
        number=number,
        chunk_id=f"c{number}",
        chunk_ids=(f"c{number}",),
        document_id="bridges.md",
        title=title,
        headings=(),
        source="bridges.md",
        start=100,
        end=100 + len(text),
        first_page=None,
        last_page=None,
        first_line=7,
        last_line=9,
        text=text,
        score=1.0,
        lexical=0.5,
        dense=0.5,
        fit=0.9,
    )


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("It rains [1].", [Cited("It rains", (1,))]),
        ("It rains. [1] It snows. [2]", [Cited("It rains.", (1,)), Cited("It snows.", (2,))]),
        ("It rains [1][3]. So it is wet.", [Cited("It rains", (1, 3))]),
        ("It rains [1, 2] and snows [3-5].", [Cited("It rains", (1, 2)), Cited("and snows", (3, 4, 5))]),
        ("It rains [1], [2].", [Cited("It rains", (1, 2))]),
        ("First this. Then rain falls.[2]", [Cited("Then rain falls.", (2,))]),
        ("Use `x[1]` there [2].", [Cited("Use `x[1]` there", (2,))]),
        ("See [the docs](a.html) and x[i].", []),
        ("```\na[1] = f(b[2])\n```\n[3]", [Cited("a[1] = f(b[2])", (3,))]),
    ],
)  # fmt: skip
def test_each_number_belongs_to_the_sentence_before_it(answer: str, found: list[Cited]):
    assert cited(answer) == found


def test_brackets_between_two_pieces_of_code_cite():
    answer = "Use the ``psycopg`` driver. [1] Call `request[0]` then. [2]"
    assert cited(answer) == [
        Cited("Use the ``psycopg`` driver.", (1,)),
        Cited("Call `request[0]` then.", (2,)),
    ]


def test_sentences_without_a_source_are_counted():
    assert uncited("Rain falls here. Snow falls there [1]. So:\n\nHail falls nowhere.") == 2


@pytest.mark.parametrize(
    "sentence",
    [
        "The old bridge was opened in 1911.",
        "The bridge opened in 1911",
        "Ada Stone designed the old bridge.",
        "An engineer named Ada Stone designed the bridge, which rests on seven brick arches.",
        "Cars may not cross the bridge at night.",
        "Repairs took 2,500 workers three years.",
    ],
)
def test_what_the_passage_says_is_supported(sentence: str):
    found = support(sentence, PASSAGE)
    assert found.score >= ENOUGH


@pytest.mark.parametrize(
    "sentence",
    [
        "The old bridge was opened in 1912.",
        "Repairs took 2,600 workers three years.",
        "Bob Miller designed the old bridge.",
        "Traffic over the bridge is allowed at night.",
        "The journal takes the writes of every process.",
        "The bridge was sold to a bank for its debts.",
    ],
)
def test_what_it_does_not_say_is_not(sentence: str):
    assert support(sentence, PASSAGE).score < ENOUGH


def test_a_citation_points_at_the_text_that_supports_it():
    (citation,) = check("Repairs took three years [1].", [source()])
    place = slice(citation.start - 100, citation.end - 100)
    assert PASSAGE[place] == "Repairs took 2,500 workers three years."
    assert (citation.supported, citation.document_id, citation.line) == (True, "bridges.md", 9)


def test_passages_that_are_cited_together_may_each_hold_a_part():
    other = source("Leeds Council paid for the paint in 1950.", 2, "Paint")
    sentence = "Ada Stone designed the bridge, and Leeds Council paid for the paint in 1950"
    together = check(f"{sentence} [1][2].", [source(), other])
    assert [each.supported for each in together] == [True, True]
    (alone,) = check(f"{sentence} [1].", [source(), other])
    assert not alone.supported


def test_numbers_without_a_source_are_named_and_not_checked():
    answer = "The bridge was opened in 1911 [1][4]. It fell [0]."
    assert unknown(answer, [source()]) == [0, 4]
    assert [each.number for each in check(answer, [source()])] == [1]


@given(st.text(alphabet="ab .!?[]1234`\n-#|:", max_size=80))
def test_any_answer_can_be_read(answer: str):
    for citation in check(answer, [source()]):
        assert 0 <= citation.score <= 1
        assert 100 <= citation.start <= citation.end <= 100 + len(PASSAGE)
    assert uncited(answer) >= 0
