"""How good a ranking is: recall, reciprocal rank and nDCG, question by question and on average.

Everything is columns: which chunks were found at which rank, and which would have been right.
"""

from typing import TYPE_CHECKING, NamedTuple

from tracemill.intervals import chance_of_fall, wilson

if TYPE_CHECKING:
    import polars as pl

DEPTHS = (1, 5, 10)
"""The depths at which recall is told."""


class Figure(NamedTuple):
    """A mean over questions with the interval that holds the true one in 95 of 100 cases."""

    value: float
    low: float
    high: float
    questions: int


def outcomes(
    asked: "pl.Series", found: "pl.DataFrame", right: "pl.DataFrame", k: int = 10
) -> "pl.DataFrame":
    """What came of each question: columns question_id, `first` (rank of the first right chunk,
    null where none was found), one `recall@n` for each depth up to k, `mrr@k`, `ndcg@k`.

    A question needs one passage, so its recall@n is 1 when a right chunk is among the first n
    (also known as success or hit rate). nDCG (Järvelin and Kekäläinen 2002) has gain 1 for each
    right chunk, discounted by log2(rank + 1), over that of the best order.

    Args:
        asked: the ids of the questions that have an answer.
        found: question_id, rank (from 1), chunk_id.
        right: question_id, chunk_id, each pair once. A question without any is a miss.
    """
    import polars as pl

    discount = 1 / (pl.col("rank") + 1).log(2)
    hits = (
        found.filter(pl.col("rank") <= k)
        .join(right, on=["question_id", "chunk_id"], how="semi")
        .unique(["question_id", "chunk_id"], keep="first", maintain_order=True)
        .group_by("question_id")
        .agg(pl.col("rank").min().alias("first"), discount.sum().alias("gain"))
    )
    best = pl.DataFrame({"there": range(1, k + 1)}, schema={"there": pl.UInt32}).with_columns(
        ideal=(1 / (pl.col("there") + 1).log(2)).cum_sum()
    )
    ideal = right.group_by("question_id").agg(pl.len().clip(0, k).cast(pl.UInt32).alias("there"))
    table = (
        pl.DataFrame({"question_id": asked})
        .join(hits, on="question_id", how="left", maintain_order="left")
        .join(ideal, on="question_id", how="left", maintain_order="left")
        .join(best, on="there", how="left", maintain_order="left")
    )
    recalls = [
        (pl.col("first") <= n).fill_null(False).cast(pl.Float64).alias(f"recall@{n}")
        for n in DEPTHS
        if n <= k
    ]
    reciprocal = (1 / pl.col("first")).fill_null(0.0).alias(f"mrr@{k}")
    gained = (pl.col("gain") / pl.col("ideal")).fill_null(0.0).alias(f"ndcg@{k}")
    return table.select("question_id", "first", *recalls, reciprocal, gained)


def figures(table: "pl.DataFrame") -> dict[str, Figure]:
    """The mean of each measure of `outcomes`, over all questions."""
    names = [name for name in table.columns if "@" in name]
    if not table.height:
        return {}
    return {name: figure(float(table[name].mean()), table.height) for name in names}  # pyright: ignore[reportArgumentType]


def figure(mean: float, questions: int) -> Figure:
    """A mean of values from 0 to 1 with Wilson's interval (1927), which is on the safe side for
    measures that are no shares."""
    return Figure(*wilson(mean, questions))


class Change(NamedTuple):
    """What became of a measure between two versions, on the questions that both were asked."""

    metric: str
    before: float
    after: float
    p: float
    """How likely a fall as large as this one is where nothing but chance is at work."""
    questions: int

    def fell(self, tolerance: float, level: float = 0.05) -> bool:
        """Whether it fell by more than the tolerance, and by more than chance explains."""
        return self.before - self.after > tolerance and self.p < level


def changes(before: "pl.DataFrame", after: "pl.DataFrame") -> list[Change]:
    """Each measure before and after, paired by question; both as `outcomes` gives them."""
    names = [name for name in after.columns if "@" in name and name in before.columns]
    both = before.select("question_id", *names).join(
        after.select("question_id", *names), on="question_id", suffix=" after"
    )
    if not both.height:
        return []
    return [_change(name, both) for name in names]


def _change(name: str, both: "pl.DataFrame") -> Change:
    was, became = both[name], both[f"{name} after"]
    before, after = float(was.mean()), float(became.mean())  # pyright: ignore[reportArgumentType]
    return Change(name, before, after, chance_of_fall((became - was).to_numpy()), both.height)
