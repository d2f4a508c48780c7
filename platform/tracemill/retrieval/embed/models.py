"""What an embedding model is, whoever runs it: texts to vectors of length 1, and how it counts.

Each of `wordllama`, `minilm` and `provider` makes one; what holds for all of them is checked here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tracemill.errors import InputError
from tracemill.llm.embedding import InputKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Computed(NamedTuple):
    """Vectors in the order of their texts, and the calls that they took."""

    vectors: "NDArray[np.float32]"
    call_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """An embedding model, ready to be used. Threads may share it."""

    name: str
    """`local/wordllama`, `local/minilm` or provider/model: what `model` takes."""
    dimensions: int
    """Numbers in a vector."""
    max_tokens: int
    """What it reads of a text, as it counts; the rest changes nothing."""
    lexical_share: float
    """The weight of BM25 beside its vectors that was measured to find most."""
    identity: str
    """Name, dimensions and weights: vectors of different identities are never compared."""
    starts: "Callable[[str], NDArray[np.int64]]" = field(repr=False, compare=False)
    """For each token of a text, the character it begins at; never decreasing."""
    run: Callable[[Sequence[str], InputKind], Computed] = field(repr=False, compare=False)
    """Texts that have words to vectors of any length: `compute` is what others use."""
    batch: int = field(default=1024, repr=False, compare=False)
    """Texts that are computed before their vectors are kept."""
    kept: frozenset[InputKind] = field(
        default=frozenset({"query", "document"}), repr=False, compare=False
    )
    """What is worth a place in the cache."""

    def compute(self, texts: Sequence[str], kind: InputKind = "document") -> "NDArray[np.float32]":
        """The vectors of texts, without a cache: float32 of shape (len(texts), dimensions).

        Each has length 1; a text without words gets the zero vector, which is near to nothing.
        Raises `InputError` when the model gives something else, `CallFailed` when a call fails.
        """
        return self.computed(texts, kind).vectors

    def computed(self, texts: Sequence[str], kind: InputKind = "document") -> Computed:
        """As `compute`, with the ids of the calls."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        rows = [row for row, text in enumerate(texts) if text.strip()]
        if not rows:
            return Computed(vectors)
        made = self.run([_sound(texts[row]) for row in rows], kind)
        vectors[rows] = self._unit(made.vectors, len(rows))
        return Computed(vectors, made.call_ids)

    def _unit(self, made: "NDArray[np.float32]", count: int) -> "NDArray[np.float32]":
        import numpy as np

        if made.shape != (count, self.dimensions):
            raise InputError(
                f"{self.name} gave vectors of shape {made.shape} where {(count, self.dimensions)} "
                "was asked: embed the collection anew, with the dimensions that the model has"
            )
        lengths = np.linalg.norm(made.astype(np.float64), axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            row = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))[0])
            raise InputError(
                f"{self.name} gave text {row} of {count} a vector of zeros or of what is no number: "
                "try again, or use another model"
            )
        return (made / lengths).astype(np.float32)


def _sound(text: str) -> str:
    """Half characters, which no tokenizer takes, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
