"""What will next month cost, and which days stood out?"""

# ruff: noqa: B018, PLR1711  (marimo shows a cell's last expression and writes the returns)

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="What will next month cost?")


@app.cell(hide_code=True)
def title(mo):
    mo.md("""
    # What will next month cost, and which days stood out?

    Spending has a week's season and grows. This page holds every day against what the days before
    it let expect, and carries the same rule on for 30 days. It reads the nearest warehouse, or the
    one that `TRACEMILL_WAREHOUSE` names.
    """)
    return


@app.cell
def setup():
    import marimo as mo
    import polars as pl

    import tracemill
    from tracemill.analysis import plots
    from tracemill.analysis.table import Table
    from tracemill.detection import daily_anomalies, forecast

    tm = tracemill.open()
    return Table, daily_anomalies, forecast, mo, pl, plots, tm


@app.cell(hide_code=True)
def spend_question(mo):
    mo.md("""
    ## What did each day cost?

    Days are UTC. A day without a call cost nothing; the last day counts only as far as the log goes.
    """)
    return


@app.cell
def spend(mo, pl, tm):
    costs = tm.costs(by="day")
    mo.stop(not len(costs), mo.md("No call has ended yet: `tracemill demo` makes some."))
    daily = (
        costs.frame.sort("day")
        .upsample("day", every="1d")
        .select("day", pl.col("calls").fill_null(0), pl.col("cost_usd").cast(float).fill_null(0))
    )
    usual = daily["cost_usd"].median()
    by_view = tm.sql("SELECT sum(cost_usd)::DOUBLE FROM costs_by_day").item()
    assert abs(daily["cost_usd"].sum() - by_view) < 1e-6, "a day is missing"
    mo.md(
        f"{daily.height} days from {daily['day'][0]} to {daily['day'][-1]} cost "
        f"**{daily['cost_usd'].sum():,.2f} USD**, half of them less than {usual:,.2f} USD."
    )
    return costs, daily


@app.cell(hide_code=True)
def anomalies_question(mo):
    mo.md("""
    ## Which days stood out?

    Each day is judged by the days before it alone, as it could have been on that day: the level of
    the last two weeks, what the same weekday was above it, and how far such an expectation was out
    before. The bounds are set so that one quiet day in a thousand lies outside. The first five weeks
    have no verdict.
    """)
    return


@app.cell
def anomalies(daily, daily_anomalies, mo, pl):
    found = daily_anomalies(daily["day"].to_list(), daily["cost_usd"].to_numpy(), alpha=0.001)
    judged = daily.with_columns(
        pl.Series("expected_usd", found.expected, nan_to_null=True),
        pl.Series("low_usd", found.low, nan_to_null=True),
        pl.Series("high_usd", found.high, nan_to_null=True),
        pl.Series("score", found.score, nan_to_null=True),
        pl.Series("verdict", found.verdict),
    )
    outside = judged.filter(pl.col("verdict").is_in(["high", "low"]))
    known = judged.filter(pl.col("verdict") != "unknown")
    assert outside["cost_usd"].is_between(outside["low_usd"], outside["high_usd"]).sum() == 0, (
        "a day within its bounds is called an anomaly"
    )
    told = [
        f"**{row['day']}** cost {row['cost_usd']:,.2f} USD where {row['expected_usd']:,.2f} were "
        f"expected and {row['high_usd']:,.2f} at most"
        for row in outside.rows(named=True)
    ]
    if not known.height:
        said = f"No day can be judged yet: it takes five weeks, and there are {daily.height} days."
    elif told:
        said = f"Of {known.height} days with a verdict {len(told)} stood out: {'; '.join(told)}."
    else:
        said = f"None of the {known.height} days with a verdict stood out."
    mo.md(said)
    return judged, outside


@app.cell
def anomalies_plot(costs, judged, outside, pl, plots):
    seen = judged.with_columns(pl.col("low_usd", "high_usd").fill_null(float("nan")))
    plots.lines(
        "Cost of each day, beside what was expected of it",
        seen["day"].to_list(),
        {"expected": seen["expected_usd"].to_list(), "cost": seen["cost_usd"].to_list()},
        bands={"expected": (seen["low_usd"].to_list(), seen["high_usd"].to_list())},
        marks=[(day, usd, f"{usd:,.2f}") for day, usd in outside.select("day", "cost_usd").rows()],
        unit="USD a day",
        period=costs.period,
        n=costs.n,
    )
    return


@app.cell(hide_code=True)
def why_question(mo):
    mo.md("""
    ## What was different on such a day?

    Its cost by key and model, beside the median of the same key and model on all other days.
    """)
    return


