"""The light model: a text's vector is the mean of its token vectors, from wordllama's wheel.

Only numpy and a tokenizer; tokens take nearly all of the time, so they are made on all cores.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING

from tracemill import tokenizer
from tracemill.errors import UsageError
from tracemill.files import sha256_of
from tracemill.llm.embedding import InputKind
from tracemill.retrieval.embed.models import Computed, Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "local/wordllama"
DIMENSIONS = 256
FEWER = (64, 128, 256)
"""The weights were trained so that the first of their numbers are a model too. Recall@1 on SQuAD
1.1: 39.3, 47.5, 51.7."""
LEXICAL_SHARE = 0.9
_PART = 256  # texts for one thread
# A text's token vectors are gathered and added so many at once, 4 MB.
_TOKENS_AT_ONCE = 4096


def load(dimensions: int | None = None) -> Model:
    """The model. Raises `UsageError` for dimensions that it does not have."""
    dimensions = dimensions or DIMENSIONS
    if dimensions not in FEWER:
        raise UsageError(f"{NAME} has vectors of 64, 128 or 256 numbers, not of {dimensions}")
    return Model(
        name=NAME,
        dimensions=dimensions,
        max_tokens=1_000_000,
        lexical_share=LEXICAL_SHARE,
        identity=f"{NAME} {dimensions} {_digest()}",
        starts=tokenizer.starts,
        run=partial(_run, dimensions),
        batch=8192,
        # To compute a question's vector takes less time than to look it up.
        kept=frozenset({"document"}),
    )


def _run(dimensions: int, texts: Sequence[str], kind: InputKind) -> Computed:
    import numpy as np

    vectors = np.empty((len(texts), dimensions), dtype=np.float32)
    weights = _weights(dimensions)

    def fill(first: int) -> None:
        for row, ids in enumerate(tokenizer.ids(texts[first : first + _PART]), first):
            _add(weights, np.array(ids, dtype=np.int64), vectors[row])

    firsts = range(0, len(texts), _PART)
    if len(firsts) == 1:
        fill(0)
        return Computed(vectors)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(fill, firsts))
    return Computed(vectors)


def _add(
    weights: "NDArray[np.float32]", ids: "NDArray[np.int64]", total: "NDArray[np.float32]"
) -> None:
    """The sum; its direction is that of the mean."""
    import numpy as np

    np.sum(weights[ids[:_TOKENS_AT_ONCE]], axis=0, out=total)
    for first in range(_TOKENS_AT_ONCE, len(ids), _TOKENS_AT_ONCE):
        total += np.sum(weights[ids[first : first + _TOKENS_AT_ONCE]], axis=0)


@cache
def _weights(dimensions: int) -> "NDArray[np.float32]":
    """The vectors of tokens as they are added: (32000, dimensions)."""
    import numpy as np

    return np.ascontiguousarray(tokenizer.vectors()[:, :dimensions], dtype=np.float32)


@cache
def _digest() -> str:
    """Of weights and tokenizer: both make the vectors."""
    files = (tokenizer.bundled(tokenizer.WEIGHTS), tokenizer.bundled(tokenizer.FILE))
    return "-".join(sha256_of(file)[:12] for file in files)
