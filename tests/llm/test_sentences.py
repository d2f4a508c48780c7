"""Sentences are spans of their text, in order; abbreviations end none, code stays whole."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.llm.sentences import LONGEST, sentences


def cut(text: str) -> list[tuple[str, str]]:
    return [(kind, text[start:end]) for start, end, kind in sentences(text)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said "Go!" Then he left.', ['He said "Go!"', "Then he left."]),
        ("Dr. Smith of the U.S. Navy paid 3.5 dollars.", ["Dr. Smith of the U.S. Navy paid 3.5 dollars."]),
        ("Call asyncio.gather first. Then wait.", ["Call asyncio.gather first.", "Then wait."]),
        ("Some, e.g. this one, stay.", ["Some, e.g. this one, stay."]),
        ("- one\n- two. Three\n\nFour", ["- one", "- two.", "Three", "Four"]),
        ("| a | b |\n| c | d |", ["| a | b |", "| c | d |"]),
    ],
)  # fmt: skip
def test_prose(text: str, parts: list[str]):
    assert cut(text) == [("prose", part) for part in parts]


def test_headings_and_code():
    text = (
        "# Pools\n\nOpen one:\n\n    with Pool() as p:\n\n        p.run()\n\nDone.\n\n"
        "```python\nx = 1. \n\ny = 2\n```\nUnder\n-----\n>>> f()\n'a. b'\n\nEnd."
    )
    assert cut(text) == [
        ("heading", "# Pools"),
        ("prose", "Open one:"),
        ("code", "    with Pool() as p:\n\n        p.run()"),
        ("prose", "Done."),
        ("code", "x = 1. \n\ny = 2"),
        ("heading", "Under"),
        ("code", ">>> f()\n'a. b'"),
        ("prose", "End."),
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1. Open it.\n2. Close it.", [("prose", "1. Open it."), ("prose", "2. Close it.")]),
        ("Tools\n~~~~~\n\nWords.", [("heading", "Tools"), ("prose", "Words.")]),
        ("Tools are\n~~~\nx = 1.\n~~~", [("prose", "Tools are"), ("code", "x = 1.")]),
        (
            "So:\n\n.. code-block:: python\n\n    x = 1",
            [("prose", "So:"), ("code", "    x = 1")],
        ),
        (
            "Of maps:\n\n   list(d)\n\n      Return all the keys of the map.\n\n   len(d)\n",
            [
                ("prose", "Of maps:"),
                ("code", "   list(d)"),
                ("prose", "Return all the keys of the map."),
                ("code", "   len(d)"),
            ],
        ),
        (
            "It is equal to\n\n   if debug:\n      if not that: raise Failure\n",
            [("prose", "It is equal to"), ("code", "   if debug:\n      if not that: raise Failure")],
        ),
        ("**Limits**\n\n**All is well.**", [("heading", "**Limits**"), ("prose", "**All is well.**")]),
    ],
)  # fmt: skip
def test_marks_of_markdown_and_restructuredtext(text: str, parts: list[tuple[str, str]]):
    assert cut(text) == parts


def test_long_code_is_cut_between_lines():
    lines = "".join(f"value_{n} = compute the {n}th\n" for n in range(60))
    for kind, part in cut(f"```\n{lines}```"):
        assert kind == "code"
        assert set(part.splitlines()) <= set(lines.splitlines())


@given(st.lists(st.sampled_from(["Ab. ", "c", "\n", "\n\n", "# H\n", "    x\n", "```\n", "- i\n", "---\n", ">>> y\n", "w " * 400])).map("".join))  # fmt: skip
def test_they_lie_in_order_and_leave_no_word_out(text: str):
    found = sentences(text)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(each.end - each.start <= LONGEST for each in found if each.kind != "code")
    held = "".join(text[start:end] for start, end, _ in found)
    left = text
    for start, end, _ in reversed(found):
        left = left[:start] + left[end:]
    assert not set(left) - set(" \n`-")
    assert held.count("c") == text.count("c")
