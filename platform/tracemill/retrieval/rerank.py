"""A second look at the best candidates: do they hold the question's words close together?

BM25 does not see order. Chunks that hold the words within a sentence, or next to each other as the
question does, go up; or a provider's reranker reads the texts.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Unpack

from tracemill.llm import bm25
from tracemill.llm.options import Options

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from tracemill.llm.client import Client
    from tracemill.retrieval.lexical import Lexical

CANDIDATES = 50
"""How many of the best are looked at."""
WINDOW, ADJACENT = 0.1, 0.05
"""The weights beside the fused score. Flat: twice and half of them are within half a point."""
_WIDTH = 20
"""Words that count in a stretch: a sentence or two. From 12 to 50 it makes no difference."""


class Closeness(NamedTuple):
    """How close together a chunk holds a question's words; each from 0 to 1."""

    window: "NDArray[np.float64]"
    """The most of the question's weight that one stretch of 20 words holds."""
    adjacent: "NDArray[np.float64]"
    """The share of the question's pairs of neighbours that are neighbours in the chunk too, in the
    same order (the ordered windows of Metzler and Croft, 2005), by weight."""


def by_closeness(
    words: "Lexical", question: str, rows: "NDArray[np.int64]", scores: "NDArray[np.float64]"
) -> "NDArray[np.float64]":
    """The scores of candidates, with what their words' closeness adds to the best of them.

    Args:
        rows: of the candidates among all chunks.
        scores: as `fusion.fuse` gives them; of the 50 best the chunks are looked at.

    A candidate that is not looked at gets nothing added, so that none overtakes one that is for
    want of a look. On the scale of `fuse`.
    """
    import numpy as np

    found = np.array(scores, dtype=np.float64)
    best = np.argsort(-found, kind="stable")[:CANDIDATES]
    near = closeness(words, question, rows[best])
    found[best] += WINDOW * near.window + ADJACENT * near.adjacent
    return found / (1 + WINDOW + ADJACENT)


def closeness(words: "Lexical", question: str, rows: "NDArray[np.int64]") -> Closeness:
    """How close together chunks hold the words of a question, from their stored words."""
    import numpy as np

    weighed = bm25.terms(words.model, question, words.spoken_languages)
    weights = list(weighed.values())
    known = words.model.vocab_dict
    term = {known[form]: at for at, forms in enumerate(weighed) for form in forms if form in known}
    pairs = {pair: min(weights[at] for at in pair) for pair in pairwise(range(len(weights)))}
    whole, of_pairs = sum(weights) or 1, sum(pairs.values())
    window, adjacent = np.zeros(len(rows)), np.zeros(len(rows))
    for at, hits in enumerate(_hits(words, term, rows)):
        window[at] = _best_stretch(hits, weights) / whole
        held = {
            (one, other)
            for (first, one), (second, other) in pairwise(hits)
            if second - first == 1 and (one, other) in pairs
        }
        adjacent[at] = sum(map(pairs.__getitem__, held)) / of_pairs if pairs else window[at]
    return Closeness(window, adjacent)


def by_provider(
    client: "Client",
    model: str,
    question: str,
    found: "pl.DataFrame",
    k: int,
    **about: Unpack[Options],
) -> "pl.DataFrame":
    """The k best of what a search found, as a provider's reranker orders them.

    Args:
        model: provider/model, as `cohere/rerank-v3.5`.
        found: rows of a search with title, headings and text; `rank` and `score` are replaced, by
            the provider's relevance.
        about: of the call, as `actor` and `correlation_id`.

    The call is recorded in the client's log. Raises `CallFailed` as every call does.
    """
    import polars as pl

    from tracemill.retrieval.frames import searchable

    if not len(found):
        return found
    texts = searchable(found).to_list()
    ranking = client.rerank(question, texts, model=model, top_n=min(k, len(texts)), **about).ranking
    rows = found[[row for row, _ in ranking[:k]]]
    return rows.with_columns(
        pl.Series("rank", range(1, len(rows) + 1), dtype=found.schema["rank"]),
        pl.Series("score", [score for _, score in ranking[:k]], dtype=pl.Float64),
    )


def _hits(
    words: "Lexical", term: dict[int, int], rows: "NDArray[np.int64]"
) -> list[list[tuple[int, int]]]:
    """For each row the places of the question's words in it, and which of them stands there."""
    import numpy as np

    spans = [words.ids[words.offsets[row] : words.offsets[row + 1]] for row in rows.tolist()]
    found = [list[tuple[int, int]]() for _ in spans]
    if not term or not spans:
        return found
    ids = np.concatenate(spans)
    asked = np.array(sorted(term), dtype=ids.dtype)
    near = np.minimum(np.searchsorted(asked, ids), len(asked) - 1)
    places = np.flatnonzero(asked[near] == ids)
    ends = np.cumsum([len(span) for span in spans])
    row_of = np.searchsorted(ends, places, side="right")
    begins = ends[row_of] - np.array([len(span) for span in spans])[row_of]
    hits: list[list[int]] = np.stack(
        [row_of, places - begins, asked[near[places]]], axis=1
    ).tolist()
    for row, place, number in hits:
        found[row].append((place, term[number]))
    return found


def _best_stretch(hits: Sequence[tuple[int, int]], weights: Sequence[float]) -> float:
    """The largest weight of different words within a stretch."""
    best = now = 0.0
    first = 0
    count = [0] * len(weights)
    for place, word in hits:
        now += weights[word] if not count[word] else 0
        count[word] += 1
        while hits[first][0] <= place - _WIDTH:
            gone = hits[first][1]
            count[gone] -= 1
            now -= weights[gone] if not count[gone] else 0
            first += 1
        best = max(best, now)
    return best
