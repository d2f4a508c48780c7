"""The words that tell a group of texts from the others."""
# scipy's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TERMS = 4
"""So many words make a label."""
PRIOR = 50.0
"""Words of the whole that are added to each group, in its proportions; few words then tell little."""
LEAST_SHARE = 0.2
"""A word that fewer of a group's texts have does not stand for it."""


def telling(
    texts: Sequence[Sequence[str]], groups: NDArray[np.int64], counts: NDArray[np.int64]
) -> list[list[str]]:
    """Of each group, from 0, its most telling words, the best first.

    Ranked by z of the log-odds ratio with an informative Dirichlet prior, the words of all texts
    (Monroe, Colaresi and Quinn: Fightin' Words, Political Analysis 16, 2008, formulas 15, 16 and
    19, 20), of the texts that have the word: how often one text says it does not matter.

    Args:
        texts: as words.
        groups: the number of each one's group; below 0: in none.
        counts: how often each text occurs.
    """
    from scipy.sparse import csr_array

    words = sorted({word for text in texts for word in text})
    total = int(groups.max(initial=-1)) + 1
    if not words or not total:
        return [[] for _ in range(total)]
    place = {word: i for i, word in enumerate(words)}
    flat = [place[word] for text in texts for word in sorted(set(text))]
    ends = np.cumsum([0, *(len(set(text)) for text in texts)])
    held = csr_array((np.ones(len(flat)), flat, ends), shape=(len(texts), len(words)))
    member = (groups == np.arange(total)[:, None]) * counts.astype(np.float64)
    inside = np.asarray((held.T @ member.T).T)
    every = np.asarray(held.T @ counts.astype(np.float64))
    sizes = member.sum(axis=1)
    return _best(inside, every, sizes, words)


def _best(
    inside: NDArray[np.float64],
    every: NDArray[np.float64],
    sizes: NDArray[np.float64],
    words: Sequence[str],
) -> list[list[str]]:
    prior = PRIOR * every / every.sum()
    outside = every - inside
    n, rest = (side.sum(axis=1, keepdims=True) for side in (inside, outside))
    # Where there is but one word nothing is left over.
    log_odds = np.log((inside + prior) / np.maximum(n + PRIOR - inside - prior, 1e-9))
    log_odds -= np.log((outside + prior) / np.maximum(rest + PRIOR - outside - prior, 1e-9))
    z = log_odds / np.sqrt(1 / (inside + prior) + 1 / (outside + prior))
    z = np.where(inside >= LEAST_SHARE * sizes[:, None], np.round(z, 6), -np.inf)
    best = np.argsort(-z, axis=1, kind="stable")[:, :TERMS]
    return [
        [words[int(i)] for i in row if np.isfinite(z[group, i])] for group, row in enumerate(best)
    ]
