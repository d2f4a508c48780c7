"""What goes wrong, by root cause: how much of it, since when, with which models, and in which words.

Different texts are grouped, not calls: ten thousand failures say a few hundred different things.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from tracemill.analysis import likeness, terms
from tracemill.analysis.period import Period
from tracemill.analysis.table import Drawing, Table

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

ASKED_FOR = ("refusal", "content_filter")
"""Here what was asked is the cause, and the message says little."""
ALIKE_ERRORS, ALIKE_PROMPTS = 0.17, 0.2
"""Mean cosines within a group, chosen on planted causes (`benchmarks/planted.py`, seeds 0 and 1) from
0.1 to 0.35. Messages of one class are alike in little when two people have written them."""
LEAST = 3
"""Fewer failures are no cluster."""
REST = "not like any other"
_SAYS_LITTLE = frozenset(
    [
        "about",
        "after",
        "again",
        "all",
        "and",
        "any",
        "before",
        "from",
        "now",
        "not",
        "off",
        "only",
        "out",
        "over",
        "some",
        "still",
        "than",
        "too",
        "under",
        "until",
        "with",
        "without",
        "for",
        "but",
        "nor",
        "yet",
        "one",
        "per",
        "via",
        "please",
        "very",
        "just",
    ]
)
_BARS = "▁▂▃▄▅▆▇█"
_POINTS = 24


@dataclass(frozen=True, repr=False)
class Clusters:
    """Clusters of failures, the largest first; those that are like no other in a last row."""

    frame: "pl.DataFrame"
    """A row for each cluster: `cluster` (from 1; 0 for the last row), `label`, `error_type`, `n`,
    `share` (of all failures), `models`, `users`, `prompt_versions`, `first`, `last`, `retries` (spent on them), `trend`
    (failures over the period in bars), `example` (the id of the most typical call), `error` and
    `prompt` (of the example), `wordings` (different texts)."""
    calls: "pl.DataFrame"
    """`call_id`, `cluster` of each failure, in the order of the log."""
    timeline: Table
    """Failures by day and cluster."""
    period: str

    def __len__(self) -> int:
        return self.frame.height

    @property
    def n(self) -> int:
        """Failures."""
        return self.calls.height

    @property
    def table(self) -> Table:
        """What is shown: the columns that fit side by side."""
        shown = ("cluster", "label", "n", "share", "trend", "retries", "first", "last", "example")
        of = Drawing("bars", "n", ("label",))
        return Table(
            self.frame.select(shown),
            _TITLE,
            "failures",
            self.period,
            self.n,
            "failures",
            drawing=of,
        )

    def of(self, cluster: int) -> "pl.DataFrame":
        """The ids of the calls in a cluster; 0 is what is like no other."""
        return self.calls.filter(self.calls["cluster"] == cluster)

    def plot(self) -> "Figure":
        """Failures by day, stacked by cluster. Raises `UsageError` without matplotlib."""
        return self.timeline.plot()

    def __repr__(self) -> str:
        return repr(self.table)

    def _repr_html_(self) -> str:
        examples = "".join(
            f"<li><strong>{escape(str(row['label']))}</strong> ({row['n']:,}): "
            f"{escape(str(row['error'] or row['prompt'] or ''))}</li>"
            for row in self.frame.head(10).iter_rows(named=True)
        )
        return f"{self.table._repr_html_()}<details><summary>examples</summary><ul>{examples}</ul></details>"  # pyright: ignore[reportPrivateUsage]


_TITLE = "Failures by root cause"


def of(failed: "pl.DataFrame", asked: Period) -> Clusters:
    """The clusters of failures, as `Failures.frame` gives them."""
    import polars as pl

    told = asked.told(failed["ended_at"].min(), failed["ended_at"].max())  # type: ignore[arg-type]
    failed = failed.with_columns(_subject())
    texts = (
        failed.group_by("error_type", "subject", maintain_order=True)
        .agg(pl.len().alias("n"))
        .with_row_index("text")
    )
    grouped = texts.with_columns(_grouped(texts))
    failed = failed.join(
        grouped.select("error_type", "subject", "group", "likeness"),
        on=["error_type", "subject"],
        how="left",
        maintain_order="left",
        nulls_equal=True,
    )
    frame, numbers = _described(failed, grouped)
    failed = failed.join(numbers, on="group", how="left", maintain_order="left")
    calls = failed.select("call_id", "cluster")
    return Clusters(frame, calls, _timeline(failed, frame, told), told)


def _subject() -> "pl.Expr":
    """What tells the cause: words of the error, or of the prompt where the error has none to say."""
    import polars as pl

    of_prompt = pl.col("error_type").is_in(ASKED_FOR) & (pl.col("prompt_words") != "")
    error = pl.col("error_words").fill_null("")
    return pl.when(of_prompt).then("prompt_words").otherwise(error).alias("subject")


def _grouped(texts: "pl.DataFrame") -> "list[pl.Series]":
    """Of each text its group, over all classes of error, and how like the group's middle it is."""
    import polars as pl

    from tracemill.llm import meaning

    groups = np.full(len(texts), likeness.ALONE, np.int64)
    near = np.zeros(len(texts))
    number = 0
    for (error_type,), part in texts.group_by("error_type", maintain_order=True):
        rows, counts = (
            part["text"].to_numpy().astype(np.int64),
            part["n"].to_numpy().astype(np.int64),
        )
        words = [meaning.words(text) for text in part["subject"]]
        vectors = likeness.vectors(words)
        alike = ALIKE_PROMPTS if error_type in ASKED_FOR else ALIKE_ERRORS
        found = likeness.groups(vectors, counts, alike=alike, least=LEAST)
        wordless = ~vectors.any(axis=1)
        if counts[wordless].sum() >= LEAST:
            found[wordless] = found.max(initial=-1) + 1
        near[rows] = likeness.to_middle(vectors, counts, found)
        groups[rows] = np.where(found == likeness.ALONE, likeness.ALONE, found + number)
        number += int(found.max(initial=-1)) + 1
    return [pl.Series("group", groups), pl.Series("likeness", near)]


