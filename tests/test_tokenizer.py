"""Tokens are those of the bundled model, and counting them leaves no trace in the process."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill import tokenizer
from tracemill.errors import InputError

TEXT = "The log keeps the fact; everything else is derived.\n\n```python\nlog.append(event)\n```"


def test_an_empty_text_has_no_tokens():
    assert (tokenizer.count(""), tokenizer.ids([""]), tokenizer.starts("").tolist()) == (
        0,
        [[]],
        [],
    )


def test_the_views_of_a_text_agree():
    assert (
        tokenizer.count(TEXT) == len(tokenizer.ids([TEXT])[0]) == len(tokenizer.starts(TEXT)) == 24
    )


def test_many_texts_are_measured_in_order():
    texts = [TEXT[:length] for length in range(len(TEXT))] * 20
    assert tokenizer.lengths(texts).tolist() == [tokenizer.count(text) for text in texts]


@given(st.text(max_size=200))
def test_tokens_begin_inside_the_text_and_never_go_back(text: str):
    starts = tokenizer.starts(text).tolist()
    assert starts == sorted(starts)
    assert all(0 <= start < len(text) for start in starts)


words = st.sampled_from(
    [
        *(" ", "  ", "\n", "\t", "\r", "a", "foo", ".", "\u2581", "<s>", "[CLS]", "\x00", "##"),
        *("e\u0301", "👨\u200d👩", "日本", "\u0627", "\u00a0", "\u3000", "\u2028", "İ", "x" * 70),
    ]
)


@given(st.lists(words | st.text(max_size=3), max_size=30).map("".join))
def test_tokens_begin_where_they_do_when_the_whole_text_is_encoded_at_once(text: str):
    tokenizer.starts("foo a\n  foo")  # what is remembered of other texts changes nothing
    encoded = tokenizer._tokenizer().encode(text, add_special_tokens=False)
    assert tokenizer.starts(text).tolist() == [start for start, _ in encoded.offsets]


def test_a_file_that_the_wheel_lacks_is_named():
    with pytest.raises(InputError, match=r"wordllama/weights/none\.bin is not installed"):
        tokenizer.bundled("weights/none.bin")


def test_counting_sets_up_no_logger_and_opens_no_network():
    code = """
import logging, socket, sys
def refuse(*_): raise AssertionError("network")
socket.socket.connect = refuse
from tracemill import tokenizer
from tracemill.retrieval.embed import compute
assert compute(["a text"]).shape == (1, 256)
assert not logging.getLogger().handlers, logging.getLogger().handlers
assert "wordllama" not in sys.modules and "requests" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
