"""What a replay brought: each call before and after, and what that says of the figures.

A scorer needs what is right. Where nobody says, the logged answer stands for it: then a figure tells
how often the answers agree, and not which is better.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tracemill.analysis import plots
from tracemill.analysis.asked_again import Before
from tracemill.analysis.differences import Figure, differences, verdict
from tracemill.analysis.table import rows_html, table_text, told
from tracemill.errors import UsageError
from tracemill.intervals import Interval, mean

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure as Plot

    from tracemill.quality.scorers import Scorer

_ENDS = ("difference", "low", "high")
_COSTS = ("cost_usd", "latency_ms", "input_tokens", "output_tokens")


class Seen(NamedTuple):
    """What came of one replay."""

    call_id: str
    """Of the call that was repeated."""
    status: str
    answer: str | None
    error_type: str | None = None
    replay_call_id: str | None = None
    latency_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, repr=False)
class Plan:
    """What a replay would ask and cost: nothing was sent."""

    frame: "pl.DataFrame"
    """A row for each request: call_id, model, expected tokens and cost_usd; null where no price is known."""
    model: str | None
    prompt: str | None
    redacted: int
    left_out: Mapping[str, str]

    @property
    def cost_usd(self) -> float:
        """Of all requests with a known price."""
        return float(self.frame["cost_usd"].sum())

    def __repr__(self) -> str:
        unknown = self.frame["cost_usd"].null_count()
        lines = [
            f"{len(self.frame):,} requests{_to(self.model, self.prompt)}: about "
            + f"{self.cost_usd:,.4f} USD; nothing was sent"
        ]
        if unknown:
            lines.append(f"no price is known for {unknown:,} of them")
        return "\n".join(lines + _remarks(self.redacted, self.left_out))

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


@dataclass(frozen=True, repr=False)
class Replay:
    """Logged calls and their replays, in pairs."""

    frame: "pl.DataFrame"
    """One row for each call: `..._before` and `..._after`; with several samples, after is their mean."""
    differences: "pl.DataFrame"
    """One row for each figure: before, after, difference with its interval, p, verdict and why."""
    agreement: "pl.DataFrame"
    """Where nobody said what is right: figure, value, low, high, n of the answers of after, held
    against those that were logged."""
    verdict: str
    replay_id: str
    """The `correlation_id` of the new calls."""
    model: str | None
    prompt: str | None
    samples: int
    redacted: int
    """Calls in which placeholders stand for personal data, in the log and so in the replay."""
    left_out: Mapping[str, str]
    """Call -> why it could not be replayed."""

    @classmethod
    def of(
        cls,
        frame: "pl.DataFrame",
        scorers: "Sequence[Scorer]",
        *,
        given: bool,
        seed: int,
        **about: Any,
    ) -> "Replay":
        """Compare; `given` says whether somebody told what is right."""
        import polars as pl

        judged = [each for each in scorers if given or not each.needs_expected]
        figures = [
            Figure("answered", lower=False, share=True),
            *(Figure(each.name, each.direction == "lower", each.unit) for each in judged),
            *(Figure(name, lower=True, share=False) for name in _COSTS),
        ]
        found = differences(frame, figures, seed)
        agreed = [
            (each.name, *mean(frame[f"{each.name}_after"].drop_nulls().to_list(), unit=each.unit))
            for each in scorers
            if each not in judged
        ]
        agreement = pl.DataFrame(agreed, schema=["figure", *Interval._fields], orient="row")
        rows = pl.DataFrame([each._asdict() for each in found])
        return cls(frame, rows, agreement, verdict(found), **about)

    def __len__(self) -> int:
        return len(self.frame)

    def worse(self, figure: str) -> "pl.DataFrame":
        """The calls whose figure fell (of costs and times: rose), the most changed first."""
        return self._changed(figure, worse=True)

    def better(self, figure: str) -> "pl.DataFrame":
        """As `worse`, the other way."""
        return self._changed(figure, worse=False)

    def plot(self) -> "Plot":
        """Each figure's difference as a share of what it was, with its interval."""
        rows = [
            (row["figure"], *(100 * row[end] / abs(row["before"]) for end in _ENDS))
            for row in self.differences.iter_rows(named=True)
            if row["before"]
        ]
        title = f"Replay{_to(self.model, self.prompt)}"
        unit = "% of before; intervals for 95 %"
        return plots.intervals(title, rows, unit=unit, period=self.period, n=len(self), mark=0.0)

    @property
    def period(self) -> str:
        """When the calls were made first."""
        from tracemill.analysis.period import Period

        first, last = self.frame["started_at"].min(), self.frame["started_at"].max()
        return Period(None, None).told(cast("Any", first), cast("Any", last))

    def __repr__(self) -> str:
        heard = told("", self.period, len(self), "calls")
        lines = [f"Replay{_to(self.model, self.prompt)}", heard, "", self.verdict, ""]
        lines.append(table_text(self._shown()))
        lines += [_agreed(row) for row in self.agreement.iter_rows(named=True)]
        return "\n".join(lines + self._remarks())

    def _repr_html_(self) -> str:
        heard = told("", self.period, len(self), "calls")
        notes = [_agreed(row) for row in self.agreement.iter_rows(named=True)] + self._remarks()
        return "".join(
            [
                f"<div><strong>Replay{escape(_to(self.model, self.prompt))}</strong><br>",
                f"<small>{escape(heard)}</small><p>{escape(self.verdict)}</p>",
                rows_html(self._shown()),
                *(f"<p><small>{escape(note)}</small></p>" for note in notes),
                "</div>",
            ]
        )

    def _shown(self) -> "pl.DataFrame":
        return self.differences.select("figure", "before", "after", *_ENDS, "n", "verdict")

    def _remarks(self) -> list[str]:
        sampled = [f"after is the mean of {self.samples} answers"] if self.samples > 1 else []
        costs = ["costs are by today's prices on both sides; latency before is that of then"]
        return costs + sampled + _remarks(self.redacted, self.left_out)

    def _changed(self, figure: str, *, worse: bool) -> "pl.DataFrame":
        import polars as pl

        if f"{figure}_before" not in self.frame.columns:
            known = ", ".join(self.differences["figure"])
            raise UsageError(f"this replay has no figure {figure!r}: it has {known}")
        fell = pl.col(f"{figure}_after") - pl.col(f"{figure}_before")
        change = fell if (figure in _COSTS) == worse else -fell
        return self.frame.filter(change > 0).sort(change, descending=True)