def _described(
    failed: "pl.DataFrame", texts: "pl.DataFrame"
) -> "tuple[pl.DataFrame, pl.DataFrame]":
    """A row for each cluster, and the number that each group gets."""
    import polars as pl

    labels = _labels(texts)
    frame = (
        failed.group_by("group")
        .agg(
            pl.len().alias("n"),
            pl.col("error_type").unique().sort().str.join(", "),
            pl.col("model").unique().sort().alias("models"),
            pl.col("user_id").drop_nulls().n_unique().alias("users"),
            pl.col("prompt_version").drop_nulls().unique().sort().alias("prompt_versions"),
            pl.col("ended_at").min().alias("first"),
            pl.col("ended_at").max().alias("last"),
            pl.col("retries").sum(),
            pl.col("ended_at").dt.epoch("us").sort().alias("moments"),
            pl.struct("call_id", "error", "prompt")
            .sort_by(["likeness", "position"], descending=[True, False])
            .first()
            .alias("most_typical"),
            pl.col("subject").n_unique().alias("wordings"),
        )
        .sort(pl.col("group") == likeness.ALONE, -pl.col("n").cast(pl.Int64), "first", "group")
        .with_row_index("cluster", offset=1)
        .with_columns(
            cluster=pl.when(pl.col("group") == likeness.ALONE)
            .then(0)
            .otherwise("cluster")
            .cast(pl.Int64),
            share=pl.col("n") / max(1, len(failed)),
            example=pl.col("most_typical").struct.field("call_id"),
            error=pl.col("most_typical").struct.field("error"),
            prompt=pl.col("most_typical").struct.field("prompt"),
        )
    )
    begin, end = (_epoch(failed["ended_at"], last=last) for last in (False, True))
    frame = frame.with_columns(
        pl.Series("label", [labels.get(group, REST) for group in frame["group"]], pl.String),
        pl.Series(
            "trend", [_drawn(moments, begin, end) for moments in frame["moments"]], pl.String
        ),
    )
    return frame.select(_COLUMNS), frame.select("group", "cluster")


_COLUMNS = [
    "cluster",
    "label",
    "error_type",
    "n",
    "share",
    "models",
    "users",
    "prompt_versions",
    "first",
    "last",
    "retries",
    "trend",
    "example",
    "error",
    "prompt",
    "wordings",
]


def _labels(texts: "pl.DataFrame") -> dict[int, str]:
    """Of each group the class of error and its most telling words."""
    from tracemill.llm import meaning

    groups = texts["group"].to_numpy()
    words = [
        _worth_telling(meaning.words(text), error_type)
        for text, error_type in texts.select("subject", "error_type").iter_rows()
    ]
    told = terms.telling(words, groups, texts["n"].to_numpy())
    types = dict(zip(texts["group"], texts["error_type"], strict=True))
    return {
        group: ": ".join(filter(None, [types[group], ", ".join(found)]))
        for group, found in enumerate(told)
    }


def _worth_telling(words: Sequence[str], error_type: str) -> list[str]:
    """Neither what is in every text, nor what the class of error says already."""
    said = set(error_type.split("_")) | _SAYS_LITTLE
    return [word for word in words if len(word) > 2 and not word.isdigit() and word not in said]


def _epoch(moments: "pl.Series", *, last: bool) -> int:
    found: Any = (moments.max() if last else moments.min()) if len(moments) else None
    return 0 if found is None else int(found.timestamp() * 1_000_000)


def _drawn(moments: "pl.Series", begin: int, end: int) -> str:
    """Failures over the period, as bars of text; a blank where there were none."""
    width = max(1, end - begin + 1)
    counts = np.bincount((moments.to_numpy() - begin) * _POINTS // width, minlength=_POINTS)
    most = max(1, int(counts.max()))
    return "".join(" " if not c else _BARS[(int(c) * 8 - 1) // most] for c in counts)


def _timeline(failed: "pl.DataFrame", frame: "pl.DataFrame", told: str) -> Table:
    import polars as pl

    days = (
        failed.group_by(pl.col("ended_at").dt.date().alias("day"), "cluster")
        .agg(pl.len().alias("failures"))
        .join(frame.select("cluster", "label"), on="cluster")
        .sort("day", pl.col("cluster") == 0, "cluster")
    )
    drawing = Drawing("stacked", "failures", ("day",), ("label",))
    return Table(
        days, f"{_TITLE}, by day", "failures a day", told, len(failed), "failures", drawing=drawing
    )
