"""Texts to vectors of length 1, by models that run here or by providers, each text once.

`model` says who embeds, `embed` does it with a cache that all processes share; vectors of one model
are never given out as another's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracemill.errors import UsageError
from tracemill.llm.embedding import InputKind
from tracemill.retrieval.embed import wordllama
from tracemill.retrieval.embed.cache import Kept, halves, whole
from tracemill.retrieval.embed.int8 import Quantised, dequantise, quantise
from tracemill.retrieval.embed.models import Computed, Model
from tracemill.retrieval.embed.wordllama import DIMENSIONS
from tracemill.retrieval.embed.wordllama import NAME as MODEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracemill.log import EventLog

__all__ = [
    "DIMENSIONS",
    "MODEL",
    "Computed",
    "Embedded",
    "InputKind",
    "Model",
    "Quantised",
    "compute",
    "dequantise",
    "embed",
    "model",
    "quantise",
]


class Embedded(NamedTuple):
    """Vectors in the order of their texts, and what they took."""

    vectors: "NDArray[np.float32]"
    """Shape (texts, dimensions), of length 1; zeros for a text without words."""
    computed: int
    """Different texts that were not in the cache."""
    call_ids: tuple[str, ...]
    """Of the calls to a provider, as the log knows them."""


def model(name: str, *, log: "EventLog | None" = None, dimensions: int | None = None) -> Model:
    """The embedding model of a name.

    Args:
        name: `local/wordllama` (light), `local/minilm` (better; an extra), or provider/model.
        log: where calls to a provider are recorded; local models make none.
        dimensions: numbers in a vector, where the model can give fewer than it has; None: all.

    Raises `UsageError`: no such model, not these dimensions, a package or the log is missing.
    """
    if name == MODEL:
        return wordllama.load(dimensions)
    if name == "local/minilm":
        from tracemill.retrieval.embed import minilm

        return minilm.load(dimensions)
    provider, _, rest = name.partition("/")
    if provider == "local" or not (provider and rest):
        raise UsageError(
            f"no embedding model {name!r}: name `local/wordllama`, `local/minilm`, or one of a "
            "provider, such as `openai/text-embedding-3-small`"
        )
    if log is None:
        raise UsageError(f"{name} is called through the log: open the warehouse's log first")
    from tracemill.retrieval.embed import provider as providers

    return providers.load(name, log, dimensions)


def embed(
    texts: Sequence[str],
    *,
    model: Model,
    kind: InputKind = "document",
    cache: Path | None = None,
) -> Embedded:
    """The vectors of texts: equal texts are computed once, and those in the cache not at all.

    Args:
        kind: whether they are searched for or searched with; some models tell them apart.
        cache: the folder that keeps vectors (`settings.cache`), for all processes; None keeps none.

    What is computed is kept batch by batch: after a failure only the rest is computed. Vectors are
    those of `Model.compute` to 3 digits (half precision), whether they come from the cache or not.
    Raises as `Model.compute`.
    """
    import numpy as np

    said = list(dict.fromkeys(texts))
    kept = None if cache is None or kind not in model.kept else Kept(cache, model, kind)
    vectors = np.zeros((len(said), model.dimensions), dtype=np.float16)
    rows = [row for row, text in enumerate(said) if text.strip()]
    if kept:
        known, found = kept.read([said[row] for row in rows])
        vectors[np.array(rows, dtype=np.int64)[known]] = found
        rows = [row for row, there in zip(rows, known, strict=True) if not there]
    calls: list[str] = []
    for first in range(0, len(rows), model.batch):
        batch = [said[row] for row in rows[first : first + model.batch]]
        made = model.computed(batch, kind)
        vectors[rows[first : first + model.batch]] = halves(made.vectors)
        calls += made.call_ids
        if kept:
            kept.write(batch, halves(made.vectors))
    place = {text: row for row, text in enumerate(said)}
    order = np.array([place[text] for text in texts], dtype=np.int64)
    return Embedded(whole(vectors)[order], len(rows), tuple(calls))


def compute(texts: Sequence[str]) -> "NDArray[np.float32]":
    """The light model's vectors, without a cache: float32 of shape (len(texts), 256)."""
    return wordllama.load().compute(texts)
