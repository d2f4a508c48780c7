"""Texts in groups by what they mean, and alone where they are like no other; without a model or a network.

A text is the sum of its words' vectors, those that few texts have counting more. Vectors are
rounded to small whole numbers: their products are then exact, whatever the order and the threads.
"""
# scipy's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Vectors = NDArray[np.float32]

AT_ONCE = 2_000
"""So many texts are compared all with all; the others join what is found among them."""
LONGEST = 127.0
"""Of a vector: 256 products of such whole numbers are exact in 32 bits."""
ALONE = -1


def vectors(texts: Sequence[Sequence[str]]) -> Vectors:
    """Of each text, as its words, a vector of whole numbers; zeros where there is no word.

    A word's vector is that of `llm.meaning`, its weight log((1 + texts) / (1 + those with it)) + 1
    (inverse document frequency, smoothed).
    """
    from scipy.sparse import csr_array

    from tracemill.llm import meaning

    counts = Counter(word for text in texts for word in set(text))
    places = {word: place for place, word in enumerate(sorted(counts))}
    if not places:
        return np.zeros((len(texts), 256), np.float32)
    held = np.array([counts[word] for word in places])
    weights = np.log((1 + len(texts)) / (1 + held)) + 1
    flat = [places[word] for text in texts for word in sorted(set(text))]
    ends = np.cumsum([0, *(len(set(text)) for text in texts)])
    sparse = csr_array((weights[flat], flat, ends), shape=(len(texts), len(places)))
    return whole(np.asarray(sparse @ meaning.vectors(list(places)).astype(np.float64)))


def whole(rows: NDArray[np.float64]) -> Vectors:
    """Scaled to one length and rounded."""
    lengths = np.sqrt(np.sum(rows * rows, axis=1, keepdims=True))
    return np.rint(rows / np.maximum(lengths, 1e-12) * LONGEST).astype(np.float32)


def cosines(one: Vectors, other: Vectors) -> Vectors:
    """Of each with each; of zeros 0."""
    sizes = [np.sqrt(np.maximum((rows * rows).sum(axis=1), 1)) for rows in (one, other)]
    return (one @ other.T) / sizes[0][:, None] / sizes[1]


def groups(rows: Vectors, counts: Numbers, *, alike: float, least: int) -> Numbers:
    """The number of each row's group, from 0; `ALONE` where fewer than `least` are alike.

    Average linkage (Sokal and Michener 1958) among up to 2,000 rows at a time; the other rows join
    the group whose mean they are most like, if that is enough; what is left is taken next.

    Args:
        rows: as `vectors` gives them, different ones.
        counts: how often each occurs.
        alike: the mean cosine within a group, at least.
        least: texts in a group.
    """
    found = np.full(len(rows), ALONE, np.int64)
    # What has no word is like whatever has none.
    left = np.flatnonzero(np.any(rows != 0, axis=1))
    number = 0
    while len(left):
        taken = left[np.linspace(0, len(left) - 1, min(AT_ONCE, len(left))).astype(np.int64)]
        tree = _linked(rows[taken], alike)
        means: list[NDArray[np.float64]] = []
        for group in range(int(tree.max()) + 1):
            members = taken[tree == group]
            if counts[members].sum() >= least:
                found[members] = number + len(means)
                means.append(_mean(rows[members], counts[members]))
        left = np.setdiff1d(left, taken, assume_unique=True)
        if means and len(left):
            near = cosines(rows[left], whole(np.array(means)))
            best = near.argmax(axis=1)
            joins = near[np.arange(len(left)), best] >= np.sqrt(alike)
            found[left[joins]] = number + best[joins]
            left = left[~joins]
        number += len(means)
    return found


def _mean(rows: Vectors, counts: Numbers) -> NDArray[np.float64]:
    return (rows * counts[:, None]).sum(axis=0, dtype=np.float64)


def _linked(rows: Vectors, alike: float) -> Numbers:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(rows) < 2:
        return np.zeros(len(rows), np.int64)
    apart = np.maximum(1 - cosines(rows, rows).astype(np.float64), 0)
    np.fill_diagonal(apart, 0)
    apart = np.round((apart + apart.T) / 2, 6)
    tree = linkage(squareform(apart, checks=False), "average")
    return fcluster(tree, 1 - alike, "distance").astype(np.int64) - 1


def to_middle(rows: Vectors, counts: Numbers, found: Numbers) -> NDArray[np.float64]:
    """The cosine of each row with the mean of its group; 0 for those that are alone."""
    near = np.zeros(len(rows))
    for group in range(int(found.max(initial=ALONE)) + 1):
        members = found == group
        mean = whole(_mean(rows[members], counts[members])[None])
        near[members] = np.round(cosines(rows[members], mean)[:, 0].astype(np.float64), 6)
    return near
