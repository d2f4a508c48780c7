"""Which texts are near-duplicates in truth: every pair at or above a Jaccard similarity, none guessed.

Sets of word 5-grams, lower case, words split at white space if nothing else is said. A prefix filter proposes pairs (Bayardo, Ma,
Srikant: Scaling Up All Pairs Similarity Search, 2007) without losing one; all of them are then counted.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

WORDS = 5
BINS = ((0.8, 0.85), (0.85, 0.9), (0.9, 0.95), (0.95, 1.0), (1.0, 1.01))
_AT_ONCE = 50_000


@dataclass(frozen=True)
class Truth:
    """All pairs at or above the threshold, of so many texts."""

    texts: int
    pairs: pl.DataFrame
    """left, right (places of the texts, left < right), jaccard."""

    def best(self) -> NDArray[np.float64]:
        """For each text the similarity of its nearest one; 0 where none is near enough."""
        found = np.zeros(self.texts)
        for side in ("left", "right"):
            np.maximum.at(found, self.pairs[side].to_numpy(), self.pairs["jaccard"].to_numpy())
        return found

    def groups(self) -> NDArray[np.int32]:
        """For each text the number of its connected component."""
        ends = (self.pairs["left"].to_numpy(), self.pairs["right"].to_numpy())
        graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(self.texts,) * 2)
        return connected_components(graph, directed=False)[1]

    def kept(self) -> int:
        """Texts that are left when one of each component is kept."""
        return len(np.unique(self.groups()))


Split = Callable[[str], list[str]]


def at_white_space(text: str) -> list[str]:
    """The words of a text as most libraries see them."""
    return text.lower().split()


def truth(
    texts: pa.ChunkedArray, threshold: float, folder: Path, words: Split = at_white_space
) -> Truth:
    """The pairs of `texts`; what was once counted is found again in `folder`."""
    digest = hashlib.blake2b(words.__qualname__.encode(), digest_size=8)
    plain = [text or "" for text in texts.to_pylist()]
    for text in plain:
        digest.update(text.encode() + b"\0")
    path = folder / f"truth-{threshold:g}-{digest.hexdigest()}.parquet"
    if not path.exists():
        temporary = path.with_suffix(".part")
        near_pairs(plain, threshold, words).write_parquet(temporary)
        temporary.rename(path)
    return Truth(len(texts), pl.read_parquet(path))


def near_pairs(
    texts: Sequence[str], threshold: float, words: Split = at_white_space
) -> pl.DataFrame:
    """left, right, jaccard of every pair at or above the threshold."""
    document, gram = grams(texts, words)
    sizes = np.bincount(document, minlength=len(texts))
    ones = np.ones(len(gram), np.int32)
    sets = csr_array((ones, (document, gram)), shape=(len(texts), int(gram.max()) + 1))
    found = _candidates(document, gram, sizes, threshold)
    parts = [_counted(sets, sizes, part) for part in found.iter_slices(_AT_ONCE)]
    # 1e-9: four of five grams are 0.8, whatever the division says.
    return pl.concat(parts).filter(pl.col("jaccard") >= threshold - 1e-9)


def grams(texts: Sequence[str], split: Split) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Each text's 5-grams once: the place of the text, the number of the gram; fewer words are one gram."""
    numbers: dict[str, int] = {}
    random = np.random.default_rng(5)
    words = [[numbers.setdefault(word, len(numbers)) for word in split(text)] for text in texts]
    hashes = random.integers(0, 2**64, len(numbers), dtype=np.uint64, endpoint=False)
    factor = random.integers(0, 2**63, WORDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    sets = [np.unique(_rolled(hashes[np.array(each, np.int64)], factor)) for each in words]
    document = np.repeat(np.arange(len(sets), dtype=np.int32), [len(each) for each in sets])
    return document, np.unique(np.concatenate(sets), return_inverse=True)[1]


def _rolled(hashes: NDArray[np.uint64], factor: NDArray[np.uint64]) -> NDArray[np.uint64]:
    if len(hashes) < WORDS:
        return np.array([np.sum(hashes * factor[: len(hashes)]) + np.uint64(len(hashes))])
    windows = np.lib.stride_tricks.sliding_window_view(hashes, WORDS)
    return (windows * factor).sum(axis=1, dtype=np.uint64)


def _candidates(
    document: NDArray[np.int32], gram: NDArray[np.int64], sizes: NDArray[np.int64], threshold: float
) -> pl.DataFrame:
    """Pairs that share one of their rarest grams; no pair at the threshold can do without."""
    often = np.bincount(gram)[gram]
    order = np.lexsort((gram, often, document))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    prefix = sizes - np.ceil(threshold * sizes - 1e-9) + 1
    early = order[rank < prefix[document[order]]]
    early = early[often[early] > 1]
    posted = pl.DataFrame({"gram": gram[early], "text": document[early]})
    posted = posted.with_columns(size=pl.Series(sizes[document[early]]))
    near = pl.col("size") / pl.col("size_right")
    return (
        posted.lazy()
        .join(posted.lazy(), on="gram")
        .filter(pl.col("text") < pl.col("text_right"), near.is_between(threshold, 1 / threshold))
        .select(left="text", right="text_right")
        .unique()
        .sort("left", "right")
        .collect()
    )


def _counted(sets: csr_array, sizes: NDArray[np.int64], part: pl.DataFrame) -> pl.DataFrame:
    left, right = part["left"].to_numpy(), part["right"].to_numpy()
    shared = sets[left].multiply(sets[right]).sum(axis=1)
    jaccard = shared / (sizes[left] + sizes[right] - shared)
    return part.with_columns(jaccard=pl.Series(np.asarray(jaccard, np.float64)))
