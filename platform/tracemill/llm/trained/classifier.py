"""A classifier at work: how probable each label is after a conversation.

Two fields are seen, everything that was said and the last turn of the user: the first tells what it
is about, the second where the subject has changed. Words count by their own weights, and their
meaning by the vectors of the bundled table.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tracemill import tokenizer
from tracemill.errors import InputError
from tracemill.llm import meaning
from tracemill.llm.trained import features
from tracemill.llm.trained.artefact import Artefact
from tracemill.messages import Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = "classifier"
Sees = Literal["words", "meaning", "both"]
_AT_ONCE = 4_000_000  # weights, about 16 MB as float32


class Shown(NamedTuple):
    """What is classified."""

    whole: str
    """Everything that was said and shown."""
    last: str
    """The user's last turn; empty where it is all there is."""


class Seen(NamedTuple):
    """The fields of several conversations as features."""

    ids: "NDArray[np.uint32]"
    """Of the first conversation the whole's, then the last turn's; then those of the next."""
    counts: "NDArray[np.int64]"
    """How many there are of each; shape (conversations, 2)."""


class Linear(NamedTuple):
    """The weights of a classifier, as they are learned."""

    buckets: "NDArray[np.uint32]"
    """Which features have weights; rising."""
    words: "NDArray[np.float32]"
    """Theirs; shape (buckets, labels)."""
    meaning: "NDArray[np.float32]"
    """Of the vectors' dimensions; shape (512, labels), or (0, labels) where they are not seen."""
    bias: "NDArray[np.float32]"


def conversation(turns: Sequence[tuple[str, str]]) -> Shown:
    """What is classified of turns, each a role and a text; a system's instructions are one."""
    said = [text for _, text in turns if text]
    last = next((text for role, text in reversed(turns) if role == "user"), "")
    return Shown("\n".join(said), last if len(said) > 1 else "")


def seen(conversations: Sequence[Shown]) -> Seen:
    """The words of conversations as features."""
    import numpy as np

    whole = features.hashed([one.whole for one in conversations], field=0)
    last = features.hashed([one.last for one in conversations], field=1)
    counts = np.stack([whole.counts, last.counts], axis=1)
    # Where each feature comes to stand: those of one conversation side by side.
    order = np.argsort(
        np.concatenate(
            [
                np.repeat(2 * np.arange(len(conversations)), whole.counts),
                np.repeat(2 * np.arange(len(conversations)) + 1, last.counts),
            ]
        ),
        kind="stable",
    )
    return Seen(np.concatenate([whole.ids, last.ids])[order], counts)


def known(shown: Seen, column: "NDArray[np.integer[Any]]") -> "tuple[Any, Any, Any]":
    """The features that have weights, as a sparse matrix: columns, values, row bounds.

    Each field has the length 1, so that a long text has no more say than a short one.

    Args:
        column: of each feature of `shown`; -1 where it has no weights.
    """
    import numpy as np

    kept = column >= 0
    fields = np.concatenate(([0], np.cumsum(shown.counts.ravel())))
    bounds = np.concatenate(([0], np.cumsum(kept)))[fields]
    counts = np.diff(bounds)
    values = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts).astype(np.float32)
    return column[kept], values, bounds[::2]


def vectors(conversations: Sequence[Shown]) -> "NDArray[np.float16]":
    """The meaning of both fields, side by side and each of length 1 or 0: (conversations, 512)."""
    import numpy as np

    fields = [
        meaning.vectors([_start_and_end(text) for text in texts])
        for texts in zip(*conversations, strict=True)
    ]
    units = [one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-9) for one in fields]
    return np.hstack(units).astype(np.float16)


def _start_and_end(text: str) -> str:
    half = features.MOST_BYTES // 2
    return text if len(text) <= 2 * half else f"{text[:half]} {text[-half:]}"


def packed(
    linear: Linear, labels: Sequence[str], temperature: float, sees: Sees
) -> "tuple[Json, Mapping[str, NDArray[Any]]]":
    """A classifier for `artefact.save`: words' weights as one byte each, with a scale per feature."""
    import numpy as np

    largest = np.abs(linear.words).max(axis=1, initial=0)
    used = largest > 0
    scales = (largest[used] / 127).astype(np.float32)
    about: Json = {"kind": KIND, "labels": list(labels), "sees": sees, "temperature": temperature}
    if sees != "words":
        about["vectors"] = _table()
    return about | {"features": [features.BITS, *features.RUNS]}, {
        "buckets": linear.buckets[used],
        "words": np.rint(linear.words[used] / scales[:, None]).astype(np.int8),
        "scales": scales,
        "meaning": linear.meaning.astype(np.float16),
        "bias": linear.bias.astype(np.float32),
    }


class Classifier:
    """A classifier that was loaded."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises `InputError` where it was trained with what is not here any more."""
        about, weights = artefact.about, artefact.weights
        self.digest = artefact.digest
        self.labels: tuple[str, ...] = tuple(about["labels"])
        self._sees: Sees = about["sees"]
        self._temperature = float(about["temperature"])
        self._weights = weights
        if about["features"] != [features.BITS, *features.RUNS]:
            raise InputError(
                "the classifier sees other features than this tracemill: train it again"
            )
        if self._sees != "words" and about["vectors"] != _table():
            raise InputError(
                "the classifier was trained with the vectors of another wordllama: train it again"
            )

    def log_probs(self, conversations: Sequence[Shown]) -> "NDArray[np.float32]":
        """How probable each label is, as natural logarithms: (conversations, labels)."""
        import numpy as np

        if not conversations:
            return np.zeros((0, len(self.labels)), np.float32)
        parts = [
            self._scores(conversations[start : start + 256])
            for start in range(0, len(conversations), 256)
        ]
        scores = np.concatenate(parts) * np.float32(self._temperature)
        scores -= scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def _scores(self, conversations: Sequence[Shown]) -> "NDArray[np.float32]":
        import numpy as np

        scores = np.tile(self._weights["bias"], (len(conversations), 1))
        if self._sees != "words":
            shown = vectors(conversations).astype(np.float32)
            scores += shown @ self._weights["meaning"].astype(np.float32)
        if self._sees != "meaning":
            scores += self._of_words(conversations)
        return scores

    def _of_words(self, conversations: Sequence[Shown]) -> "NDArray[np.float32]":
        """Sums of the rows of a matrix that is kept in bytes: only those that are needed grow."""
        import numpy as np

        buckets, scales = self._weights["buckets"], self._weights["scales"]
        scores = np.zeros((len(conversations), len(self.labels)), np.float32)
        if not len(buckets):
            return scores
        shown = seen(conversations)
        at = np.searchsorted(buckets, shown.ids).clip(max=len(buckets) - 1)
        columns, values, bounds = known(shown, np.where(buckets[at] == shown.ids, at, -1))
        step = max(_AT_ONCE // len(self.labels), 1)
        for start in range(0, len(columns), step):
            some = slice(start, min(start + step, len(columns)))
            factors = scales[columns[some]] * values[some]
            grown = self._weights["words"][columns[some]] * factors[:, None]
            inside = bounds.clip(some.start, some.stop) - some.start
            rows = np.flatnonzero(np.diff(inside))
            scores[rows] += np.add.reduceat(grown, inside[rows], axis=0)
        return scores


@cache
def _table() -> str:
    """Of the vectors that the bundled table has now."""
    return hashlib.blake2b(tokenizer.vectors()[::499].tobytes(), digest_size=8).hexdigest()
