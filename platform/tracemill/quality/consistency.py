"""Whether a model gives the same answer each time it is asked: samples of a case, in clusters.

A mean similarity cannot tell ten answers that all differ a little from five that say yes and five
that say no. Clusters can: their sizes stand beside the mean, and so does their entropy.
"""
# scipy's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tracemill.errors import UsageError
from tracemill.intervals import Interval, mean

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Similarity = Callable[[Sequence[str]], Matrix]

THRESHOLD = 0.75
"""Answers that are less similar are different ones. By the embeddings that are here, sentences that
say the same in other words are at 0.78 to 0.99."""
SHORT_WORDS = 3
"""Answers of so many words are labels: they are the same or they are not."""

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_NEGATION = re.compile(
    r"\b(?:no|not|none|never|neither|nor|nothing|nobody|without|cannot|\w+n['\u2019]t)\b"
)


@dataclass(frozen=True, eq=False)
class Consistency:
    """How far the samples of each case agree."""

    cases: "pl.DataFrame"
    """One row for each case: id, samples, missing (samples without an answer), mean, spread and
    lowest of the similarities of all pairs (null of fewer than two answers), clusters, largest (the
    share of the largest), entropy in bits, sizes and answers (of each cluster, the largest first:
    how many, and one that stands for it)."""
    figures: dict[str, Interval]
    """Over the cases with two answers or more: `consistency`, the mean similarity of pairs;
    `same_answer`, the share of cases whose answers form one cluster; `largest`, the mean share of
    the largest."""

    def split(self) -> "pl.DataFrame":
        """The cases with more than one answer, the most divided first."""
        import polars as pl

        return self.cases.filter(pl.col("clusters") > 1).sort(
            ["entropy", "id"], descending=[True, False]
        )


def consistency(
    answers: "pl.DataFrame", *, similarity: "Similarity | None" = None, threshold: float = THRESHOLD
) -> Consistency:
    """Compare the answers to each case with one another.

    Clusters are made by complete linkage: all answers in one are as similar as the threshold asks.
    Their entropy is that of Kuhn, Gal and Farquhar (2023), with a similarity in place of entailment.

    Args:
        answers: one row for each sample: id, answer (null where there was none).
        similarity: texts -> matrix of shape (texts, texts) from 0 to 1; by default `alike`.
        threshold: the least similarity of answers that are the same, in (0, 1].

    Raises `UsageError` for a threshold out of range, or a matrix of another shape.
    """
    import polars as pl

    if not 0 < threshold <= 1:
        raise UsageError(f"threshold is {threshold}: it lies between 0 and 1")
    said = answers.group_by("id", maintain_order=True).agg("answer")
    rows = [
        (one, *_case(texts, similarity or alike, threshold))
        for one, texts in said.select("id", "answer").iter_rows()
    ]
    cases = pl.DataFrame(rows, schema=_schema(answers.schema["id"]), orient="row")
    several = cases.drop_nulls("mean")
    same = (several["clusters"] == 1).cast(pl.Float64)
    figures = {"consistency": several["mean"], "same_answer": same, "largest": several["largest"]}
    return Consistency(
        cases, {name: mean(values.to_numpy(), unit=True) for name, values in figures.items()}
    )


def alike(texts: Sequence[str]) -> "Matrix":
    """How similar texts are, by the offline embeddings; shape (texts, texts), from 0 to 1.

    Texts that are equal but for case, blanks, quotes and a last full stop have 1. Embeddings put
    opposites near each other, so that 0 is given where only one of two texts negates (in English),
    where their numbers differ, and for labels of up to three words that are not equal. Two long
    answers that differ in a name alone are still taken for the same one.
    """
    import numpy as np

    from tracemill.retrieval.embed import compute

    plain = [_plain(text) for text in texts]
    marks = [(_numbers(text), bool(_NEGATION.search(text))) for text in plain]
    short = [len(text.split()) <= SHORT_WORDS for text in plain]
    vectors = compute(plain).astype(np.float64)
    found = np.clip(vectors @ vectors.T, 0.0, 1.0)
    for i in range(len(plain)):
        for j in range(i + 1):
            if plain[i] == plain[j]:
                found[i, j] = found[j, i] = 1.0
            elif marks[i] != marks[j] or (short[i] and short[j]):
                found[i, j] = found[j, i] = 0.0
    return found


def _case(answers: Sequence[str | None], similarity: "Similarity", threshold: float) -> Any:
    """A row of `Consistency.cases`, without the id."""
    import numpy as np

    texts = [text for text in answers if text is not None]
    missing = len(answers) - len(texts)
    if len(texts) < 2:
        one = len(texts)
        whole = 1.0 if one else None
        return one, missing, None, None, None, one, whole, 0.0, [1] * one, texts
    found = np.asarray(similarity(texts), dtype=np.float64)
    if found.shape != (len(texts), len(texts)) or not np.isfinite(found).all():
        raise UsageError(
            f"similarity gave shape {found.shape} for {len(texts)} texts: give a finite number for "
            "each pair"
        )
    pairs = found[np.triu_indices(len(texts), 1)]
    clusters = _clusters(found, threshold)
    shares = [len(each) / len(texts) for each in clusters]
    entropy = max(0.0, -sum(share * math.log2(share) for share in shares))
    return (
        *(len(texts), missing),
        *(float(pairs.mean()), float(pairs.std()), float(pairs.min())),
        *(len(clusters), shares[0], entropy),
        *([len(each) for each in clusters], [_typical(texts, each) for each in clusters]),
    )


def _clusters(found: "Matrix", threshold: float) -> list[list[int]]:
    """The rows of each cluster, the largest first, of equal ones the one that came first."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    # Rounding must not part answers whose similarity is the threshold.
    apart = squareform(1.0 - (found + found.T) / 2, checks=False).clip(0.0)
    labels = fcluster(linkage(apart, "complete"), 1.0 - threshold + 1e-9, "distance")
    members: dict[int, list[int]] = {}
    for row, label in enumerate(cast("list[int]", labels.tolist())):
        members.setdefault(label, []).append(row)
    return sorted(members.values(), key=lambda rows: (-len(rows), rows[0]))


def _typical(texts: Sequence[str], rows: Sequence[int]) -> str:
    """The text that a cluster has most often, of equal ones the first."""
    return Counter(texts[row] for row in rows).most_common(1)[0][0]


def _plain(text: str) -> str:
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(" \"'`\u201c\u201d\u2018\u2019.!")


def _numbers(text: str) -> frozenset[str]:
    return frozenset(number.replace(",", "") for number in _NUMBER.findall(text))


def _schema(identity: "pl.DataType") -> "dict[str, Any]":
    import polars as pl

    numbers = dict.fromkeys(("mean", "spread", "lowest"), pl.Float64)
    return {
        "id": identity,
        "samples": pl.Int64,
        "missing": pl.Int64,
        **numbers,
        "clusters": pl.Int64,
        "largest": pl.Float64,
        "entropy": pl.Float64,
        "sizes": pl.List(pl.Int64),
        "answers": pl.List(pl.String),
    }