@app.cell
def why(Table, costs, daily, outside, pl, tm):
    parts = tm.costs(by=["day", "key", "model"]).frame.with_columns(pl.col("cost_usd").cast(float))
    of_day = parts.filter(pl.col("day").is_in(outside["day"].implode()))
    usually = (
        daily.select("day")
        .filter(~pl.col("day").is_in(outside["day"].implode()))
        .join(parts.select("key", "model").unique(), how="cross")
        .join(parts, on=["day", "key", "model"], how="left", nulls_equal=True)
        .group_by("key", "model")
        .agg(pl.col("cost_usd").fill_null(0).median().alias("usual_usd"))
    )
    different = (
        of_day.join(usually, on=["key", "model"], how="left", nulls_equal=True)
        .with_columns(more_usd=pl.col("cost_usd") - pl.col("usual_usd"))
        .select("day", "key", "model", "calls", "cost_usd", "usual_usd", "more_usd")
        .sort("day", "more_usd", descending=[False, True])
    )
    assert abs(of_day["cost_usd"].sum() - outside["cost_usd"].sum()) < 1e-6, (
        "the parts are not the whole"
    )
    Table(
        different,
        "Days that stood out, by key and model",
        "USD",
        costs.period,
        int(of_day["calls"].sum()),
    )
    return (different,)


@app.cell
def why_told(different, mo, outside, pl):
    rows = different.sort("more_usd", descending=True).unique("day", keep="first").sort("day")
    first = [
        f"On {row['day']} the key **{row['key'] or 'none'}** with {row['model']} cost "
        f"{row['more_usd']:,.2f} USD more than on a usual day, in {row['calls']:,} calls."
        for row in rows.rows(named=True)
    ]
    assert rows.height == outside["day"].n_unique(), "a day that stood out has no calls"
    mo.md(" ".join(first) or "There is no such day.")
    return


@app.cell(hide_code=True)
def forecast_question(mo):
    mo.md("""
    ## What will the next 30 days cost?

    The level of the last week, each weekday's place about it, and as much of the trend as did best
    in the past. The interval is as wide as forecasts made on past days were out.
    """)
    return


@app.cell
def ahead(daily, forecast, mo):
    # Of a forecast over so many days: three weeks before, and a week to try it on.
    days_ahead = min(30, daily.height - 28)
    next_days = (
        forecast(daily["day"].to_list(), daily["cost_usd"].to_numpy(), days_ahead, level=0.9)
        if days_ahead >= 7
        else None
    )
    if next_days is None:
        words = f"{daily.height} days are too few to forecast from: five weeks are the least."
    else:
        total = next_days.total
        assert total.low <= total.value <= total.high, "the interval does not hold its middle"
        assert str(next_days.days[0]) > str(daily["day"][-1]), "the forecast begins in the past"
        words = (
            f"The {days_ahead} days until {next_days.days[-1]} will cost about "
            f"**{total.value:,.2f} USD**; in 90 of 100 cases between {total.low:,.2f} and "
            f"{total.high:,.2f} USD."
        )
    mo.md(words)
    return days_ahead, next_days


@app.cell
def ahead_plot(costs, daily, next_days, pl, plots):
    none = [None] * daily.height
    future = [] if next_days is None else pl.Series(next_days.days).cast(pl.Date).to_list()
    coming, low, high = (
        ([], [], [])
        if next_days is None
        else (next_days.median.tolist(), next_days.low.tolist(), next_days.high.tolist())
    )
    unseen = [float("nan")] * daily.height
    plots.lines(
        "Cost of each day so far, and what is to come",
        [*daily["day"], *future],
        {
            "cost": [*daily["cost_usd"], *([None] * len(future))],
            "forecast": [*none, *coming],
        },
        bands={"forecast": ([*unseen, *low], [*unseen, *high])},
        unit="USD a day; band for 90 %",
        period=costs.period,
        n=costs.n,
    )
    return


@app.cell(hide_code=True)
def backtest_question(mo):
    mo.md("""
    ## How good would such a forecast have been?

    The same rule is asked on past days, where the days after are known by now, beside a naive one:
    each day costs what the same weekday cost last.
    """)
    return


@app.cell
def backtest(Table, costs, days_ahead, mo, next_days, pl):
    if next_days is None:
        shown = mo.md("There is no forecast to try.")
    else:
        rules = {"this forecast": next_days.mape, "as the weekday before": next_days.naive_mape}
        frame = pl.DataFrame(
            {
                "rule": list(rules),
                "mean_error_percent": list(rules.values()),
                "tried_on_days": [next_days.backtests] * 2,
                "days_within_the_interval": [f"{next_days.coverage:.0%} (aim: 90%)", "no interval"],
            }
        )
        assert next_days.mape < 100, "the forecast is of no use"
        shown = Table(
            frame, f"Errors of totals of {days_ahead} days", "% of the total", costs.period, costs.n
        )
    shown
    return


@app.cell
def backtest_told(mo, next_days):
    better = next_days is not None and next_days.mape < next_days.naive_mape
    mo.md(
        "There is no forecast to try."
        if next_days is None
        else f"Totals were out by {next_days.mape:.1f} % on average, by the naive rule "
        f"{next_days.naive_mape:.1f} %: "
        + ("the forecast is the **better** one." if better else "the naive rule does **as well**.")
        + f" The {next_days.backtests} days that it was tried on lie next to each other, so this is "
        "one look at the past more than many."
    )
    return


if __name__ == "__main__":
    app.run()