def paired_frame(
    calls: Sequence[Before],
    seen: Sequence[Seen],
    scorers: "Sequence[Scorer]",
    expected: Mapping[str, str | Sequence[str]] | None,
) -> "pl.DataFrame":
    """One row for each call, before and after; scores are null where nobody says what is right."""
    import polars as pl

    right = {each.call_id: _right(each, expected) for each in calls}
    before = pl.DataFrame([_row(each) for each in calls], infer_schema_length=None)
    before = before.cast({"cost_usd": pl.Float64, "answer": pl.String, "error_type": pl.String})
    kinds = [pl.String] * 5 + [pl.Float64, pl.Int64, pl.Int64, pl.Float64]
    after = pl.DataFrame(seen, schema=dict(zip(Seen._fields, kinds, strict=True)), orient="row")
    before, after = (_scored(side, scorers, right) for side in (before, after))
    means = [*_COSTS, "answered", *(each.name for each in scorers)]
    after = after.group_by("call_id", maintain_order=True).agg(
        pl.col(means).mean(),
        pl.col("status", "answer", "error_type").first(),
        pl.col("replay_call_id").alias("replays"),
    )
    sides = ["status", "error_type", "answer", "answered", *_COSTS, *(s.name for s in scorers)]
    return before.rename({name: f"{name}_before" for name in sides}).join(
        after.rename({name: f"{name}_after" for name in sides}),
        on="call_id",
        maintain_order="left",
    )


def _row(before: Before) -> dict[str, Any]:
    usage = before.usage
    return {
        "call_id": before.call_id,
        "started_at": before.started.occurred_at,
        "model": before.started.request_model,
        "status": before.status,
        "answer": before.answer,
        "error_type": before.error_type,
        "latency_ms": before.latency_ms if before.status == "finished" else None,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cost_usd": None if before.cost_usd is None else float(before.cost_usd),
    }


def _right(before: Before, expected: Mapping[str, str | Sequence[str]] | None) -> list[str]:
    if expected is None:
        return [before.answer] if before.answer else []
    said = expected.get(before.call_id, ())
    return [said] if isinstance(said, str) else list(said)


def _scored(
    side: "pl.DataFrame", scorers: "Sequence[Scorer]", right: Mapping[str, list[str]]
) -> "pl.DataFrame":
    """With a column for each figure; an answer that is missing is wrong."""
    import polars as pl

    expected = pl.Series("expected", [right[one] for one in side["call_id"]], pl.List(pl.String))
    rows = side.with_columns(
        expected, answered=pl.col("answer").is_not_null().cast(pl.Float64)
    ).with_row_index("row")
    for each in scorers:
        known = pl.col("expected").list.len() > 0 if each.needs_expected else pl.lit(True)
        there = rows.filter(pl.col("answer").is_not_null() & known)
        assert each.score is not None
        values = there.select("row").with_columns(each.score(there).alias(each.name))
        rows = rows.join(values, on="row", how="left", maintain_order="left")
        if each.direction == "higher":
            missing = known & pl.col("answer").is_null()
            rows = rows.with_columns(
                pl.when(missing).then(0.0).otherwise(each.name).alias(each.name)
            )
    return rows.drop("row", "expected")


def _agreed(row: Mapping[str, Any]) -> str:
    return (
        f"{row['figure']} with the logged answer: {row['value']:.3g} "
        f"[{row['low']:.3g}, {row['high']:.3g}] on {row['n']:,} calls; whether another answer is "
        "better is told by expected="
    )


def _remarks(redacted: int, left_out: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    if redacted:
        lines.append(
            f"{redacted:,} calls hold placeholders for personal data: they were replayed with those"
        )
    for reason, count in sorted(Counter(left_out.values()).items()):
        lines.append(f"{count:,} left out: {reason}")
    return lines


def _to(model: str | None, prompt: str | None) -> str:
    named = [f"to {model}"] * bool(model) + [f"with {prompt}"] * bool(prompt)
    return "".join(f" {each}" for each in named) or " of the same"
