"""What is unusual in what calls cost, how they fail and what they say: frames in, a verdict out.

A check asks of many models at once, so each is held to its share of `ALPHA`: the stated rate of
false alarms is that of the check as a whole, on one day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

ALPHA = 0.001
"""Of 1,000 quiet days so many as this share may warn."""
COSTS_ALPHA = 0.005
"""The same for what a day costs: two months of days do not tell a day in a thousand from a dear one."""
AFTER, BEFORE = 7, 28
"""Days that are compared with days: whole weeks, so that weekdays weigh the same."""
TOTAL = "all models"
LEAST_CALLS = 20
"""Fewer in 28 days tell no rate."""


@dataclass(frozen=True)
class Verdict:
    """What a check found."""

    passed: bool
    description: str
    rate: float = 0.0
    """How often it warns where nothing is wrong; 0 where it counts and does not guess."""
    figures: Mapping[str, int | float | str] = field(default_factory=dict)
    found: "pl.DataFrame | None" = None
    """What it looked at, the most telling first."""


def nothing_yet(why: str, rate: float = 0.0) -> Verdict:
    """Passes, for there is too little to judge by."""
    return Verdict(True, f"not enough history: {why}", rate)


def cost_anomaly(costs: "pl.DataFrame", last: date, since: date | None = None) -> Verdict:
    """Whether a day cost more or less than the days before it let expect, in all or of a model.

    Args:
        costs: `day`, `request_model`, `cost_usd`; the view `costs_by_day`.
        last: the last full day.
        since: days from this one on are judged; without it the last alone.
    """
    import numpy as np
    import polars as pl

    from tracemill.detection import daily_anomalies

    names, days, values = _by_day(costs, last)
    if not names:
        return nothing_yet("no call has cost anything yet", COSTS_ALPHA)
    # Half of the rate is for the sum, so that more models do not blunt it.
    parts = [(values[:1], COSTS_ALPHA / 2), (values[1:], COSTS_ALPHA / 2 / max(1, len(names) - 1))]
    judgements = [daily_anomalies(days, part, alpha=alpha) for part, alpha in parts]
    expected, low, high, score, verdict = (
        np.concatenate([getattr(each, name) for each in judgements])
        for name in ("expected", "low", "high", "score", "verdict")
    )
    judged = days >= np.datetime64(min(since or last, last))
    if np.all(verdict[:, judged] == "unknown"):
        return nothing_yet(f"{len(days)} days; a day is judged by five weeks", COSTS_ALPHA)
    series, places = np.nonzero(judged & (verdict != "unknown"))
    rows = pl.DataFrame(
        {
            "day": days[places],
            "model": [names[each] for each in series],
            **{
                name: array[series, places]
                for name, array in (
                    ("cost_usd", values),
                    ("expected_usd", expected),
                    ("low_usd", low),
                    ("high_usd", high),
                    ("score", score),
                    ("verdict", verdict),
                )
            },
        }
    ).sort(pl.col("verdict") == "usual", pl.col("score").abs(), descending=[False, True])
    odd = rows.filter(pl.col("verdict") != "usual")
    told = [
        f"{row['day']}: {row['model']} cost ${row['cost_usd']:.2f}, expected "
        f"${row['expected_usd']:.2f} (${row['low_usd']:.2f} to ${row['high_usd']:.2f})"
        for row in odd.iter_rows(named=True)
    ]
    usual = f"{judged.sum()} days to {last}, {len(names)} series: as expected"
    return Verdict(
        odd.is_empty(), "; ".join(told) or usual, COSTS_ALPHA, {"series": len(names)}, rows
    )


def _by_day(
    costs: "pl.DataFrame", last: date
) -> "tuple[list[str], NDArray[np.datetime64], NDArray[np.float64]]":
    """Series x days of dollars, of all models first; a model is unknown before its first call."""
    import numpy as np
    import polars as pl

    costs = costs.filter(pl.col("day") <= last)
    if costs["cost_usd"].sum() == 0:
        return [], np.empty(0, "datetime64[D]"), np.empty((0, 0))
    first: date = costs["day"].min()  # pyright: ignore[reportAssignmentType]
    days = np.arange(np.datetime64(first), np.datetime64(last + timedelta(1)))
    values = {TOTAL: np.zeros(len(days))}
    by_model = costs.group_by("request_model", "day").agg(pl.col("cost_usd").cast(pl.Float64).sum())
    for (model,), part in by_model.sort("request_model", "day").group_by(
        "request_model", maintain_order=True
    ):
        places = np.array([(day - first).days for day in part["day"]])
        row = np.where(np.arange(len(days)) < places[0], np.nan, 0.0)
        row[places] = part["cost_usd"].to_numpy()
        values[TOTAL] += np.nan_to_num(row)
        if np.nansum(row) > 0:
            values[str(model)] = row
    return [*values], days, np.stack([*values.values()])


def error_rate_change(rates: "pl.DataFrame", last: date) -> Verdict:
    """Whether a class of errors of a model is more, or less, frequent than in the 28 days before.

    Args:
        rates: `day`, `request_model`, `error_type` (NULL for all classes), `calls`, `failed`; the
            view `error_rates`.
        last: the last full day, which is judged.
    """
    import numpy as np
    import polars as pl

    from tracemill.detection import rate_changed
    from tracemill.intervals import holm

    period = [last - timedelta(n) for n in range(BEFORE, -1, -1)]
    rates = rates.filter(pl.col("day").is_in(period))
    calls = _table(rates.filter(pl.col("error_type").is_null()), ["request_model"], "calls", period)
    failed = _table(
        rates.filter(pl.col("error_type").is_not_null()),
        ["request_model", "error_type"],
        "failed",
        period,
    )
    asked = [
        (key, x, n)
        for key, x in failed.items()
        if (n := calls.get(key[:1])) is not None
        and n[-1] > 0
        and n[:-1].sum() >= LEAST_CALLS
        and (n[:-1] > 0).sum() >= AFTER
    ]
    if not asked:
        return nothing_yet("a week of calls, and a call on the last day, are needed", ALPHA)
    x, n = (np.stack([each[place] for each in asked]) for place in (1, 2))
    x = np.minimum(x, n)
    past = (x[:, :-1], n[:, :-1])
    change = rate_changed(past[0].sum(1), past[1].sum(1), x[:, -1], n[:, -1], ALPHA, history=past)
    rows = pl.DataFrame(
        {
            "model": [key[0] for key, *_ in asked],
            "error": [key[1] for key, *_ in asked],
            "calls": n[:, -1],
            "failed": x[:, -1],
            "before_share": change.before,
            "share": change.after,
            "p": holm(change.p.tolist()),
        }
    ).sort("p", "model", "error")
    odd = rows.filter(pl.col("p") <= ALPHA)
    told = [
        f"{row['model']}: {row['error']} {row['before_share']:.2%} -> {row['share']:.2%} "
        f"({row['failed']:.0f} of {row['calls']:.0f} calls)"
        for row in odd.iter_rows(named=True)
    ]
    usual = f"{last}: {rows.height} classes of errors by model are as frequent as before"
    return Verdict(odd.is_empty(), "; ".join(told) or usual, ALPHA, {"rates": rows.height}, rows)


def _table(
    rows: "pl.DataFrame", names: list[str], value: str, days: Sequence[date]
) -> "dict[tuple[str, ...], NDArray[np.float64]]":
    """The sums of a value by name, for each of the days."""
    import numpy as np
    import polars as pl

    found: dict[tuple[str, ...], NDArray[np.float64]] = {}
    summed = rows.group_by(*names, "day").agg(pl.col(value).sum()).sort(*names, "day")
    for *key, day, count in summed.iter_rows():
        row = found.setdefault(tuple(map(str, key)), np.zeros(len(days)))
        row[(day - days[0]).days] = count
    return found


def length_drift(lengths: "pl.DataFrame", last: date) -> Verdict:
    """Whether prompts of the last 7 days are of other lengths than those of the 28 before.

    Args:
        lengths: `day`, `what` (the prompt version, or the model), `input_tokens`; one row for each
            conversation, for calls of one are alike.
        last: the last full day.
    """
    import polars as pl

    from tracemill.detection import drift, drifted

    now, was = _periods(lengths, last)
    groups = sorted(set(now["what"]) & set(was["what"]))
    pairs = {
        name: tuple(part.filter(pl.col("what") == name)["input_tokens"] for part in (was, now))
        for name in groups
    }
    pairs = {k: v for k, v in pairs.items() if min(map(len, v)) >= drift.LEAST}
    if not pairs:
        return nothing_yet(f"{drift.LEAST} calls of the same kind in both periods", ALPHA)
    rows: list[dict[str, object]] = []
    for name, (old, new) in pairs.items():
        found = drifted(old.to_numpy(), new.to_numpy(), ALPHA / len(pairs))
        rows.append(
            {
                "what": name,
                "drifted": found.drifted,
                "before_median": old.median(),
                "median": new.median(),
                "before_calls": len(old),
                "calls": len(new),
                "moved_share": found.effect,
                "psi": found.psi,
                "p": found.p,
            }
        )
    table = pl.DataFrame(rows).sort("p", "what")
    told = [
        f"{row['what']}: median {row['before_median']:,.0f} -> {row['median']:,.0f} tokens, "
        f"{row['moved_share']:.0%} moved"
        for row in table.filter("drifted").iter_rows(named=True)
    ]
    usual = f"7 days to {last}: {len(pairs)} kinds of calls are as long as in the 28 days before"
    return Verdict(not told, "; ".join(told) or usual, ALPHA, {"kinds": len(pairs)}, table)


def _periods(rows: "pl.DataFrame", last: date) -> "tuple[pl.DataFrame, pl.DataFrame]":
    """Those of the last days, and those of the days before them."""
    import polars as pl

    border = last - timedelta(AFTER)
    first = border - timedelta(BEFORE)
    return (
        rows.filter(pl.col("day").is_between(border, last, closed="right")),
        rows.filter(pl.col("day").is_between(first, border, closed="right")),
    )


def embedding_drift(before: Sequence[str], after: Sequence[str]) -> Verdict:
    """Whether prompts are about other things than before, by the vectors of samples of them."""
    from tracemill.detection import drift, drifted
    from tracemill.retrieval.embed import compute

    if min(len(before), len(after)) < drift.LEAST:
        return nothing_yet(f"{len(before)} and {len(after)} prompts; {drift.LEAST} needed", ALPHA)
    found = drifted(compute(before), compute(after), ALPHA)
    said = "other things are asked than before" if found.drifted else "asked is what was before"
    return Verdict(
        not found.drifted,
        f"{said}: energy coefficient {found.effect:.4f}, p = {found.p:.4f}",
        ALPHA,
        {
            "effect": found.effect,
            "p": found.p,
            "prompts_before": found.n_before,
            "prompts_after": found.n_after,
        },
    )


def price_coverage(costs: "pl.DataFrame", last: date) -> Verdict:
    """Whether a model came up in the last 7 days that no table has a price of.

    One that has had none for longer is told, and no warning: sums go without it.

    Args:
        costs: `day`, `request_model`, `calls`, `unpriced`; the view `costs_by_day`.
        last: the last full day.
    """
    import polars as pl

    now, _ = _periods(costs, last)
    old = costs.filter(pl.col("day") <= last - timedelta(AFTER), pl.col("unpriced") > 0)
    missing = (
        now.filter(pl.col("unpriced") > 0)
        .group_by("request_model")
        .agg(pl.col("unpriced").sum())
        .sort("unpriced", "request_model", descending=True)
        .with_columns(known_before=pl.col("request_model").is_in(old["request_model"].implode()))
    )
    new = missing.filter(~pl.col("known_before"))["request_model"].to_list()
    calls, unpriced = int(now["calls"].sum()), int(now["unpriced"].sum())
    told = f"{unpriced:,} of {calls:,} calls of 7 days have no price"
    names = ", ".join(missing["request_model"])
    mend = f"; new: {', '.join(new)}: put prices into raw/prices.toml" if new else ""
    return Verdict(
        not new,
        f"{told}{f' ({names})' if names else ''}{mend}",
        figures={"calls": calls, "unpriced": unpriced},
        found=missing,
    )
