"""Vectors are the model's own, of length 1, in the order of their texts, each text computed once."""

import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.errors import InputError, UsageError
from tracemill.retrieval.embed import (
    Computed,
    InputKind,
    Model,
    compute,
    dequantise,
    embed,
    model,
    quantise,
)

TEXTS = [
    "the log keeps the fact",
    "",
    "a journal 😀",
    "the log keeps the fact",
    "x " * 9_000,
    " \n",
]
LIGHT = model("local/wordllama")


@pytest.fixture
def root_logger_as_it_was() -> Iterator[None]:
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers = handlers


@pytest.mark.usefixtures("root_logger_as_it_was")
def test_vectors_are_those_of_wordllama():
    from wordllama import WordLlama

    folder = Path(str(__import__("wordllama").__file__)).parent
    own = WordLlama.load(cache_dir=folder, disable_download=True)
    texts = [text for text in TEXTS if text.strip()]
    expected = np.asarray(own.embed(texts, norm=True))
    # Its own sums of 9,000 tokens in one go err by 5e-6, ours by 1e-8.
    assert np.allclose(compute(texts), expected, atol=2e-5)
    # What it calls truncation: the first numbers, again of length 1.
    fewer = expected[:, :64] / np.linalg.norm(expected[:, :64], axis=1, keepdims=True)
    assert np.allclose(model("local/wordllama", dimensions=64).compute(texts), fewer, atol=2e-5)


def test_vectors_have_length_1_and_a_text_without_words_has_none():
    found = embed(TEXTS, model=LIGHT)
    assert (found.vectors.shape, found.vectors.dtype, found.computed, found.call_ids) == (
        (6, 256),
        np.float32,
        3,
        (),
    )
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), [1, 0, 1, 1, 1, 0], atol=1e-6)
    assert np.array_equal(found.vectors[0], found.vectors[3])
    assert np.allclose(found.vectors, LIGHT.compute(TEXTS), atol=2e-4)


def test_no_texts_have_no_vectors():
    found = embed([], model=LIGHT)
    assert (found.vectors.shape, found.computed) == ((0, 256), 0)


def test_a_vector_does_not_depend_on_the_others():
    texts = [f"text {n} " * (1 + n % 7) for n in range(700)]
    together = compute(texts)
    assert np.array_equal(together, np.concatenate([compute([text]) for text in texts]))
    assert np.array_equal(together[::-1], compute(texts[::-1]))


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_text_has_a_vector(texts: list[str]):
    lengths = np.linalg.norm(compute([*texts, "\ud800 half a character"]), axis=1)
    words = [bool(text.strip()) for text in texts]
    assert np.allclose(lengths, [*words, True], atol=1e-6)


def test_threads_may_share_a_model():
    from concurrent.futures import ThreadPoolExecutor

    batches = [[f"text {n}" for n in range(first, first + 300)] for first in range(0, 900, 150)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(compute, batches))
    for texts, vectors in zip(batches, found, strict=True):
        assert np.array_equal(vectors, compute(texts))


@pytest.mark.parametrize(
    ("name", "dimensions", "said"),
    [
        ("wordllama", None, r"no embedding model 'wordllama'.*local/minilm"),
        ("local/bert", None, r"no embedding model 'local/bert'"),
        ("local/wordllama", 100, r"64, 128 or 256 numbers, not of 100"),
        ("openai/text-embedding-3-small", None, r"is called through the log"),
    ],
)
def test_what_is_no_model_is_said_in_one_line(name: str, dimensions: int | None, said: str):
    with pytest.raises(UsageError, match=said) as caught:
        model(name, dimensions=dimensions)
    assert "\n" not in str(caught.value)


def test_models_differ_in_their_identity():
    assert model("local/wordllama") == LIGHT
    assert LIGHT.identity != model("local/wordllama", dimensions=128).identity
    assert LIGHT.identity.startswith("local/wordllama 256 ")


# What a model may not give


def giving(vectors: object) -> Model:
    def run(texts: Sequence[str], kind: InputKind) -> Computed:
        return Computed(np.asarray(vectors, dtype=np.float32))

    return Model("odd/model", 2, 10, 0.5, "odd", LIGHT.starts, run)


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ([[1, 0]], r"shape \(1, 2\) where \(2, 2\)"),
        ([[1, 0, 0], [0, 1, 0]], r"shape \(2, 3\) where \(2, 2\)"),
        ([[1, 0], [0, 0]], r"text 1 of 2 a vector of zeros"),
        ([[np.nan, 0], [1, 0]], r"text 0 of 2 a vector of zeros or of what is no number"),
        ([[1, 0], [np.inf, 0]], r"text 1 of 2"),
    ],
)
def test_what_is_no_vector_is_refused(vectors: object, said: str, tmp_path: Path):
    with pytest.raises(InputError, match=said) as caught:
        embed(["a", "b"], model=giving(vectors), cache=tmp_path)
    assert "\n" not in str(caught.value)


def test_long_and_short_vectors_come_out_with_length_1():
    found = giving([[3e20, 4e20], [-1e-30, 0]]).compute(["a", "b"])
    assert np.allclose(found, [[0.6, 0.8], [-1, 0]])


# Eight bits


def test_eight_bits_keep_the_direction():
    vectors = np.concatenate([compute([f"word {n}" for n in range(50)]), np.zeros((1, 256))])
    small = quantise(vectors.astype(np.float32))
    assert (small.codes.dtype, small.scale.dtype) == (np.int8, np.float32)
    assert small.codes.nbytes * 4 == 51 * 256 * 4
    again = dequantise(small)
    assert np.allclose((again * vectors).sum(axis=1), [1] * 50 + [0], atol=5e-4)
    assert np.allclose(np.linalg.norm(again, axis=1), [1] * 50 + [0], atol=1e-6)
    assert quantise(np.empty((0, 4), np.float32)).codes.shape == (0, 4)


def test_eight_bits_of_eight_bits_are_the_same():
    small = quantise(compute(["one", "two words"]))
    assert np.array_equal(quantise(dequantise(small)).codes, small.codes)


# The process


def test_the_light_model_needs_no_network_and_no_other_framework():
    code = """
import socket, sys
def refuse(*_): raise AssertionError("network")
socket.socket.connect = refuse
from tracemill.retrieval import embed
assert not {"numpy", "tokenizers", "onnxruntime", "httpx"} & set(sys.modules), sys.modules.keys()
assert embed.compute(["a text"]).shape == (1, 256)
assert not {"torch", "onnxruntime", "httpx", "wordllama", "numba"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
