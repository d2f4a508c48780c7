"""Vectors are wordllama's own, of length 1, in the order of their texts, computed once."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tracemill.errors import InputError
from tracemill.retrieval import embed as module
from tracemill.retrieval.embed import DIMENSIONS, compute, embed

TEXTS = ["the log keeps the fact", "", "a journal 😀", "the log keeps the fact", "x " * 3_000]


@pytest.fixture
def root_logger_as_it_was() -> Iterator[None]:
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers = handlers


@pytest.mark.usefixtures("root_logger_as_it_was")
def test_vectors_are_those_of_wordllama():
    from wordllama import WordLlama

    folder = Path(str(__import__("wordllama").__file__)).parent
    model = WordLlama.load(cache_dir=folder, disable_download=True)
    texts = [text for text in TEXTS if text]
    expected = np.asarray(model.embed(texts, norm=True))
    assert np.allclose(compute(texts), expected, atol=1e-6)


def test_vectors_have_length_1_and_a_text_without_tokens_has_none():
    vectors, computed = embed(TEXTS)
    assert (vectors.shape, vectors.dtype, computed) == ((5, DIMENSIONS), np.float32, 4)
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1, 1, 1], atol=1e-6)
    assert np.array_equal(vectors[0], vectors[3])


def test_no_texts_have_no_vectors():
    vectors, computed = embed([])
    assert (vectors.shape, computed) == ((0, DIMENSIONS), 0)


def test_batches_do_not_change_a_vector(monkeypatch: pytest.MonkeyPatch):
    texts = [f"text {n} " * (n % 7) for n in range(200)]
    whole = compute(texts)
    monkeypatch.setattr(module, "_TOKENS_AT_ONCE", 50)
    assert np.array_equal(compute(texts), whole)


def test_a_text_is_computed_once_whoever_asks(tmp_path: Path):
    first = embed(TEXTS, cache=tmp_path)
    again = embed([*TEXTS, "a new one"], cache=tmp_path)
    assert (first.computed, again.computed) == (4, 1)
    assert np.array_equal(again.vectors[:5], first.vectors)
    assert embed(["a new one"], cache=tmp_path).computed == 0


def test_many_threads_may_fill_one_cache(tmp_path: Path):
    batches = [[f"text {n}" for n in range(start, start + 20)] for start in range(0, 80, 10)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda texts: embed(texts, cache=tmp_path), batches))
    for texts, embedded in zip(batches, found, strict=True):
        assert np.array_equal(embedded.vectors, compute(texts))
    assert embed([text for texts in batches for text in texts], cache=tmp_path).computed == 0


def test_a_damaged_cache_is_named(tmp_path: Path):
    embed(["text"], cache=tmp_path)
    (file,) = tmp_path.rglob("*.parquet")
    file.write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=r"embedding cache in .* delete the folder"):
        embed(["text"], cache=tmp_path)
